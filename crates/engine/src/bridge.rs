//! Between servers that do not know the same: what of the data set and of the stream is younger than some replicas, and
//! what becomes of a replica that does not know it.
//!
//! The data set is asked before a snapshot: a replica that could not hold it is refused by the name of one key or
//! library. The stream is watched: each command that not every server knows is noted with the offset where it ends, and
//! the replicas that do not know it are dropped at that moment, before they are sent it. They would answer with an error
//! that nobody reads and differ from then on, or lose a whole transaction with it. Nobody continues over such a command,
//! and for a while after it (`repl-refusal-seconds`) they are refused, so that an application that uses it now and then
//! does not cost a snapshot each time.
//!
//! Our own effects are written so that few need this ([`crate::effects::Effects::need`]). What a primary of another make
//! sends is relayed byte for byte, so it is looked at here ([`needs`]).

use std::sync::OnceLock;

use replication::replica_link::{ReplicaInput, ReplicaState};
use replication::{Feature, Millis, Needs, Reader, Refusal};
use resp::Args;

use crate::commands::registry;
use crate::core::Core;
use crate::ctx::CommandRef;
use crate::store::Store;

/// Of a key that is named in an error.
const NAME_BYTES_MAX: usize = 100;

/// What of a unit not every server knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    pub needs: Needs,
    /// One command of it, in words.
    pub witness: String,
}

impl Foreign {
    pub fn command(needs: Needs, argv: &[&[u8]]) -> Foreign {
        let name = |at: usize| argv.get(at).map_or_else(String::new, |arg| shown(arg));
        let command = name(0).to_ascii_uppercase();
        let subject = match command.as_str() {
            "FUNCTION" => String::new(),
            "BITOP" | "MSETEX" => format!(" with key '{}'", name(2)),
            _ => format!(" with key '{}'", name(1)),
        };
        Foreign { needs, witness: format!("the stream has the command {command}{subject}") }
    }
}

/// For each feature, the last command of the stream that needed it.
#[derive(Debug, Default)]
pub struct Uses {
    last: [Option<Use>; Feature::ALL.len()],
}

#[derive(Debug)]
struct Use {
    /// The offset of its last byte; 0 once the log begins behind it.
    through: u64,
    at: Millis,
    witness: String,
}

impl Uses {
    fn note(&mut self, foreign: &Foreign, through: u64, at: Millis) {
        for feature in foreign.needs.iter() {
            self.last[feature as usize] = Some(Use { through, at, witness: foreign.witness.clone() });
        }
    }

    /// The log begins anew: its offsets are others.
    pub fn forget_offsets(&mut self) {
        self.last.iter_mut().flatten().for_each(|used| used.through = 0);
    }

    fn lacking(&self, reader: Reader) -> impl Iterator<Item = (Feature, &Use)> {
        let used = |feature: Feature| Some((feature, self.last[feature as usize].as_ref()?));
        Feature::ALL.into_iter().filter(move |feature| !reader.knows(*feature)).filter_map(used)
    }

    /// The last byte of the log that `reader` would not understand.
    pub fn not_understood(&self, reader: Reader) -> Option<u64> {
        self.lacking(reader).map(|(_, used)| used.through).max().filter(|through| *through > 0)
    }
}

/// Why `reader` is not to be served now, if it is not.
pub fn refusal(store: &mut Store, core: &Core, reader: Reader) -> Option<Refusal> {
    data_refusal(store, reader).or_else(|| {
        let hold = Millis::from_secs(core.config.repl_refusal_s.max(0) as u64);
        let now = core.monotonic();
        let recent = |used: &Use| now.since(used.at) < hold;
        let (feature, used) = core.repl.uses.lacking(reader).find(|(_, used)| recent(used))?;
        Some(Refusal { feature, witness: used.witness.clone(), reader })
    })
}

/// Why `reader` could not hold the data set.
fn data_refusal(store: &mut Store, reader: Reader) -> Option<Refusal> {
    let refuse = |feature, witness| Some(Refusal { feature, witness, reader });
    if !reader.knows(Feature::FieldExpiries)
        && let Some((db, key)) = hash_with_expiries(store)
    {
        let witness = format!("key '{key}' of database {db} is a hash whose fields have an expiry");
        return refuse(Feature::FieldExpiries, witness);
    }
    if !reader.knows(Feature::Rdb10) {
        if let Some(name) = store.functions.names().next() {
            return refuse(Feature::Rdb10, format!("there is the function library '{}'", shown(name)));
        }
        if store.has_streams() {
            let db = (0..store.databases()).find(|db| store.db_at(*db).streams() > 0).unwrap_or(0);
            return refuse(Feature::Rdb10, format!("database {db} has a stream with groups and counters"));
        }
    }
    None
}

/// One of them, without a walk: the first in the index of the expiries.
fn hash_with_expiries(store: &mut Store) -> Option<(usize, String)> {
    (0..store.databases()).find_map(|db| {
        let entry = store.db_at_mut(db).first_due_fields(i64::MAX)?;
        Some((db, shown(entry.key())))
    })
}

fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(NAME_BYTES_MAX)];
    let more = if cut.len() < bytes.len() { "…" } else { "" };
    format!("{}{more}", cut.escape_ascii())
}

/// How to tell what a command of the stream needs.
#[derive(Clone, Copy)]
enum Rule {
    All(Needs),
    Look(fn(Args<'_>) -> Needs),
}

/// What a command that a primary sent needs its readers to know, in the form that it was sent in.
#[inline]
pub fn needs(command: CommandRef, argv: Args<'_>) -> Needs {
    match rules()[command.id.0 as usize] {
        None => Needs::NONE,
        Some(Rule::All(needs)) => needs,
        Some(Rule::Look(look)) => look(argv),
    }
}

/// By the numbers of the commands.
fn rules() -> &'static [Option<Rule>] {
    static RULES: OnceLock<Vec<Option<Rule>>> = OnceLock::new();
    RULES.get_or_init(|| registry().entries().iter().map(|entry| rule(&entry.full_name)).collect())
}

fn rule(name: &str) -> Option<Rule> {
    Some(match name {
        "hexpire" | "hpexpire" | "hexpireat" | "hpexpireat" | "hpersist" | "hgetex" | "hsetex"
        | "hgetdel" => Rule::All(Needs::of(Feature::FieldExpiries)),
        "xdelex" | "xackdel" => Rule::All(Needs::of(Feature::Redis82)),
        "xadd" | "xtrim" => Rule::Look(trimming),
        "bitop" => Rule::Look(bit_operation),
        "delifeq" | "msetex" => Rule::All(Needs::of(Feature::Valkey9)),
        "set" => Rule::Look(condition),
        "restore" => Rule::Look(payload),
        "function" => Rule::Look(function),
        _ => return None,
    })
}

/// `KEEPREF`, `DELREF` and `ACKED` among the options in front of the id.
fn trimming(argv: Args<'_>) -> Needs {
    let is = |at: usize, words: &[&str]| {
        argv.get(at).is_some_and(|arg| words.iter().any(|word| arg.eq_ignore_ascii_case(word.as_bytes())))
    };
    let mut at = 2;
    loop {
        at += if is(at, &["KEEPREF", "DELREF", "ACKED"]) {
            return Needs::of(Feature::Redis82);
        } else if is(at, &["NOMKSTREAM"]) {
            1
        } else if is(at, &["MAXLEN", "MINID"]) {
            if is(at + 1, &["=", "~"]) { 3 } else { 2 }
        } else if is(at, &["LIMIT"]) {
            2
        } else {
            return Needs::NONE;
        }
    }
}

fn bit_operation(argv: Args<'_>) -> Needs {
    let operation = argv.get(1).unwrap_or_default();
    let newer =
        ["DIFF", "DIFF1", "ANDOR", "ONE"].iter().any(|name| operation.eq_ignore_ascii_case(name.as_bytes()));
    if newer { Needs::of(Feature::Redis82) } else { Needs::NONE }
}

fn condition(argv: Args<'_>) -> Needs {
    // Most have no options at all.
    if argv.len() <= 4 || !argv.iter().skip(3).any(|option| option.eq_ignore_ascii_case(b"IFEQ")) {
        return Needs::NONE;
    }
    Needs::of(Feature::Valkey9)
}

fn payload(argv: Args<'_>) -> Needs {
    payload_needs(argv.get(3).unwrap_or_default())
}

fn function(argv: Args<'_>) -> Needs {
    let functions = Needs::of(Feature::Rdb10);
    match (argv.get(1), argv.get(2)) {
        (Some(verb), Some(payload)) if verb.eq_ignore_ascii_case(b"RESTORE") => {
            functions.and(payload_needs(payload))
        }
        _ => functions,
    }
}

/// By the version at the end of a payload of `DUMP`: servers refuse those that are newer than what they write.
pub fn payload_needs(payload: &[u8]) -> Needs {
    match rdb::dump::version(payload).unwrap_or(0) {
        ..=9 => Needs::NONE,
        10 => Needs::of(Feature::Rdb10),
        11 => Needs::of(Feature::Rdb11),
        12..80 => Needs::of(Feature::Rdb12),
        _ => Needs::of(Feature::Rdb80),
    }
}

/// `HSETEX key KEEPTTL FIELDS n field value …`, as Redis 8.2 propagates every `HINCRBYFLOAT`, of a hash none of whose fields
/// has an expiry: the same in commands that every server knows, and in exactly `length` bytes, so that all offsets stay
/// what they are. What is left over is the message of a `PING`.
pub fn in_old_words(argv: Args<'_>, length: usize) -> Option<Vec<u8>> {
    let is = |at: usize, word: &[u8]| argv.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word));
    if !is(0, b"HSETEX") || !is(2, b"KEEPTTL") || !is(3, b"FIELDS") || argv.len() < 7 {
        return None;
    }
    let mut args: Vec<&[u8]> = vec![b"HSET", argv.at(1)];
    args.extend(argv.iter().skip(5));
    let mut bytes = Vec::with_capacity(length);
    resp::encode_command(&mut bytes, args);
    let left = length.checked_sub(bytes.len())?;
    // The lengths of the message that may fit; the number of its digits leaves gaps.
    let message = (1..left).rev().find_map(|message| {
        let mut ping = Vec::new();
        resp::encode_command(&mut ping, [b"PING".as_slice(), &vec![b'-'; message]]);
        (ping.len() == left).then_some(ping)
    })?;
    bytes.extend(message);
    Some(bytes)
}

impl Core {
    pub(crate) fn reader(&self, link: &replication::ReplicaLink) -> Reader {
        link.reader(self.config.repl_assume_rdb_version as u16)
    }

    /// The log ends with something that not every server knows: replicas that do not are dropped before they are sent it.
    #[cold]
    pub(crate) fn note_foreign(&mut self, foreign: &Foreign) {
        let now = self.monotonic();
        let through = self.repl.log.end();
        self.repl.uses.note(foreign, through, now);
        for id in self.repl.replicas.clone() {
            let Some(replica) = self.replica(id) else { continue };
            let reader = self.reader(&replica.link);
            // One that waits for its snapshot is judged by the data set, when that begins.
            let waits = matches!(replica.link.state(), ReplicaState::WaitSnapshot { .. });
            if let Some(feature) = reader.lacks(foreign.needs).filter(|_| !waits) {
                let refusal = Refusal { feature, witness: foreign.witness.clone(), reader };
                self.replica_step(id, ReplicaInput::Unreadable(refusal));
            }
        }
    }

    /// A replica is not served; that is logged when it is news.
    pub(crate) fn note_refused(&mut self, replica: &str, refusal: Refusal) {
        let line = format!("Replica {replica} is refused: {refusal}");
        let unix_ms = self.env.unix_ms();
        if self.repl.refusals.add(unix_ms, replica, refusal) {
            self.warning(line);
        }
    }

    /// A replica is served that may have been refused before.
    pub(crate) fn note_served(&mut self, replica: &str) {
        if let Some(refused) = self.repl.refusals.served(replica) {
            self.notice(format!("Replica {replica} is served now, after {} refusals", refused.attempts));
        }
    }
}

#[cfg(test)]
mod tests;
