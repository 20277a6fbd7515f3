//! The declaration of one command.
//!
//! ```
//! use command::{Acl, Arity, Category, Command, Docs, Flag, Flags, Group, Key, KeySpec};
//!
//! type Handler = fn() -> u8;
//! fn get() -> u8 { 1 }
//!
//! /// GET key
//! pub const GET: Command<Handler> = Command {
//!     name: "get", group: Group::String, arity: Arity::Exactly(2),
//!     flags: Flags::of(&[Flag::Readonly, Flag::Fast]), acl: Acl::of(&[Category::String]),
//!     keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
//!     docs: &Docs { since: "1.0.0", complexity: "O(1)", summary: "Get the value of a key", ..Docs::NONE },
//!     ..Command::runs(get)
//! };
//! ```

use resp::Args;

use crate::bits::{Acl, Flags};
use crate::docs::Docs;
use crate::keys::{KeySpec, Keys};

/// A command, or a subcommand, as data. `H` is the type of the function that runs it.
#[derive(Clone, Copy, Debug)]
pub struct Command<H: 'static> {
    /// In lower case; of a subcommand without its parent.
    pub name: &'static str,
    pub group: Group,
    pub arity: Arity,
    pub flags: Flags,
    /// Without what the flags imply: see [`Acl::with_implied`].
    pub acl: Acl,
    pub keys: &'static [KeySpec],
    /// Finds the keys where the specs cannot, or not exactly.
    pub get_keys: Option<GetKeys>,
    pub subcommands: &'static [Command<H>],
    /// `None` for a command that is only the parent of its subcommands.
    pub handler: Option<H>,
    /// Hints for clients, such as `nondeterministic_output`.
    pub tips: &'static [&'static str],
    pub docs: &'static Docs,
}

/// The keys among the arguments; `None` when these make no sense.
pub type GetKeys = fn(Args<'_>) -> Option<Keys>;

impl<H> Command<H> {
    /// A command with this function and nothing else, to be filled up.
    pub const fn runs(handler: H) -> Self {
        Command {
            name: "",
            group: Group::Generic,
            arity: Arity::AtLeast(1),
            flags: Flags::NONE,
            acl: Acl::NONE,
            keys: &[],
            get_keys: None,
            subcommands: &[],
            handler: Some(handler),
            tips: &[],
            docs: &Docs::NONE,
        }
    }

    /// A command that does nothing without one of these subcommands, to be filled up.
    pub const fn parent(subcommands: &'static [Command<H>]) -> Self {
        Command {
            name: "",
            group: Group::Generic,
            arity: Arity::AtLeast(2),
            flags: Flags::NONE,
            acl: Acl::NONE,
            keys: &[],
            get_keys: None,
            subcommands,
            handler: None,
            tips: &[],
            docs: &Docs::NONE,
        }
    }
}

/// How many arguments a command takes. As in Redis, all names count: `CONFIG GET x` has three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    Exactly(u16),
    AtLeast(u16),
}

impl Arity {
    #[inline]
    pub const fn accepts(self, argc: usize) -> bool {
        match self {
            Arity::Exactly(count) => argc == count as usize,
            Arity::AtLeast(count) => argc >= count as usize,
        }
    }

    /// The number on the wire: negative for a minimum.
    pub const fn wire(self) -> i64 {
        match self {
            Arity::Exactly(count) => count as i64,
            Arity::AtLeast(count) => -(count as i64),
        }
    }
}

/// What a command has to do with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Generic,
    String,
    List,
    Set,
    SortedSet,
    Hash,
    Pubsub,
    Transactions,
    Connection,
    Server,
    Scripting,
    HyperLogLog,
    Cluster,
    Sentinel,
    Geo,
    Stream,
    Bitmap,
}

impl Group {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Hash => "hash",
            Group::Pubsub => "pubsub",
            Group::Transactions => "transactions",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Scripting => "scripting",
            Group::HyperLogLog => "hyperloglog",
            Group::Cluster => "cluster",
            Group::Sentinel => "sentinel",
            Group::Geo => "geo",
            Group::Stream => "stream",
            Group::Bitmap => "bitmap",
        }
    }
}
