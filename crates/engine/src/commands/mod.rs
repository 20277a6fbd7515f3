//! All commands, by group. One constant a command, in the file of its group; [`registry`] collects them.

use std::sync::OnceLock;

use command::{Command, Registry};

use crate::ctx::Handler;

pub mod client;
pub mod connection;
pub mod elements;
pub mod keys;
pub mod replication;
pub mod server;
pub mod set;
pub mod set_ops;
pub mod set_random;
pub mod string;
pub mod transaction;
#[cfg(test)]
mod transcripts;
pub mod zset;
pub mod zset_ops;
pub mod zset_pop;
pub mod zset_range;

/// Every command that this version has.
#[inline]
pub fn registry() -> &'static Registry<Handler> {
    static REGISTRY: OnceLock<Registry<Handler>> = OnceLock::new();
    REGISTRY.get_or_init(|| Registry::new(groups().into_iter().flatten()))
}

fn groups() -> [&'static [Command<Handler>]; 14] {
    [
        client::COMMANDS,
        connection::COMMANDS,
        keys::COMMANDS,
        replication::COMMANDS,
        server::COMMANDS,
        set::COMMANDS,
        set_ops::COMMANDS,
        set_random::COMMANDS,
        string::COMMANDS,
        transaction::COMMANDS,
        zset::COMMANDS,
        zset_ops::COMMANDS,
        zset_pop::COMMANDS,
        zset_range::COMMANDS,
    ]
}
