//! All commands, by group. One constant a command, in the file of its group; [`registry`] collects them.

use std::sync::OnceLock;

use ::command::{Command, Registry};

use crate::ctx::{Ctx, Handler};

pub mod bitfield;
pub mod bitmap;
pub mod client;
pub mod command;
pub mod config;
pub mod connection;
pub mod counter;
pub mod databases;
pub mod debug;
pub mod dump;
pub mod elements;
pub mod expire;
pub mod function;
pub mod geo;
pub mod geo_search;
pub mod hash;
pub mod hash_ttl;
pub mod hyperloglog;
pub mod keys;
pub mod latency;
pub mod lcs;
pub mod list;
pub mod list_blocking;
pub mod memory;
pub mod migrate;
pub mod monitor;
pub mod object;
pub mod persistence;
pub mod pubsub;
pub mod repl;
pub mod replication;
pub mod scan;
pub mod server;
pub mod set;
pub mod set_ops;
pub mod set_random;
pub mod sort;
pub mod stream;
pub mod stream_claim;
pub mod stream_group;
pub mod stream_id;
pub mod stream_info;
pub mod stream_read;
pub mod stream_trim;
pub mod string;
pub mod substring;
pub mod transaction;
#[cfg(test)]
mod transcripts;
pub mod zset;
pub mod zset_blocking;
pub mod zset_ops;
pub mod zset_pop;
pub mod zset_range;

/// Every command that this version has.
#[inline]
pub fn registry() -> &'static Registry<Handler> {
    static REGISTRY: OnceLock<Registry<Handler>> = OnceLock::new();
    REGISTRY.get_or_init(|| Registry::new(GROUPS.iter().copied().flatten()))
}

const GROUPS: &[&[Command<Handler>]] = &[
    bitfield::COMMANDS,
    bitmap::COMMANDS,
    client::COMMANDS,
    self::command::COMMANDS,
    config::COMMANDS,
    connection::COMMANDS,
    counter::COMMANDS,
    databases::COMMANDS,
    debug::COMMANDS,
    dump::COMMANDS,
    expire::COMMANDS,
    function::COMMANDS,
    geo::COMMANDS,
    geo_search::COMMANDS,
    hash::COMMANDS,
    hash_ttl::COMMANDS,
    hyperloglog::COMMANDS,
    keys::COMMANDS,
    latency::COMMANDS,
    lcs::COMMANDS,
    list::COMMANDS,
    list_blocking::COMMANDS,
    memory::COMMANDS,
    migrate::COMMANDS,
    monitor::COMMANDS,
    object::COMMANDS,
    persistence::COMMANDS,
    pubsub::COMMANDS,
    repl::COMMANDS,
    replication::COMMANDS,
    scan::COMMANDS,
    server::COMMANDS,
    set::COMMANDS,
    set_ops::COMMANDS,
    set_random::COMMANDS,
    sort::COMMANDS,
    stream::COMMANDS,
    stream_claim::COMMANDS,
    stream_group::COMMANDS,
    stream_info::COMMANDS,
    stream_read::COMMANDS,
    stream_trim::COMMANDS,
    string::COMMANDS,
    substring::COMMANDS,
    transaction::COMMANDS,
    zset::COMMANDS,
    zset_blocking::COMMANDS,
    zset_ops::COMMANDS,
    zset_pop::COMMANDS,
    zset_range::COMMANDS,
];

/// What `HELP` of a container answers: its subcommands, framed as Redis frames them.
fn write_help(ctx: &mut Ctx<'_>, lines: &[&str]) {
    let name = String::from_utf8_lossy(ctx.argv.at(0)).to_ascii_uppercase();
    ctx.reply.array(lines.len() + 3);
    ctx.reply.simple(&format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| ctx.reply.simple(line));
    ctx.reply.simple("HELP");
    ctx.reply.simple("    Print this help.");
}
