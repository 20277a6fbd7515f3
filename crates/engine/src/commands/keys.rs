//! Keys of any type: existence, expiry, names, databases, scanning.

use command::Command;

use crate::ctx::Handler;

pub const COMMANDS: &[Command<Handler>] = &[];
