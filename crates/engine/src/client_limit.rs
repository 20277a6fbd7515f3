//! `maxmemory-clients`: when the buffers of all clients together grow too large, the largest clients go.
//!
//! What each connection holds is summed up when its run ends, something is queued for it or sent to it, so that judging
//! costs nothing while memory is within the limit. Replicas, the primary and clients in `CLIENT NO-EVICT` are neither
//! counted nor ended.

use crate::action::ConnId;
use crate::commands::client::{Buffers, describe};
use crate::config::Config;
use crate::core::Core;
use crate::session::{Closing, Conn, Role};

/// Below this the server could not be talked to any more.
const LIMIT_MIN_BYTES: u64 = 128 * 1024;

/// The buffers of all clients that may be evicted.
#[derive(Debug, Default)]
pub struct ClientMemory {
    bytes: usize,
    /// Bytes; 0 is no limit.
    limit: u64,
}

impl ClientMemory {
    pub(crate) fn apply(&mut self, config: &Config) {
        let limit = match config.maxmemory_clients {
            percent if percent < 0 => {
                (i128::from(config.maxmemory.max(0)) * i128::from(-percent) / 100) as u64
            }
            bytes => bytes as u64,
        };
        self.limit = if limit == 0 { 0 } else { limit.max(LIMIT_MIN_BYTES) };
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.limit > 0
    }

    fn is_exceeded(&self) -> bool {
        self.is_limited() && self.bytes as u64 >= self.limit
    }

    /// Counts `conn` anew.
    #[inline]
    pub(crate) fn recount(&mut self, conn: &mut Conn) {
        let bytes = if may_go(conn) { memory_of(conn) } else { 0 };
        self.bytes = self.bytes + bytes - conn.counted_bytes;
        conn.counted_bytes = bytes;
    }

    /// The connection is gone.
    pub(crate) fn forget(&mut self, conn: &Conn) {
        self.bytes -= conn.counted_bytes;
    }
}

fn may_go(conn: &Conn) -> bool {
    matches!(conn.session.role, Role::Client)
        && !conn.session.no_evict
        && conn.session.closing != Closing::Now
}

/// Replies may share the values that they hold: for them the client answers all the same, it may be the last to hold
/// them.
fn memory_of(conn: &Conn) -> usize {
    let output_bytes = conn.output.memory().max(conn.output.pending_bytes());
    let names_bytes = conn.session.pubsub.as_ref().map_or(0, |subscriptions| subscriptions.memory());
    size_of::<Conn>() + conn.input.capacity() + output_bytes + conn.session.transaction_bytes() + names_bytes
}

impl Core {
    /// Ends the largest clients until all together are within the limit.
    pub(crate) fn evict_clients(&mut self) {
        if !self.client_memory.is_exceeded() {
            return;
        }
        let mut clients: Vec<(usize, ConnId)> = Vec::new();
        let mut present = 0;
        for (id, conn) in self.conns.iter() {
            present += conn.counted_bytes;
            if may_go(conn) {
                clients.push((conn.counted_bytes, id));
            }
        }
        clients.sort_unstable();
        // The client whose command is about to run is not among the connections. It is judged at the end of the turn, and
        // no smaller one goes for it.
        let running = self.client_memory.bytes - present;
        while self.client_memory.is_exceeded()
            && let Some((bytes, id)) = clients.pop()
            && bytes >= running
        {
            self.evict_client(id);
        }
    }

    fn evict_client(&mut self, id: ConnId) {
        let Some(mut conn) = self.conns.take(id) else { return };
        let client = describe(self, &conn.session, &Buffers::of(id, &conn));
        self.notice(format!("Evicting client: {client}"));
        self.stats.evicted_clients += 1;
        conn.session.closing = Closing::Now;
        // Its memory is wanted now, not at the end of the turn.
        conn.input = Vec::new();
        conn.output = resp::Output::new();
        self.client_memory.recount(&mut conn);
        self.conns.put_back(id, conn);
        self.to_close.push(id);
    }
}

#[cfg(test)]
mod tests {
    use crate::action::Action;
    use crate::testing::Harness;

    /// Leaves about so many bytes of an unfinished command in the input.
    fn send_part(h: &mut Harness, conn: usize, bytes: usize) {
        let mut part = format!("*2\r\n$4\r\nECHO\r\n${}\r\n", bytes * 2).into_bytes();
        part.resize(part.len() + bytes, b'x');
        assert_eq!(h.raw(conn, &part), b"");
    }

    fn closed(h: &mut Harness) -> Vec<usize> {
        let actions = h.node.take_actions();
        let closed = actions.iter().filter_map(|action| match action {
            Action::Close { conn } => Some(*conn),
            _ => None,
        });
        closed.collect()
    }

    #[test]
    fn what_a_client_has_announced_counts_before_it_comes() {
        let mut h = Harness::new();
        h.run("CONFIG SET maxmemory-clients 1mb");
        let small = h.connect();
        // Room that another client's argument has left behind is nobody's.
        h.run_args(&[b"SET", b"k", &vec![b'v'; 900_000]]);
        assert_eq!(h.raw(small, b"*2\r\n$4\r\nECHO\r\n$100000\r\n"), b"");
        h.node.before_sleep();
        assert_eq!(closed(&mut h), []);
        assert!(h.node.core.conns.get(small).expect("there").counted_bytes < 200_000);
        let large = h.connect();
        assert_eq!(h.raw(large, b"*2\r\n$4\r\nECHO\r\n$1100000\r\n"), b"");
        h.node.before_sleep();
        assert_eq!(closed(&mut h), [large]);
    }

    #[test]
    fn the_largest_clients_go_until_the_rest_fits() {
        let mut h = Harness::new();
        let (small, large, largest) = (h.connect(), h.connect(), h.connect());
        send_part(&mut h, small, 100_000);
        send_part(&mut h, large, 400_000);
        send_part(&mut h, largest, 800_000);
        h.node.before_sleep();
        assert_eq!(closed(&mut h), [], "there is no limit yet");
        h.run("CONFIG SET maxmemory-clients 300kb");
        h.node.before_sleep();
        let mut gone = closed(&mut h);
        gone.sort();
        assert_eq!(gone, [large, largest]);
        assert_eq!(h.node.core.stats.evicted_clients, 2);
        assert_eq!(h.run("PING"), r"+PONG\r\n");
    }

    #[test]
    fn watched_keys_count() {
        let mut h = Harness::new();
        let watching = h.connect();
        h.run("CONFIG SET maxmemory-clients 300kb");
        for key in 0..14_000 {
            h.raw(watching, format!("WATCH {key}\r\n").as_bytes());
        }
        h.node.before_sleep();
        assert_eq!(closed(&mut h), [watching]);
    }

    #[test]
    fn who_asked_not_to_go_stays_and_does_not_count() {
        let mut h = Harness::new();
        let (kept, other) = (h.connect(), h.connect());
        h.run_on(kept, "CLIENT NO-EVICT on");
        h.run("CONFIG SET maxmemory 1gb maxmemory-clients 0");
        send_part(&mut h, kept, 1_000_000);
        send_part(&mut h, other, 50_000);
        // 0 % of anything is no limit, and less than 128 kB is taken as that.
        h.run("CONFIG SET maxmemory-clients 0%");
        h.node.before_sleep();
        h.run("CONFIG SET maxmemory-clients 1000");
        h.node.before_sleep();
        assert_eq!(closed(&mut h), []);
        let third = h.connect();
        h.run_on(third, "CONFIG SET maxmemory 1mb maxmemory-clients 20%");
        send_part(&mut h, third, 300_000);
        h.node.before_sleep();
        assert_eq!(closed(&mut h), [third]);
    }

    #[test]
    fn replies_that_nobody_reads_count() {
        let mut h = Harness::new();
        let other = h.connect();
        h.run_args(&[b"SET", b"k", &[b'v'; 100_000]]);
        h.run("CONFIG SET maxmemory-clients 1mb");
        for count in 0..20 {
            let request = b"GET k\r\n";
            let Some(input) = h.node.input(other) else { break };
            input.extend_from_slice(request);
            h.node.received(other, request.len());
            h.node.before_sleep();
            assert!(count < 11, "the value is shared, but the client is what holds it");
            if closed(&mut h) == [other] {
                assert!(count > 8);
                return;
            }
        }
        panic!("the client was never evicted");
    }
}
