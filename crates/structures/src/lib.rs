//! The bytes and memory of the data: compact encodings, tables and ordered sets. They know nothing of commands,
//! databases or the server; each file is one structure.

pub mod arena;
pub mod bits;
pub mod blob;
pub mod copying;
pub mod cow_map;
pub mod geo;
pub mod glob;
pub mod hash;
pub mod hyperloglog;
pub mod intset;
pub mod listpack;
pub mod number;
pub mod ordered_set;
pub mod partial_sort;
pub mod quicklist;
pub mod record;
pub mod table;
#[cfg(test)]
mod testing;
mod vector;
