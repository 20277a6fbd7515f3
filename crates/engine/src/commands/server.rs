//! The server: configuration, information, persistence, debugging.

use command::Command;

use crate::ctx::Handler;

pub const COMMANDS: &[Command<Handler>] = &[];
