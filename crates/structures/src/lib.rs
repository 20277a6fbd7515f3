//! Filled in by the foundation issue.

pub mod intset;
pub mod listpack;
pub mod number;
pub mod quicklist;
