//! Filled in by the foundation issue.
pub mod hash;
pub mod record;
pub mod table;
