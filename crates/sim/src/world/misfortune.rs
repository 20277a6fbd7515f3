//! What goes wrong, and what operators do.

use engine::Peer;
use replication::Failover;

use super::{Handover, SERVERS, World, host, lock, saved};
use crate::disk::Disk;
use crate::makes::Make;
use crate::net::{Connection, End};
use crate::settings::{self, PORT};
use crate::{clients, trace};

impl World {
    pub(super) fn misfortune(&mut self) {
        // One chance for each step; a step takes 6.5 ms on average.
        let rate = |seconds: u64, world: &World| seconds * 154 * 100 / world.trouble;
        if self.random.once_in(rate(1, self)) {
            self.cut_one();
        }
        if self.random.once_in(rate(6, self)) {
            let n = self.random.index(SERVERS);
            let span = self.random.between(50, 9_000);
            trace(|| format!("{:6} server {n} is isolated for {span} ms", self.now));
            self.servers[n].isolated_until = self.now + span;
            self.counts.isolations += 1;
        }
        if self.random.once_in(rate(5, self)) {
            let n = self.random.index(SERVERS);
            self.crash(n);
        }
        if self.random.once_in(rate(15, self)) {
            let n = self.random.index(SERVERS);
            self.lose_disk(n);
        }
        if self.random.once_in(rate(7, self)) {
            self.fail_over();
        }
        if self.random.once_in(rate(5, self)) {
            self.ask_to_hand_over();
        }
        if self.random.once_in(rate(20, self)) {
            self.order(self.primary, &["FAILOVER", "ABORT"]);
        }
        if self.random.once_in(rate(5, self)) {
            let n = self.random.index(SERVERS);
            self.repoint(n);
        }
        if self.random.once_in(rate(8, self)) {
            let (n, span) = (self.random.index(SERVERS), self.random.between(10, 2_000).to_string());
            let mode = *self.random.pick(&["ALL", "WRITE"]);
            self.order(n, &["CLIENT", "PAUSE", &span, mode]);
        }
        if self.random.once_in(rate(10, self)) {
            let (n, max) = (self.random.index(SERVERS), self.random.pick(&settings::PLACES).to_string());
            if self.servers[n].make == Make::Kindred {
                self.order(n, &["CONFIG", "SET", "repl-full-sync-max", &max]);
            }
        }
        if self.random.once_in(rate(3, self)) && clients::has("bgsave") {
            let n = self.random.index(SERVERS);
            if self.random.once_in(4) {
                self.save_now(n);
            } else {
                self.order(n, &["BGSAVE"]);
            }
        }
    }

    /// Saves while everything waits. It may be refused.
    fn save_now(&mut self, n: usize) {
        let count = |world: &World| {
            world.servers[n].process.as_ref().map_or(0, |process| process.node.core.snapshots.saves)
        };
        let before = count(self);
        self.order(n, &["SAVE"]);
        if count(self) > before {
            let server = &mut self.servers[n];
            let Some(node) = server.process.as_ref().map(|process| &process.node) else { return };
            // Writes that a failover had held may have followed in the same turn: what was saved is not known then.
            if node.core.snapshots.changes_since_save(node.store.effects.dirty) == 0 {
                server.saved = Some(saved(node));
                lock(&server.disk).written_by_command = false;
            }
        }
    }

    fn cut_one(&mut self) {
        let open: Vec<usize> =
            (0..self.connections.len()).filter(|slot| self.connections[*slot].is_some()).collect();
        if open.is_empty() {
            return;
        }
        let slot = *self.random.pick(&open);
        let connection = self.connections[slot].as_mut().expect("just seen");
        trace(|| format!("{:6} cut {:?}", self.now, connection.ends));
        self.counts.cuts += 1;
        // One side may not hear of it for long.
        for pipe in &mut connection.pipes {
            let keep = self.random.index(pipe.bytes() + 1);
            pipe.truncate(keep);
            let silence = if self.random.percent(15) { 12_000 } else { 300 };
            pipe.end_at = Some(self.now + self.random.below(silence));
        }
        for side in 0..2 {
            if let Some(Connection { ends, .. }) = &self.connections[slot]
                && let End::Client(client) = ends[side]
            {
                self.client_leaves(client);
            }
        }
    }

    fn crash(&mut self, n: usize) {
        self.count_syncs(n);
        let Some(process) = self.servers[n].process.take() else { return };
        trace(|| format!("{:6} server {n} crashes", self.now));
        self.counts.crashes += 1;
        for (conn, slot) in process.links {
            let silence = if self.random.percent(20) { 6_000 } else { 50 };
            let at = self.now + self.random.below(silence);
            if let Some(connection) = &mut self.connections[slot] {
                let side = connection.side_of(n, conn).expect("a link leads to an end");
                let pipe = &mut connection.pipes[1 - side];
                let keep = self.random.index(pipe.bytes() + 1);
                pipe.truncate(keep);
                let client = connection.ends.iter().find_map(|end| match end {
                    End::Client(client) => Some(*client),
                    _ => None,
                });
                self.leave(slot, |connection| connection.side_of(n, conn), at);
                if let Some(client) = client {
                    self.client_leaves(client);
                }
            }
        }
        let server = &mut self.servers[n];
        lock(&server.disk).crash(&mut self.random);
        server.restart_at = self.now + self.random.between(50, 6_000);
    }

    /// A machine is replaced by a new one under its address, soon and without its files.
    fn lose_disk(&mut self, n: usize) {
        self.crash(n);
        let server = &mut self.servers[n];
        trace(|| format!("{:6} server {n} loses its disk", self.now));
        *lock(&server.disk) = Disk::default();
        server.saved = None;
        server.restart_at = self.now + self.random.between(10, 500);
        self.counts.losses += 1;
    }

    /// Gives a server a command, as an operator would; at once, or not at all.
    pub(super) fn order(&mut self, n: usize, words: &[&str]) {
        let Some(process) = &mut self.servers[n].process else { return };
        let peer = Peer { addr: "10.0.2.1:1".into(), laddr: String::new(), unix_socket: false, local: true };
        let Ok(conn) = process.node.accept(peer) else { return };
        let mut bytes = Vec::new();
        clients::push(&mut bytes, words);
        process.node.input(conn).expect("just opened").extend_from_slice(&bytes);
        process.node.received(conn, bytes.len());
        process.node.closed(conn);
        trace(|| format!("{:6} server {n} is told {}", self.now, words.join(" ")));
        self.turn(n);
    }

    /// Another server becomes the primary and the rest are pointed at it, each when it is heard of.
    fn fail_over(&mut self) {
        let n = self.random.index(SERVERS);
        if self.servers[n].process.is_none() || n == self.primary {
            return;
        }
        self.counts.promotions += 1;
        self.primary = n;
        self.servers[n].follows = None;
        self.order(n, &["REPLICAOF", "NO", "ONE"]);
        for other in 0..SERVERS {
            if other != n && self.random.percent(80) {
                self.point(other, n);
            }
        }
        // Whoever was forgotten keeps following somebody, or leads alone, until it is repointed.
    }

    /// The primary is told to hand its place over; it decides to whom and when.
    fn ask_to_hand_over(&mut self) {
        let from = self.primary;
        let mut words = vec!["FAILOVER".to_owned()];
        let (to, forced) = (self.random.percent(50), self.random.percent(30));
        if to {
            words.extend(["TO".to_owned(), host(self.random.index(SERVERS)), PORT.to_string()]);
        }
        if forced || self.random.percent(60) {
            words.extend(["TIMEOUT".to_owned(), self.random.between(50, 4_000).to_string()]);
        }
        if to && forced {
            words.push("FORCE".to_owned());
        }
        let begun = self.servers[from].process.as_ref().map(|process| process.seen.process);
        self.order(from, &words.iter().map(String::as_str).collect::<Vec<_>>());
        let Some(process) = &self.servers[from].process else { return };
        if self.handover.is_none() && process.node.core.repl.failover.is_active() {
            self.counts.failovers += 1;
            let process = begun.expect("an order ends no process");
            self.handover = Some(Handover { from, process, forced: to && forced, asked: None });
        }
    }

    /// Follows a failover; when it is done, the heir is who is meant to be the primary, and has all that was acknowledged.
    pub(super) fn watch_handover(&mut self) {
        let Some(mut handover) = self.handover.take() else { return };
        let running = |world: &World, n: usize| world.servers[n].process.as_ref().map(|p| p.seen.process);
        let from = handover.from;
        if running(self, from) != Some(handover.process) {
            return;
        }
        let core = &self.servers[from].process.as_ref().expect("it runs").node.core;
        if let Failover::InProgress { target } = &core.repl.failover
            && handover.asked.is_none()
        {
            let heir = (0..SERVERS).find(|n| host(*n) == target.host).expect("it is asked of a server");
            handover.asked = Some((core.repl.position(), heir, running(self, heir)));
        }
        if core.repl.failover.is_active() {
            self.handover = Some(handover);
            return;
        }
        let Some((at, heir, process)) = handover.asked else { return };
        if core.config.replicaof != Some((host(heir), PORT)) {
            return;
        }
        trace(|| format!("{:6} server {from} has handed over to server {heir} at {at}", self.now));
        self.counts.handed_over += 1;
        if let Some(taken) = self.servers[heir].process.as_ref().map(|p| &p.node.core.repl.history)
            && !handover.forced
            && running(self, heir) == process
            && let Some(second) = taken.second.filter(|second| second.id == at.replid)
        {
            assert!(
                second.valid_until > at.offset,
                "server {heir} took over at {second:?}, and {at} was promised"
            );
        }
        self.primary = heir;
        self.servers[heir].follows = None;
        self.servers[from].follows = Some(heir);
        for other in 0..SERVERS {
            if other != heir && other != from && self.random.percent(80) {
                self.point(other, heir);
            }
        }
    }

    /// Points one server at another one, below which it does not stand.
    fn repoint(&mut self, n: usize) {
        let to = self.random.index(SERVERS);
        if n != self.primary && !self.stands_below(to, n) {
            self.point(n, to);
        }
    }

    fn stands_below(&self, mut server: usize, above: usize) -> bool {
        for _ in 0..=SERVERS {
            if server == above {
                return true;
            }
            let Some(next) = self.servers[server].follows else { return false };
            server = next;
        }
        true
    }

    fn point(&mut self, n: usize, to: usize) {
        if let Some(process) = &mut self.servers[n].process {
            process.danger.followed = false;
        }
        self.counts.retargets += 1;
        self.servers[n].follows = Some(to);
        self.order(n, &["REPLICAOF", &host(to), &PORT.to_string()]);
    }
}
