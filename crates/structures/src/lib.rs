//! The bytes and memory of the data: compact encodings, tables and ordered sets. They know nothing of commands,
//! databases or the server; each file is one structure.

pub mod copying;
pub mod glob;
pub mod hash;
pub mod intset;
pub mod listpack;
pub mod number;
pub mod ordered_set;
pub mod quicklist;
pub mod record;
pub mod table;
