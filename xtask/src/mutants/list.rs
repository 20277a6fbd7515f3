//! The faults: what a hurried change might do to replication. Each is a text that stands exactly once in its file, and what is
//! put in its place.

pub struct Mutant {
    pub name: &'static str,
    /// Below the workspace's root.
    pub file: &'static str,
    pub before: &'static str,
    pub after: &'static str,
}

const fn mutant(name: &'static str, file: &'static str, before: &'static str, after: &'static str) -> Mutant {
    Mutant { name, file, before, after }
}

const BLOCKS: &str = "crates/log/src/blocks.rs";
const SPILL: &str = "crates/log/src/spill.rs";
const HISTORY: &str = "crates/replication/src/history.rs";
const PRIMARY: &str = "crates/replication/src/primary.rs";
const REPLICA_LINK: &str = "crates/replication/src/replica_link/mod.rs";
const PRIMARY_LINK: &str = "crates/replication/src/primary_link/mod.rs";
const FAILOVER: &str = "crates/replication/src/failover.rs";
const REPL: &str = "crates/engine/src/repl.rs";
const FOLLOWING: &str = "crates/engine/src/following.rs";
const DISPATCH: &str = "crates/engine/src/dispatch.rs";
const STORE: &str = "crates/engine/src/store.rs";
const DB: &str = "crates/keyspace/src/db.rs";

pub const MUTANTS: &[Mutant] = &[
    // The window and the histories.
    mutant(
        "window-ends-a-byte-late",
        BLOCKS,
        "next <= self.first + self.len\n",
        "next <= self.first + self.len + 1\n",
    ),
    mutant("window-begins-a-byte-early", BLOCKS, "self.first <= next &&", "self.first <= next + 1 &&"),
    mutant("log-reset-a-byte-low", BLOCKS, "self.tail_first = offset + 1;", "self.tail_first = offset;"),
    mutant("rebase-forgets-sealed-blocks", BLOCKS, "block.first += by;", "let _ = block;"),
    mutant("trim-ignores-readers", BLOCKS, "if needed < after || left", "if left"),
    mutant(
        "room-on-disk-is-taken-from-readers",
        BLOCKS,
        "self.older.first_end().is_some_and(|after| after <= needed)",
        "self.older.first_end().is_some()",
    ),
    mutant(
        "ring-on-disk-overtakes-itself",
        SPILL,
        "(length <= oldest.min(limit)).then_some(0)",
        "(length <= limit).then_some(0)",
    ),
    mutant(
        "what-could-not-be-written-is-let-go-of",
        SPILL,
        "chunk.place = Place::Unwritable;",
        "chunk.place = Place::File(offset);\n            self.held.insert(number);",
    ),
    mutant("second-id-a-byte-too-far", HISTORY, "valid_until: end + 1 }", "valid_until: end + 2 }"),
    mutant(
        "second-id-without-end",
        HISTORY,
        "Some(second) if next > second.valid_until as i64 =>",
        "Some(second) if next > i64::MAX - second.valid_until as i64 =>",
    ),
    mutant(
        "promoted-under-the-old-id",
        HISTORY,
        "valid_until: end + 1 });\n        self.id = new_id;",
        "valid_until: end + 1 });\n        let _ = new_id;",
    ),
    mutant(
        "full-sync-keeps-second-id",
        HISTORY,
        "pub fn adopt(&mut self, id: ReplId) {\n        *self = History::new(id);",
        "pub fn adopt(&mut self, id: ReplId) {\n        self.id = id;",
    ),
    mutant(
        "restart-vouches-for-a-byte-too-many",
        HISTORY,
        "valid_until: saved.next() }",
        "valid_until: saved.next() + 1 }",
    ),
    mutant(
        "backlog-freed-under-the-old-id",
        REPL,
        "self.history.begin(id);\n        self.log.deactivate();",
        "let _ = id;\n        self.log.deactivate();",
    ),
    mutant(
        "backlog-created-under-the-old-id",
        REPL,
        "self.history.begin(id);\n        self.log.activate();",
        "let _ = id;\n        self.log.activate();",
    ),
    // The primary's side of a link.
    mutant(
        "stream-begins-a-byte-early",
        REPLICA_LINK,
        "cursor: at.next(), awaiting_first_ack: streamed",
        "cursor: at.offset, awaiting_first_ack: streamed",
    ),
    mutant(
        "stream-begins-a-byte-late",
        REPLICA_LINK,
        "cursor: at.next(), awaiting_first_ack: streamed",
        "cursor: at.next() + 1, awaiting_first_ack: streamed",
    ),
    mutant("sent-counts-double", REPLICA_LINK, "=> *cursor += bytes,", "=> *cursor += 2 * bytes,"),
    mutant(
        "snapshot-pins-nothing",
        REPLICA_LINK,
        "(awaited || !self.rdb_only).then(|| at.next())",
        "(awaited || self.rdb_only).then(|| at.next())",
    ),
    mutant(
        "continues-from-a-byte-before",
        REPLICA_LINK,
        "false => ReplicaState::Online { cursor: from, awaiting_first_ack: false },",
        "false => ReplicaState::Online { cursor: from - 1, awaiting_first_ack: false },",
    ),
    mutant(
        "acknowledged-too-easily",
        PRIMARY,
        "replica.acknowledged().offset >= offset;",
        "replica.acknowledged().offset + 30 >= offset;",
    ),
    mutant(
        "snapshot-of-the-wrong-position",
        REPL,
        "self.history.at(self.log.end())\n",
        "self.history.at(self.log.end() + 1)\n",
    ),
    mutant(
        "stream-beside-begins-a-byte-late",
        REPLICA_LINK,
        "self.enter(ReplicaState::Beside { cursor: at.next() });",
        "self.enter(ReplicaState::Beside { cursor: at.next() + 1 });",
    ),
    // The replica's side.
    mutant(
        "loads-before-the-stream-flows",
        PRIMARY_LINK,
        "            if !channel.flows() {\n                return;\n            }\n",
        "",
    ),
    mutant(
        "a-failed-sync-leaves-its-stream",
        FOLLOWING,
        "        self.abandon_loading();\n        self.following().forget_unexecuted();",
        "        self.abandon_loading();",
    ),
    mutant(
        "asks-for-a-byte-too-early",
        PRIMARY_LINK,
        "        self.cached = at;\n        match at {",
        "        self.cached = at.map(|at| Position::new(at.replid, at.offset - 1));\n        match at {",
    ),
    mutant(
        "asks-for-a-byte-too-late",
        PRIMARY_LINK,
        "        self.cached = at;\n        match at {",
        "        self.cached = at.map(|at| Position::new(at.replid, at.offset + 1));\n        match at {",
    ),
    mutant(
        "acknowledges-what-was-received",
        PRIMARY_LINK,
        "if let LinkState::Streaming { at: Some(at), fsynced, ack_due, .. } = &mut self.state {\n            out.push(LinkAction::Send(wire::ack(at.offset, *fsynced)));",
        "if let LinkState::Streaming { at: Some(_), received, fsynced, ack_due, .. } = &mut self.state {\n            out.push(LinkAction::Send(wire::ack(*received, *fsynced)));",
    ),
    mutant(
        "acknowledges-stale-offsets",
        PRIMARY_LINK,
        "            at.offset = to;\n",
        "            let _ = to;\n",
    ),
    mutant(
        "ignores-the-new-id",
        PRIMARY_LINK,
        "            out.push(LinkAction::ShiftHistory { to: id });\n",
        "",
    ),
    mutant(
        "keeps-its-replicas-on-a-new-id",
        PRIMARY_LINK,
        "            out.push(LinkAction::DisconnectReplicas);\n            at.replid = id;",
        "            at.replid = id;",
    ),
    mutant(
        "keeps-the-position-of-dropped-data",
        PRIMARY_LINK,
        "        self.cached = None;\n        self.gave_up = true;",
        "        self.gave_up = true;",
    ),
    mutant(
        "forgets-that-the-link-broke-while-loading",
        PRIMARY_LINK,
        "LinkState::Loading { lost, .. } => *lost = true,",
        "LinkState::Loading { .. } => {}",
    ),
    mutant(
        "a-cut-leaves-half-a-command",
        FOLLOWING,
        "        self.stream.clear();\n        self.waiting = Waiting { peak: self.waiting.peak, ..Waiting::default() };\n        self.queued = 0;\n        self.parser = Parser::default();",
        "",
    ),
    mutant(
        "a-cut-leaves-half-a-transaction",
        FOLLOWING,
        "        self.parser = Parser::default();\n        self.session.multi = None;",
        "        self.parser = Parser::default();",
    ),
    mutant(
        "transactions-are-relayed-in-parts",
        FOLLOWING,
        "Some(_) => units.map(|end| parsed + end),",
        "Some(_) => units.or(Some(progress.consumed)).map(|_| parsed + progress.consumed),",
    ),
    mutant(
        "stream-goes-on-in-database-0",
        FOLLOWING,
        "following.session.db = stream_db;\n        following.applied",
        "following.session.db = 0;\n        let _ = stream_db;\n        following.applied",
    ),
    mutant(
        "applied-is-a-byte-ahead",
        FOLLOWING,
        "following.applied += (whole - relayed) as u64;",
        "following.applied += (whole - relayed) as u64 + 1;",
    ),
    mutant(
        "replica-expires-by-its-own-clock",
        FOLLOWING,
        "std::mem::replace(&mut self.store.expiry, Expiry::Ignore)",
        "std::mem::replace(&mut self.store.expiry, Expiry::Delete)",
    ),
    mutant(
        "sub-replicas-stay-after-a-full-sync",
        PRIMARY_LINK,
        "        out.push(LinkAction::DisconnectReplicas);\n        if config.load ==",
        "        if config.load ==",
    ),
    mutant(
        "data-is-dropped-with-its-position-kept",
        FOLLOWING,
        "        self.core.repl.free_backlog(fresh);\n        self.disconnect_replicas();",
        "        let _ = fresh;",
    ),
    // What is written to the log.
    mutant(
        "lost-select-after-promotion",
        REPL,
        "        self.selected = stream_db as i64;\n        // Redis states the database again after a promotion; replicas of either kind accept both.\n        self.restate_db();",
        "        let _ = stream_db;\n        self.selected = 0;",
    ),
    mutant(
        "lost-select",
        REPL,
        "            self.log.append_with(|out| resp::encode_command(out, args));",
        "            let _ = args;",
    ),
    mutant(
        "units-without-multi",
        DISPATCH,
        "let transaction = ops.len() > 1 && !apart;",
        "let transaction = ops.len() > 100 && !apart;",
    ),
    mutant(
        "expired-keys-are-not-told",
        STORE,
        "        let verb = self.expiry_verb();\n        self.effects.propagate_in(self.selected as u32, &[verb, key]);\n        self.notify(Event::EXPIRED, \"expired\", key);",
        "        self.notify(Event::EXPIRED, \"expired\", key);",
    ),
    mutant(
        "expiry-is-told-relative",
        "crates/engine/src/commands/expire.rs",
        "if (base_ms, unit_ms) != (0, 1) && ctx",
        "if base_ms < 0 && ctx",
    ),
    mutant(
        "pops-are-told-verbatim",
        "crates/engine/src/commands/set_random.rs",
        "    ctx.store.effects.propagate_as(&[b\"SREM\", key.bytes, text]);\n",
        "",
    ),
    // Snapshots and failover.
    mutant(
        "snapshot-misses-preimages",
        DB,
        "            walk.save(&mut self.table, hash);",
        "            let _ = (walk, hash);",
    ),
    mutant(
        "failover-to-one-that-lacks-bytes",
        FAILOVER,
        "replica.acknowledged().offset == end;",
        "replica.acknowledged().offset + 200 >= end;",
    ),
    // The queue, the rate, and what a busy turn holds back.
    mutant(
        "queue-counts-nobody",
        "crates/replication/src/places.rs",
        "max.saturating_sub(self.taken)",
        "max",
    ),
    mutant("rate-wakes-nobody", "crates/replication/src/pace.rs", "                awake.push(*key);\n", ""),
    mutant(
        "held-writes-are-forgotten",
        "crates/engine/src/announce.rs",
        "< HELD_US {\n                return;",
        "< HELD_US {\n                self.repl.announced_end = end;\n                return;",
    ),
];
