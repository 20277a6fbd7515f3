//! Whole families of real servers, each link behind a proxy, under a writer and under everything that goes wrong at once:
//! links cut, servers that stand still, are killed, restarted, promoted, put below another one, told to keep less. Every
//! few seconds all is healed, and everybody must hold what the primary holds.
//!
//! A run takes [`SECONDS`] per family; `KINDRED_CAMPAIGN_SECONDS` makes it a campaign. It prints the seed of its choices and what it
//! did, in link-hours: links times hours. The choices of a seed are the same again, their moments are not.

mod peers;

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use peers::agree::{assert_same, assert_same_expiries};
use peers::proxy::Proxy;
use peers::random::Random;
use peers::writes::{Writer, Writes, pour};
use peers::{Bed, Kind, Server};

const SECONDS: u64 = 15;

/// For healing, and for what a debug build takes on a busy machine.
const GRACE: Duration = Duration::from_secs(240);

/// How often the writer sends its 25 commands: a family of ten is written to at 10,000 commands a second in all.
const INTERVAL: Duration = Duration::from_millis(25);

/// Faults between two healings.
const FAULTS: u64 = 12;

/// The longest that nothing new goes wrong.
const LULL_MS: u64 = 700;

/// A server that stands still for longer than that has its links cut by the others.
const TIMEOUT: (&str, &str) = ("repl-timeout", "6");

/// What a server may be told while it replicates, and who knows it.
const KNOBS: [(&str, &[&str], &[Kind]); 7] = [
    ("repl-backlog-size", &["16kb", "64kb", "1mb", "64mb"], &ALL),
    ("repl-diskless-sync", &["yes", "no"], &ALL),
    ("repl-diskless-load", &["disabled", "on-empty-db", "swapdb"], &ALL),
    ("repl-disable-tcp-nodelay", &["yes", "no"], &ALL),
    ("dual-channel-replication-enabled", &["yes", "no"], &[Kind::Kindred, Kind::Valkey91]),
    ("repl-rdb-channel", &["yes", "no"], &[Kind::Kindred, Kind::Redis82]),
    ("repl-backlog-disk-size", &["0", "1mb", "64mb"], &[Kind::Kindred]),
];

const ALL: [Kind; 4] = [Kind::Kindred, Kind::Redis70, Kind::Redis82, Kind::Valkey91];

/// A server and the proxy through which it sees the one above it.
struct Node {
    /// Out of its place only while it is started again.
    server: Option<Server>,
    above: usize,
    link: Proxy,
    stands_still: bool,
}

impl Node {
    fn server(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }
}

#[derive(Default)]
struct Tally {
    cuts: usize,
    full: usize,
    continued: usize,
    stops: usize,
    kills: usize,
    moves: usize,
    knobs: usize,
    saves: usize,
    promotions: usize,
    checks: usize,
}

impl Tally {
    fn add_link(&mut self, link: &Proxy) {
        self.cuts += link.cuts();
        self.full += link.full_syncs();
        self.continued += link.continued();
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { cuts, full, continued, stops, kills, moves, knobs, saves, promotions, checks } = self;
        write!(
            f,
            "{cuts} cuts, {stops} servers stopped, {kills} killed, {moves} put below another, {promotions} \
             promoted, {saves} saves, {knobs} settings changed; {full} full synchronisations, {continued} \
             continued; the data of all compared {checks} times"
        )
    }
}

struct Family {
    nodes: Vec<Node>,
    primary: usize,
    writer: Writer,
    random: Random,
    tally: Tally,
    /// What was done since all were last found equal, for the report of a difference.
    deeds: Vec<String>,
    /// Goes last: its directory has the logs.
    bed: Bed,
}

impl Family {
    /// `shape` has for each server its kind and who is above it; the first is the primary.
    fn start(mut bed: Bed, shape: &[(Kind, usize)], seed: u64) -> Family {
        let mut nodes: Vec<Node> = Vec::new();
        for (kind, above) in shape {
            let server = bed.start(*kind, &[TIMEOUT]);
            let above_port = nodes.get(*above).map_or(server.port, |node| node.server().port);
            let link = Proxy::to(above_port);
            if nodes.is_empty() {
                pour(&mut server.client(), &mut Writes::new(seed), 5_000);
            } else {
                server.follow(link.port);
            }
            nodes.push(Node { server: Some(server), above: *above, link, stands_still: false });
        }
        let writer = Writer::start(nodes[0].server().port, seed, INTERVAL);
        writer.be_patient();
        let (random, tally) = (Random::new(seed), Tally::default());
        Family { nodes, primary: 0, writer, random, tally, deeds: Vec::new(), bed }
    }

    fn note(&mut self, deed: &str, index: usize) {
        let now = std::time::UNIX_EPOCH.elapsed().expect("it is after 1970").as_millis();
        let Node { server, above, .. } = &self.nodes[index];
        let (kind, port) = server.as_ref().map_or(("", 0), |server| (server.kind.name(), server.port));
        self.deeds.push(format!("{now} {deed}: {index} ({kind} on {port}), below {above}"));
    }

    fn replicas(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|index| *index != self.primary).collect()
    }

    fn any_replica(&mut self) -> usize {
        let replicas = self.replicas();
        replicas[self.random.below(replicas.len() as u64) as usize]
    }

    /// Those above it, the nearest first.
    fn line(&self, index: usize) -> impl Iterator<Item = usize> {
        let next = |at: &usize| (*at != self.primary).then(|| self.nodes[*at].above);
        std::iter::successors(Some(index), next).skip(1)
    }

    fn is_above(&self, upper: usize, lower: usize) -> bool {
        self.line(lower).any(|index| index == upper)
    }

    fn depth(&self, index: usize) -> usize {
        self.line(index).count()
    }

    fn go_wrong(&mut self) {
        match self.random.below(100) {
            0..35 => {
                let (index, seed) = (self.any_replica(), self.random.next());
                self.nodes[index].link.storm(seed);
                self.note("storm", index);
            }
            35..45 => {
                let index = self.any_replica();
                self.nodes[index].link.calm();
                self.note("calm", index);
            }
            45..58 => self.stand_still(),
            58..66 => self.kill(),
            66..76 => self.put_below_another(),
            76..88 => self.turn_a_knob(),
            88..93 => self.save(),
            _ => self.change_primary(),
        }
    }

    /// Or goes on, if it stands still.
    fn stand_still(&mut self) {
        let index = self.random.below(self.nodes.len() as u64) as usize;
        if self.nodes[index].stands_still {
            self.go_on(index);
        } else {
            self.nodes[index].server().stop();
            self.nodes[index].stands_still = true;
            self.note("stands still", index);
            self.tally.stops += 1;
        }
    }

    fn go_on(&mut self, index: usize) {
        if std::mem::take(&mut self.nodes[index].stands_still) {
            self.nodes[index].server().resume();
            self.note("goes on", index);
        }
    }

    /// A replica comes back at once, with the file that it has, if it has one.
    fn kill(&mut self) {
        let index = self.any_replica();
        self.nodes[index].server().kill();
        self.note("killed", index);
        self.start_again(index);
        self.tally.kills += 1;
    }

    fn start_again(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.stands_still = false;
        let ended = node.server.take().expect("the server ran");
        let above = format!("127.0.0.1 {}", node.link.port);
        let options = [TIMEOUT, ("replicaof", &above)];
        let options = if index == self.primary { &options[..1] } else { &options[..] };
        self.nodes[index].server = Some(self.bed.revive(ended, options));
    }

    /// As when an address moves: the replica is not told.
    fn put_below_another(&mut self) {
        let index = self.any_replica();
        let above = self.random.below(self.nodes.len() as u64) as usize;
        if above != index && !self.is_above(index, above) && self.may_follow(index, above) {
            self.nodes[index].above = above;
            self.nodes[index].link.turn_to(self.nodes[above].server().port);
            self.note("moved", index);
            self.tally.moves += 1;
        }
    }

    /// Whether one can read the other's snapshots: a real server those of its own make and Kindred's.
    fn may_follow(&self, lower: usize, upper: usize) -> bool {
        let [lower, upper] = [lower, upper].map(|index| self.nodes[index].server().kind);
        lower == upper || lower == Kind::Kindred || upper == Kind::Kindred
    }

    fn turn_a_knob(&mut self) {
        let index = self.random.below(self.nodes.len() as u64) as usize;
        let (name, values, known_by) = KNOBS[self.random.below(KNOBS.len() as u64) as usize];
        let value = self.random.pick(values);
        let node = &self.nodes[index];
        if !node.stands_still && known_by.contains(&node.server().kind) {
            node.server().ok(&format!("CONFIG SET {name} {value}"));
            self.note(&format!("{name} {value}"), index);
            self.tally.knobs += 1;
        }
    }

    fn save(&mut self) {
        let index = self.random.below(self.nodes.len() as u64) as usize;
        if !self.nodes[index].stands_still {
            // Refused while another is written.
            self.nodes[index].server().client().run("BGSAVE");
            self.note("saves", index);
            self.tally.saves += 1;
        }
    }

    /// A primary that has a replica of its own kind directly below it is followed by that, in one of the ways in which this
    /// happens; another one is shut down and comes back.
    fn change_primary(&mut self) {
        let old = self.primary;
        self.go_on(old);
        let kind = self.nodes[old].server().kind;
        let heirs: Vec<usize> = self
            .replicas()
            .into_iter()
            .filter(|index| self.nodes[*index].above == old && self.nodes[*index].server().kind == kind)
            .collect();
        for heir in &heirs {
            self.go_on(*heir);
        }
        let Some(heir) = heirs.iter().copied().max_by_key(|heir| offset(self.nodes[*heir].server())) else {
            for index in self.replicas() {
                self.go_on(index);
            }
            self.note("shut down", old);
            self.nodes[old].server().shut_down(true);
            self.start_again(old);
            self.tally.kills += 1;
            return;
        };
        let port = self.nodes[heir].server().port;
        match self.random.below(3) {
            0 => {
                self.note("killed, a primary", old);
                self.nodes[old].server().kill();
            }
            1 => {
                self.note("hands over", old);
                self.hand_over(old, port);
            }
            _ => self.note("is left behind", old),
        }
        told(self.nodes[heir].server(), "REPLICAOF NO ONE");
        self.note("promoted", heir);
        self.primary = heir;
        self.writer.turn_to(port);
        // Whoever was below the old primary is told, as Sentinel tells them; the old one too.
        for index in self.replicas() {
            if index == old || self.nodes[index].above == old {
                let above = if self.may_follow(index, heir) { heir } else { old };
                let link = Proxy::to(self.nodes[above].server().port);
                self.tally.add_link(&std::mem::replace(&mut self.nodes[index].link, link));
                self.nodes[index].above = above;
                if index == old && !self.answers(old) {
                    self.start_again(old);
                } else {
                    self.go_on(index);
                    let node = &self.nodes[index];
                    told(node.server(), &format!("REPLICAOF 127.0.0.1 {}", node.link.port));
                    self.note("told to follow", index);
                }
            }
        }
        self.tally.promotions += 1;
    }

    /// FAILOVER to the heir; whatever comes of it, it ends.
    fn hand_over(&self, old: usize, port: u16) {
        let mut client = self.nodes[old].server().client();
        client.run(&format!("FAILOVER TO 127.0.0.1 {port} FORCE TIMEOUT 1000"));
        let since = Instant::now();
        while client.info("replication")["master_failover_state"] != "no-failover" {
            if since.elapsed() > Duration::from_secs(5) {
                client.run("FAILOVER ABORT");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn answers(&self, index: usize) -> bool {
        peers::Client::connect(self.nodes[index].server().port).is_ok()
    }

    fn heal_and_compare(&mut self, round: u64) {
        for index in 0..self.nodes.len() {
            self.go_on(index);
            self.nodes[index].link.calm();
        }
        self.writer.pause();
        let when = format!("after round {round}");
        // From above to below: who is in sync loses its link again when the one above it begins anew.
        let mut replicas = self.replicas();
        replicas.sort_by_key(|index| self.depth(*index));
        for index in replicas {
            let [upper, lower] = [self.primary, index].map(|index| self.nodes[index].server());
            assert_same(upper, lower, &when);
            if round.is_multiple_of(20) {
                assert_same_expiries(upper, lower, &when);
            }
        }
        self.tally.checks += 1;
        self.deeds.clear();
        self.writer.resume();
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("since all were equal:\n{}", self.deeds.join("\n"));
        }
    }
}

fn offset(server: &Server) -> i64 {
    server.info_number("replication", "master_repl_offset")
}

/// As often as it takes: a server that loads does not listen.
fn told(server: &Server, command: &str) {
    let since = Instant::now();
    while let Some(error) = server.client().run(command).error() {
        assert!(error.starts_with("LOADING"), "{command}: {error}");
        assert!(since.elapsed() < Duration::from_secs(30), "it loads for longer than it may");
        thread::sleep(Duration::from_millis(10));
    }
}

fn campaign(name: &str, shape: &[(Kind, usize)]) {
    let number = |variable: &str| {
        let text = std::env::var(variable).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{variable} is no number")))
    };
    let duration = Duration::from_secs(number("KINDRED_CAMPAIGN_SECONDS").unwrap_or(SECONDS));
    let now = std::time::UNIX_EPOCH.elapsed().expect("it is after 1970").as_millis() as u64;
    let seed = number("KINDRED_CAMPAIGN_SEED").unwrap_or(now);
    let kinds: Vec<Kind> = shape.iter().map(|(kind, _)| *kind).collect();
    let Some(bed) = Bed::new(duration + GRACE, &kinds) else { return };
    eprintln!("{name}: seed {seed}");
    let mut family = Family::start(bed, shape, seed);
    let since = Instant::now();
    let mut round = 0;
    while since.elapsed() < duration {
        for _ in 0..FAULTS {
            family.go_wrong();
            thread::sleep(Duration::from_millis(family.random.below(LULL_MS)));
        }
        family.heal_and_compare(round);
        round += 1;
    }
    for node in &family.nodes {
        family.tally.add_link(&node.link);
    }
    let hours = since.elapsed().as_secs_f64() / 3600.0 * (shape.len() - 1) as f64;
    eprintln!("{name}: {hours:.2} link-hours: {}", family.tally);
    assert!(family.tally.cuts > 0, "nothing was cut, which proves nothing");
}

#[test]
fn below_kindred() {
    use Kind::{Kindred, Redis70, Redis82, Valkey91};
    let shape = [
        (Kindred, 0),
        (Kindred, 0),
        (Kindred, 0),
        (Kindred, 1),
        (Redis70, 0),
        (Redis70, 3),
        (Redis82, 0),
        (Redis82, 2),
        (Valkey91, 0),
        (Valkey91, 1),
        (Kindred, 4),
    ];
    campaign("below Kindred", &shape);
}

#[test]
fn below_redis70() {
    use Kind::{Kindred, Redis70};
    campaign("below redis 7.0", &[(Redis70, 0), (Kindred, 0), (Redis70, 0), (Kindred, 1), (Redis70, 3)]);
}

#[test]
fn below_redis82() {
    use Kind::{Kindred, Redis82, Valkey91};
    campaign("below redis 8.2", &[(Redis82, 0), (Kindred, 0), (Redis82, 0), (Kindred, 1), (Valkey91, 3)]);
}

#[test]
fn below_valkey91() {
    use Kind::{Kindred, Redis70, Valkey91};
    campaign("below valkey 9.1", &[(Valkey91, 0), (Kindred, 0), (Valkey91, 0), (Kindred, 1), (Redis70, 3)]);
}
