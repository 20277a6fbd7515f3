//! The documentation of a command as COMMAND DOCS gives it.

use resp::Reply;

/// What COMMAND DOCS tells. Empty texts and slices are left out of the reply.
#[derive(Clone, Copy, Debug)]
pub struct Docs {
    pub summary: &'static str,
    pub since: &'static str,
    pub complexity: &'static str,
    pub deprecated_since: &'static str,
    pub replaced_by: &'static str,
    /// An internal command.
    pub syscmd: bool,
    /// Version and change, oldest first.
    pub history: &'static [(&'static str, &'static str)],
    pub arguments: &'static [Arg],
}

impl Docs {
    pub const NONE: Docs = Docs {
        summary: "",
        since: "",
        complexity: "",
        deprecated_since: "",
        replaced_by: "",
        syscmd: false,
        history: &[],
        arguments: &[],
    };

    /// Number of entries that [`Docs::write_before_subcommands`] writes, the group included.
    pub(crate) fn entries(&self) -> usize {
        let texts = [self.summary, self.since, self.complexity, self.deprecated_since, self.replaced_by];
        1 + texts.iter().filter(|text| !text.is_empty()).count()
            + usize::from(self.is_flagged())
            + usize::from(!self.history.is_empty())
            + usize::from(!self.arguments.is_empty())
    }

    pub(crate) fn write_before_subcommands(&self, group: &str, reply: &mut Reply<'_>) {
        write_text(reply, "summary", self.summary);
        write_text(reply, "since", self.since);
        write_text(reply, "group", group);
        write_text(reply, "complexity", self.complexity);
        if self.is_flagged() {
            reply.bulk(b"doc_flags");
            let flags = [(self.is_deprecated(), "deprecated"), (self.syscmd, "syscmd")];
            write_names(reply, flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name));
        }
        write_text(reply, "deprecated_since", self.deprecated_since);
        write_text(reply, "replaced_by", self.replaced_by);
        if !self.history.is_empty() {
            reply.bulk(b"history");
            reply.set(self.history.len());
            for (since, change) in self.history {
                reply.array(2);
                reply.bulk(since.as_bytes());
                reply.bulk(change.as_bytes());
            }
        }
        if !self.arguments.is_empty() {
            reply.bulk(b"arguments");
            write_arguments(self.arguments, reply);
        }
    }

    fn is_deprecated(&self) -> bool {
        !self.deprecated_since.is_empty()
    }

    fn is_flagged(&self) -> bool {
        self.syscmd || self.is_deprecated()
    }
}

/// One argument of a command's syntax.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    pub name: &'static str,
    pub kind: ArgKind,
    /// Index of the key spec that covers it.
    pub key_spec: Option<u8>,
    /// The keyword before the value, or the keyword itself; empty for none.
    pub token: &'static str,
    pub since: &'static str,
    pub deprecated_since: &'static str,
    pub optional: bool,
    pub multiple: bool,
    /// With `multiple`: the keyword is repeated too.
    pub multiple_token: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum ArgKind {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf(&'static [Arg]),
    Block(&'static [Arg]),
}

impl ArgKind {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            ArgKind::String => "string",
            ArgKind::Integer => "integer",
            ArgKind::Double => "double",
            ArgKind::Key => "key",
            ArgKind::Pattern => "pattern",
            ArgKind::UnixTime => "unix-time",
            ArgKind::PureToken => "pure-token",
            ArgKind::OneOf(_) => "oneof",
            ArgKind::Block(_) => "block",
        }
    }
}

impl Arg {
    pub const fn new(name: &'static str, kind: ArgKind) -> Arg {
        Arg {
            name,
            kind,
            key_spec: None,
            token: "",
            since: "",
            deprecated_since: "",
            optional: false,
            multiple: false,
            multiple_token: false,
        }
    }

    /// A key that key spec `spec` covers.
    pub const fn key(name: &'static str, spec: u8) -> Arg {
        let mut arg = Arg::new(name, ArgKind::Key);
        arg.key_spec = Some(spec);
        arg
    }

    pub const fn string(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::String)
    }

    pub const fn integer(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::Integer)
    }

    pub const fn double(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::Double)
    }

    pub const fn pattern(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::Pattern)
    }

    pub const fn unix_time(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::UnixTime)
    }

    /// A keyword without a value.
    pub const fn pure_token(name: &'static str, token: &'static str) -> Arg {
        Arg::new(name, ArgKind::PureToken).token(token)
    }

    pub const fn one_of(name: &'static str, arguments: &'static [Arg]) -> Arg {
        Arg::new(name, ArgKind::OneOf(arguments))
    }

    pub const fn block(name: &'static str, arguments: &'static [Arg]) -> Arg {
        Arg::new(name, ArgKind::Block(arguments))
    }

    pub const fn token(mut self, token: &'static str) -> Arg {
        self.token = token;
        self
    }

    pub const fn since(mut self, version: &'static str) -> Arg {
        self.since = version;
        self
    }

    pub const fn deprecated_since(mut self, version: &'static str) -> Arg {
        self.deprecated_since = version;
        self
    }

    pub const fn optional(mut self) -> Arg {
        self.optional = true;
        self
    }

    pub const fn multiple(mut self) -> Arg {
        self.multiple = true;
        self
    }

    pub const fn multiple_token(mut self) -> Arg {
        self.multiple = true;
        self.multiple_token = true;
        self
    }
}

fn write_arguments(arguments: &[Arg], reply: &mut Reply<'_>) {
    reply.array(arguments.len());
    for arg in arguments {
        let within = match arg.kind {
            ArgKind::OneOf(within) | ArgKind::Block(within) => Some(within),
            _ => None,
        };
        let flags =
            [(arg.optional, "optional"), (arg.multiple, "multiple"), (arg.multiple_token, "multiple_token")];
        let flags = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name);
        let texts = [arg.token, arg.since, arg.deprecated_since];
        let entries = 2
            + usize::from(arg.key_spec.is_some())
            + texts.iter().filter(|text| !text.is_empty()).count()
            + usize::from(flags.clone().next().is_some())
            + usize::from(within.is_some());
        reply.map(entries);
        write_text(reply, "name", arg.name);
        write_text(reply, "type", arg.kind.name());
        if let Some(spec) = arg.key_spec {
            reply.bulk(b"key_spec_index");
            reply.int(i64::from(spec));
        }
        write_text(reply, "token", arg.token);
        write_text(reply, "since", arg.since);
        write_text(reply, "deprecated_since", arg.deprecated_since);
        if flags.clone().next().is_some() {
            reply.bulk(b"flags");
            write_names(reply, flags);
        }
        if let Some(within) = within {
            reply.bulk(b"arguments");
            write_arguments(within, reply);
        }
    }
}

/// A set of statuses.
pub(crate) fn write_names(reply: &mut Reply<'_>, names: impl Iterator<Item = &'static str> + Clone) {
    reply.set(names.clone().count());
    names.for_each(|name| reply.simple(name));
}

fn write_text(reply: &mut Reply<'_>, name: &str, text: &str) {
    if !text.is_empty() {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
}
