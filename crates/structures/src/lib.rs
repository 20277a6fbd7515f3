//! Filled in by the foundation issue.

pub mod listpack;
pub mod number;
