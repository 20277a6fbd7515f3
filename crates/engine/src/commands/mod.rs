//! All commands, by group. One constant a command, in the file of its group; [`registry`] collects them.

use std::sync::OnceLock;

use command::{Command, Registry};

use crate::ctx::Handler;

pub mod client;
pub mod connection;
pub mod counter;
pub mod databases;
pub mod dump;
pub mod expire;
pub mod keys;
pub mod object;
pub mod persistence;
pub mod replication;
pub mod scan;
pub mod server;
pub mod string;
pub mod substring;
pub mod transaction;

/// Every command that this version has.
#[inline]
pub fn registry() -> &'static Registry<Handler> {
    static REGISTRY: OnceLock<Registry<Handler>> = OnceLock::new();
    REGISTRY.get_or_init(|| Registry::new(groups().into_iter().flatten()))
}

fn groups() -> [&'static [Command<Handler>]; 15] {
    [
        client::COMMANDS,
        connection::COMMANDS,
        counter::COMMANDS,
        databases::COMMANDS,
        dump::COMMANDS,
        expire::COMMANDS,
        keys::COMMANDS,
        object::COMMANDS,
        persistence::COMMANDS,
        replication::COMMANDS,
        scan::COMMANDS,
        server::COMMANDS,
        string::COMMANDS,
        substring::COMMANDS,
        transaction::COMMANDS,
    ]
}
