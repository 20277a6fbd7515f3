//! What an operator wants to know about a primary and its replicas, computed from what was observed.
//!
//! Pure: [`View::observe`] takes an observation and its time, and everything shown is read from the fields. Times are
//! milliseconds since the tool was started.

use std::collections::VecDeque;

use crate::info::Info;

/// How many events are kept.
const EVENTS_MAX: usize = 200;
/// How many of a node's last lines are told when it dies.
const LAST_LINES: usize = 5;
/// How long the primary's offsets are remembered, and so the greatest lag in ms that can be told exactly.
const HISTORY_MS: u64 = 3_600_000;

/// One thing seen at one node.
#[derive(Clone, Debug)]
pub enum Observation {
    /// An INFO reply, and the primary's offset asked for immediately before it.
    Info {
        info: Info,
        primary_offset: Option<u64>,
    },
    /// No INFO reply.
    Unreachable(String),
    /// A line of its log.
    Log(String),
    /// A process of ours was started for it.
    Started {
        pid: u32,
    },
    Exited(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Starting,
    Up,
    Unreachable(String),
    Exited(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Primary,
    Replica,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Up,
    /// A full sync is being received; the share that is there, if the size is known.
    Syncing {
        percent: Option<u64>,
    },
    Down {
        seconds: Option<u64>,
    },
}

/// How far a replica is behind its primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    pub bytes: u64,
    /// The time since the primary's offset was what the replica's is.
    pub ms: u64,
    /// The lag began before we looked: `ms` is only a lower bound.
    pub is_longer: bool,
}

/// One node's row.
#[derive(Clone, Debug)]
pub struct NodeView {
    pub name: String,
    pub address: String,
    pub state: State,
    /// Of the process we started last.
    pub pid: Option<u32>,
    pub role: Option<Role>,
    pub link: Option<Link>,
    pub offset: Option<u64>,
    pub lag: Option<Lag>,
    pub ops_per_second: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub clients: Option<u64>,
    pub last_lines: VecDeque<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: u64,
    pub text: String,
}

/// The whole picture. The first node is the primary.
#[derive(Debug)]
pub struct View {
    pub nodes: Vec<NodeView>,
    pub events: VecDeque<Event>,
    /// How many events there ever were, so that a reader knows which are new.
    pub events_total: usize,
    history: OffsetHistory,
    /// The replica that the primary's log spoke of last as asking for synchronization.
    asking: Option<String>,
    /// Whether the primary's log is seen by us.
    is_primary_ours: bool,
}

impl View {
    /// `nodes` are names and addresses, the primary first.
    pub fn new(nodes: impl IntoIterator<Item = (String, String)>, is_primary_ours: bool) -> View {
        let nodes = nodes.into_iter().map(|(name, address)| NodeView::new(name, address)).collect();
        View {
            nodes,
            events: VecDeque::new(),
            events_total: 0,
            history: OffsetHistory::default(),
            asking: None,
            is_primary_ours,
        }
    }

    pub fn observe(&mut self, now: u64, node: usize, observation: Observation) {
        match observation {
            Observation::Info { info, primary_offset } => self.informed(now, node, &info, primary_offset),
            Observation::Unreachable(why) => self.unreachable(now, node, why),
            Observation::Log(line) => self.logged(now, node, line),
            Observation::Started { pid } => {
                let is_first = self.nodes[node].pid.is_none();
                self.nodes[node].forget(State::Starting);
                self.nodes[node].pid = Some(pid);
                if !is_first {
                    self.tell(now, node, "started again");
                }
            }
            Observation::Exited(how) => {
                self.tell(now, node, &format!("ended: {how}"));
                let last: Vec<_> =
                    self.nodes[node].last_lines.iter().rev().take(LAST_LINES).cloned().collect();
                for line in last.iter().rev() {
                    self.tell(now, node, &format!("  {line}"));
                }
                self.nodes[node].forget(State::Exited(how));
            }
        }
    }

    /// Something that happened to all or none of the nodes.
    pub fn note(&mut self, now: u64, text: String) {
        self.events.push_back(Event { at: now, text });
        self.events_total += 1;
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }

    fn tell(&mut self, now: u64, node: usize, text: &str) {
        let text = format!("{}: {text}", self.nodes[node].name);
        self.note(now, text);
    }

    fn informed(&mut self, now: u64, index: usize, info: &Info, primary_offset: Option<u64>) {
        if self.nodes[index].is_someone_else(info) {
            return;
        }
        let role = match info.text("role") {
            Some("master") => Some(Role::Primary),
            Some("slave") => Some(Role::Replica),
            _ => None,
        };
        let offset_field =
            if role == Some(Role::Replica) { "slave_repl_offset" } else { "master_repl_offset" };
        let offset = info.number(offset_field);
        if let Some(offset) = if index == 0 { offset } else { primary_offset } {
            self.history.add(now, offset);
        }
        let link = (role == Some(Role::Replica)).then(|| link_of(info));
        let lag = match (index, role, offset) {
            // Before the first sync ends, and during another, the offset is not that of the data.
            _ if matches!(link, Some(Link::Syncing { .. } | Link::Down { seconds: None })) => None,
            (1.., Some(Role::Replica), Some(offset)) => self.history.lag(now, offset),
            _ => None,
        };

        let node = &mut self.nodes[index];
        let before = (node.role, node.link);
        let was_lost = matches!(node.state, State::Unreachable(_));
        node.state = State::Up;
        (node.role, node.link, node.offset, node.lag) = (role, link, offset, lag);
        node.ops_per_second = info.number("instantaneous_ops_per_sec");
        node.memory_bytes = info.number("used_memory");
        node.clients = info.number("connected_clients");
        if was_lost {
            self.tell(now, index, "answers again");
        }
        self.tell_changes(now, index, before, (role, link));
    }

    fn tell_changes(
        &mut self,
        now: u64,
        node: usize,
        before: (Option<Role>, Option<Link>),
        after: (Option<Role>, Option<Link>),
    ) {
        match (before.0, after.0) {
            (Some(Role::Primary), Some(Role::Replica)) => self.tell(now, node, "is a replica now"),
            (Some(Role::Replica), Some(Role::Primary)) => self.tell(now, node, "is a primary now"),
            _ => {}
        }
        match (before.1, after.1) {
            (Some(Link::Up), Some(Link::Down { .. })) => self.tell(now, node, "link to the primary lost"),
            (Some(Link::Up), Some(Link::Syncing { .. })) => {
                self.tell(now, node, "link to the primary lost, receiving a full sync");
            }
            (Some(Link::Down { .. }) | None, Some(Link::Syncing { .. })) => {
                self.tell(now, node, "receiving a full sync");
            }
            (Some(Link::Down { .. } | Link::Syncing { .. }) | None, Some(Link::Up)) => {
                self.tell(now, node, "in step with the primary");
            }
            _ => {}
        }
    }

    fn unreachable(&mut self, now: u64, index: usize, why: String) {
        match self.nodes[index].state {
            // What is starting need not answer yet, what is dead will not.
            State::Starting | State::Exited(_) => {}
            State::Up => {
                self.tell(now, index, &format!("does not answer: {why}"));
                self.nodes[index].forget(State::Unreachable(why));
            }
            State::Unreachable(_) => self.nodes[index].state = State::Unreachable(why),
        }
    }

    fn logged(&mut self, now: u64, index: usize, line: String) {
        let message = message_of(&line).to_owned();
        if index == 0 {
            self.primary_logged(now, &message);
        } else if message.starts_with("Successful partial resynchronization") {
            self.tell(now, index, "continued by a partial sync");
        } else if message.starts_with("Full resync from master") && !self.is_primary_ours {
            self.tell(now, index, "full sync from the primary");
        }
        let lines = &mut self.nodes[index].last_lines;
        lines.push_back(line);
        if lines.len() > LAST_LINES {
            lines.pop_front();
        }
    }

    /// The primary logs who asks for synchronization, and in the next lines why it is not continued.
    fn primary_logged(&mut self, now: u64, message: &str) {
        if let Some(rest) = message.strip_prefix("Replica ")
            && let Some((replica, _)) = rest.split_once(" asks for synchronization")
        {
            self.asking = Some(replica.to_owned());
        } else if let Some(why) = message.strip_prefix("Partial resynchronization not accepted: ") {
            self.full_sync(now, why);
        } else if message.starts_with("Unable to partial resync with replica") {
            self.full_sync(now, "what it missed is no longer in the backlog");
        } else if message.starts_with("Full resync requested by replica") {
            self.full_sync(now, "it has no history to continue from");
        }
    }

    fn full_sync(&mut self, now: u64, why: &str) {
        let replica = self.asking.take().unwrap_or_else(|| "a replica".to_owned());
        let port = replica.rsplit(':').next();
        let known = self.nodes.iter().skip(1).find(|node| node.address.rsplit(':').next() == port);
        let name = known.map_or(replica.as_str(), |node| node.name.as_str());
        let text = format!("full sync of {name}: {why}");
        self.tell(now, 0, &text);
    }
}

impl NodeView {
    fn new(name: String, address: String) -> NodeView {
        NodeView {
            name,
            address,
            state: State::Starting,
            pid: None,
            role: None,
            link: None,
            offset: None,
            lag: None,
            ops_per_second: None,
            memory_bytes: None,
            clients: None,
            last_lines: VecDeque::new(),
        }
    }

    /// Whether the answer came from another server that has our port.
    fn is_someone_else(&self, info: &Info) -> bool {
        match (&self.state, self.pid, info.number::<u32>("process_id")) {
            (State::Exited(_), ..) => true,
            (_, Some(ours), Some(theirs)) => ours != theirs,
            _ => false,
        }
    }

    /// What was measured holds no longer.
    fn forget(&mut self, state: State) {
        let (name, address) = (std::mem::take(&mut self.name), std::mem::take(&mut self.address));
        let (pid, role, last_lines) = (self.pid, self.role, std::mem::take(&mut self.last_lines));
        *self = NodeView { state, pid, role, last_lines, ..NodeView::new(name, address) };
    }

    /// The state, or for a replica that is up the state of its link, in a word or two.
    pub fn condition(&self) -> String {
        match (&self.state, self.link) {
            (State::Starting, _) => "starting".to_owned(),
            (State::Unreachable(_), _) => "no answer".to_owned(),
            (State::Exited(_), _) => "dead".to_owned(),
            (State::Up, None | Some(Link::Up)) => "up".to_owned(),
            (State::Up, Some(Link::Syncing { percent: Some(percent) })) => format!("sync {percent} %"),
            (State::Up, Some(Link::Syncing { percent: None })) => "sync".to_owned(),
            (State::Up, Some(Link::Down { seconds: Some(seconds) })) => format!("down {seconds} s"),
            (State::Up, Some(Link::Down { seconds: None })) => "down".to_owned(),
        }
    }

    /// The last line of the log without its prefix.
    pub fn last_message(&self) -> &str {
        self.last_lines.back().map_or("", |line| message_of(line))
    }
}

fn link_of(info: &Info) -> Link {
    if info.is_one("master_sync_in_progress") {
        let total = info.number::<u64>("master_sync_total_bytes").filter(|total| *total > 0);
        let read = info.number::<u64>("master_sync_read_bytes");
        let percent =
            total.zip(read).map(|(total, read)| (u128::from(read) * 100 / u128::from(total)) as u64);
        return Link::Syncing { percent };
    }
    match info.text("master_link_status") {
        Some("up") => Link::Up,
        // -1: it never was up.
        _ => Link::Down { seconds: info.number("master_link_down_since_seconds") },
    }
}

/// The message of a log line `PID:ROLE DD Mon YYYY HH:MM:SS.mmm LEVEL message`; a line of another form is all message.
fn message_of(line: &str) -> &str {
    let is_prefixed = line.split_once(':').is_some_and(|(pid, _)| pid.parse::<u32>().is_ok());
    match line.splitn(7, ' ').nth(6) {
        Some(message) if is_prefixed => message,
        _ => line,
    }
}

/// When the primary had which offset.
#[derive(Debug, Default)]
struct OffsetHistory {
    samples: VecDeque<(u64, u64)>,
}

impl OffsetHistory {
    fn add(&mut self, at: u64, offset: u64) {
        match self.samples.back() {
            // A smaller offset is another history (or another thread's answer from just before, which adds nothing).
            Some((_, last)) if offset < *last => {
                if self.samples.back().is_some_and(|(last_at, _)| at > last_at + 1_000) {
                    self.samples.clear();
                    self.samples.push_back((at, offset));
                }
                return;
            }
            // Of a still offset only the first and the last moment are kept.
            Some((_, last)) if offset == *last && self.samples.len() >= 2 => {
                let before = self.samples[self.samples.len() - 2].1;
                if before == offset
                    && let Some(back) = self.samples.back_mut()
                {
                    back.0 = back.0.max(at);
                    return;
                }
            }
            _ => {}
        }
        let at = self.samples.back().map_or(at, |(last_at, _)| at.max(*last_at));
        self.samples.push_back((at, offset));
        while self.samples.front().is_some_and(|(first, _)| at.saturating_sub(*first) > HISTORY_MS) {
            self.samples.pop_front();
        }
    }

    /// The lag of a replica that had `offset` at `now`; none before the first sample.
    fn lag(&self, now: u64, offset: u64) -> Option<Lag> {
        let (_, latest) = *self.samples.back()?;
        let bytes = latest.saturating_sub(offset);
        if bytes == 0 {
            return Some(Lag::default());
        }
        let after = self.samples.partition_point(|(_, sample)| *sample <= offset);
        let (since, is_longer) = match after.checked_sub(1) {
            None => (self.samples[0].0, true),
            Some(before) => {
                let ((t0, o0), (t1, o1)) = (self.samples[before], self.samples[after]);
                let passed = u128::from(t1 - t0) * u128::from(offset - o0) / u128::from(o1 - o0);
                (t0 + passed as u64, false)
            }
        };
        Some(Lag { bytes, ms: now.saturating_sub(since), is_longer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let nodes = [("primary", "127.0.0.1:6379"), ("replica-1", "127.0.0.1:6380")];
        View::new(nodes.map(|(n, a)| (n.to_owned(), a.to_owned())), true)
    }

    fn primary(offset: u64) -> Observation {
        let text = format!(
            "role:master\r\nmaster_repl_offset:{offset}\r\ninstantaneous_ops_per_sec:7\r\nused_memory:1000\r\nconnected_clients:3\r\n"
        );
        Observation::Info { info: Info::parse(&text), primary_offset: None }
    }

    fn replica(offset: u64, primary_offset: u64, link: &str) -> Observation {
        let text = format!("role:slave\r\nslave_repl_offset:{offset}\r\n{link}\r\n");
        Observation::Info { info: Info::parse(&text), primary_offset: Some(primary_offset) }
    }

    const UP: &str = "master_link_status:up\r\nmaster_sync_in_progress:0";

    fn texts(view: &View) -> Vec<&str> {
        view.events.iter().map(|e| e.text.as_str()).collect()
    }

    #[test]
    fn lag_is_the_time_since_the_primary_was_where_the_replica_is() {
        let mut view = view();
        view.observe(1000, 0, primary(0));
        view.observe(2000, 0, primary(1000));
        view.observe(2100, 1, replica(500, 1000, UP));
        assert_eq!(view.nodes[1].lag, Some(Lag { bytes: 500, ms: 600, is_longer: false }));
        view.observe(2200, 1, replica(1000, 1000, UP));
        assert_eq!(view.nodes[1].lag, Some(Lag::default()));
        // The replica's answer may be newer than the primary's.
        view.observe(2300, 1, replica(1010, 1000, UP));
        assert_eq!(view.nodes[1].lag, Some(Lag::default()));
        assert_eq!(view.nodes[0].lag, None);
    }

    #[test]
    fn a_lag_older_than_the_first_sample_is_a_lower_bound() {
        let mut view = view();
        view.observe(1000, 0, primary(5000));
        view.observe(4000, 1, replica(10, 5000, UP));
        assert_eq!(view.nodes[1].lag, Some(Lag { bytes: 4990, ms: 3000, is_longer: true }));
    }

    #[test]
    fn there_is_no_lag_before_there_is_data() {
        let mut view = view();
        view.observe(1000, 0, primary(5000));
        for link in
            ["master_link_status:down\r\nmaster_link_down_since_seconds:-1", "master_sync_in_progress:1"]
        {
            view.observe(4000, 1, replica(1, 5000, link));
            assert_eq!(view.nodes[1].lag, None);
        }
        view.observe(
            4000,
            1,
            replica(1, 5000, "master_link_status:down\r\nmaster_link_down_since_seconds:3"),
        );
        assert_eq!(view.nodes[1].lag.unwrap().bytes, 4999);
    }

    #[test]
    fn idle_time_is_not_lag() {
        let mut history = OffsetHistory::default();
        for at in (0..100_000).step_by(250) {
            history.add(at, 42);
        }
        assert_eq!(history.samples.len(), 2);
        history.add(100_000, 56);
        let lag = history.lag(100_010, 42).unwrap();
        assert!(lag.bytes == 14 && lag.ms <= 260, "{lag:?}");
        // A primary that begins anew begins a new history.
        history.add(102_000, 0);
        assert_eq!(history.lag(102_000, 0), Some(Lag::default()));
    }

    #[test]
    fn fields_and_conditions_come_from_info() {
        let mut view = view();
        assert_eq!(view.nodes[0].condition(), "starting");
        view.observe(0, 0, primary(5));
        let node = &view.nodes[0];
        assert_eq!(
            (node.offset, node.ops_per_second, node.memory_bytes, node.clients),
            (Some(5), Some(7), Some(1000), Some(3))
        );
        assert_eq!((node.role, node.condition().as_str()), (Some(Role::Primary), "up"));
        for (fields, condition) in [
            (UP, "up"),
            ("master_link_status:down\r\nmaster_link_down_since_seconds:9", "down 9 s"),
            ("master_link_status:down\r\nmaster_link_down_since_seconds:-1", "down"),
            (
                "master_link_status:down\r\nmaster_sync_in_progress:1\r\nmaster_sync_total_bytes:200\r\nmaster_sync_read_bytes:50",
                "sync 25 %",
            ),
            ("master_link_status:down\r\nmaster_sync_in_progress:1\r\nmaster_sync_total_bytes:0", "sync"),
        ] {
            view.observe(1, 1, replica(5, 5, fields));
            assert_eq!(view.nodes[1].condition(), condition);
        }
    }

    #[test]
    fn changes_of_the_link_and_the_role_are_told_once() {
        let mut view = view();
        for fields in
            [UP, UP, "master_link_status:down", "master_link_status:down", "master_sync_in_progress:1", UP]
        {
            view.observe(1, 1, replica(5, 5, fields));
        }
        view.observe(2, 1, primary(6));
        assert_eq!(
            texts(&view),
            [
                "replica-1: in step with the primary",
                "replica-1: link to the primary lost",
                "replica-1: receiving a full sync",
                "replica-1: in step with the primary",
                "replica-1: is a primary now",
            ]
        );
    }

    #[test]
    fn a_full_sync_is_told_with_its_cause() {
        let mut view = view();
        let mut log = |at, node, text: &str| {
            let line = format!("12:M 22 Nov 2026 04:00:00.000 * {text}");
            view.observe(at, node, Observation::Log(line));
        };
        log(1, 0, "Replica 127.0.0.1:6380 asks for synchronization");
        log(1, 0, "Full resync requested by replica 127.0.0.1:6380");
        log(9, 0, "Replica 127.0.0.1:6380 asks for synchronization");
        log(9, 0, "Partial resynchronization not accepted: Replication ID mismatch (…)");
        log(12, 0, "Replica 127.0.0.1:9999 asks for synchronization");
        log(
            12,
            0,
            "Unable to partial resync with replica 127.0.0.1:9999 for lack of backlog (Replica request was: 1).",
        );
        log(20, 1, "Successful partial resynchronization with master.");
        assert_eq!(
            texts(&view),
            [
                "primary: full sync of replica-1: it has no history to continue from",
                "primary: full sync of replica-1: Replication ID mismatch (…)",
                "primary: full sync of 127.0.0.1:9999: what it missed is no longer in the backlog",
                "replica-1: continued by a partial sync",
            ]
        );
        assert_eq!(view.nodes[1].last_message(), "Successful partial resynchronization with master.");
    }

    #[test]
    fn a_death_is_told_with_its_last_lines_and_what_was_measured_goes() {
        let mut view = view();
        view.observe(1, 1, Observation::Log("fatal: no".to_owned()));
        view.observe(2, 1, replica(5, 5, UP));
        view.observe(3, 1, Observation::Unreachable("refused".to_owned()));
        view.observe(4, 1, Observation::Exited("exit status 1".to_owned()));
        view.observe(5, 1, Observation::Unreachable("refused".to_owned()));
        assert_eq!(view.nodes[1].condition(), "dead");
        assert_eq!((view.nodes[1].offset, view.nodes[1].role), (None, Some(Role::Replica)));
        let expected = [
            "replica-1: does not answer: refused",
            "replica-1: ended: exit status 1",
            "replica-1:   fatal: no",
        ];
        assert_eq!(texts(&view)[1..], expected);
        // What answers on the port of a dead node, or with another pid, is someone else.
        view.observe(6, 1, replica(5, 5, UP));
        assert_eq!(view.nodes[1].condition(), "dead");
        view.observe(7, 1, Observation::Started { pid: 12 });
        view.observe(8, 1, replica(5, 5, &format!("{UP}\r\nprocess_id:11")));
        assert_eq!(view.nodes[1].condition(), "starting");
        view.observe(9, 1, replica(5, 5, &format!("{UP}\r\nprocess_id:12")));
        assert_eq!(view.nodes[1].condition(), "up");
    }

    #[test]
    fn events_are_bounded() {
        let mut view = view();
        (0..1000).for_each(|i| view.note(i, i.to_string()));
        assert_eq!((view.events.len(), view.events_total), (EVENTS_MAX, 1000));
        assert_eq!(view.events.back().unwrap().text, "999");
    }
}
