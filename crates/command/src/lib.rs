//! What a command is, as data: name, arity, flags, key specs, ACL categories and documentation, together with the
//! function that runs it; and what every command needs to read its arguments and to refuse them.
//!
//! The engine declares each command as one [`Command`] constant and collects them in a [`Registry`]. Everything else
//! is read from there: dispatch and its gates, COMMAND and its subcommands, the keys for prefetching, ACL and cluster
//! routing, and the fuzzer's vocabulary. The type of the function is the engine's own, hence the parameter `H`.
//!
//! Names and texts are those of Redis 7.0, in the order in which it prints them.

mod bits;
mod docs;
mod error;
mod keys;
mod names;
mod number;
mod parse;
mod registry;
mod spec;

pub use bits::{Acl, Category, Flag, Flags, Key, KeyFlags};
pub use docs::{Arg, ArgKind, Docs};
pub use error::CommandError;
pub use keys::{BeginSearch, FindKeys, KeyRef, KeySpec, Keys, LegacyRange};
pub use names::{Names, RenameError};
pub use number::{parse_f64, parse_i64};
pub use parse::{Options, ParseArgs, is_token, parse_cursor};
pub use registry::{CommandId, Entry, Named, Registry};
pub use spec::{Arity, Command, GetKeys, Group};
