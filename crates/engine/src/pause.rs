//! `CLIENT PAUSE`: commands of clients wait until it ends, and nothing expires meanwhile.
//!
//! A client whose command has to wait is blocked as [`Blocked::Paused`] with the command still in its input; when the
//! pause ends its input is run again from there. Replicas are never held. Of the primary's stream nothing is executed, nor
//! acknowledged as executed, until the pause ends.

use command::{Flag, Flags};

use crate::core::{Core, Pause};
use crate::ctx::CommandRef;
use crate::node::Node;
use crate::session::{Blocked, Role, Session};
use crate::store::{Expiry, Store};

/// What holds while the node itself waits for something.
const WRITES_HELD: Pause = Pause { until_ms: i64::MAX, writes_only: true };

/// Begins a pause, or makes the one that runs longer and stricter: it never gets shorter or more lenient.
pub(crate) fn begin(store: &mut Store, core: &mut Core, pause: Pause) {
    let pause = match core.pause {
        Some(old) => Pause {
            until_ms: old.until_ms.max(pause.until_ms),
            writes_only: old.writes_only && pause.writes_only,
        },
        None => pause,
    };
    core.pause = Some(pause);
    settle_expiry(store, core);
}

/// Ends the pause, if there is one, and lets everybody go on.
pub(crate) fn end(store: &mut Store, core: &mut Core) {
    if core.pause.take().is_none() {
        return;
    }
    settle_expiry(store, core);
    resume_held(core);
}

/// Keys are deleted when their time has run out unless that is somebody else's decision, or writes are held back.
pub(crate) fn settle_expiry(store: &mut Store, core: &Core) {
    let deletes = !core.is_replica() && !core.holds_writes();
    store.expiry = if deletes { Expiry::Delete } else { Expiry::Hide };
}

/// Lets those go on whose command was held back. If there is another reason to hold it, it will be.
pub(crate) fn resume_held(core: &mut Core) {
    for (id, conn) in core.conns.iter_mut() {
        if let Some(Blocked::Paused) = conn.session.blocked {
            conn.session.blocked = None;
            core.resume.push(id);
        }
    }
}

impl Core {
    /// Whether the pause holds this command of this session back.
    #[inline]
    pub(crate) fn postpones(&self, session: &Session, command: Option<CommandRef>) -> bool {
        if self.pause.is_some_and(|pause| pause.holds(session, command)) {
            return true;
        }
        self.waits_itself() && WRITES_HELD.holds(session, command)
    }

    /// Clients' writes wait: for the end of a pause, of a transfer of keys, of a failover, or of the process.
    pub(crate) fn holds_writes(&self) -> bool {
        self.pause.is_some() || self.waits_itself()
    }

    fn waits_itself(&self) -> bool {
        self.shutdown.is_some() || self.migrations.running.is_some() || self.repl.failover.is_active()
    }
}

impl Pause {
    fn holds(self, session: &Session, command: Option<CommandRef>) -> bool {
        if !matches!(session.role, Role::Client) || !self.writes_only {
            return matches!(session.role, Role::Client);
        }
        let Some(command) = command else { return false };
        let replicates = |flags: Flags| flags.has(Flag::Write) || flags.has(Flag::MayReplicate);
        replicates(command.flags)
            || (command.command.name == "exec"
                && session.multi.as_ref().is_some_and(|multi| replicates(multi.some)))
    }
}

impl Node {
    /// Ends the pause when its time is up.
    pub(crate) fn pause_tick(&mut self) {
        if self.core.pause.is_some_and(|pause| pause.until_ms <= self.store.now_ms) {
            end(&mut self.store, &mut self.core);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    #[test]
    fn writes_wait_until_the_pause_ends() {
        let mut h = Harness::new();
        let other = h.connect();
        assert_eq!(h.run("CLIENT PAUSE 100 WRITE"), r"+OK\r\n");
        assert!(h.run_on(other, "SET a").starts_with("-ERR wrong number of arguments"));
        assert_eq!(h.run_on(other, "FLUSHALL"), "");
        assert_eq!(h.run("GET a"), r"$-1\r\n");
        h.node.tick();
        h.node.before_sleep();
        assert!(h.output(other).is_empty());
        h.advance_ms(101);
        h.node.tick();
        h.node.before_sleep();
        assert_eq!(h.output(other), b"+OK\r\n");
    }

    #[test]
    fn everything_waits_and_goes_on_in_order() {
        let mut h = Harness::new();
        let other = h.connect();
        assert_eq!(h.run("CLIENT PAUSE 100"), r"+OK\r\n");
        assert_eq!(h.run_on(other, "PING 1\r\nPING 2"), "");
        h.advance_ms(101);
        h.node.tick();
        h.node.before_sleep();
        assert_eq!(h.output(other), b"$1\r\n1\r\n$1\r\n2\r\n");
    }

    #[test]
    fn a_pause_is_ended_by_hand() {
        let mut h = Harness::new();
        let other = h.connect();
        h.run("CLIENT PAUSE 100000 WRITE");
        assert_eq!(h.run_on(other, "FLUSHALL"), "");
        assert_eq!(h.run("CLIENT UNPAUSE"), r"+OK\r\n");
        h.node.before_sleep();
        assert_eq!(h.output(other), b"+OK\r\n");
        assert_eq!(h.run("CLIENT PAUSE -1"), r"-ERR timeout is negative\r\n");
        assert_eq!(h.run("CLIENT PAUSE x"), r"-ERR timeout is not an integer or out of range\r\n");
        assert_eq!(h.run("CLIENT PAUSE 1 X"), r"-ERR CLIENT PAUSE mode must be WRITE or ALL\r\n");
    }
}
