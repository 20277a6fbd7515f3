//! Three servers made of the real links, logs and histories, over byte pipes that are cut at random.
//!
//! A server's data is simply all bytes ever written to it; a command is eight bytes; a snapshot is the data.
//! Safety: whenever two servers are at the same offset of the same history, their data is equal.
//! Liveness: once the faults stop, all converge.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use log::{Log, Position, ReplId};
use replication::primary::oldest_pinned;
use replication::primary_link::{LoadMode, Resume};
use replication::replica_link::{PayloadHeader, Replconf, SyncContext, SyncRequest};
use replication::{
    History, LinkAction, LinkConfig, LinkInput, Millis, PrimaryLink, ReplicaAction, ReplicaInput, ReplicaLink,
};

const NODES: usize = 3;
const COMMAND: usize = 8;

/// One random number after another (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    fn id(&mut self) -> ReplId {
        let mut bytes = [0; 20];
        bytes.fill_with(|| self.below(256) as u8);
        ReplId::from_random(bytes)
    }
}

struct Node {
    data: Vec<u8>,
    log: Log,
    history: History,
    link: Option<PrimaryLink>,
    connection: Option<Connection>,
    /// Bytes of the stream that do not make a command yet.
    query: Vec<u8>,
    received_snapshot: Vec<u8>,
    snapshot_complete: bool,
}

/// The connection of a replica to its primary, and the primary's side of it.
struct Connection {
    to: usize,
    up: Vec<u8>,
    down: Vec<u8>,
    paused: bool,
    session: ReplicaLink,
    /// A snapshot that is to be sent.
    snapshot: Option<Vec<u8>>,
}

struct World {
    random: Random,
    now: Millis,
    nodes: Vec<Node>,
    /// The data at each position that any server ever was at.
    truth: HashMap<(ReplId, u64), u64>,
    partial: usize,
    full: usize,
}

fn config() -> LinkConfig {
    LinkConfig {
        user: None,
        password: None,
        listening_port: 7000,
        announce_ip: None,
        announce_version: None,
        timeout: Millis::from_secs(60),
        load: LoadMode::Parser { swapdb: true },
        guarded_keys: None,
        channels: Default::default(),
        stream_bytes_max: None,
    }
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let nodes = (0..NODES).map(|_| Node {
            data: Vec::new(),
            log: Log::new(0),
            history: History::new(random.id()),
            link: None,
            connection: None,
            query: Vec::new(),
            received_snapshot: Vec::new(),
            snapshot_complete: false,
        });
        let nodes = nodes.collect();
        World { random, now: Millis(0), nodes, truth: HashMap::new(), partial: 0, full: 0 }
    }

    /// Checks the data of a server against all that were ever at the same position.
    fn witness(&mut self, n: usize) {
        let node = &self.nodes[n];
        if !node.log.is_active() {
            return;
        }
        let mut hasher = DefaultHasher::new();
        node.data.hash(&mut hasher);
        let digest = hasher.finish();
        let at = (node.history.id, node.log.end());
        let known = *self.truth.entry(at).or_insert(digest);
        assert_eq!(known, digest, "server {n} differs from another at {}:{}", at.0, at.1);
    }

    fn write(&mut self, n: usize, commands: usize) {
        for _ in 0..commands {
            let command: Vec<u8> = (0..COMMAND).map(|_| self.random.below(256) as u8).collect();
            self.nodes[n].data.extend(&command);
            self.nodes[n].log.append(&command);
        }
        self.witness(n);
    }

    fn follow(&mut self, n: usize, to: usize) {
        let mut out = Vec::new();
        let node = &mut self.nodes[n];
        let host = to.to_string();
        node.link = Some(match node.link.take() {
            Some(link) => link.retarget(self.now, &host, 1, &mut out),
            None => {
                let own = Resume::OwnHistory(node.history.at(node.log.end()));
                PrimaryLink::follow(self.now, &host, 1, own, &mut out)
            }
        });
        self.carry_out(n, out, &[]);
    }

    fn promote(&mut self, n: usize) {
        let mut out = Vec::new();
        let Some(link) = self.nodes[n].link.take() else { return };
        link.stop(self.now, &mut out);
        self.carry_out(n, out, &[]);
        let id = self.random.id();
        let node = &mut self.nodes[n];
        node.history.shift(id, node.log.end());
        self.disconnect_replicas(n);
        self.witness(n);
    }

    fn disconnect_replicas(&mut self, n: usize) {
        for replica in 0..NODES {
            if self.nodes[replica].connection.as_ref().is_some_and(|connection| connection.to == n) {
                self.cut(replica);
            }
        }
    }

    fn cut(&mut self, replica: usize) {
        if self.nodes[replica].connection.take().is_some() {
            self.step(replica, LinkInput::Closed("cut"), &[]);
        }
    }

    fn step(&mut self, n: usize, input: LinkInput<'_>, bytes: &[u8]) {
        let Some(link) = self.nodes[n].link.take() else { return };
        let mut out = Vec::new();
        self.nodes[n].link = Some(link.step(&config(), self.now, input, &mut out));
        self.carry_out(n, out, bytes);
    }

    fn carry_out(&mut self, n: usize, actions: Vec<LinkAction>, bytes: &[u8]) {
        for action in actions {
            let node = &mut self.nodes[n];
            match action {
                LinkAction::OpenConnection { host, .. } => {
                    node.connection = Some(Connection {
                        to: host.parse().expect("a server's number"),
                        up: Vec::new(),
                        down: Vec::new(),
                        paused: false,
                        session: ReplicaLink::new("10.0.0.1", n as u64),
                        snapshot: None,
                    });
                }
                LinkAction::CloseConnection => node.connection = None,
                LinkAction::Send(bytes) => {
                    node.connection.iter_mut().for_each(|connection| connection.up.extend(&bytes));
                }
                LinkAction::OpenChannel { .. } | LinkAction::CloseChannel | LinkAction::SendChannel(_) => {
                    unreachable!("nobody announces that")
                }
                LinkAction::Log(event) => assert!(!event.to_string().is_empty()),
                LinkAction::FullSync(sync) => assert!(!sync.to_string().is_empty()),
                LinkAction::BeginSnapshot { .. } | LinkAction::DiscardSnapshot => {
                    node.received_snapshot.clear();
                    node.query.clear();
                    node.snapshot_complete = false;
                }
                LinkAction::SnapshotBytes(piece) => node.received_snapshot.extend(piece.bytes(bytes)),
                LinkAction::EndSnapshot => node.snapshot_complete = true,
                LinkAction::PauseReading | LinkAction::ResumeReading => {
                    let paused = action == LinkAction::PauseReading;
                    node.connection.iter_mut().for_each(|connection| connection.paused = paused);
                }
                LinkAction::AdoptHistory(at) => {
                    let Position { replid, offset } = at.expect("all speak PSYNC");
                    node.history.adopt(replid);
                    node.log.reset(offset);
                    node.log.activate();
                    node.data = std::mem::take(&mut node.received_snapshot);
                    node.snapshot_complete = false;
                    self.full += 1;
                    self.witness(n);
                }
                LinkAction::ShiftHistory { to } => node.history.shift(to, node.log.end()),
                LinkAction::ContinueFrom(at) => {
                    node.log.activate();
                    assert_eq!(node.history.at(node.log.end()), at, "the log stands where the link does");
                    node.query.clear();
                    self.partial += 1;
                    self.witness(n);
                }
                LinkAction::TakeoverAnswered { .. } => unreachable!("nobody is asked to take over"),
                LinkAction::DisconnectReplicas => self.disconnect_replicas(n),
                LinkAction::Apply(range) => node.query.extend(&bytes[range]),
                LinkAction::CachePrimary(at) => {
                    assert_eq!(node.log.end(), at.offset);
                    node.query.clear();
                }
                LinkAction::ForgetPrimary => node.query.clear(),
            }
        }
        self.execute(n);
    }

    /// Executes the whole commands that have come, if the link streams.
    fn execute(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if !node.link.as_ref().is_some_and(PrimaryLink::is_up) || node.query.len() < COMMAND {
            return;
        }
        let whole = node.query.len() - node.query.len() % COMMAND;
        let commands: Vec<u8> = node.query.drain(..whole).collect();
        for command in commands.chunks(COMMAND) {
            self.nodes[n].data.extend(command);
            self.nodes[n].log.append(command);
            self.witness(n);
        }
        let end = self.nodes[n].log.end();
        self.step(n, LinkInput::Applied(end), &[]);
    }

    /// Moves some bytes over the connection of replica `n`, in both directions.
    fn network(&mut self, n: usize) {
        let Some(connection) = &mut self.nodes[n].connection else { return };
        if connection.paused {
            return;
        }
        let state = self.nodes[n].link.as_ref().map(PrimaryLink::role_state);
        if state == Some("connecting") {
            return self.step(n, LinkInput::Connected, &[]);
        }
        self.serve(n);
        let Some(connection) = &mut self.nodes[n].connection else { return };
        let len = connection.down.len().min(1 + self.random.below(5_000));
        if len > 0 {
            let bytes: Vec<u8> = connection.down.drain(..len).collect();
            self.step(n, LinkInput::Bytes(&bytes), &bytes);
        }
    }

    /// The primary's side of the connection of replica `n`.
    fn serve(&mut self, n: usize) {
        while let Some(args) = self.nodes[n].connection.as_mut().and_then(|it| parse(&mut it.up)) {
            let connection = self.nodes[n].connection.as_mut().expect("just seen");
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            match args[..] {
                [] => {
                    let session = connection.session.clone();
                    connection.session =
                        session.step(config().timeout, self.now, ReplicaInput::Newline, &mut Vec::new());
                }
                [b"PING"] => connection.down.extend(b"+PONG\r\n"),
                [b"REPLCONF", ref pairs @ ..] => match connection.session.replconf(self.now, pairs) {
                    Replconf::Ok => connection.down.extend(b"+OK\r\n"),
                    Replconf::Acked { .. } => {}
                    other => panic!("{other:?}"),
                },
                [b"PSYNC", id, offset] => self.psync(n, id, offset),
                _ => panic!("unexpected command {args:?}"),
            }
        }
        // Random pauses between the steps of a snapshot let writes come in between.
        let Some(connection) = &mut self.nodes[n].connection else { return };
        if let Some(snapshot) = connection.snapshot.take_if(|_| self.random.below(3) == 0) {
            let header = match self.random.below(2) {
                0 => PayloadHeader::Sized(snapshot.len() as u64),
                _ => PayloadHeader::UntilMark(*self.random.id().as_bytes()),
            };
            self.session(n, ReplicaInput::PayloadBegins(header));
            self.nodes[n].connection.as_mut().expect("open").down.extend(snapshot);
            self.session(n, ReplicaInput::PayloadEnds);
        }
        let Some(connection) = &self.nodes[n].connection else { return };
        if let Some(cursor) = connection.session.cursor() {
            let some = 1 + self.random.below(3_000);
            let log = &self.nodes[connection.to].log;
            let slices = log.read(cursor).expect("the log covers every online replica");
            let bytes: Vec<u8> = slices.flatten().copied().take(some).collect();
            let sent = bytes.len() as u64;
            self.nodes[n].connection.as_mut().expect("open").down.extend(bytes);
            self.session(n, ReplicaInput::Sent(sent));
        }
    }

    fn session(&mut self, n: usize, input: ReplicaInput<'_>) {
        let Some(connection) = &mut self.nodes[n].connection else { return };
        let mut out = Vec::new();
        connection.session = connection.session.clone().step(config().timeout, self.now, input, &mut out);
        self.serve_actions(n, out);
    }

    fn psync(&mut self, n: usize, id: &[u8], offset: &[u8]) {
        let connection = self.nodes[n].connection.as_ref().expect("open");
        let (session, primary) = (connection.session.clone(), &self.nodes[connection.to]);
        let context = SyncContext {
            history: &primary.history,
            log: primary.log.window(),
            own_link_down: primary.link.as_ref().is_some_and(|link| !link.is_up()),
            failing_over: false,
            pending_output: false,
            refusal: None,
            not_understood: None,
            output_limit: None,
            channels: Default::default(),
            partner_waits: false,
        };
        let mut out = Vec::new();
        let request = SyncRequest::psync(id, offset).expect("a number");
        let session = session.sync(self.now, request, context, &mut out);
        self.nodes[n].connection.as_mut().expect("open").session = session;
        self.serve_actions(n, out);
    }

    fn serve_actions(&mut self, n: usize, actions: Vec<ReplicaAction>) {
        for action in actions {
            let Some(connection) = &mut self.nodes[n].connection else { return };
            let to = connection.to;
            match action {
                ReplicaAction::Send(bytes) => connection.down.extend(bytes),
                ReplicaAction::CreateBacklog => {
                    let id = self.random.id();
                    self.nodes[to].history.begin(id);
                    self.nodes[to].log.activate();
                    self.witness(to);
                }
                ReplicaAction::WantSnapshot => {
                    let primary = &self.nodes[to];
                    let at = primary.history.at(primary.log.end());
                    let snapshot = primary.data.clone();
                    self.nodes[n].connection.as_mut().expect("open").snapshot = Some(snapshot);
                    self.session(n, ReplicaInput::SnapshotStarted { at, db: -1 });
                }
                ReplicaAction::Close => self.cut(n),
                ReplicaAction::Log(event) => assert!(!event.to_string().is_empty()),
                ReplicaAction::FullSync(_, sync) => assert!(!sync.to_string().is_empty()),
                ReplicaAction::Count(_)
                | ReplicaAction::StartStream(_)
                | ReplicaAction::Refused(..)
                | ReplicaAction::Queued(_)
                | ReplicaAction::Admitted(_) => {}
            }
        }
    }

    fn tick(&mut self, ms: u64) {
        self.now = self.now + Millis(ms);
        for n in 0..NODES {
            self.step(n, LinkInput::Tick, &[]);
            self.session(n, ReplicaInput::Tick { place_awaited: false });
            if self.nodes[n].snapshot_complete {
                self.step(n, LinkInput::SnapshotLoaded, &[]);
            }
            let sessions = self.nodes.iter().filter_map(|node| node.connection.as_ref());
            let needed = oldest_pinned(sessions.filter(|it| it.to == n).map(|it| &it.session));
            self.nodes[n].log.trim(needed);
        }
    }

    fn random_step(&mut self) {
        let n = self.random.below(NODES);
        match self.random.below(100) {
            0..20 if self.nodes[n].link.is_none() => {
                let commands = [1, 3, 40, 1_500][self.random.below(4)];
                self.write(n, commands);
            }
            0..70 => self.network(n),
            70..90 => {
                let ms = self.random.below(700) as u64;
                self.tick(ms);
            }
            90..95 => self.cut(n),
            95..97 => self.promote(n),
            _ => {
                let to = self.random.below(NODES);
                if to != n {
                    self.follow(n, to);
                }
            }
        }
    }

    /// The faults stop: server 0 is the primary, 1 follows it, 2 follows 1.
    fn heal(&mut self) {
        self.promote(0);
        self.write(0, 5);
        self.follow(1, 0);
        self.follow(2, 1);
        for _ in 0..3_000 {
            self.tick(100);
            (1..NODES).for_each(|n| self.network(n));
        }
        for n in 1..NODES {
            let link = self.nodes[n].link.as_ref().expect("a replica");
            assert!(link.is_up(), "server {n} is {:?}", link.state());
            assert_eq!(self.nodes[n].history.id, self.nodes[0].history.id);
            assert!(self.nodes[n].data == self.nodes[0].data, "server {n} has not converged");
        }
    }
}

/// One command, or an empty line as no arguments; `None` when it is not whole.
fn parse(input: &mut Vec<u8>) -> Option<Vec<Vec<u8>>> {
    if input.first() == Some(&b'\n') {
        input.remove(0);
        return Some(Vec::new());
    }
    let mut rest = &input[..];
    let mut args = Vec::new();
    for _ in 0..number(&mut rest, b'*')? {
        let len = number(&mut rest, b'$')?;
        args.push(rest.get(..len)?.to_vec());
        rest = rest.get(len + 2..)?;
    }
    let taken = input.len() - rest.len();
    input.drain(..taken);
    Some(args)
}

/// Takes a line like `*3\r\n`.
fn number(rest: &mut &[u8], mark: u8) -> Option<usize> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let digits = rest[..end].strip_prefix(&[mark])?;
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    *rest = &rest[end + 2..];
    Some(number)
}

#[test]
fn servers_at_the_same_position_hold_the_same_data_and_all_converge() {
    let seeds = std::env::var("PAIR_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    let (mut partial, mut full) = (0, 0);
    for seed in 0..seeds {
        let mut world = World::new(seed);
        world.follow(1, 0);
        world.follow(2, 0);
        (0..600).for_each(|_| world.random_step());
        world.heal();
        partial += world.partial;
        full += world.full;
    }
    // The test is worth something only if both ways were taken often.
    assert!(partial > 5 * seeds as usize && full > seeds as usize, "{partial} partial, {full} full");
}
