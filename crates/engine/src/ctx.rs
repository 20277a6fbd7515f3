//! What a command handler sees, and nothing else.

use command::CommandError;
use keyspace::{Key, WrongType};
use resp::{Args, Reply};

use crate::core::Core;
use crate::session::Session;
use crate::store::Store;

/// A handler parses its arguments, changes or reads the store, says what the effects are, and replies.
/// On `Err` nothing has been replied yet and nothing has been changed.
pub type Handler = fn(&mut Ctx<'_>) -> CmdResult;
pub type CmdResult = Result<(), CommandError>;
pub type CommandRef = &'static command::Entry<Handler>;

/// For `map_err` on a value of the wrong type.
pub fn wrong_type(_: WrongType) -> CommandError {
    CommandError::WrongType
}

/// The parts are separate borrows, so that a value from the store can be written into the reply as it lies.
pub struct Ctx<'a> {
    pub argv: Args<'a>,
    pub reply: Reply<'a>,
    pub session: &'a mut Session,
    pub store: &'a mut Store,
    pub core: &'a mut Core,
    pub command: CommandRef,
    /// The hash of the command's first key if it was worked out ahead, else 0.
    pub(crate) key_hash: u64,
}

/// Not inlined where the hash is normally at hand.
#[inline(never)]
fn key_of(bytes: &[u8]) -> Key<'_> {
    Key::new(bytes)
}

impl<'a> Ctx<'a> {
    /// Argument `index` as a key.
    #[inline(always)]
    pub fn key(&self, index: usize) -> Key<'a> {
        let bytes = self.argv.at(index);
        if self.key_hash != 0 && index as i64 == self.command.legacy_range.first {
            return Key { bytes, hash: self.key_hash };
        }
        key_of(bytes)
    }

    /// The same surroundings for another command: `EXEC` runs its queue this way.
    pub fn with<'b>(&'b mut self, command: CommandRef, argv: Args<'b>) -> Ctx<'b> {
        Ctx {
            argv,
            reply: self.reply.reborrow(),
            session: self.session,
            store: self.store,
            core: self.core,
            command,
            key_hash: 0,
        }
    }
}
