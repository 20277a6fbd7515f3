//! What must hold at all times, told from outside: every server is looked at after each of its turns.
//!
//! Histories part when a replica is promoted: the new one continues the old one up to some offset. A position of the
//! new history at or below that offset *is* the position of the old one, so every position has one canonical form, and
//! there is one truth per canonical position: one byte of stream, and one data set.

use std::collections::{BTreeSet, HashMap};

use engine::Node;
use keyspace::Key;
use log::{Position, ReplId};

use crate::clients::TWINS;
use crate::{digest, trace};

/// One history, from the first byte that is its own.
#[derive(Debug)]
struct Stream {
    parent: Option<Position>,
    /// Offset of `bytes[0]`.
    first: u64,
    bytes: Vec<u8>,
}

/// What is remembered of one process between two looks at it.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    at: Option<Position>,
    /// Which of all processes this is. A primary may not know yet that a replica has crashed when that is back
    /// already: like Redis it counts both connections, so `WAIT` is judged by processes.
    pub process: usize,
    /// Where the process stood, whether or not its log was active.
    stood: Option<Position>,
    /// A full synchronisation has replaced the data since the last look: the offset may go anywhere.
    pub adopted: bool,
    /// The data set when it was last compared.
    compared: Option<(Position, u64)>,
}

impl Seen {
    pub fn new(process: usize) -> Seen {
        Seen { process, ..Seen::default() }
    }
}

#[derive(Debug, Default)]
pub struct Truth {
    streams: HashMap<ReplId, Stream>,
    data: HashMap<Position, (u64, usize)>,
    /// The contents in words, in a traced run.
    words: HashMap<Position, BTreeSet<String>>,
    /// The furthest that each process ever was in each history.
    reached: HashMap<(usize, ReplId), u64>,
    /// Processes that went on with their data under another id, and where they stood before.
    successors: Vec<(Position, ReplId)>,
}

impl Truth {
    /// The position by the oldest of the histories that have it.
    fn canonical(&self, mut at: Position) -> Position {
        while let Some(Stream { parent: Some(parent), .. }) = self.streams.get(&at.replid) {
            if at.offset > parent.offset {
                break;
            }
            at.replid = parent.replid;
        }
        at
    }

    /// Looks at a server that has just ended a turn.
    pub fn look(&mut self, server: usize, node: &Node, seen: &mut Seen) {
        let repl = &node.core.repl;
        let at = repl.position();
        if let Some(before) = seen.stood.replace(at)
            && before.replid != at.replid
            && !seen.adopted
        {
            self.successors.push((before, at.replid));
        }
        if !repl.log.is_active() {
            seen.at = None;
            return;
        }
        self.know_history(node);
        self.compare_stream(server, node, seen, at);
        self.reached
            .entry((seen.process, at.replid))
            .and_modify(|furthest| *furthest = at.offset.max(*furthest))
            .or_insert(at.offset);
        self.check_cursors(server, node);
        self.compare_data(server, node, seen, at);
    }

    fn know_history(&mut self, node: &Node) {
        let repl = &node.core.repl;
        let history = repl.history;
        if self.streams.contains_key(&history.id) {
            return;
        }
        let parent = history.second.map(|second| Position::new(second.id, second.valid_until - 1));
        // A parent that nobody was ever seen at (its log was never active) shares nothing.
        let parent = parent.filter(|parent| self.streams.contains_key(&parent.replid));
        let first = match parent {
            Some(parent) => parent.next(),
            None => repl.log.held_from(),
        };
        self.streams.insert(history.id, Stream { parent, first, bytes: Vec::new() });
    }

    /// Each byte that was appended since the last look must be the one that all others have there.
    fn compare_stream(&mut self, server: usize, node: &Node, seen: &mut Seen, at: Position) {
        let repl = &node.core.repl;
        let adopted = std::mem::take(&mut seen.adopted);
        // What is on the disk was looked at before it went there.
        let mut from = repl.log.held_from();
        if let Some(before) = seen.at.replace(at) {
            let same_line = self.canonical(Position::new(at.replid, before.offset)) == self.canonical(before);
            if same_line && !adopted {
                assert!(
                    at.offset >= before.offset,
                    "server {server} went back from {before} to {at} without a full synchronisation"
                );
                from = from.max(before.next());
            }
        }
        let Some(slices) = repl.log.read(from) else {
            panic!("server {server}: the log from {} to {} does not have {from}", repl.log.start(), at.offset)
        };
        let mut offset = from;
        for slice in slices {
            let mut rest = slice;
            while !rest.is_empty() {
                let home = self.canonical(Position::new(at.replid, offset)).replid;
                // How far this history goes before its child takes over.
                let count = if home == at.replid {
                    rest.len()
                } else {
                    let end = self.line_end(at.replid, home);
                    rest.len().min((end + 1 - offset) as usize)
                };
                let may_write = !repl.is_replica() && home == at.replid;
                self.compare_bytes(server, home, offset, &rest[..count], may_write);
                offset += count as u64;
                rest = &rest[count..];
            }
        }
    }

    /// The last offset at which history `id` is still its forefather `home`.
    fn line_end(&self, id: ReplId, home: ReplId) -> u64 {
        let mut id = id;
        loop {
            let parent = self.streams[&id].parent.expect("a forefather is found by going up");
            if parent.replid == home {
                return parent.offset;
            }
            id = parent.replid;
        }
    }

    fn compare_bytes(&mut self, server: usize, id: ReplId, offset: u64, bytes: &[u8], may_write: bool) {
        let stream = self.streams.get_mut(&id).expect("a history is known before its bytes");
        // Bytes from before this history was first seen.
        if offset < stream.first {
            return;
        }
        let start = (offset - stream.first) as usize;
        let known = stream.bytes.len().saturating_sub(start).min(bytes.len());
        if known > 0 && stream.bytes[start..start + known] != bytes[..known] {
            let at = (0..known).find(|at| stream.bytes[start + at] != bytes[*at]).unwrap_or(0);
            let low = (start + at).saturating_sub(40);
            panic!(
                "server {server} has other bytes than the stream of {id} at offset {}: {:?}, not {:?}",
                offset + at as u64,
                bytes[at.saturating_sub(40)..known.min(at + 40)].escape_ascii().to_string(),
                stream.bytes[low..stream.bytes.len().min(start + at + 40)].escape_ascii().to_string()
            );
        }
        if known < bytes.len() {
            assert!(
                may_write && start <= stream.bytes.len(),
                "server {server} has bytes that nobody wrote, at offset {} of {id}: {:?}",
                offset + known as u64,
                bytes[known..].escape_ascii().to_string()
            );
            stream.bytes.extend_from_slice(&bytes[known..]);
        }
    }

    fn check_cursors(&self, server: usize, node: &Node) {
        let Some(window) = node.core.repl.log.window() else { return };
        for id in &node.core.repl.replicas {
            let Some(conn) = node.core.conns.get(*id) else { continue };
            if let engine::session::Role::Replica(replica) = &conn.session.role
                && let Some(cursor) = replica.link.cursor()
            {
                assert!(
                    window.covers(cursor),
                    "server {server}: the log {window:?} lost its replica's {cursor}"
                );
            }
        }
    }

    /// Servers at the same position show the same data, whenever they show any.
    fn compare_data(&mut self, server: usize, node: &Node, seen: &mut Seen, at: Position) {
        if node.core.is_loading() {
            seen.compared = None;
            return;
        }
        check_twins(server, node);
        let home = self.canonical(at);
        let digest = digest::of(&node.store);
        if seen.compared == Some((home, digest)) {
            return;
        }
        seen.compared = Some((home, digest));
        let (known, first) = *self.data.entry(home).or_insert((digest, server));
        if crate::is_traced() {
            let words = contents(node);
            let before = self.words.entry(home).or_insert_with(|| words.clone());
            before.difference(&words).for_each(|line| trace(|| format!("  only there: {line}")));
            words.difference(before).for_each(|line| trace(|| format!("  only here: {line}")));
        }
        assert!(known == digest, "server {server} at {at} has other data than server {first} had there");
    }

    /// How many processes besides `process` have ever had everything up to `at`.
    pub fn count_reached(&self, process: usize, at: Position) -> usize {
        // Whoever took a later history of the same data has it too, under whatever offset that began at.
        let mut homes = vec![self.canonical(at)];
        for (before, next) in &self.successors {
            let same = Position::new(before.replid, at.offset);
            let home = self.canonical(same);
            if at.offset <= before.offset && homes.iter().any(|known| known.replid == home.replid) {
                homes.push(Position::new(*next, at.offset));
            }
        }
        let has = |(id, furthest): (ReplId, u64)| {
            let home = self.canonical(Position::new(id, at.offset)).replid;
            furthest >= at.offset && homes.iter().any(|known| known.replid == home)
        };
        let mut processes: Vec<usize> = self
            .reached
            .iter()
            .filter(|((who, id), furthest)| *who != process && has((*id, **furthest)))
            .map(|((who, _), _)| *who)
            .collect();
        processes.sort_unstable();
        processes.dedup();
        processes.len()
    }
}

/// A transaction has happened as a whole or not at all.
fn check_twins(server: usize, node: &Node) {
    for db in 0..node.store.databases() {
        let value = |twin: &str| {
            let entry = node.store.db_at(db).peek(Key::new(twin.as_bytes()))?;
            Some(digest::value(entry))
        };
        let [one, other] = TWINS.map(value);
        assert!(one == other, "server {server} has half of a transaction in database {db}");
    }
}

/// What a node holds, in words.
fn contents(node: &Node) -> BTreeSet<String> {
    use keyspace::EntryExt;
    let mut lines = BTreeSet::new();
    for db in 0..node.store.databases() {
        for entry in node.store.db_at(db).iter() {
            let value = entry.as_str().map_or_else(
                |_| format!("{} {:016x}", entry.type_of().name(), digest::value(entry)),
                |text| text.to_vec().escape_ascii().to_string().chars().take(24).collect(),
            );
            let key = entry.key().escape_ascii();
            lines.insert(format!("db {db} {key} = {value} until {:?}", entry.expire_at()));
        }
    }
    lines
}
