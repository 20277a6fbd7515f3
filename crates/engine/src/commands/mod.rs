//! All commands, by group. One constant a command, in the file of its group; [`registry`] collects them.

use std::sync::OnceLock;

use command::{Command, Registry};

use crate::ctx::Handler;

pub mod client;
pub mod connection;
pub mod hash;
pub mod keys;
pub mod list;
pub mod replication;
pub mod server;
pub mod string;
pub mod transaction;

/// Every command that this version has.
#[inline]
pub fn registry() -> &'static Registry<Handler> {
    static REGISTRY: OnceLock<Registry<Handler>> = OnceLock::new();
    REGISTRY.get_or_init(|| Registry::new(groups().into_iter().flatten()))
}

fn groups() -> [&'static [Command<Handler>]; 9] {
    [
        client::COMMANDS,
        connection::COMMANDS,
        hash::COMMANDS,
        keys::COMMANDS,
        list::COMMANDS,
        replication::COMMANDS,
        server::COMMANDS,
        string::COMMANDS,
        transaction::COMMANDS,
    ]
}
