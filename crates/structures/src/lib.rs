//! Filled in by the foundation issue.

pub mod number;
