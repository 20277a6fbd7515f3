//! Kindred and a peer side by side: a list of commands is run on both, and the first difference ends it.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::compare::{Check, Settled, same_shape};
use super::generate::{Argv, words};
use super::known;
use super::table;
use super::wire::{self, Value, Wire};
use crate::bench::server::{Flavor, Kind, Server};

pub struct Side {
    kind: Kind,
    options: Vec<&'static str>,
    server: Server,
    pub wire: Wire,
}

impl Side {
    pub fn start(kind: Kind, options: Vec<&'static str>) -> Result<Side> {
        let server = Server::start(&kind, None, &options)?;
        let wire = Wire::connect(server.port)?;
        Ok(Side { kind, options, server, wire })
    }

    /// A new connection to an empty server, which is started again if it is gone.
    fn fresh(&mut self) -> Result<()> {
        let flushed = Wire::connect(self.server.port).and_then(|wire| {
            self.wire = wire;
            self.wire.call(&["FLUSHALL"])
        });
        if flushed.is_err() {
            self.server = Server::start(&self.kind, None, &self.options)?;
            self.wire = Wire::connect(self.server.port)?;
        }
        Ok(())
    }
}

/// Small thresholds, so that large encodings are reached, and a limit on strings that keeps them small.
const OPTIONS: &[&str] = &[
    "--enable-debug-command",
    "yes",
    "--proto-max-bulk-len",
    "1048576",
    "--databases",
    "4",
    "--hash-max-listpack-entries",
    "16",
    "--zset-max-listpack-entries",
    "16",
    "--list-max-listpack-size",
    "8",
    "--set-max-intset-entries",
    "16",
    "--stream-node-max-entries",
    "8",
];

pub struct Pair {
    against: String,
    pub kindred: Side,
    pub peer: Side,
    /// Names of commands that write, in lower case.
    writes: BTreeSet<String>,
    /// A known difference was one of a write: the two sides no longer hold the same.
    parted: bool,
    /// How often each known difference was met.
    pub known: Vec<(&'static str, u64)>,
    /// Names of commands that gave something else than an error.
    pub succeeded: HashSet<Vec<u8>>,
    /// Commands that were run on both, transactions' included.
    pub commands: u64,
}

#[derive(Clone, Debug)]
pub struct Difference {
    /// Index of the command in the list.
    pub at: usize,
    pub kindred: String,
    pub peer: String,
    /// The same for differences that probably have the same cause.
    pub signature: String,
}

/// At most this many commands are on their way at a time.
const PIPELINE: usize = 200;

impl Pair {
    pub fn start(against: &str, kindred: PathBuf) -> Result<Pair> {
        let peer = crate::peers::fetch_one(against)?;
        let mut options = OPTIONS.to_vec();
        // Up to 7.0, sets had no listpack.
        let sets = ["--set-max-listpack-entries", if against == "redis70" { "0" } else { "16" }];
        let mut ours = options.clone();
        ours.extend(sets);
        if against != "redis70" {
            options.extend(sets);
        }
        let kind = |title: &str, flavor, path| Kind { title: title.to_owned(), flavor, path };
        let kindred = Side::start(kind("kindred", Flavor::Subject, kindred), ours)?;
        let mut peer = Side::start(kind(against, Flavor::Redis, peer), options)?;
        Ok(Pair {
            against: against.to_owned(),
            writes: table::names_with(&mut peer.wire, b"write")?,
            parted: false,
            kindred,
            peer,
            known: Vec::new(),
            succeeded: HashSet::new(),
            commands: 0,
        })
    }

    /// Both empty, with new connections.
    pub fn fresh(&mut self) -> Result<()> {
        self.kindred.fresh().context("kindred")?;
        self.peer.fresh().with_context(|| self.against.clone())
    }

    /// Runs all on fresh servers up to the first difference, or to the first known one of a write: what comes after that
    /// would differ for the same reason.
    pub fn run(&mut self, steps: &[Argv]) -> Result<Option<Difference>> {
        self.fresh()?;
        self.parted = false;
        // The commands that wait for EXEC.
        let mut queued: Option<Vec<usize>> = None;
        let mut at = 0;
        while at < steps.len() {
            let settled = match Check::of(&steps[at]) {
                Check::Settled(settled) => Some(settled),
                _ => None,
            };
            if let Some(settled) = settled {
                // It cannot be settled before EXEC, and would differ for ever after.
                if queued.is_none() {
                    self.commands += 1;
                    match self.settle(settled, &steps[at]) {
                        Ok(None) => {}
                        Ok(Some((kindred, peer))) => {
                            return Ok(Some(self.difference(at, &steps[at], &kindred, &peer)));
                        }
                        Err(error) => return self.broken(at, &steps[at], &error).map(Some),
                    }
                }
                at += 1;
                continue;
            }
            let pipelined = |argv: &&Argv| !matches!(Check::of(argv), Check::Settled(_));
            let count = steps[at..].iter().take(PIPELINE).take_while(pipelined).count();
            let mut bytes = Vec::new();
            steps[at..at + count].iter().for_each(|argv| wire::encode(&mut bytes, argv));
            self.commands += count as u64;
            if let Err(error) = self.kindred.wire.send(&bytes).and_then(|()| self.peer.wire.send(&bytes)) {
                return self.broken(at, &steps[at], &error).map(Some);
            }
            for index in at..at + count {
                match self.next_reply(steps, index, &mut queued) {
                    Ok(None) if self.parted => return Ok(None),
                    Ok(None) => {}
                    Ok(Some(difference)) => return Ok(Some(difference)),
                    Err(error) => return self.broken(index, &steps[index], &error).map(Some),
                }
            }
            at += count;
        }
        Ok(None)
    }

    /// Reads the reply to command `index` from both sides.
    fn next_reply(
        &mut self,
        steps: &[Argv],
        index: usize,
        queued: &mut Option<Vec<usize>>,
    ) -> Result<Option<Difference>> {
        let kindred = self.kindred.wire.frame()?;
        let peer = self.peer.wire.frame()?;
        let argv = &steps[index];
        let is = |name: &str| argv[0].eq_ignore_ascii_case(name.as_bytes());
        let waiting = queued.take();
        if kindred[0] != b'-' && waiting.is_none() && !self.succeeded.contains(&argv[0]) {
            self.succeeded.insert(argv[0].clone());
        }
        if kindred == peer {
            *queued = match waiting {
                None if is("multi") && kindred == b"+OK\r\n" => Some(Vec::new()),
                Some(mut waiting) if kindred == b"+QUEUED\r\n" => {
                    waiting.push(index);
                    Some(waiting)
                }
                Some(_) if is("exec") || is("discard") => None,
                other => other,
            };
            return Ok(None);
        }
        let (kindred, peer) = (wire::parse(kindred)?, wire::parse(peer)?);
        if let (Some(waiting), true) = (&waiting, is("exec"))
            && kindred.items().len() == waiting.len()
            && peer.items().len() == waiting.len()
        {
            for (at, (ours, theirs)) in waiting.iter().zip(kindred.items().iter().zip(peer.items())) {
                if !self.is_same(&steps[*at], ours, theirs) {
                    return Ok(Some(self.difference(index, &steps[*at], ours, theirs)));
                }
            }
            return Ok(None);
        }
        if waiting.is_some() && !is("exec") && !is("discard") {
            *queued = waiting;
        }
        if self.is_same(argv, &kindred, &peer) {
            return Ok(None);
        }
        Ok(Some(self.difference(index, argv, &kindred, &peer)))
    }

    fn is_same(&mut self, argv: &Argv, kindred: &Value, peer: &Value) -> bool {
        if Check::of(argv).same(kindred, peer) {
            return true;
        }
        let Some(known) = known::explain(&self.against, argv, kindred, peer) else { return false };
        match self.known.iter_mut().find(|(compat, _)| *compat == known.compat) {
            Some((_, times)) => *times += 1,
            None => self.known.push((known.compat, 1)),
        }
        let name = String::from_utf8_lossy(&argv[0]).to_lowercase();
        self.parted |= self.writes.contains(&name) && known::parts_data(kindred, peer);
        true
    }

    fn difference(&self, at: usize, argv: &Argv, kindred: &Value, peer: &Value) -> Difference {
        let kind = |value: &Value| match value {
            Value::Line(b'-', text) => String::from_utf8_lossy(&text[..text.len().min(30)]).into_owned(),
            Value::Line(kind, _) | Value::Many(kind, _) => char::from(*kind).to_string(),
            Value::Bulk(_) => "$".to_owned(),
            Value::Null => "null".to_owned(),
        };
        let name = String::from_utf8_lossy(&argv[0]).to_lowercase();
        Difference {
            at,
            kindred: show(kindred),
            peer: show(peer),
            signature: format!("{name} {} {}", kind(kindred), kind(peer)),
        }
    }

    /// A connection that broke, or an answer that did not come, tells which side it was by the error of a new PING.
    fn broken(&mut self, at: usize, argv: &Argv, error: &anyhow::Error) -> Result<Difference> {
        let alive = |side: &Side| {
            Wire::connect(side.server.port).and_then(|mut wire| wire.call(&["PING"])).map_or_else(
                |error| format!("does not answer any more: {error:#}"),
                |_| "answers a new connection".to_owned(),
            )
        };
        let name = String::from_utf8_lossy(&argv[0]).to_lowercase();
        let (kindred, peer) = (alive(&self.kindred), alive(&self.peer));
        Ok(Difference {
            at,
            signature: format!("{name} broken"),
            kindred: format!("({error:#}) {kindred}"),
            peer,
        })
    }

    /// Runs one command that is not pipelined. What differs, if something does.
    fn settle(&mut self, settled: Settled, argv: &Argv) -> Result<Option<(Value, Value)>> {
        if settled == Settled::Scan {
            return self.scan(argv);
        }
        let kindred = self.kindred.wire.call(argv)?;
        let peer = self.peer.wire.call(argv)?;
        match settled {
            Settled::Dump => return self.exchange(kindred, peer),
            Settled::Digest => {
                let same = kindred == peer || !peer.is_error() && self.explains_digest()?;
                return Ok((!same).then_some((kindred, peer)));
            }
            _ => {}
        }
        if !same_shape(&kindred, &peer) {
            let same = self.is_same(argv, &kindred, &peer);
            return Ok((!same).then_some((kindred, peer)));
        }
        if kindred.is_error() || kindred == Value::Null {
            return Ok(None);
        }
        self.succeeded.insert(argv[0].clone());
        match settled {
            Settled::Pop => self.pop(argv, kindred, peer),
            _ => self.pick(argv, kindred),
        }
    }

    fn pop(&mut self, argv: &Argv, kindred: Value, peer: Value) -> Result<Option<(Value, Value)>> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        kindred.leaves(&mut ours);
        peer.leaves(&mut theirs);
        if ours.is_empty() {
            return Ok(None);
        }
        let exists = [b"EXISTS".to_vec(), argv[1].clone()];
        let left = (self.kindred.wire.call(&exists)?, self.peer.wire.call(&exists)?);
        if left.0 != left.1 {
            return Ok(Some(left));
        }
        if left.0.int() == Some(0) {
            let (mut a, mut b) = (ours, theirs);
            a.sort_unstable();
            b.sort_unstable();
            return Ok((a != b).then_some((kindred, peer)));
        }
        let all = |name: &str, members: &[&[u8]]| {
            let mut argv = vec![name.as_bytes().to_vec(), argv[1].clone()];
            argv.extend(members.iter().map(|member| member.to_vec()));
            argv
        };
        let count = Value::Line(b':', ours.len().to_string().into_bytes());
        let back = self.peer.wire.call(&all("SADD", &theirs))?;
        let taken = self.peer.wire.call(&all("SREM", &ours))?;
        // If both are what they should be, Kindred's picks were distinct and of the set.
        Ok((back != count || taken != count).then_some((kindred, taken)))
    }

    fn pick(&mut self, argv: &Argv, kindred: Value) -> Result<Option<(Value, Value)>> {
        let name = argv[0].to_ascii_lowercase();
        let key = || argv[1].clone();
        let has = |option: &str| argv[2..].iter().any(|arg| arg.eq_ignore_ascii_case(option.as_bytes()));
        let (all, by) = match name.as_slice() {
            b"randomkey" => (words(&["KEYS", "*"]), 1),
            b"srandmember" => (vec![b"SMEMBERS".to_vec(), key()], 1),
            b"hrandfield" if has("WITHVALUES") => (vec![b"HGETALL".to_vec(), key()], 2),
            b"hrandfield" => (vec![b"HKEYS".to_vec(), key()], 1),
            _ => {
                let mut all = vec![b"ZRANGE".to_vec(), key(), b"0".to_vec(), b"-1".to_vec()];
                let with_scores = has("WITHSCORES");
                all.extend(with_scores.then(|| b"WITHSCORES".to_vec()));
                (all, 1 + usize::from(with_scores))
            }
        };
        let whole = self.kindred.wire.call(&all)?;
        let (mut picked, mut members) = (Vec::new(), Vec::new());
        kindred.leaves(&mut picked);
        whole.leaves(&mut members);
        let members: BTreeSet<&[&[u8]]> = members.chunks(by).collect();
        let distinct: BTreeSet<&[&[u8]]> = picked.chunks(by).collect();
        // A negative count may pick an element twice.
        let repeats = argv.get(2).is_some_and(|count| count.starts_with(b"-"));
        let fine = distinct.is_subset(&members) && (repeats || distinct.len() * by == picked.len());
        Ok((!fine).then_some((kindred, whole)))
    }

    fn scan(&mut self, argv: &Argv) -> Result<Option<(Value, Value)>> {
        self.succeeded.insert(argv[0].clone());
        let by = match argv[0].to_ascii_lowercase().as_slice() {
            b"zscan" if !argv.iter().any(|arg| arg.eq_ignore_ascii_case(b"noscores")) => 2,
            b"hscan" if !argv.iter().any(|arg| arg.eq_ignore_ascii_case(b"novalues")) => 2,
            _ => 1,
        };
        let cursor_at = if argv[0].eq_ignore_ascii_case(b"scan") { 1 } else { 2 };
        let kindred = iterate(&mut self.kindred.wire, argv, cursor_at, by)?;
        let peer = iterate(&mut self.peer.wire, argv, cursor_at, by)?;
        let same = self.is_same(argv, &kindred, &peer);
        Ok((!same).then_some((kindred, peer)))
    }

    /// Each side restores what the other dumped.
    fn exchange(&mut self, kindred: Value, peer: Value) -> Result<Option<(Value, Value)>> {
        let (Value::Bulk(ours), Value::Bulk(theirs)) = (&kindred, &peer) else {
            return Ok((kindred != peer).then_some((kindred, peer)));
        };
        self.succeeded.insert(b"DUMP".to_vec());
        let restore = |payload: &Vec<u8>| {
            let mut argv = words(&["RESTORE", "exchanged", "0"]);
            argv.extend([payload.clone(), b"REPLACE".to_vec()]);
            argv
        };
        let results = (self.kindred.wire.call(&restore(theirs))?, self.peer.wire.call(&restore(ours))?);
        // Of Valkey it takes what only Valkey writes, and gives what only Redis reads: expiries of fields.
        if self.against.starts_with("valkey")
            && !results.0.is_error()
            && results.1.text() == Some(b"ERR DUMP payload version or checksum are wrong")
        {
            self.kindred.wire.call(&["DEL", "exchanged"])?;
            self.peer.wire.call(&["DEL", "exchanged"])?;
            return Ok(None);
        }
        if results.0 != results.1 || results.0.is_error() {
            return Ok(Some(results));
        }
        let digest = ["DEBUG", "DIGEST-VALUE", "exchanged"];
        let digests = (self.kindred.wire.call(&digest)?, self.peer.wire.call(&digest)?);
        let same = digests.0 == digests.1 || self.explains_digest()?;
        self.kindred.wire.call(&["DEL", "exchanged"])?;
        self.peer.wire.call(&["DEL", "exchanged"])?;
        Ok((!same).then_some(digests))
    }

    /// Whether the keys hold the same though their digests differ: Valkey's have the expiries of a hash's fields too, those of
    /// 7.0 scores in 17 digits, and those of later ones the sign of a zero.
    fn explains_digest(&mut self) -> Result<bool> {
        Ok(self.differing_keys()?.is_empty())
    }

    /// The keys whose digests differ now, with what each side holds.
    pub fn differing_keys(&mut self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        // Connections of their own: what the others have selected and watch stays.
        let mut sides = [Wire::connect(self.kindred.server.port)?, Wire::connect(self.peer.server.port)?];
        let sides = sides.iter_mut();
        let valkey = self.against.starts_with("valkey");
        let mut digests: [Vec<(String, Argv, Value)>; 2] = [Vec::new(), Vec::new()];
        for (wire, digests) in sides.zip(&mut digests) {
            for db in ["0", "1", "2", "3"] {
                wire.call(&["SELECT", db])?;
                let mut keys: Vec<Vec<u8>> = wire
                    .call(&["KEYS", "*"])?
                    .items()
                    .iter()
                    .filter_map(|key| Some(key.text()?.to_vec()))
                    .collect();
                keys.sort();
                for key in keys {
                    let argv = vec![b"DEBUG".to_vec(), b"DIGEST-VALUE".to_vec(), key.clone()];
                    let mut digest = wire.call(&argv)?;
                    let kind = wire.call(&[b"TYPE".to_vec(), key.clone()])?;
                    let expires = wire.call(&[b"PTTL".to_vec(), key.clone()])?.int() != Some(-1);
                    let dump = match kind.text() {
                        Some(b"string") => words(&["GET"]),
                        Some(b"list") => words(&["LRANGE", "", "0", "-1"]),
                        Some(b"set") => words(&["SMEMBERS"]),
                        Some(b"hash") => words(&["HGETALL"]),
                        Some(b"zset") => words(&["ZRANGE", "", "0", "-1", "WITHSCORES"]),
                        _ => words(&["XINFO", "STREAM", "", "FULL"]),
                    };
                    let mut argv = dump;
                    match argv.iter().position(Vec::is_empty) {
                        Some(at) => argv[at] = key.clone(),
                        None => argv.push(key.clone()),
                    }
                    let mut value = wire.call(&argv)?;
                    if valkey && kind.text() == Some(b"hash") {
                        digest = sorted_pairs(&value);
                        value = Value::Null;
                    } else if kind.text() == Some(b"zset") {
                        digest = shortest_scores(&value);
                        value = Value::Null;
                    }
                    let label =
                        format!("db {db} {} {} expires: {expires}", key.escape_ascii(), show(&digest));
                    digests.push((label, argv, value));
                }
            }
        }
        let [ours, theirs] = &digests;
        for (side, these, others) in [("kindred", ours, theirs), ("peer", theirs, ours)] {
            for (label, _, value) in
                these.iter().filter(|(label, ..)| others.iter().all(|(other, ..)| other != label))
            {
                found.push(format!("{side}: {label}: {}", show(value)));
            }
        }
        Ok(found)
    }
}

/// Fields and values, the pairs in order.
fn sorted_pairs(value: &Value) -> Value {
    let mut pairs: Vec<&[Value]> = value.items().chunks(2).collect();
    pairs.sort();
    Value::Many(b'*', pairs.concat())
}

/// Members and scores, each score as the shortest text that reads back, a zero without a sign.
fn shortest_scores(value: &Value) -> Value {
    let mut items = value.items().to_vec();
    for score in items.iter_mut().skip(1).step_by(2) {
        let number = score.text().and_then(|text| std::str::from_utf8(text).ok()?.parse::<f64>().ok());
        if let Some(number) = number {
            *score = Value::Bulk((number + 0.0).to_string().into_bytes());
        }
    }
    Value::Many(b'*', items)
}

/// The elements of a whole iteration, sorted and without repetitions; or the error.
fn iterate(wire: &mut Wire, argv: &Argv, cursor_at: usize, by: usize) -> Result<Value> {
    let mut argv = argv.clone();
    let mut found = BTreeSet::new();
    // Only a beginning leads to an end: of another cursor, the answer's form is all that can be compared.
    let whole = argv.get(cursor_at).is_some_and(|cursor| cursor == b"0");
    loop {
        let reply = wire.call(&argv)?;
        let (Some(cursor), Some(elements)) = (reply.items().first(), reply.items().get(1)) else {
            return Ok(reply);
        };
        found.extend(elements.items().chunks(by).map(<[Value]>::to_vec));
        argv[cursor_at] = cursor.text().unwrap_or_default().to_vec();
        if argv[cursor_at] == b"0" || !whole {
            break;
        }
    }
    let all = if whole { found.into_iter().flatten().collect() } else { Vec::new() };
    Ok(Value::Many(b'*', all))
}

/// As redis-cli might, in one line.
pub fn show(value: &Value) -> String {
    match value {
        Value::Line(b'-', text) => format!("(error) {}", text.escape_ascii()),
        Value::Line(kind, text) => format!("{}{}", char::from(*kind), text.escape_ascii()),
        Value::Bulk(text) => format!("\"{}\"", text.escape_ascii()),
        Value::Null => "(nil)".to_owned(),
        Value::Many(kind, items) => {
            let items: Vec<String> = items.iter().map(show).collect();
            format!("{}[{}]", char::from(*kind), items.join(", "))
        }
    }
}
