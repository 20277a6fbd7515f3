//! Handing the place of the primary over: what [`replication::Failover`] asks for is carried out here.
//!
//! From the command on, writes of clients are held back and nothing is appended to the log. Before each sleep the node
//! looks whether a replica has acknowledged all of it; then it becomes that replica's replica by a `PSYNC … FAILOVER`.
//! A node that is asked so promotes itself before it answers (`commands::replication`).

use replication::{Failover, FailoverAction, FailoverInput};

use crate::node::Node;
use crate::pause;

impl Node {
    pub(crate) fn failover_step(&mut self, input: FailoverInput) {
        if !self.core.repl.failover.is_active() {
            return;
        }
        let state = std::mem::take(&mut self.core.repl.failover);
        let (now, end) = (self.core.monotonic(), self.core.repl.offset());
        let mut actions = Vec::new();
        let links: Vec<_> = self.core.replica_links().collect();
        let state: Failover = state.step(now, input, end, links.iter().copied(), &mut actions);
        self.core.repl.failover = state;
        for action in actions {
            match action {
                FailoverAction::Log(event) => self.core.notice(event.to_string()),
                FailoverAction::Follow(target) => {
                    self.core.config.replicaof = Some((target.host.clone(), target.port));
                    self.follow(&target.host, target.port);
                    if let Some(following) = &mut self.core.repl.following {
                        following.link.ask_to_take_over();
                    }
                }
                FailoverAction::Promote => {
                    self.core.config.replicaof = None;
                    self.promote();
                }
                FailoverAction::ReleaseWrites => {
                    pause::settle_expiry(&mut self.store, &self.core);
                    pause::resume_held(&mut self.core);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::action::{Action, ConnId};
    use crate::session::Peer;
    use crate::testing::Harness;

    /// A replica on port 7001 that is online.
    fn replica(h: &mut Harness) -> ConnId {
        let id = h.connect();
        h.run_on(id, "REPLCONF listening-port 7001 capa eof capa psync2");
        let position = h.node.core.repl.position();
        h.run_on(id, &format!("PSYNC {} {}", position.replid, position.offset + 1));
        if !h.node.core.repl.log.is_active() || h.node.core.replica(id).is_none_or(|r| !r.link.is_online()) {
            // It was the first: now there is a history to continue.
            h.node.closed(id);
            return replica(h);
        }
        id
    }

    fn acknowledge(h: &mut Harness, replica: ConnId) {
        let end = h.node.core.repl.offset();
        h.run_on(replica, &format!("REPLCONF ACK {end}"));
    }

    fn state(h: &mut Harness) -> String {
        let info = h.run("INFO replication");
        let (_, rest) = info.split_once("master_failover_state:").expect("a field of INFO");
        rest.split('\\').next().expect("a line").to_owned()
    }

    fn connects(h: &mut Harness) -> Vec<String> {
        let target = |action| match action {
            Action::ConnectPrimary { host, port } => Some(format!("{host}:{port}")),
            _ => None,
        };
        h.node.take_actions().into_iter().filter_map(target).collect()
    }

    /// What the primary's connection brings next, and what is sent on it.
    fn answer(h: &mut Harness, conn: ConnId, bytes: &str) -> String {
        h.raw(conn, bytes.as_bytes()).escape_ascii().to_string()
    }

    fn connected(h: &mut Harness) -> ConnId {
        let conn = h.node.primary_connected(Peer::default()).expect("it follows");
        h.output(conn);
        answer(h, conn, "+PONG\r\n");
        conn
    }

    #[test]
    fn writes_wait_until_the_replica_has_taken_over() {
        let mut h = Harness::new();
        let replica = replica(&mut h);
        let (writer, blocked, waits) = (h.connect(), h.connect(), h.connect());
        h.run("SET a 1");
        assert_eq!(h.run_on(blocked, "BLPOP list 0"), "");
        assert_eq!(h.run_on(waits, "WAIT 2 0"), "");
        h.node.before_sleep();
        let own = h.node.core.repl.position();
        assert_eq!(h.run("FAILOVER TO 127.0.0.1 7001 TIMEOUT 1000"), r"+OK\r\n");
        assert_eq!(state(&mut h), "waiting-for-sync");
        assert_eq!(h.run_on(writer, "SET a 2"), "");
        assert_eq!(h.run("GET a"), r"$1\r\n1\r\n");
        assert_eq!(h.run("REPLICAOF NO ONE"), r"-ERR REPLICAOF not allowed while failing over.\r\n");
        assert_eq!(h.run("FAILOVER"), r"-ERR FAILOVER already in progress.\r\n");
        let other = h.connect();
        assert_eq!(h.run_on(other, "PSYNC ? -1"), r"-NOMASTERLINK Can\'t SYNC while failing over\r\n");
        // Neither a ping nor the wish for acknowledgements moves the end of the log.
        h.run_on(other, "WAIT 1 0");
        h.advance_ms(900);
        h.node.tick();
        h.node.before_sleep();
        assert_eq!(h.node.core.repl.position(), own);
        assert!(connects(&mut h).is_empty());
        acknowledge(&mut h, replica);
        h.node.before_sleep();
        assert_eq!(state(&mut h), "failover-in-progress");
        assert_eq!(connects(&mut h), ["127.0.0.1:7001"]);
        let unblocked =
            "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";
        assert_eq!(h.output(blocked), format!("{unblocked}\r\n").as_bytes());
        assert!(h.run("ROLE").contains("slave"));
        assert!(h.output(writer).is_empty());
        let conn = connected(&mut h);
        let sent = answer(&mut h, conn, "+OK\r\n+OK\r\n+OK\r\n");
        assert!(
            sent.ends_with(&format!(r"{}\r\n$2\r\n{}\r\n$8\r\nFAILOVER\r\n", own.replid, own.next())),
            "{sent}"
        );
        answer(&mut h, conn, "+CONTINUE bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n");
        h.node.before_sleep();
        assert_eq!(state(&mut h), "no-failover");
        assert_eq!(h.output(writer), b"-READONLY You can't write against a read only replica.\r\n");
        assert_eq!(h.node.core.repl.history.second_id().to_string(), own.replid.to_string());
        assert_eq!(h.run("FAILOVER"), r"-ERR FAILOVER is not valid when server is a replica.\r\n");
    }

    #[test]
    fn a_refusal_makes_it_a_primary_again() {
        let mut h = Harness::new();
        let replica = replica(&mut h);
        h.run("SET a 1");
        acknowledge(&mut h, replica);
        let writer = h.connect();
        h.run("FAILOVER");
        h.run_on(writer, "SET a 2");
        h.node.before_sleep();
        let conn = connected(&mut h);
        answer(&mut h, conn, "+OK\r\n+OK\r\n+OK\r\n");
        answer(&mut h, conn, "-NOPERM this user has no permissions to run the 'psync' command\r\n");
        h.node.before_sleep();
        assert_eq!(state(&mut h), "no-failover");
        assert_eq!(h.output(writer), b"+OK\r\n");
        assert!(h.run("ROLE").contains("master"));
        assert_eq!(h.node.core.config.replicaof, None);
    }

    #[test]
    fn it_is_aborted_in_either_state() {
        let mut h = Harness::new();
        let first = replica(&mut h);
        h.run("SET a 1");
        let writer = h.connect();
        assert_eq!(h.run("FAILOVER ABORT"), r"-ERR No failover in progress.\r\n");
        h.run("FAILOVER");
        h.run_on(writer, "SET a 2");
        assert_eq!(h.run("FAILOVER ABORT"), r"+OK\r\n");
        h.node.before_sleep();
        assert_eq!(h.output(writer), b"+OK\r\n");
        acknowledge(&mut h, first);
        h.run("FAILOVER");
        h.node.before_sleep();
        assert_eq!(state(&mut h), "failover-in-progress");
        assert_eq!(h.run("FAILOVER ABORT"), r"+OK\r\n");
        assert_eq!(state(&mut h), "no-failover");
        assert_eq!(h.run("SET a 3"), r"+OK\r\n");
    }

    #[test]
    fn the_time_to_catch_up_is_limited() {
        let mut h = Harness::new();
        replica(&mut h);
        h.run("SET a 1");
        h.run("FAILOVER TO 127.0.0.1 7001 TIMEOUT 100");
        h.advance_ms(99);
        h.node.before_sleep();
        assert_eq!(state(&mut h), "waiting-for-sync");
        h.advance_ms(1);
        h.node.before_sleep();
        assert_eq!(state(&mut h), "no-failover");
        h.run("FAILOVER TO 127.0.0.1 7001 TIMEOUT 100 FORCE");
        h.advance_ms(100);
        h.node.before_sleep();
        assert_eq!(state(&mut h), "failover-in-progress");
    }

    #[test]
    fn words_are_read_as_by_redis() {
        let mut h = Harness::new();
        for (words, reply) in [
            ("FAILOVER x", "ERR syntax error"),
            ("FAILOVER ABORT TIMEOUT 1", "ERR syntax error"),
            ("FAILOVER TIMEOUT 1 TIMEOUT 1", "ERR syntax error"),
            ("FAILOVER TO a 1 TO a 1", "ERR syntax error"),
            ("FAILOVER TO a", "ERR syntax error"),
            ("FAILOVER FORCE FORCE", "ERR syntax error"),
            ("FAILOVER TIMEOUT 0", "ERR FAILOVER timeout must be greater than 0"),
            ("FAILOVER TIMEOUT x", "ERR value is not an integer or out of range"),
            ("FAILOVER TO a x", "ERR value is not an integer or out of range"),
            ("FAILOVER TO a 1 FORCE TIMEOUT 1", "ERR FAILOVER requires connected replicas."),
        ] {
            assert_eq!(h.run(words), format!(r"-{reply}\r\n"), "{words}");
        }
    }

    #[test]
    fn a_replica_takes_over_only_in_its_own_history() {
        let mut h = Harness::new();
        let asks = h.connect();
        let id = "cccccccccccccccccccccccccccccccccccccccc";
        assert_eq!(
            h.run_on(asks, &format!("PSYNC {id} 1 FAILOVER")),
            r"-ERR PSYNC FAILOVER can\'t be sent to a master.\r\n"
        );
        h.run("REPLICAOF 10.0.0.1 6379");
        let conn = connected(&mut h);
        answer(&mut h, conn, "+OK\r\n+OK\r\n+OK\r\n");
        answer(&mut h, conn, &format!("+FULLRESYNC {id} 100\r\n"));
        h.node.core.repl.adopt(log::Position::new(id.parse().expect("an id"), 100));
        assert_eq!(
            h.run_on(asks, "PSYNC dddddddddddddddddddddddddddddddddddddddd 101 FAILOVER"),
            r"-ERR PSYNC FAILOVER replid must match my replid.\r\n"
        );
        assert!(h.run("ROLE").contains("slave"));
        let answered = h.run_on(asks, &format!("PSYNC {id} 101 FAILOVER"));
        let history = h.node.core.repl.history;
        // Without `capa psync2`.
        assert_eq!(answered, r"+CONTINUE\r\n");
        assert_eq!((history.second_id().to_string().as_str(), history.second_offset()), (id, 101));
        assert!(h.run("ROLE").contains("master"));
        assert_eq!(h.node.core.config.replicaof, None);
    }
}
