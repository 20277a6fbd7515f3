//! `DEBUG`.
use crate::ctx::{CmdResult, Ctx, Handler};
use command::{Acl, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group};
pub const COMMANDS: &[Command<Handler>] = &[];
