//! What an execution unit has changed, and how it is told to replicas and the append-only file.
//!
//! A unit is one command, or everything between `EXEC` and its reply. Handlers change the keyspace and say so here;
//! by default a command that changed something propagates as it was received. A handler whose command does not
//! have the same effect everywhere (relative expiry, random picks) says what to propagate instead.
//! At the end of the unit what was collected goes to the log in one piece: alone if it is one command, in
//! `MULTI` … `EXEC` if it is more.

use std::ops::Range;

use replication::{Feature, Needs};

use crate::bridge::Foreign;

/// What happens to the command itself when its handler changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Verbatim {
    #[default]
    IfDirty,
    /// Propagated even if nothing was changed.
    Always,
    /// Replaced by what the handler named, or by nothing.
    Never,
}

/// One command to be propagated: its database and its RESP bytes within the unit's buffer.
#[derive(Debug)]
struct Op {
    db: u32,
    bytes: Range<usize>,
}

/// The effects of the unit that runs. Buffers are kept from unit to unit.
#[derive(Debug, Default)]
pub struct Effects {
    /// Changes to the data set since the server started; `rdb_changes_since_last_save` is a difference of it.
    pub dirty: u64,
    /// False when nobody listens: then nothing is encoded.
    pub recording: bool,
    /// The database that propagated commands run in.
    pub db: u32,
    /// The commands of the unit are independent of each other: they are not made a transaction.
    pub(crate) apart: bool,
    verbatim: Verbatim,
    /// What of the unit not every server knows.
    pub(crate) foreign: Option<Foreign>,
    ops: Vec<Op>,
    bytes: Vec<u8>,
}

impl Effects {
    /// Propagates `args` in addition to the command itself, after what was propagated before it in this unit.
    pub fn propagate(&mut self, args: &[&[u8]]) {
        self.propagate_in(self.db, args);
    }

    /// Like [`Effects::propagate`], in another database than the selected one.
    pub fn propagate_in(&mut self, db: u32, args: &[&[u8]]) {
        if self.recording {
            let start = self.bytes.len();
            resp::encode_command(&mut self.bytes, args.iter().copied());
            self.ops.push(Op { db, bytes: start..self.bytes.len() });
        }
    }

    /// Like [`Effects::propagate_as`], for a command that not every server knows.
    pub fn propagate_newer(&mut self, feature: Feature, args: &[&[u8]]) {
        self.propagate_as(args);
        self.need(feature, args);
    }

    /// The unit has a command in it, `args`, that not every server knows.
    pub fn need(&mut self, feature: Feature, args: &[&[u8]]) {
        if self.recording {
            let needs = Needs::of(feature);
            match &mut self.foreign {
                Some(foreign) => foreign.needs = foreign.needs.and(needs),
                None => self.foreign = Some(Foreign::command(needs, args)),
            }
        }
    }

    /// Propagates `args` instead of the command itself. May be called several times.
    pub fn propagate_as(&mut self, args: &[&[u8]]) {
        self.verbatim = Verbatim::Never;
        self.propagate(args);
    }

    /// The command itself is not propagated, though it changed something.
    pub fn propagate_nothing(&mut self) {
        self.verbatim = Verbatim::Never;
    }

    /// The command is propagated though it changed nothing.
    pub fn propagate_anyway(&mut self) {
        self.verbatim = Verbatim::Always;
    }

    /// Called before each command of a unit.
    #[inline]
    pub(crate) fn begin_command(&mut self, db: u32) {
        self.db = db;
        self.verbatim = Verbatim::IfDirty;
    }

    /// True if the command that just ran, which found `dirty_before`, is to be propagated as it was received.
    #[inline]
    pub(crate) fn wants_verbatim(&self, dirty_before: u64) -> bool {
        match self.verbatim {
            Verbatim::IfDirty => self.dirty != dirty_before,
            Verbatim::Always => true,
            Verbatim::Never => false,
        }
    }

    /// Adds a command in the bytes that were received for it.
    pub(crate) fn propagate_raw(&mut self, db: u32, raw: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(raw);
        self.ops.push(Op { db, bytes: start..self.bytes.len() });
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// What was collected, in order: (database, RESP bytes).
    pub(crate) fn ops(&self) -> impl ExactSizeIterator<Item = (u32, &[u8])> {
        self.ops.iter().map(|op| (op.db, &self.bytes[op.bytes.clone()]))
    }

    /// Called when the unit's effects have reached the log.
    pub(crate) fn end_unit(&mut self) {
        self.foreign = None;
        self.ops.clear();
        self.bytes.clear();
        if self.bytes.capacity() > 1 << 20 {
            self.bytes = Vec::new();
        }
    }
}
