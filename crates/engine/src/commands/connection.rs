//! The session itself: greeting, authentication, database, liveliness.

use command::Command;

use crate::ctx::Handler;

pub const COMMANDS: &[Command<Handler>] = &[];
