//! Filled in by the foundation issue.
pub mod hash;
pub mod ordered_set;
pub mod record;
pub mod table;
