//! Replication as commands: `REPLICAOF`, `PSYNC`, `REPLCONF`, `WAIT`, `ROLE`.

use command::Command;

use crate::ctx::Handler;

pub const COMMANDS: &[Command<Handler>] = &[];
