//! The end of a node: `SHUTDOWN` and the signals that mean it.
//!
//! Both only ask ([`request`]). From then on writes of clients are held back, and before each sleep the node looks
//! whether its replicas have acknowledged all of the log or the time for that is up; then it stops a running snapshot,
//! saves if that is wanted, and asks for the end of the process. A save that fails calls the end off, unless it is
//! forced. Clients that sent `SHUTDOWN` are blocked meanwhile: they see the connection end, or the error.

use std::fmt;

use crate::action::{Action, ConnId};
use crate::core::Core;
use crate::node::Node;
use crate::pause;
use crate::persist;
use crate::session::Blocked;
use crate::store::Store;

const FAILED: &str = "ERR Errors trying to SHUTDOWN. Check logs.";

/// What a shutdown was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shutdown {
    /// Save even without save points; `Some(false)` is the opposite.
    pub save: Option<bool>,
    /// Without waiting for replicas.
    pub now: bool,
    /// Even if saving fails.
    pub force: bool,
}

/// A shutdown that was asked for and has not happened yet.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    wanted: Shutdown,
    /// Replicas have time until then, Unix time.
    until_ms: i64,
    /// The wait is over, and a snapshot that was running is being stopped.
    ending: bool,
}

impl Waiting {
    /// How long replicas still have.
    pub fn left_ms(&self, now_ms: i64) -> i64 {
        (self.until_ms - now_ms).max(0)
    }
}

impl Shutdown {
    /// The words of `shutdown-on-sigterm`. The error is the reason that Redis gives.
    pub fn parse(words: &[&str]) -> Result<Shutdown, &'static str> {
        const CHOICE: &str = "argument(s) must be one of the following: default, save, nosave, now, force";
        if words.is_empty() {
            return Err(CHOICE);
        }
        let mut wanted = Shutdown::default();
        for word in words {
            match word.to_ascii_lowercase().as_str() {
                "default" => {}
                "save" | "nosave" => {
                    let save = word.eq_ignore_ascii_case("save");
                    if wanted.save.is_some_and(|other| other != save) {
                        return Err("shutdown options SAVE and NOSAVE can't be used simultaneously");
                    }
                    wanted.save = Some(save);
                }
                "now" => wanted.now = true,
                "force" => wanted.force = true,
                _ => return Err(CHOICE),
            }
        }
        Ok(wanted)
    }
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = [
            (self.save == Some(true), "save"),
            (self.save == Some(false), "nosave"),
            (self.now, "now"),
            (self.force, "force"),
        ]
        .into_iter()
        .filter_map(|(set, word)| set.then_some(word))
        .collect();
        f.write_str(if words.is_empty() { "default".to_owned() } else { words.join(" ") }.as_str())
    }
}

/// Asks for the end of the process. If that was done before, the first request stands.
pub fn request(store: &mut Store, core: &mut Core, mut wanted: Shutdown) {
    if core.shutdown.is_some() {
        return;
    }
    if core.loading.is_some() {
        // What is there is not all: it must not take the place of the file.
        wanted.save = Some(false);
    }
    core.warning("User requested shutdown...");
    let wait_ms = if wanted.now { 0 } else { core.config.shutdown_timeout_s * 1000 };
    if wait_ms > 0 && !replicas_in_sync(core) {
        core.notice("Waiting for replicas before shutting down.");
    }
    core.shutdown = Some(Waiting { wanted, until_ms: core.env.unix_ms() + wait_ms, ending: false });
    pause::settle_expiry(store, core);
}

/// `SHUTDOWN ABORT`. False if there is nothing to abort.
pub fn abort(store: &mut Store, core: &mut Core) -> bool {
    if core.shutdown.is_none() {
        return false;
    }
    call_off(store, core);
    core.notice("Shutdown manually aborted.");
    true
}

/// Ends the wait without the end of the process: the clients that asked for that are told, everybody goes on.
fn call_off(store: &mut Store, core: &mut Core) {
    core.shutdown = None;
    let asked: Vec<ConnId> = core
        .conns
        .iter()
        .filter(|(_, conn)| matches!(conn.session.blocked, Some(Blocked::Shutdown)))
        .map(|(id, _)| id)
        .collect();
    for id in asked {
        let Some(conn) = core.conns.get_mut(id) else { continue };
        conn.session.blocked = None;
        resp::Reply::new(&mut conn.output, conn.session.proto).error(FAILED);
        core.queue_id(id);
        core.resume.push(id);
    }
    pause::resume_held(core);
    pause::settle_expiry(store, core);
}

impl Core {
    /// The process is about to end: nothing new is begun.
    pub(crate) fn is_ending(&self) -> bool {
        self.shutdown.is_some_and(|waiting| waiting.ending)
    }
}

fn replicas_in_sync(core: &Core) -> bool {
    core.known_replicas().all(|link| link.acknowledged().offset == core.repl.offset())
}

fn report_replicas(core: &mut Core) {
    let (end, now) = (core.repl.offset(), core.monotonic());
    let replicas = core.known_replicas().count();
    let lagging: Vec<String> = core
        .known_replicas()
        .filter(|link| link.acknowledged().offset != end)
        .map(|link| {
            format!(
                "Lagging replica {} reported offset {} behind master, lag={}, state={}.",
                link.name(),
                end.saturating_sub(link.acknowledged().offset),
                link.lag(now).0 / 1000,
                link.info_state().unwrap_or("none"),
            )
        })
        .collect();
    let in_sync = replicas - lagging.len();
    for line in lagging {
        core.notice(line);
    }
    if replicas > 0 {
        core.notice(format!("{in_sync} of {replicas} replicas are in sync when shutting down."));
    }
}

impl Node {
    /// A signal asks for the end of the process.
    pub fn shut_down(&mut self, wanted: Shutdown) {
        request(&mut self.store, &mut self.core, wanted);
    }

    /// Before each sleep: ends the process if that was asked for and nothing is left to wait for.
    pub(crate) fn shutdown_step(&mut self) {
        let Some(waiting) = self.core.shutdown else { return };
        let due = waiting.ending || self.core.env.unix_ms() >= waiting.until_ms;
        if !due && !replicas_in_sync(&self.core) {
            return;
        }
        self.core.shutdown = Some(Waiting { ending: true, ..waiting });
        if self.stop_snapshot() {
            // It may be at the point of giving its file the final name. The surroundings see to it that it is over
            // when the node is about to sleep again.
            return;
        }
        report_replicas(&mut self.core);
        if let Err(reason) = self.save_at_end(waiting.wanted) {
            self.core.warning(reason);
            self.core.warning("Errors trying to shut down the server. Check the logs for more information.");
            return call_off(&mut self.store, &mut self.core);
        }
        self.core.actions.push(Action::Exit { code: 0 });
    }

    /// True if a snapshot was running.
    fn stop_snapshot(&mut self) -> bool {
        let Some(running) = &self.core.snapshots.running else { return false };
        let purpose = running.purpose.clone();
        self.core.warning("There is a child saving an .rdb. Killing it!");
        self.cancel_snapshot();
        if purpose.is_sync() {
            self.sync_snapshot_broken(&purpose);
        }
        true
    }

    fn save_at_end(&mut self, wanted: Shutdown) -> Result<(), &'static str> {
        if !wanted.save.unwrap_or(!self.core.config.save.is_empty()) {
            return Ok(());
        }
        self.core.notice("Saving the final RDB snapshot before exiting.");
        match persist::save_now(&mut self.store, &mut self.core) {
            Err(_) if wanted.force => {
                self.core.warning("Error trying to save the DB. Exit anyway.");
                Ok(())
            }
            Err(_) => Err("Error trying to save the DB, can't exit."),
            Ok(()) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Protected, SavePoint};
    use crate::testing::Harness;

    /// Log lines and ends since the last call.
    fn happened(h: &mut Harness) -> Vec<String> {
        h.node.before_sleep();
        h.node
            .take_actions()
            .into_iter()
            .filter_map(|action| match action {
                Action::Log { message, .. } => Some(message),
                Action::Exit { code } => Some(format!("exit {code}")),
                Action::CancelSnapshot => Some("cancel".to_owned()),
                _ => None,
            })
            .collect()
    }

    /// A replica that is online and has acknowledged nothing yet.
    fn replica(h: &mut Harness) -> ConnId {
        let id = h.connect();
        h.run_on(id, "REPLCONF listening-port 7001 capa eof capa psync2");
        let position = h.node.core.repl.position();
        h.run_on(id, &format!("PSYNC {} {}", position.replid, position.offset + 1));
        happened(h);
        id
    }

    #[test]
    fn it_waits_until_the_replicas_have_all() {
        let mut h = Harness::new();
        let replica = replica(&mut h);
        let (writer, asked) = (h.connect(), h.connect());
        h.run("SET a 1");
        assert_eq!(h.run_on(asked, "SHUTDOWN NOSAVE"), "");
        assert_eq!(
            happened(&mut h),
            ["User requested shutdown...", "Waiting for replicas before shutting down."]
        );
        assert_eq!(h.run_on(writer, "SET a 2"), "");
        assert_eq!(h.run("GET a"), r"$1\r\n1\r\n");
        assert!(h.run("INFO server").contains(r"shutdown_in_milliseconds:10000\r\n"));
        h.advance_ms(9_999);
        assert!(happened(&mut h).is_empty());
        let end = h.node.core.repl.offset();
        h.run_on(replica, &format!("REPLCONF ACK {end}"));
        assert_eq!(happened(&mut h), ["1 of 1 replicas are in sync when shutting down.", "exit 0"]);
        assert_eq!(h.run_on(asked, "PING"), "");
    }

    #[test]
    fn after_the_timeout_it_ends_all_the_same() {
        let mut h = Harness::new();
        replica(&mut h);
        h.run("SET a 1");
        let behind = h.node.core.repl.offset();
        h.run("SHUTDOWN");
        happened(&mut h);
        h.advance_ms(10_000);
        assert_eq!(
            happened(&mut h)[..2],
            [
                format!(
                    "Lagging replica 127.0.0.1:7001 reported offset {behind} behind master, lag=10, state=online."
                ),
                "0 of 1 replicas are in sync when shutting down.".to_owned(),
            ]
        );
    }

    #[test]
    fn an_abort_lets_everybody_go_on() {
        let mut h = Harness::new();
        replica(&mut h);
        let (writer, asked) = (h.connect(), h.connect());
        h.run("SET a 1");
        h.run_on(asked, "SHUTDOWN");
        h.run_on(writer, "SET a 2");
        assert_eq!(h.run("SHUTDOWN ABORT"), r"+OK\r\n");
        assert_eq!(happened(&mut h).last().map(String::as_str), Some("Shutdown manually aborted."));
        assert_eq!(h.output(asked), format!("-{FAILED}\r\n").as_bytes());
        assert_eq!(h.output(writer), b"+OK\r\n");
        assert_eq!(h.run_on(asked, "PING"), r"+PONG\r\n");
        assert_eq!(h.run("SHUTDOWN ABORT"), r"-ERR No shutdown in progress.\r\n");
    }

    #[test]
    fn a_save_that_fails_refuses_the_end_unless_forced() {
        let mut config = Config { enable_debug_command: Protected::Yes, ..Config::default() };
        config.save = vec![SavePoint { seconds: 3600, changes: 1 }];
        let mut h = Harness::with_config(config);
        h.files.lock().unwrap().insert("./dump.rdb".into(), None);
        assert_eq!(h.run("SHUTDOWN"), "");
        let lines = happened(&mut h);
        assert!(!lines.contains(&"exit 0".to_owned()), "{lines:?}");
        assert!(lines.contains(&"Error trying to save the DB, can't exit.".to_owned()), "{lines:?}");
        assert_eq!(h.output(h.conn), format!("-{FAILED}\r\n").as_bytes());
        assert_eq!(h.run("SHUTDOWN FORCE"), "");
        assert_eq!(
            happened(&mut h)[3..],
            ["Error trying to save the DB. Exit anyway.".to_owned(), "exit 0".to_owned()]
        );
    }

    #[test]
    fn a_running_snapshot_is_stopped_before_the_save() {
        let mut h = Harness::new();
        h.run("SET a 1");
        h.run("BGSAVE");
        happened(&mut h);
        h.run("SHUTDOWN SAVE");
        assert_eq!(
            happened(&mut h),
            ["User requested shutdown...", "There is a child saving an .rdb. Killing it!", "cancel"]
        );
        assert_eq!(
            happened(&mut h),
            ["Saving the final RDB snapshot before exiting.", "DB saved on disk", "exit 0"]
        );
    }

    #[test]
    fn words_of_the_settings() {
        for (words, text) in
            [("default", "default"), ("NOSAVE force", "nosave force"), ("now save", "save now")]
        {
            let words: Vec<&str> = words.split(' ').collect();
            assert_eq!(Shutdown::parse(&words).map(|s| s.to_string()), Ok(text.to_owned()));
        }
        assert!(Shutdown::parse(&["save", "nosave"]).is_err_and(|e| e.contains("simultaneously")));
        assert!(Shutdown::parse(&["later"]).is_err_and(|e| e.contains("one of the following")));
    }
}
