//! `client-output-buffer-limit`: connections that do not read what they asked for are ended.
//!
//! A client is judged when it got a reply, a replica in each turn; who got nothing meanwhile at least once a second. What
//! waits for a replica are the bytes of the log behind its cursor: they are shared, so its hard limit is never below
//! the backlog in memory, which is kept anyway. Who has chosen no limit (it is Redis's default) has asked for no replica to
//! be dropped that the log can serve: both limits are then at least all that memory and disk were granted for. A replica
//! that comes back and lacks more than the hard limit is not continued from there: it would be dropped at once and come back.

use crate::action::ConnId;
use crate::commands::client::{Buffers, describe};
use crate::config::OutputLimit;
use crate::core::Core;
use crate::session::{Closing, Conn, Role, Session};

/// What a client that has not authenticated may leave unread.
const UNAUTHENTICATED_BYTES: u64 = 1024;

/// Connections judged at each tick, however few are due.
const JUDGED_MIN: usize = 100;

impl Core {
    /// Ends `conn` if more waits for it than its class may.
    #[inline]
    pub(crate) fn enforce_output_limit(&mut self, id: ConnId, conn: &mut Conn) {
        if conn.output.is_empty() && !conn.session.is_replica() {
            conn.session.over_soft_limit_since_s = None;
            return;
        }
        if conn.session.closing != Closing::Now && self.is_over_limit(conn) {
            self.stats.client_output_buffer_limit_disconnections += 1;
            let client = describe(self, &conn.session, &Buffers::of(id, conn));
            self.warning(format!(
                "Client {client} scheduled to be closed ASAP for overcoming of output buffer limits."
            ));
            conn.session.closing = Closing::Now;
            self.to_close.push(id);
        }
    }

    fn is_over_limit(&self, conn: &mut Conn) -> bool {
        let pending = self.pending_output_bytes(conn);
        if pending > UNAUTHENTICATED_BYTES && !conn.session.authenticated && !conn.session.is_primary() {
            return true;
        }
        let limit = self.output_limit(&conn.session);
        if limit.hard_bytes != 0 && pending >= limit.hard_bytes {
            return true;
        }
        if limit.soft_bytes == 0 || pending < limit.soft_bytes {
            conn.session.over_soft_limit_since_s = None;
            return false;
        }
        let now_s = self.env.unix_ms() / 1000;
        let since_s = *conn.session.over_soft_limit_since_s.get_or_insert(now_s);
        u64::try_from(now_s - since_s).is_ok_and(|seconds| seconds > limit.soft_seconds)
    }

    fn output_limit(&self, session: &Session) -> OutputLimit {
        match session.role {
            Role::Client if session.pubsub.is_some() => self.config.output_limit_pubsub,
            Role::Client | Role::Primary => self.config.output_limit_normal,
            Role::Replica(_) => self.replica_output_limit(),
        }
    }

    pub(crate) fn replica_output_limit(&self) -> OutputLimit {
        let limit = self.config.output_limit_replica;
        let at_least = |bytes: u64, least: u64| if bytes == 0 { 0 } else { bytes.max(least) };
        if limit == OutputLimit::REPLICA {
            let kept = self.repl.log.kept_max();
            let [hard_bytes, soft_bytes] =
                [limit.hard_bytes, limit.soft_bytes].map(|bytes| at_least(bytes, kept));
            return OutputLimit { hard_bytes, soft_bytes, ..limit };
        }
        let hard_bytes = at_least(limit.hard_bytes, self.repl.log.backlog_kept_max());
        OutputLimit { hard_bytes, ..limit }
    }

    /// Once so many bytes wait to be sent, the client is going to lose its connection. A command that may reply without
    /// end stops there.
    pub(crate) fn reply_limit(&self, session: &Session) -> usize {
        match self.output_limit(session).hard_bytes {
            0 => usize::MAX,
            bytes => bytes as usize,
        }
    }

    /// Bytes that wait to be sent to this connection, of the log too.
    pub(crate) fn pending_output_bytes(&self, conn: &Conn) -> u64 {
        let log = match &conn.session.role {
            Role::Replica(replica) => replica.link.backlog_bytes(self.repl.log.end()),
            _ => 0,
        };
        conn.output.pending_bytes() as u64 + log
    }

    pub(crate) fn enforce_output_limit_of_replicas(&mut self) {
        for index in 0..self.repl.replicas.len() {
            self.enforce_output_limit_of(self.repl.replicas[index]);
        }
    }

    /// Judges the next of all connections, `hz` times a second: each within a second, few of them every time.
    pub(crate) fn enforce_output_limit_of_next(&mut self) {
        let slots = self.conns.slots();
        for _ in 0..JUDGED_MIN.max(slots / self.config.hz.max(1) as usize + 1).min(slots) {
            self.last_judged = (self.last_judged + 1) % slots;
            self.enforce_output_limit_of(self.last_judged);
        }
    }

    fn enforce_output_limit_of(&mut self, id: ConnId) {
        if let Some(mut conn) = self.conns.take(id) {
            self.enforce_output_limit(id, &mut conn);
            self.conns.put_back(id, conn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::JUDGED_MIN;
    use crate::action::Action;
    use crate::testing::Harness;

    fn closed(h: &mut Harness) -> (bool, String) {
        let actions = h.node.take_actions();
        let log = actions.iter().find_map(|action| match action {
            Action::Log { message, .. } if message.contains("output buffer") => Some(message.clone()),
            _ => None,
        });
        let closed = actions.iter().any(|action| matches!(action, Action::Close { conn } if *conn == h.conn));
        (closed, log.unwrap_or_default())
    }

    fn ask_without_reading(h: &mut Harness) {
        let request = b"ECHO aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(20);
        if let Some(input) = h.node.input(h.conn) {
            input.extend_from_slice(&request);
            h.node.received(h.conn, request.len());
        }
    }

    #[test]
    fn the_hard_limit_ends_at_once() {
        let mut h = Harness::new();
        h.run("CONFIG SET client-output-buffer-limit \"normal 1000 0 0\"");
        ask_without_reading(&mut h);
        h.node.before_sleep();
        let (closed, log) = closed(&mut h);
        assert!(closed);
        assert!(log.starts_with("Client id=1 addr=127.0.0.1:1 "), "{log}");
        assert!(log.ends_with(" scheduled to be closed ASAP for overcoming of output buffer limits."));
        assert_eq!(h.node.core.stats.client_output_buffer_limit_disconnections, 1);
    }

    #[test]
    fn what_a_client_asks_for_without_end_ends_with_its_connection() {
        for (fill, ask) in [
            ("HSET k f v", "HRANDFIELD k -9223372036854775807\r\n"),
            ("SADD k m", "SRANDMEMBER k -9223372036854775807\r\n"),
            ("ZADD k 1 m", "ZRANDMEMBER k -9223372036854775807\r\n"),
        ] {
            let mut h = Harness::new();
            h.run(fill);
            h.run("CONFIG SET client-output-buffer-limit \"normal 1000 0 0\"");
            let _ = h.raw(h.conn, ask.as_bytes());
            h.node.before_sleep();
            assert!(closed(&mut h).0, "{ask}");
        }
    }

    /// Seconds are those of the clock, as in Redis: the end comes within the second that follows the configured ones.
    #[test]
    fn the_soft_limit_ends_later() {
        let mut h = Harness::new();
        h.run("CONFIG SET client-output-buffer-limit \"normal 0 1000 2\"");
        let into_second = h.now_ms() % 1000;
        h.advance_ms(1700 - into_second);
        ask_without_reading(&mut h);
        h.advance_ms(2200);
        h.node.tick();
        h.node.before_sleep();
        assert!(!closed(&mut h).0);
        h.advance_ms(100);
        h.node.tick();
        h.node.before_sleep();
        assert!(closed(&mut h).0);
    }

    #[test]
    fn each_of_many_connections_is_judged_within_a_second() {
        let mut h = Harness::new();
        h.run("CONFIG SET client-output-buffer-limit \"normal 0 1000 0\"");
        ask_without_reading(&mut h);
        for _ in 0..5 * JUDGED_MIN * 10 {
            h.connect();
        }
        h.advance_ms(1000);
        for _ in 0..10 {
            h.node.tick();
        }
        h.node.before_sleep();
        assert!(closed(&mut h).0);
    }
}
