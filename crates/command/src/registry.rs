//! All commands of a server, found by name.
//!
//! Lookup is on the path of every command, so it neither allocates nor folds case byte by byte: a name's first and
//! last eight bytes are folded as two words, and these with the length make the hash. For names of up to 16 bytes,
//! which are all but a few, two words and the length are the name, and comparing them decides.

use std::fmt;

use resp::{Args, Reply};

use crate::bits::{Acl, Category, Flag, Flags, Key};
use crate::docs::write_names;
use crate::error::CommandError;
use crate::keys::{self, BeginSearch, FindKeys, KeySpec, Keys, LegacyRange};
use crate::spec::Command;

/// Index of an [`Entry`], dense from 0, for statistics and ACL bitmaps. Subcommands follow their parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u16);

/// A command as registered: what it declares, and what follows from it.
#[derive(Debug)]
pub struct Entry<H: 'static> {
    pub id: CommandId,
    pub command: &'static Command<H>,
    pub parent: Option<CommandId>,
    /// `get`, `config|get`.
    pub full_name: Box<str>,
    /// With `movablekeys`.
    pub flags: Flags,
    /// With the implied categories.
    pub acl: Acl,
    pub legacy_range: LegacyRange,
}

impl<H> Entry<H> {
    /// The function that runs it; `None` for a parent of subcommands.
    #[inline]
    pub fn handler(&self) -> Option<&'static H> {
        self.command.handler.as_ref()
    }

    #[inline]
    pub fn check_arity(&self, argc: usize) -> Result<(), CommandError> {
        if self.command.arity.accepts(argc) {
            return Ok(());
        }
        Err(self.wrong_arity())
    }

    #[cold]
    pub fn wrong_arity(&self) -> CommandError {
        CommandError::WrongArity(self.full_name.to_string().into())
    }

    /// True when it can have keys at all, pretended ones not counted.
    pub fn has_keys(&self) -> bool {
        self.command.get_keys.is_some() || self.command.keys.iter().any(|spec| !spec.flags.has(Key::NotKey))
    }

    /// The keys among the arguments, with what is done to them, in the order of the specs.
    ///
    /// `None` when the arguments do not fit the command; then it has no keys to route or to check, and will answer
    /// with an error. As in Redis, the specs go first unless their flags depend on other arguments.
    pub fn keys(&self, args: Args<'_>) -> Option<Keys> {
        let specs = self.command.keys;
        match self.command.get_keys {
            None => keys::extract(specs, args),
            Some(get_keys) => {
                let exact = !specs.is_empty() && specs.iter().all(|spec| !spec.flags.has(Key::VariableFlags));
                exact.then(|| keys::extract(specs, args)).flatten().or_else(|| get_keys(args))
            }
        }
    }

    /// Writes the reply of COMMAND INFO for this command.
    pub fn write_info(&self, registry: &Registry<H>, reply: &mut Reply<'_>) {
        reply.array(10);
        reply.bulk(self.full_name.as_bytes());
        reply.int(self.command.arity.wire());
        write_names(reply, self.flags.iter().filter(|flag| !flag.is_hidden()).map(Flag::name));
        reply.int(self.legacy_range.first);
        reply.int(self.legacy_range.last);
        reply.int(self.legacy_range.step);
        reply.set(self.acl.iter().count());
        self.acl.iter().for_each(|category: Category| reply.simple(&format!("@{}", category.name())));
        reply.set(self.command.tips.len());
        self.command.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
        reply.set(self.command.keys.len());
        self.command.keys.iter().for_each(|spec| write_key_spec(spec, reply));
        let subcommands = registry.subcommands(self);
        if subcommands.is_empty() {
            reply.set(0);
        } else {
            reply.array(subcommands.len());
            subcommands.iter().for_each(|entry| entry.write_info(registry, reply));
        }
    }

    /// Writes this command's part of COMMAND DOCS, without its name.
    pub fn write_docs(&self, registry: &Registry<H>, reply: &mut Reply<'_>) {
        let docs = self.command.docs;
        let subcommands = registry.subcommands(self);
        reply.map(docs.entries() + usize::from(!subcommands.is_empty()));
        docs.write_before_subcommands(self.command.group.name(), reply);
        if !subcommands.is_empty() {
            reply.bulk(b"subcommands");
            reply.map(subcommands.len());
            for entry in subcommands {
                reply.bulk(entry.full_name.as_bytes());
                entry.write_docs(registry, reply);
            }
        }
    }
}

fn write_key_spec(spec: &KeySpec, reply: &mut Reply<'_>) {
    let number = |reply: &mut Reply<'_>, name: &str, value: i64| {
        reply.bulk(name.as_bytes());
        reply.int(value);
    };
    // A step is announced by its type and the number of its numbers.
    let head = |reply: &mut Reply<'_>, step: &str, kind: &str, entries: usize| {
        reply.bulk(step.as_bytes());
        reply.map(2);
        reply.bulk(b"type");
        reply.bulk(kind.as_bytes());
        reply.bulk(b"spec");
        reply.map(entries);
    };
    reply.map(3 + usize::from(!spec.notes.is_empty()));
    if !spec.notes.is_empty() {
        reply.bulk(b"notes");
        reply.bulk(spec.notes.as_bytes());
    }
    reply.bulk(b"flags");
    write_names(reply, spec.flags.iter().map(Key::name));
    match spec.begin {
        BeginSearch::Index(index) => {
            head(reply, "begin_search", "index", 1);
            number(reply, "index", i64::from(index));
        }
        BeginSearch::Keyword { keyword, start_from } => {
            head(reply, "begin_search", "keyword", 2);
            reply.bulk(b"keyword");
            reply.bulk(keyword.as_bytes());
            number(reply, "startfrom", i64::from(start_from));
        }
        BeginSearch::Unknown => head(reply, "begin_search", "unknown", 0),
    }
    match spec.find {
        FindKeys::Range { last, step, limit } => {
            head(reply, "find_keys", "range", 3);
            number(reply, "lastkey", i64::from(last));
            number(reply, "keystep", i64::from(step));
            number(reply, "limit", i64::from(limit));
        }
        FindKeys::Count { count_at, first, step } => {
            head(reply, "find_keys", "keynum", 3);
            number(reply, "keynumidx", i64::from(count_at));
            number(reply, "firstkey", i64::from(first));
            number(reply, "keystep", i64::from(step));
        }
        FindKeys::Unknown => head(reply, "find_keys", "unknown", 0),
    }
}

/// The commands of a server.
#[derive(Debug)]
pub struct Registry<H: 'static> {
    /// Each command, followed by its subcommands, in the order of registration.
    entries: Vec<Entry<H>>,
    /// Names that clients may use for commands, which `rename-command` changes.
    names: Vec<(Box<[u8]>, CommandId)>,
    table: Table,
}

/// Why `rename-command` was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameError {
    NoSuchCommand,
    NameTaken,
}

impl fmt::Display for RenameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RenameError::NoSuchCommand => "No such command in rename-command",
            RenameError::NameTaken => "Target command name already exists",
        })
    }
}

impl std::error::Error for RenameError {}

impl<H> Registry<H> {
    /// Panics when a declaration is broken: no name or one not in lower case, a name twice, nothing to run,
    /// subcommands of subcommands.
    pub fn new(commands: impl IntoIterator<Item = &'static Command<H>>) -> Self {
        let mut registry = Registry { entries: vec![], names: vec![], table: Table::default() };
        for command in commands {
            let id = registry.add(command, None);
            registry.names.push((command.name.as_bytes().into(), id));
            for subcommand in command.subcommands {
                assert!(subcommand.subcommands.is_empty(), "{}: subcommands have none", subcommand.name);
                registry.add(subcommand, Some(id));
            }
        }
        for (index, (name, id)) in registry.names.iter().enumerate() {
            let twice = registry.names[..index].iter().any(|(other, _)| other == name);
            assert!(!twice, "{}: declared once", registry.entry(*id).full_name);
        }
        registry.table = Table::new(&registry.names);
        registry
    }

    fn add(&mut self, command: &'static Command<H>, parent: Option<CommandId>) -> CommandId {
        let name = command.name;
        assert!(
            !name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase()),
            "{name:?}: in lower case"
        );
        assert!(command.handler.is_some() || !command.subcommands.is_empty(), "{name}: something runs");
        let (legacy_range, movable) = keys::legacy_range(command.keys);
        let id = CommandId(u16::try_from(self.entries.len()).expect("there are fewer than 65536 commands"));
        let full_name = match parent {
            Some(parent) => format!("{}|{name}", self.entry(parent).full_name),
            None => name.to_owned(),
        };
        self.entries.push(Entry {
            id,
            command,
            parent,
            full_name: full_name.into(),
            flags: command.flags.union(movable),
            acl: command.acl.with_implied(command.flags),
            legacy_range,
        });
        id
    }

    /// The command of this name, in any case; not a subcommand.
    #[inline]
    pub fn lookup(&self, name: &[u8]) -> Option<&Entry<H>> {
        let id = self.table.lookup(name, &self.names)?;
        Some(&self.entries[usize::from(id.0)])
    }

    /// The subcommand of `parent`, in any case.
    pub fn lookup_subcommand(&self, parent: &Entry<H>, name: &[u8]) -> Option<&Entry<H>> {
        self.subcommands(parent).iter().find(|entry| entry.command.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The command or subcommand with this full name, `config|get`, in any case.
    pub fn lookup_full_name(&self, name: &[u8]) -> Option<&Entry<H>> {
        match name.iter().position(|byte| *byte == b'|') {
            Some(bar) => self.lookup_subcommand(self.lookup(&name[..bar])?, &name[bar + 1..]),
            None => self.lookup(name),
        }
    }

    /// What these arguments call, or the error to answer with. The number of arguments is not checked.
    #[inline]
    pub fn resolve(&self, args: Args<'_>) -> Result<&Entry<H>, CommandError> {
        let Some(entry) = args.get(0).and_then(|name| self.lookup(name)) else {
            return Err(CommandError::unknown_command(args));
        };
        match args.get(1) {
            Some(name) if !entry.command.subcommands.is_empty() => {
                self.lookup_subcommand(entry, name).ok_or_else(|| CommandError::unknown_subcommand(args))
            }
            _ => Ok(entry),
        }
    }

    /// Panics on an id of another registry.
    #[inline]
    pub fn entry(&self, id: CommandId) -> &Entry<H> {
        &self.entries[usize::from(id.0)]
    }

    /// All commands and subcommands by id.
    pub fn entries(&self) -> &[Entry<H>] {
        &self.entries
    }

    /// All commands without subcommands, in the order of registration.
    pub fn commands(&self) -> impl Iterator<Item = &Entry<H>> {
        self.entries.iter().filter(|entry| entry.parent.is_none())
    }

    /// The subcommands of an entry, in the order of declaration.
    pub fn subcommands(&self, parent: &Entry<H>) -> &[Entry<H>] {
        let first = usize::from(parent.id.0) + 1;
        &self.entries[first..first + parent.command.subcommands.len()]
    }

    /// Gives a command another name, or none when `to` is empty: `rename-command`. Full names stay.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), RenameError> {
        let find = |names: &[(Box<[u8]>, CommandId)], name: &[u8]| {
            names.iter().position(|(other, _)| other.eq_ignore_ascii_case(name))
        };
        let at = find(&self.names, from).ok_or(RenameError::NoSuchCommand)?;
        if to.is_empty() {
            self.names.remove(at);
        } else if find(&self.names, to).is_some_and(|other| other != at) {
            return Err(RenameError::NameTaken);
        } else {
            self.names[at].0 = to.to_ascii_lowercase().into();
        }
        self.table = Table::new(&self.names);
        Ok(())
    }
}

/// Open addressing with linear probing, at most a quarter full. The seed is the one of many with the shortest probes.
#[derive(Debug, Default)]
struct Table {
    slots: Box<[Slot]>,
    seed: u64,
    shift: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: NameKey,
    /// Index into the registry's names, and the command's id; valid when the key is not empty.
    name: u16,
    id: u16,
}

/// A name in lower case, whole when it has at most 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct NameKey {
    head: u64,
    tail: u64,
    len: u32,
}

/// Seeds that [`Table::new`] tries.
const SEEDS: u64 = 64;

impl Table {
    fn new(names: &[(Box<[u8]>, CommandId)]) -> Table {
        let bits = (names.len() * 4).next_power_of_two().ilog2().max(4);
        // Multiples of the golden ratio in 64 bits, made odd.
        let seeds = (1..=SEEDS).map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let tables = seeds.map(|seed| Table::with_seed(names, bits, seed));
        let (_, table) = tables.min_by_key(|(probes, _)| *probes).expect("there are seeds");
        table
    }

    /// The table and the number of probes that finding every name once takes.
    fn with_seed(names: &[(Box<[u8]>, CommandId)], bits: u32, seed: u64) -> (usize, Table) {
        let mut table =
            Table { slots: vec![Slot::default(); 1 << bits].into(), seed, shift: u64::BITS - bits };
        let mut probes = 0;
        for (index, (name, id)) in names.iter().enumerate() {
            let key = NameKey::new(name);
            let mut at = table.home(key);
            probes += 1;
            while table.slots[at].key.len != 0 {
                at = (at + 1) % table.slots.len();
                probes += 1;
            }
            table.slots[at] = Slot { key, name: index as u16, id: id.0 };
        }
        (probes, table)
    }

    #[inline]
    fn home(&self, key: NameKey) -> usize {
        let mixed = key.head ^ key.tail.rotate_left(29) ^ u64::from(key.len) << 56;
        (mixed.wrapping_mul(self.seed) >> self.shift) as usize
    }

    #[inline]
    fn lookup(&self, name: &[u8], names: &[(Box<[u8]>, CommandId)]) -> Option<CommandId> {
        let key = NameKey::new(name);
        let mut at = self.home(key);
        loop {
            let slot = &self.slots[at];
            if slot.key.len == 0 {
                return None;
            }
            if slot.key == key
                && (name.len() <= 16 || names[usize::from(slot.name)].0.eq_ignore_ascii_case(name))
            {
                return Some(CommandId(slot.id));
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

impl NameKey {
    #[inline]
    fn new(name: &[u8]) -> NameKey {
        let len = name.len() as u32;
        let (head, tail) = match *name {
            [_, _, _, _, _, _, _, _, ..] => {
                let head = name.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                let tail = name.last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                (head, tail)
            }
            // Two halves that overlap: with the length they still tell all names apart.
            [_, _, _, _, ..] => {
                let head = name.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                let tail = name.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                (u64::from(head) | u64::from(tail) << 32, 0)
            }
            [a, b, c] => (u64::from(u32::from_le_bytes([a, b, c, 0])), 0),
            [a, b] => (u64::from(u16::from_le_bytes([a, b])), 0),
            [a] => (u64::from(a), 0),
            [] => (0, 0),
        };
        NameKey { head: to_lowercase(head), tail: to_lowercase(tail), len }
    }
}

/// Folds the ASCII capitals among eight bytes, all at once; every other byte stays.
#[inline]
const fn to_lowercase(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7f * ONES);
    // Bit 7 of each byte: at least 'A', above 'Z'. No byte carries into the next, since 0x7f + 0x3f < 0x100.
    let from_a = low + (0x80 - b'A' as u64) * ONES;
    let above_z = low + (0x7f - b'Z' as u64) * ONES;
    let capital = !word & (from_a ^ above_z) & (0x80 * ONES);
    word | capital >> 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docs::{Arg, Docs};
    use crate::keys::KeyRef;
    use crate::spec::{Arity, Group};
    use proptest::prelude::*;
    use resp::{ArgsBuf, Output, Proto, Value, parse_reply};

    type Handler = fn() -> &'static str;
    const RO: &[Key] = &[Key::Ro, Key::Access];

    const GET: Command<Handler> = Command {
        name: "get",
        group: Group::String,
        arity: Arity::Exactly(2),
        flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
        acl: Acl::of(&[Category::String]),
        keys: &[KeySpec::at(1, RO)],
        docs: &Docs {
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Get",
            arguments: &[Arg::key("key", 0), Arg::one_of("c", &[Arg::pure_token("n", "NX")]).optional()],
            ..Docs::NONE
        },
        ..Command::runs(|| "get")
    };
    const ZUNION: Command<Handler> = Command {
        name: "zunion",
        arity: Arity::AtLeast(3),
        flags: Flags::of(&[Flag::Readonly, Flag::Protected]),
        keys: &[KeySpec::count_at(1, RO)],
        tips: &["a_tip"],
        ..Command::runs(|| "zunion")
    };
    const SORT: Command<Handler> = Command {
        name: "sort",
        arity: Arity::AtLeast(2),
        keys: &[KeySpec::at(1, &[Key::Ro, Key::VariableFlags])],
        get_keys: Some(|_| Some([KeyRef { index: 9, flags: Default::default() }].into_iter().collect())),
        ..Command::runs(|| "sort")
    };
    const CONFIG: Command<Handler> = Command {
        name: "config",
        group: Group::Server,
        ..Command::parent(&[
            Command {
                name: "get",
                arity: Arity::AtLeast(3),
                flags: Flags::of(&[Flag::Admin]),
                ..Command::runs(|| "config get")
            },
            Command { name: "resetstat", arity: Arity::Exactly(2), ..Command::runs(|| "config resetstat") },
        ])
    };
    const LONG: Command<Handler> =
        Command { name: "a-name-of-more-than-16-bytes", ..Command::runs(|| "long") };

    fn registry() -> Registry<Handler> {
        Registry::new([&GET, &ZUNION, &SORT, &CONFIG, &LONG])
    }

    fn args(line: &str) -> ArgsBuf {
        line.split(' ').collect()
    }

    fn resolve(line: &str) -> Result<String, String> {
        let registry = registry();
        let args = args(line);
        let entry = registry.resolve(args.as_args()).map_err(|error| error.to_string())?;
        entry.check_arity(args.as_args().len()).map_err(|error| error.to_string())?;
        Ok(entry.full_name.to_string())
    }

    #[test]
    fn commands_are_resolved_in_any_case() {
        assert_eq!(resolve("get k"), Ok("get".into()));
        assert_eq!(resolve("GeT k"), Ok("get".into()));
        assert_eq!(resolve("A-NAME-OF-more-than-16-bytes"), Ok("a-name-of-more-than-16-bytes".into()));
        assert_eq!(
            resolve("a-name-of-MORE_than-16-bytes"),
            Err("ERR unknown command 'a-name-of-MORE_than-16-bytes', with args beginning with: ".into())
        );
        assert_eq!(resolve("CONFIG Get x"), Ok("config|get".into()));
        assert_eq!(resolve("get"), Err("ERR wrong number of arguments for 'get' command".into()));
        assert_eq!(resolve("config"), Err("ERR wrong number of arguments for 'config' command".into()));
        assert_eq!(
            resolve("config get"),
            Err("ERR wrong number of arguments for 'config|get' command".into())
        );
        assert_eq!(resolve("config x"), Err("ERR unknown subcommand 'x'. Try CONFIG HELP.".into()));
        assert_eq!(
            resolve("gett k"),
            Err("ERR unknown command 'gett', with args beginning with: 'k' ".into())
        );
        assert_eq!(resolve(""), Err("ERR unknown command '', with args beginning with: ".into()));
        assert!(registry().resolve(ArgsBuf::new().as_args()).is_err());
    }

    #[test]
    fn order_and_ids_are_stable() {
        let registry = registry();
        let names: Vec<_> = registry.entries().iter().map(|entry| &*entry.full_name).collect();
        assert_eq!(
            names,
            [
                "get",
                "zunion",
                "sort",
                "config",
                "config|get",
                "config|resetstat",
                "a-name-of-more-than-16-bytes"
            ]
        );
        assert!(registry.entries().iter().enumerate().all(|(index, entry)| usize::from(entry.id.0) == index));
        assert_eq!(registry.commands().count(), 5);
        let entry = registry.lookup_full_name(b"CONFIG|GET").unwrap();
        assert_eq!(entry.handler().unwrap()(), "config get");
        assert_eq!(registry.entry(entry.parent.unwrap()).full_name, "config".into());
        assert!(registry.lookup_full_name(b"get|get").is_none() && registry.lookup(b"config|get").is_none());
        assert!(registry.lookup(b"config").unwrap().handler().is_none());
    }

    #[test]
    fn keys_by_spec_or_function() {
        let registry = registry();
        let keys = |line: &str| {
            let args = args(line);
            let keys = registry.resolve(args.as_args()).unwrap().keys(args.as_args())?;
            Some(keys.iter().map(|key| key.index).collect::<Vec<_>>())
        };
        assert_eq!(keys("get k"), Some(vec![1]));
        assert_eq!(keys("zunion 2 a b"), Some(vec![2, 3]));
        assert_eq!(keys("zunion 5 a b"), None);
        assert_eq!(keys("sort k"), Some(vec![9]), "the function goes before specs whose flags vary");
        assert!(
            registry.lookup(b"get").unwrap().has_keys() && !registry.lookup(b"config").unwrap().has_keys()
        );
    }

    #[test]
    fn renamed_and_removed() {
        let mut registry = registry();
        assert_eq!(registry.rename(b"GET", b"Fetch"), Ok(()));
        assert!(registry.lookup(b"get").is_none());
        assert_eq!(&*registry.lookup(b"FETCH").unwrap().full_name, "get");
        assert_eq!(registry.rename(b"get", b"x"), Err(RenameError::NoSuchCommand));
        assert_eq!(registry.rename(b"zunion", b"fetch"), Err(RenameError::NameTaken));
        assert_eq!(registry.rename(b"zunion", b""), Ok(()));
        assert!(registry.lookup(b"zunion").is_none() && registry.lookup(b"config").is_some());
    }

    #[test]
    #[should_panic(expected = "declared once")]
    fn a_name_twice_is_refused() {
        Registry::new([&GET, &GET]);
    }

    fn text(write: impl FnOnce(&mut Reply<'_>)) -> String {
        let mut out = Output::new();
        write(&mut Reply::new(&mut out, Proto::Resp3));
        let (value, len) = parse_reply(&out.to_vec()).unwrap().unwrap();
        assert_eq!(len, out.pending_bytes(), "one whole reply");
        plain(&value)
    }

    fn plain(value: &Value) -> String {
        let list = |items: &[Value]| items.iter().map(plain).collect::<Vec<_>>().join(" ");
        match value {
            Value::Int(value) => value.to_string(),
            Value::Array(items) => format!("[{}]", list(items)),
            Value::Set(items) => format!("~({})", list(items)),
            Value::Map(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| format!("{}={}", plain(key), plain(value)));
                format!("{{{}}}", pairs.collect::<Vec<_>>().join(" "))
            }
            Value::Simple(text) => format!("+{text}"),
            other => String::from_utf8_lossy(other.as_bytes().unwrap()).into_owned(),
        }
    }

    #[test]
    fn command_info() {
        let registry = registry();
        let info = |name: &[u8]| text(|reply| registry.lookup(name).unwrap().write_info(&registry, reply));
        assert_eq!(
            info(b"get"),
            "[get 2 ~(+readonly +fast) 1 1 1 ~(+@read +@string +@fast) ~() \
             ~({flags=~(+RO +access) begin_search={type=index spec={index=1}} \
             find_keys={type=range spec={lastkey=0 keystep=1 limit=0}}}) ~()]"
        );
        assert_eq!(
            info(b"zunion"),
            "[zunion -3 ~(+readonly +movablekeys) 0 0 0 ~(+@read +@slow) ~(a_tip) \
             ~({flags=~(+RO +access) begin_search={type=index spec={index=1}} \
             find_keys={type=keynum spec={keynumidx=0 firstkey=1 keystep=1}}}) ~()]"
        );
        assert_eq!(
            info(b"config"),
            "[config -2 ~() 0 0 0 ~(+@slow) ~() ~() [\
             [config|get -3 ~(+admin) 0 0 0 ~(+@admin +@slow +@dangerous) ~() ~() ~()] \
             [config|resetstat 2 ~() 0 0 0 ~(+@slow) ~() ~() ~()]]]"
        );
    }

    #[test]
    fn command_docs() {
        let registry = registry();
        let docs = |name: &[u8]| text(|reply| registry.lookup(name).unwrap().write_docs(&registry, reply));
        assert_eq!(
            docs(b"get"),
            "{summary=Get since=1.0.0 group=string complexity=O(1) arguments=[\
             {name=key type=key key_spec_index=0} \
             {name=c type=oneof flags=~(+optional) arguments=[{name=n type=pure-token token=NX}]}]}"
        );
        assert_eq!(
            docs(b"config"),
            "{group=server subcommands={config|get={group=generic} config|resetstat={group=generic}}}"
        );
        let dated = Docs {
            deprecated_since: "4.0.0",
            replaced_by: "x",
            syscmd: true,
            history: &[("2.0.0", "a")],
            ..Docs::NONE
        };
        assert_eq!(
            text(|reply| {
                reply.map(dated.entries());
                dated.write_before_subcommands("generic", reply);
            }),
            "{group=generic doc_flags=~(+deprecated +syscmd) deprecated_since=4.0.0 replaced_by=x \
             history=~([2.0.0 a])}"
        );
    }

    proptest! {
        #[test]
        fn folding_a_word_is_folding_its_bytes(bytes: [u8; 8]) {
            prop_assert_eq!(to_lowercase(u64::from_le_bytes(bytes)).to_le_bytes().to_vec(), bytes.to_ascii_lowercase());
        }

        #[test]
        fn the_table_finds_exactly_its_names(
            names in prop::collection::btree_set("[a-c@`\\[{]{1,20}", 0..60),
            other in "[a-cA-C@`\\[{]{0,20}",
        ) {
            let names: Vec<(Box<[u8]>, CommandId)> = names
                .iter()
                .enumerate()
                .map(|(index, name)| (name.as_bytes().into(), CommandId(index as u16)))
                .collect();
            let table = Table::new(&names);
            for (name, id) in &names {
                prop_assert_eq!(table.lookup(name, &names), Some(*id));
                prop_assert_eq!(table.lookup(&name.to_ascii_uppercase(), &names), Some(*id));
            }
            let expected = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(other.as_bytes()));
            prop_assert_eq!(table.lookup(other.as_bytes(), &names), expected.map(|(_, id)| *id));
        }
    }
}
