//! All commands of a server, as they were declared, and a view of them under other names.

use std::sync::Arc;

use resp::{Args, Reply};

use crate::bits::{Acl, Category, Flag, Flags, Key};
use crate::docs::write_names;
use crate::error::CommandError;
use crate::keys::{self, BeginSearch, FindKeys, KeySpec, Keys, LegacyRange};
use crate::names::Names;
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
    names: Arc<Names>,
}

/// The commands under the names that one server's clients use.
#[derive(Debug)]
pub struct Named<'r, 'n, H: 'static> {
    registry: &'r Registry<H>,
    names: &'n Names,
}

impl<H> Registry<H> {
    /// Panics when a declaration is broken: no name or one not in lower case, a name twice, nothing to run,
    /// subcommands of subcommands.
    pub fn new(commands: impl IntoIterator<Item = &'static Command<H>>) -> Self {
        let mut registry = Registry { entries: vec![], names: Arc::new(Names::new(vec![])) };
        let mut names: Vec<(Box<[u8]>, CommandId)> = vec![];
        for command in commands {
            let id = registry.add(command, None);
            names.push((command.name.as_bytes().into(), id));
            for subcommand in command.subcommands {
                assert!(subcommand.subcommands.is_empty(), "{}: subcommands have none", subcommand.name);
                registry.add(subcommand, Some(id));
            }
        }
        for (index, (name, id)) in names.iter().enumerate() {
            let twice = names[..index].iter().any(|(other, _)| other == name);
            assert!(!twice, "{}: declared once", registry.entry(*id).full_name);
        }
        registry.names = Arc::new(Names::new(names));
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

    /// The names that the commands were declared with.
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// The commands under other names.
    #[inline]
    pub fn named<'r, 'n>(&'r self, names: &'n Names) -> Named<'r, 'n, H> {
        Named { registry: self, names }
    }

    /// [`Named::lookup`] by the declared names.
    #[inline]
    pub fn lookup(&self, name: &[u8]) -> Option<&Entry<H>> {
        self.named(&self.names).lookup(name)
    }

    /// The subcommand of `parent`, in any case.
    pub fn lookup_subcommand(&self, parent: &Entry<H>, name: &[u8]) -> Option<&Entry<H>> {
        self.subcommands(parent).iter().find(|entry| entry.command.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// [`Named::lookup_full_name`] by the declared names.
    pub fn lookup_full_name(&self, name: &[u8]) -> Option<&Entry<H>> {
        self.named(&self.names).lookup_full_name(name)
    }

    /// [`Named::resolve`] by the declared names.
    #[inline]
    pub fn resolve(&self, args: Args<'_>) -> Result<&Entry<H>, CommandError> {
        self.named(&self.names).resolve(args)
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
}

impl<'r, H> Named<'r, '_, H> {
    /// The command of this name, in any case; not a subcommand.
    #[inline(always)]
    pub fn lookup(&self, name: &[u8]) -> Option<&'r Entry<H>> {
        Some(self.registry.entry(self.names.lookup(name)?))
    }

    /// The command or subcommand of this name, `config|get`, in any case. Only the command may have another name.
    pub fn lookup_full_name(&self, name: &[u8]) -> Option<&'r Entry<H>> {
        match name.iter().position(|byte| *byte == b'|') {
            Some(bar) => self.registry.lookup_subcommand(self.lookup(&name[..bar])?, &name[bar + 1..]),
            None => self.lookup(name),
        }
    }

    /// What these arguments call, or the error to answer with. The number of arguments is not checked.
    #[inline]
    pub fn resolve(&self, args: Args<'_>) -> Result<&'r Entry<H>, CommandError> {
        let Some(entry) = args.get(0).and_then(|name| self.lookup(name)) else {
            return Err(CommandError::unknown_command(args));
        };
        match args.get(1) {
            Some(name) if !entry.command.subcommands.is_empty() => {
                let found = self.registry.lookup_subcommand(entry, name);
                found.ok_or_else(|| CommandError::unknown_subcommand(args))
            }
            _ => Ok(entry),
        }
    }

    /// All commands that have a name, without subcommands, in the order of registration.
    pub fn commands(&self) -> impl Iterator<Item = &'r Entry<H>> {
        let registry = self.registry;
        self.names.ids().map(|id| registry.entry(id))
    }

    /// All commands that have a name, each followed by its subcommands.
    pub fn entries(&self) -> impl Iterator<Item = &'r Entry<H>> {
        let registry = self.registry;
        self.commands().flat_map(|entry| std::iter::once(entry).chain(registry.subcommands(entry)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docs::{Arg, Docs};
    use crate::keys::KeyRef;
    use crate::names::RenameError;
    use crate::spec::{Arity, Group};
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
        let registry = registry();
        let mut names = Names::clone(registry.names());
        assert_eq!(names.rename(b"GET", b"Fetch"), Ok(()));
        assert_eq!(names.rename(b"config", b"C"), Ok(()));
        assert_eq!(names.rename(b"get", b"x"), Err(RenameError::NoSuchCommand));
        assert_eq!(names.rename(b"zunion", b"fetch"), Err(RenameError::NameTaken));
        assert_eq!(names.rename(b"zunion", b""), Ok(()));
        let named = registry.named(&names);
        assert!(named.lookup(b"get").is_none() && named.lookup(b"zunion").is_none());
        assert_eq!(&*named.lookup(b"FETCH").unwrap().full_name, "get");
        assert_eq!(&*named.lookup_full_name(b"c|get").unwrap().full_name, "config|get");
        assert!(named.lookup_full_name(b"config|get").is_none());
        let unknown = named.resolve(args("C x").as_args()).unwrap_err();
        assert_eq!(unknown.to_string(), "ERR unknown subcommand 'x'. Try C HELP.");
        let all: Vec<_> = named.entries().map(|entry| &*entry.full_name).collect();
        let left =
            ["get", "sort", "config", "config|get", "config|resetstat", "a-name-of-more-than-16-bytes"];
        assert_eq!(all, left);
        assert_eq!(&*registry.lookup(b"get").unwrap().full_name, "get", "the declared names stay");
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
}
