//! Real servers around Kindred: what the interop tests stand on.
//!
//! A test asks a [`Bed`] for the servers it needs: Kindred itself and the real Redis and Valkey whose paths are in the
//! environment (docs/TESTING.md). Every server has a directory and a port of its own and ends with the bed, by its
//! process id, whatever becomes of the test. What the servers are fed comes from [`dataset`] (one of everything) and
//! [`writes`] (an endless seeded stream); [`proxy`] stands between a replica and its primary and breaks the link at random,
//! [`scissors`] at an exact byte; and [`agree`] says whether two servers hold the same, and where they differ when they do not.
//!
//! Digests are compared as they are. Where servers are known to print the same value in two ways (redis 7.0 digests
//! scores with 17 significant digits, newer ones in the shortest form) the data avoids it: all scores are halves.

// Each test file is a crate of its own that uses a part of this module.
#![allow(dead_code, unused_imports, unused_macros)]

pub mod agree;
pub mod authority;
pub mod bed;
pub mod client;
pub mod dataset;
pub mod proxy;
pub mod random;
pub mod scissors;
pub mod sentinel;
pub mod tls;
pub mod wait;
pub mod writes;

pub use bed::{Bed, Kind, Server};
pub use client::{Batch, Client, Reply};
pub use wait::wait_for;

/// One test per pair of servers that Kindred must replicate with: `pairs!(scenario)` calls
/// `scenario(name, primary, replica)`.
macro_rules! pairs {
    ($scenario:path) => {
        $crate::peers::pairs!($scenario;
            redis70_to_kindred: Redis70, Kindred;
            redis82_to_kindred: Redis82, Kindred;
            valkey91_to_kindred: Valkey91, Kindred;
            kindred_to_redis70: Kindred, Redis70;
            kindred_to_redis82: Kindred, Redis82;
            kindred_to_valkey91: Kindred, Valkey91;
            kindred_to_kindred: Kindred, Kindred;
        );
    };
    ($scenario:path; $($name:ident: $primary:ident, $replica:ident;)+) => {
        $(
            #[test]
            fn $name() {
                $scenario($crate::peers::Kind::$primary, $crate::peers::Kind::$replica);
            }
        )+
    };
}
pub(crate) use pairs;
