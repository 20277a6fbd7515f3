//! Filled in by the foundation issue.

pub mod glob;
pub mod intset;
pub mod listpack;
pub mod number;
pub mod quicklist;
