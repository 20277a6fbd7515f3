//! The commands that both servers have, as they describe them themselves (COMMAND, COMMAND DOCS): whatever is registered in
//! Kindred is generated from here on. The syntax is the peer's, so that an option of a later version, which Kindred has and
//! the peer has not, is no difference.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use super::wire::{Value, Wire};

/// A command or a subcommand that both sides have.
#[derive(Debug)]
pub struct Command {
    /// In lower case; a subcommand with its parent's name before it.
    pub words: Vec<String>,
    pub group: String,
    pub blocking: bool,
    /// Redis 7.0 has it not.
    pub is_new: bool,
    pub arguments: Vec<Arg>,
}

/// One argument of the syntax.
#[derive(Debug)]
pub struct Arg {
    pub name: String,
    pub kind: Kind,
    pub token: Option<String>,
    pub optional: bool,
    pub multiple: bool,
    pub multiple_token: bool,
    /// Of `OneOf` and `Block`.
    pub within: Vec<Arg>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

/// The groups whose commands work on data; of the others, only these commands do and answer alike everywhere.
const GROUPS: &[&str] =
    &["generic", "string", "list", "set", "sorted-set", "hash", "hyperloglog", "geo", "stream", "bitmap"];
const MORE: &[&str] = &["dbsize", "flushdb", "flushall", "swapdb", "echo", "watch", "unwatch"];

/// Commands whose replies say something of the server and not of its data, or that need other servers.
const EXCEPT: &[&str] =
    &["wait", "waitaof", "migrate", "restore-asking", "pfdebug", "pfselftest", "memory", "type|help"];

/// Asks both sides. With the commands come the names of what the peer has and Kindred has not, options included.
pub fn common(kindred: &mut Wire, peer: &mut Wire) -> Result<(Vec<Command>, BTreeSet<String>)> {
    let ours = docs(kindred)?;
    let mut missing = BTreeSet::new();
    let theirs = docs(peer)?;
    let blocking = names_with(peer, b"blocking")?;
    let mut commands = Vec::new();
    for (name, docs) in &theirs {
        let group = docs.get("group").and_then(Value::text).context("a command without a group")?;
        let group = String::from_utf8_lossy(group).into_owned();
        let wanted = GROUPS.contains(&group.as_str()) || MORE.contains(&name.as_str());
        if !wanted || EXCEPT.contains(&name.as_str()) {
            continue;
        }
        let Some(our_docs) = ours.get(name).filter(|_| answers(kindred, name)) else {
            missing.insert(name.clone());
            continue;
        };
        let subcommands = |docs: &Value| -> Vec<(String, Value)> {
            let pairs = docs.get("subcommands").map(Value::items).unwrap_or_default().chunks_exact(2);
            pairs.map(|pair| (text(&pair[0]), pair[1].clone())).collect()
        };
        let subs = subcommands(docs);
        if subs.is_empty() {
            commands.push(Command {
                words: vec![name.clone()],
                group,
                blocking: blocking.contains(name),
                is_new: is_new(docs),
                arguments: both(name, docs, our_docs, &mut missing)?,
            });
            continue;
        }
        let our_subs = subcommands(our_docs);
        for (full_name, docs) in &subs {
            if full_name.ends_with("|help") {
                continue;
            }
            let Some((_, our_docs)) = our_subs.iter().find(|(ours, _)| ours == full_name) else {
                missing.insert(full_name.clone());
                continue;
            };
            {
                let words = full_name.split('|').map(str::to_owned).collect();
                let arguments = both(full_name, docs, our_docs, &mut missing)?;
                commands.push(Command {
                    words,
                    group: group.clone(),
                    blocking: false,
                    is_new: is_new(docs),
                    arguments,
                });
            }
        }
    }
    Ok((commands, missing))
}

/// A command may be there for replication only.
fn answers(wire: &mut Wire, name: &str) -> bool {
    let unknown = |reply: Value| reply.text().is_some_and(|text| text.starts_with(b"ERR unknown command"));
    wire.call(&[name]).is_ok_and(|reply| !unknown(reply))
}

/// The arguments as the peer tells them, without the options that Kindred does not know.
fn both(name: &str, theirs: &Value, ours: &Value, missing: &mut BTreeSet<String>) -> Result<Vec<Arg>> {
    let mut known = BTreeSet::new();
    tokens(&arguments(ours)?, &mut known);
    let mut arguments = arguments(theirs)?;
    retain_known(name, &mut arguments, &known, missing);
    Ok(arguments)
}

fn tokens(arguments: &[Arg], into: &mut BTreeSet<String>) {
    for arg in arguments {
        into.extend(arg.token.as_ref().map(|token| token.to_uppercase()));
        tokens(&arg.within, into);
    }
}

fn retain_known(
    name: &str,
    arguments: &mut Vec<Arg>,
    known: &BTreeSet<String>,
    missing: &mut BTreeSet<String>,
) {
    arguments.retain_mut(|arg| {
        let token = arg.token.as_deref().unwrap_or_default();
        if !token.is_empty() && !known.contains(&token.to_uppercase()) {
            missing.insert(format!("{name} {token}"));
            return false;
        }
        let had = arg.within.len();
        retain_known(name, &mut arg.within, known, missing);
        had == 0 || !arg.within.is_empty()
    });
}

/// Versions of Redis and of Valkey count on from 7.2.
fn is_new(docs: &Value) -> bool {
    let since = docs.get("since").map(text).unwrap_or_default();
    let mut numbers = since.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) > (Some(7), Some(0))
}

fn docs(wire: &mut Wire) -> Result<BTreeMap<String, Value>> {
    let reply = wire.call(&["COMMAND", "DOCS"])?;
    Ok(reply.items().chunks_exact(2).map(|pair| (text(&pair[0]), pair[1].clone())).collect())
}

/// The commands that have this flag.
pub fn names_with(wire: &mut Wire, flag: &[u8]) -> Result<BTreeSet<String>> {
    let reply = wire.call(&["COMMAND"])?;
    let has_it = |info: &&Value| {
        let flags = info.items().get(2).map(Value::items).unwrap_or_default();
        flags.iter().any(|has| has.text() == Some(flag))
    };
    Ok(reply.items().iter().filter(has_it).filter_map(|info| info.items().first().map(text)).collect())
}

fn arguments(docs: &Value) -> Result<Vec<Arg>> {
    docs.get("arguments").map(Value::items).unwrap_or_default().iter().map(argument).collect()
}

fn argument(docs: &Value) -> Result<Arg> {
    let kind = match docs.get("type").and_then(Value::text).context("an argument without a type")? {
        b"integer" => Kind::Integer,
        b"double" => Kind::Double,
        b"key" => Kind::Key,
        b"pattern" => Kind::Pattern,
        b"unix-time" => Kind::UnixTime,
        b"pure-token" => Kind::PureToken,
        b"oneof" => Kind::OneOf,
        b"block" => Kind::Block,
        _ => Kind::String,
    };
    let flags = docs.get("flags").map(Value::items).unwrap_or_default();
    let has = |flag: &str| flags.iter().any(|has| has.text() == Some(flag.as_bytes()));
    Ok(Arg {
        name: docs.get("name").map(text).unwrap_or_default(),
        kind,
        token: docs.get("token").map(text),
        optional: has("optional"),
        multiple: has("multiple"),
        multiple_token: has("multiple_token"),
        within: arguments(docs)?,
    })
}

fn text(value: &Value) -> String {
    String::from_utf8_lossy(value.text().unwrap_or_default()).into_owned()
}
