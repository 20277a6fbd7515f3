//! When replicas are sent what was written: before the node sleeps.
//!
//! A send costs the writer as much as ten commands, and waking up costs the replica as much. So while turn follows turn, what is
//! written is held back, for a moment at most ([`HELD_US`], [`HELD_BYTES`]), and goes out as one. As soon as a turn finds
//! nothing to do, all is sent: a server with a moment to spare delays nothing.

use replication::replica_link::GETACK;

use crate::core::Core;

/// What is written at full speed in a third of a millisecond.
const HELD_BYTES: u64 = 32 * 1024;
/// Well below what a replica is behind anyway. The turn in which it ends may be longer.
const HELD_US: u64 = 100;

impl Core {
    /// Before the node sleeps: replicas are asked to acknowledge for clients in `WAIT`, and those that are online are
    /// sent what was written. What a client waits for, and what a server leaves that ends, is not held back.
    pub(crate) fn announce_log(&mut self) {
        let asked = self.repl.getack_due && !self.log_stands_still();
        if asked {
            self.repl.getack_due = false;
            self.repl.feed_bare(GETACK);
        }
        let end = self.repl.log.end();
        let unannounced = end.wrapping_sub(self.repl.announced_end);
        if unannounced == 0 {
            self.repl.held_since_us = None;
            return;
        }
        let awaited = asked || !self.repl.waiting.is_empty() || self.log_stands_still();
        let may_wait = self.turn_had_events && !awaited && unannounced < HELD_BYTES;
        if may_wait && !self.repl.replicas.is_empty() {
            let now_us = self.env.monotonic_us();
            if now_us - *self.repl.held_since_us.get_or_insert(now_us) < HELD_US {
                return;
            }
        }
        self.repl.held_since_us = None;
        self.repl.announced_end = end;
        self.queue_replicas();
    }
}

#[cfg(test)]
mod tests {
    use super::HELD_BYTES;
    use crate::action::ConnId;
    use crate::testing::Harness;

    struct Primary {
        h: Harness,
        replica: ConnId,
    }

    impl Primary {
        /// Its replica is online and has all there is.
        fn new() -> Primary {
            let mut h = Harness::new();
            let first = h.connect();
            h.run_on(first, "PSYNC ? -1");
            let position = h.node.core.repl.position();
            let replica = h.connect();
            let asks = format!("PSYNC {} {}", position.replid, position.next());
            assert!(h.run_on(replica, &asks).starts_with("+CONTINUE"));
            let mut primary = Primary { h, replica };
            primary.turn(false);
            primary
        }

        /// A turn of the loop: whether the replica is sent something then.
        fn turn(&mut self, had_events: bool) -> bool {
            self.h.node.core.turn_had_events = had_events;
            self.h.node.before_sleep();
            let mut ids = Vec::new();
            self.h.node.take_to_send(&mut ids);
            ids.contains(&self.replica)
        }
    }

    #[test]
    fn what_is_written_goes_out_with_the_first_turn_that_has_nothing_to_do() {
        let mut primary = Primary::new();
        for n in 0..3 {
            primary.h.run(&format!("SET key {n}"));
            assert!(!primary.turn(true));
            assert!(primary.h.node.is_busy(), "the loop must not sleep on it");
        }
        assert!(primary.turn(false));
        assert!(!primary.h.node.is_busy());
        assert!(!primary.turn(false), "there is nothing more");
    }

    #[test]
    fn it_is_held_for_a_moment_and_up_to_some_bytes() {
        let mut primary = Primary::new();
        primary.h.run("SET key value");
        assert!(!primary.turn(true));
        primary.h.advance_ms(1);
        assert!(primary.turn(true));
        primary.h.run("SET key value");
        assert!(!primary.turn(true), "another moment begins");
        primary.h.run(&format!("SET key {}", "v".repeat(HELD_BYTES as usize)));
        assert!(primary.turn(true));
    }

    #[test]
    fn a_client_that_waits_is_not_held_up() {
        let mut primary = Primary::new();
        primary.h.run("SET key value");
        primary.h.run("WAIT 1 0");
        assert!(primary.turn(true));
    }
}
