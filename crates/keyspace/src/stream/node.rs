//! One node of a stream: a listpack of entries that share the field names of its first.
//!
//! The bytes are those of Redis, since snapshots carry them as they are. All but names and values are integers:
//!
//! ```text
//! master entry   live | deleted | n | name … (n of them) | 0
//! entry          flags | ms | seq | [n | name, value …] or [value …] | pieces
//! flags          1 deleted, 2 the names are those of the master entry
//! ms, seq        difference to the node's key, which is the ID of its first entry
//! pieces         listpack entries of this entry before it, so that one can walk backwards; 0 ends the master entry
//! ```
//!
//! An entry that is deleted is only marked; the node goes when its last entry does. What comes from outside has been
//! through [`Node::load`]: everything else relies on the form.

use structures::listpack::{Entry, GrowingListpack, Iter, Pos};

use super::StreamId;
use crate::object::Malformed;

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

/// Bytes that a node never passes.
pub(super) const NODE_BYTES_MAX: usize = 1 << 30;

/// Listpack bytes of what an entry has besides its names and values, at most: six integers.
const ENTRY_OVERHEAD: usize = 6 * 11;

const FORM: &str = "a stream node was checked when it was loaded";

#[derive(Debug, Clone)]
pub struct Node {
    /// The ID that the entries' differences count from.
    pub(super) key: StreamId,
    pub(super) pack: GrowingListpack,
}

/// An entry before its names and values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub id: StreamId,
    pub deleted: bool,
    same_fields: bool,
    /// Number of its fields.
    pub fields: usize,
    /// Where the entry starts.
    pub at: Pos,
}

/// What all entries of a node share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    key: StreamId,
    fields: usize,
    names: Pos,
    /// Where the first entry is, or the end.
    pub entries: Pos,
}

impl Node {
    /// A node without entries whose master entry has these names; the first entry is to be appended.
    pub fn new<'v>(key: StreamId, names: impl ExactSizeIterator<Item = &'v [u8]>) -> Node {
        let mut pack = GrowingListpack::with_capacity(0);
        let mut append = pack.append(0);
        append.int(0);
        append.int(0);
        append.int(names.len() as i64);
        names.for_each(|name| append.text(name));
        append.int(0);
        drop(append);
        Node { key, pack }
    }

    /// Takes a node out of a snapshot or a payload. Its counts are made what its entries say.
    pub fn load(key: StreamId, bytes: Vec<u8>) -> Result<Node, Malformed> {
        const BROKEN: Malformed = Malformed("Stream listpack integrity check failed.");
        let pack = GrowingListpack::from_vec_validated(bytes).map_err(|_| BROKEN)?;
        let (live, deleted) = check(key, &pack).ok_or(BROKEN)?;
        let mut node = Node { key, pack };
        if (node.live(), node.deleted()) != (live, deleted) {
            node.set_counts(live, deleted);
        }
        Ok(node)
    }

    /// The ID of the entry that the node was made for.
    pub fn key(&self) -> StreamId {
        self.key
    }

    /// The listpack, as snapshots hold it.
    pub fn bytes(&self) -> &[u8] {
        self.pack.bytes()
    }

    /// Entries that are not deleted.
    pub fn live(&self) -> u64 {
        int(self.pack.iter().next()) as u64
    }

    pub fn deleted(&self) -> u64 {
        let mut items = self.pack.iter();
        items.next();
        int(items.next()) as u64
    }

    pub(super) fn set_counts(&mut self, live: u64, deleted: u64) {
        let first = self.pack.iter().pos();
        self.pack.replace_i64(first, live as i64);
        let mut items = self.pack.iter();
        items.next();
        let second = items.pos();
        self.pack.replace_i64(second, deleted as i64);
    }

    pub(super) fn shared(&self) -> Shared {
        let mut items = self.pack.iter();
        items.skip_entries(2);
        let fields = int(items.next()) as usize;
        let names = items.pos();
        items.skip_entries(fields + 1);
        Shared { key: self.key, fields, names, entries: items.pos() }
    }

    /// Appends an entry, whose ID is above all that are there. `values` are names and values in turn, `bytes` is the
    /// sum of their lengths.
    pub(super) fn append<'v>(
        &mut self,
        id: StreamId,
        values: impl ExactSizeIterator<Item = &'v [u8]> + Clone,
        bytes: usize,
    ) {
        let fields = values.len() / 2;
        let mut items = self.pack.iter();
        let live_at = items.pos();
        let live = int(items.next());
        items.skip_entries(1);
        let same = int(items.next()) as usize == fields
            && values.clone().step_by(2).all(|name| items.next().is_some_and(|own| own.eq_bytes(name)));
        self.pack.replace_i64(live_at, live + 1);
        let mut append = self.pack.append(bytes + ENTRY_OVERHEAD + 6 * 2 * fields);
        append.int(if same { SAME_FIELDS } else { 0 });
        append.int(id.ms.wrapping_sub(self.key.ms) as i64);
        append.int(id.seq.wrapping_sub(self.key.seq) as i64);
        if same {
            values.skip(1).step_by(2).for_each(|value| append.text(value));
            append.int(fields as i64 + 3);
        } else {
            append.int(fields as i64);
            values.for_each(|value| append.text(value));
            append.int(2 * fields as i64 + 4);
        }
    }

    /// The ID of the last entry, deleted or not.
    pub(super) fn last_id(&self) -> Option<StreamId> {
        let at = self.entry_before(self.pack.end())?;
        Some(self.shared().head(self.pack.iter_from(at)).0.id)
    }

    /// Where the entry that ends at `end` starts; `None` where the master entry ends.
    pub(super) fn entry_before(&self, end: Pos) -> Option<Pos> {
        let mut at = self.pack.before(end);
        let pieces = int(Some(self.pack.at(at)));
        if pieces == 0 {
            return None;
        }
        for _ in 0..pieces {
            at = self.pack.before(at);
        }
        Some(at)
    }

    /// Where the first entry of at least `id` is, or the end. Looks from the end that is probably nearer.
    pub(super) fn seek(&self, shared: &Shared, id: StreamId) -> Pos {
        if id <= self.key {
            return shared.entries;
        }
        let end = self.pack.end();
        let Some(mut last) = self.entry_before(end) else { return end };
        let last_id = shared.head(self.pack.iter_from(last)).0.id;
        if last_id < id {
            return end;
        }
        let nearer_to_end = if last_id.ms == self.key.ms {
            id.seq.wrapping_sub(self.key.seq) > last_id.seq.wrapping_sub(self.key.seq) / 2
        } else {
            id.ms.wrapping_sub(self.key.ms) > last_id.ms.wrapping_sub(self.key.ms) / 2
        };
        if nearer_to_end {
            while let Some(before) = self.entry_before(last) {
                if shared.head(self.pack.iter_from(before)).0.id < id {
                    break;
                }
                last = before;
            }
            return last;
        }
        let mut at = shared.entries;
        while at < end {
            let (head, mut items) = shared.head(self.pack.iter_from(at));
            if head.id >= id {
                break;
            }
            items.skip_entries(head.pieces_left());
            at = items.pos();
        }
        at
    }

    /// Marks the entry at `head` as deleted and counts it; false if it was the last one that lived, and nothing is
    /// changed: the node is to go.
    pub(super) fn delete(&mut self, head: &Head) -> bool {
        let (live, deleted) = (self.live(), self.deleted());
        if live == 1 {
            return false;
        }
        self.mark_deleted(head);
        self.set_counts(live - 1, deleted + 1);
        true
    }

    /// Marks without counting. The size of the listpack stays.
    pub(super) fn mark_deleted(&mut self, head: &Head) {
        let same = if head.same_fields { SAME_FIELDS } else { 0 };
        self.pack.replace_i64(head.at, DELETED | same);
    }
}

impl Shared {
    /// Reads the entry that starts where `items` stands; they stand before its names and values then.
    #[inline]
    pub fn head<'a>(&self, mut items: Iter<'a>) -> (Head, Iter<'a>) {
        let at = items.pos();
        let flags = int(items.next());
        let ms = self.key.ms.wrapping_add(int(items.next()) as u64);
        let seq = self.key.seq.wrapping_add(int(items.next()) as u64);
        let same_fields = flags & SAME_FIELDS != 0;
        let fields = if same_fields { self.fields } else { int(items.next()) as usize };
        (Head { id: StreamId { ms, seq }, deleted: flags & DELETED != 0, same_fields, fields, at }, items)
    }

    /// The names of `head`, if they are those of the master entry.
    #[inline]
    pub fn names<'a>(&self, node: &'a Node, head: &Head) -> Option<Iter<'a>> {
        head.same_fields.then(|| node.pack.iter_from(self.names))
    }
}

impl Head {
    /// Listpack entries of names and values, and the one that ends the entry.
    #[inline]
    pub fn pieces_left(&self) -> usize {
        if self.same_fields { self.fields + 1 } else { 2 * self.fields + 1 }
    }
}

#[inline]
fn int(entry: Option<Entry<'_>>) -> i64 {
    match entry {
        Some(Entry::Int(value)) => value,
        _ => panic!("{FORM}"),
    }
}

/// Whether a well-formed listpack is a node; then how many entries of it live and how many are deleted.
fn check(key: StreamId, pack: &GrowingListpack) -> Option<(u64, u64)> {
    // A listpack entry takes two bytes at least, so counts beyond the bytes are lies, and are not looped over.
    let bytes = pack.bytes().len() as i64;
    let number = |entry: Option<Entry<'_>>| match entry {
        Some(Entry::Int(value)) => Some(value),
        _ => None,
    };
    let count = |entry| number(entry).filter(|count| (0..bytes).contains(count));
    let mut items = pack.iter();
    let (stated_live, stated_deleted) = (count(items.next())?, count(items.next())?);
    let fields = count(items.next())?;
    for _ in 0..fields {
        items.next()?;
    }
    number(items.next()).filter(|zero| *zero == 0)?;
    let (mut live, mut deleted) = (0, 0);
    let mut last: Option<StreamId> = None;
    while let Some(flags) = items.next() {
        let flags = number(Some(flags))?;
        let ms = key.ms.wrapping_add(number(items.next())? as u64);
        let id = StreamId { ms, seq: key.seq.wrapping_add(number(items.next())? as u64) };
        if id < key || last.is_some_and(|last| last >= id) {
            return None;
        }
        last = Some(id);
        let same_fields = flags & SAME_FIELDS != 0;
        let pieces = if same_fields {
            fields
        } else {
            let own = count(items.next())?;
            2 * own
        };
        for _ in 0..pieces {
            items.next()?;
        }
        let stated = number(items.next())?;
        if stated != pieces + if same_fields { 3 } else { 4 } {
            return None;
        }
        if flags & DELETED == 0 {
            live += 1;
        } else {
            deleted += 1;
        }
    }
    (stated_live + stated_deleted == (live + deleted) as i64).then_some((live, deleted))
}
