//! All commands, by group. One constant a command, in the file of its group; [`registry`] collects them.

use std::sync::OnceLock;

use ::command::{Command, Registry};

use crate::ctx::{Ctx, Handler};

pub mod client;
pub mod command;
pub mod config;
pub mod connection;
pub mod counter;
pub mod debug;
pub mod databases;
pub mod expire;
pub mod keys;
pub mod lcs;
pub mod object;
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

fn groups() -> [&'static [Command<Handler>]; 17] {
    [
        client::COMMANDS,
        self::command::COMMANDS,
        config::COMMANDS,
        connection::COMMANDS,
        counter::COMMANDS,
        debug::COMMANDS,
        databases::COMMANDS,
        expire::COMMANDS,
        keys::COMMANDS,
        lcs::COMMANDS,
        object::COMMANDS,
        replication::COMMANDS,
        scan::COMMANDS,
        server::COMMANDS,
        string::COMMANDS,
        substring::COMMANDS,
        transaction::COMMANDS,
    ]
}

/// What `HELP` of a container answers: its subcommands, framed as Redis frames them.
fn write_help(ctx: &mut Ctx<'_>, lines: &[&str]) {
    let name = ctx.command.full_name.split('|').next().unwrap_or_default().to_ascii_uppercase();
    ctx.reply.array(lines.len() + 3);
    ctx.reply.simple(&format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| ctx.reply.simple(line));
    ctx.reply.simple("HELP");
    ctx.reply.simple("    Print this help.");
}
