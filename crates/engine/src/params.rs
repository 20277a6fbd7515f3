//! The parameters: one row each, from which the configuration file, `CONFIG GET`, `SET` and `REWRITE` follow.
//!
//! A row says what values a parameter takes and where its value lives: in a field of [`Config`], or, when this version
//! has no mechanism for it, in [`Config::kept`] as it was given, so that a redis.conf of today is accepted and read
//! back. What is kept must not lie: a value that would promise something that does not happen (`appendonly yes`) is
//! refused, with the reason. `docs/COMPAT.md` lists every kept parameter and why.
//!
//! Names, limits and error texts are those of Redis 7.0.

use std::fmt::Write as _;
use std::sync::Arc;

use keyspace::{EncodingLimits, Lfu};
use structures::glob;
use structures::number::parse_i64;

use crate::config::{Config, DisklessLoad, OutputLimit, PropagationError, Protected, SavePoint};
use crate::core::Core;
use crate::evict::Policy;
use crate::notify::Event;
use crate::oom_score::OomScoreAdj;
use crate::process_title;
use crate::shutdown::Shutdown;
use crate::store::{LazyFree, Store};
use crate::tls::{AuthClients, Protocol};

/// One parameter.
pub struct Param {
    pub name: &'static str,
    /// An older name; empty if there is none.
    pub alias: &'static str,
    /// Only to be set at the start.
    pub immutable: bool,
    /// `CONFIG SET` needs `enable-protected-configs`.
    pub protected: bool,
    /// Must not be shown in a log.
    pub sensitive: bool,
    /// Found by its whole name only.
    pub hidden: bool,
    /// Not to be set while the data set is loaded.
    pub denied_while_loading: bool,
    kind: Kind,
    home: Home,
    only: Option<Only>,
}

/// The values that this version can honour, and why no others.
struct Only {
    values: &'static [&'static str],
    because: &'static str,
}

/// What values a parameter takes.
enum Kind {
    YesNo,
    Int(i64, i64),
    /// Bytes, with units.
    Memory(i64, i64),
    /// Bytes, or a percentage, which is kept as a negative number.
    MemoryOrPercent,
    Octal(i64, i64),
    /// Any text, kept also when empty.
    Text,
    /// A text for which empty means none.
    OptionalText,
    /// A bare file name.
    FileName,
    Choice(&'static [(&'static str, i64)]),
    Special(&'static Special),
}

/// Several words, or a value that needs code of its own.
struct Special {
    /// Whether `CONFIG SET` splits its one argument at blanks.
    many_words: bool,
    set: fn(&mut Config, &[&str], Source) -> Result<(), String>,
    show: fn(&Config) -> String,
    /// The values of the lines that set it.
    lines: fn(&Config) -> Vec<String>,
}

/// Where a value lives.
enum Home {
    Field(fn(&mut Config) -> Slot<'_>),
    /// In [`Config::kept`]; the default value.
    Kept(&'static str),
    /// Its [`Special`] knows.
    Own,
}

/// A field of [`Config`].
pub enum Slot<'a> {
    Flag(&'a mut bool),
    Number(&'a mut dyn Number),
    Text(&'a mut String),
}

/// A field that holds a number or an enumeration.
pub trait Number {
    fn number(&self) -> i64;
    fn set_number(&mut self, value: i64);
}

/// Who sets a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The configuration file, standard input or the command line, at the start.
    File,
    /// `CONFIG SET`.
    Command,
}

/// What `CONFIG REWRITE` writes of one parameter. No lines: its lines are removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    pub name: &'static str,
    pub lines: Vec<RewriteLine>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewriteLine {
    /// The whole line, name included.
    pub text: String,
    /// Replaces a line that is there, but is not added.
    pub is_default: bool,
}

/// The parameter of this name or alias, in any case.
pub fn lookup(name: &[u8]) -> Option<&'static Param> {
    let is = |known: &str| !known.is_empty() && name.eq_ignore_ascii_case(known.as_bytes());
    PARAMS.iter().find(|param| is(param.name) || is(param.alias))
}

/// Applies one directive of the configuration file, in order of the file. The error is the reason that Redis prints.
pub fn apply_directive(config: &mut Config, name: &[u8], args: &[&[u8]]) -> Result<(), String> {
    if let [from, to] = args
        && name.eq_ignore_ascii_case(b"rename-command")
    {
        return Arc::make_mut(&mut config.names).rename(from, to).map_err(|error| error.to_string());
    }
    let Some(param) = lookup(name) else { return Err(refused_directive(name)) };
    match args {
        [value] if param.takes_many_words() && !value.is_empty() => {
            param.set_text(config, value, Source::File)
        }
        _ => param.set_words(config, args, Source::File),
    }
}

/// Directives that are no parameters.
fn refused_directive(name: &[u8]) -> String {
    let known: &[(&str, &str)] =
        &[("user", "ACL users are not supported yet"), ("loadmodule", "modules are not supported")];
    let row = known.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
    row.map_or("Bad directive or wrong number of arguments", |(_, reason)| reason).to_owned()
}

/// Names and values of what `CONFIG GET pattern` finds. A name without wildcards may be an alias, and is answered as
/// it was asked for.
pub fn get(config: &mut Config, pattern: &[u8]) -> Vec<(String, String)> {
    if !pattern.iter().any(|byte| b"[*?".contains(byte)) {
        let found = lookup(pattern);
        let name = || String::from_utf8_lossy(pattern).into_owned();
        return found.map(|param| (name(), param.show(config))).into_iter().collect();
    }
    let mut found = Vec::new();
    for param in PARAMS.iter().filter(|param| !param.hidden) {
        for name in [param.name, param.alias] {
            if !name.is_empty() && glob::matches_ignoring_case(pattern, name.as_bytes()) {
                found.push((name.to_owned(), param.show(config)));
            }
        }
    }
    found
}

/// What `CONFIG REWRITE` writes, in the order of the table.
pub fn rewrite_lines(config: &mut Config) -> Vec<Rewrite> {
    let mut default = Config::default();
    PARAMS.iter().map(|param| param.rewrite(config, &mut default)).collect()
}

/// The parameter that a directive of the configuration file sets by its name or alias, for `CONFIG REWRITE`.
pub fn canonical_name(directive: &str) -> Option<&'static str> {
    lookup(directive.as_bytes()).map(|param| param.name)
}

/// Hands the settings on that store and core keep for themselves. Called after each change of the configuration.
pub fn apply(store: &mut Store, core: &mut Core) {
    let config = &core.config;
    store.limits = config.encodings.clone();
    store.lazy = LazyFree {
        expire: config.lazyfree_lazy_expire,
        server_del: config.lazyfree_lazy_server_del,
        user_del: config.lazyfree_lazy_user_del,
        user_flush: config.lazyfree_lazy_user_flush,
        eviction: config.lazyfree_lazy_eviction,
    };
    store.access.lfu = config.maxmemory_policy.counts_uses().then_some(Lfu {
        log_factor: config.lfu_log_factor as u32,
        decay_minutes: config.lfu_decay_time_min as u32,
    });
    let events = Event::parse(config.notify_keyspace_events.as_bytes()).unwrap_or_default();
    store.notifications.configure(events);
    if config.requirepass.is_empty() {
        core.conns.iter_mut().for_each(|(_, conn)| conn.session.authenticated = true);
    }
    core.apply_config();
}

impl Param {
    /// Sets the value from one text, as `CONFIG SET` gives it.
    pub fn set_text(&self, config: &mut Config, value: &[u8], source: Source) -> Result<(), String> {
        if !self.takes_many_words() {
            return self.set_words(config, &[value], source);
        }
        if value.is_empty() {
            return self.set_words(config, &[], source);
        }
        let words: Vec<&[u8]> = value.split(|byte| *byte == b' ').collect();
        self.set_words(config, &words, source)
    }

    /// Sets the value from words.
    pub fn set_words(&self, config: &mut Config, words: &[&[u8]], source: Source) -> Result<(), String> {
        let texts: Result<Vec<&str>, _> = words.iter().map(|word| std::str::from_utf8(word)).collect();
        let texts = texts.map_err(|_| "argument must be valid UTF-8".to_owned())?;
        if let Kind::Special(special) = &self.kind {
            if let Some(only) = &self.only {
                only.check(&texts.join(" "))?;
            }
            (special.set)(config, &texts, source)?;
            if let Home::Kept(_) = self.home {
                config.kept.insert(self.name, texts.join(" "));
            }
            return Ok(());
        }
        let [text] = texts[..] else { return Err("wrong number of arguments".to_owned()) };
        let value = self.kind.parse(text)?;
        let shown = self.kind.show(&value);
        if let Some(only) = &self.only {
            only.check(&shown)?;
        }
        match (&self.home, value) {
            (Home::Kept(_), _) => {
                config.kept.insert(self.name, shown);
            }
            (Home::Field(field), Value::Text(text)) => match field(config) {
                Slot::Text(slot) => *slot = text,
                _ => unreachable!("a text lives in a text"),
            },
            (Home::Field(field), Value::Number(number)) => match field(config) {
                Slot::Flag(slot) => *slot = number != 0,
                Slot::Number(slot) => slot.set_number(number),
                Slot::Text(_) => unreachable!("a number does not live in a text"),
            },
            (Home::Own, _) => unreachable!("only special parameters have a home of their own"),
        }
        Ok(())
    }

    /// The value as `CONFIG GET` prints it.
    pub fn show(&self, config: &mut Config) -> String {
        if let Home::Kept(default) = self.home {
            return config.kept.get(self.name).map_or_else(|| default.to_owned(), Clone::clone);
        }
        match (&self.kind, &self.home) {
            (Kind::Special(special), _) => (special.show)(config),
            (kind, Home::Field(field)) => match field(config) {
                Slot::Flag(slot) => kind.show(&Value::Number(i64::from(*slot))),
                Slot::Number(slot) => kind.show(&Value::Number(slot.number())),
                Slot::Text(slot) => slot.clone(),
            },
            _ => unreachable!("only special parameters have a home of their own"),
        }
    }

    fn takes_many_words(&self) -> bool {
        matches!(self.kind, Kind::Special(Special { many_words: true, .. }))
    }

    fn rewrite(&self, config: &mut Config, default: &mut Config) -> Rewrite {
        let shown = self.show(config);
        // The directory is always written, so that the file works from anywhere; the save points, because lines of the
        // old file that are some of the default ones would stand for all.
        let is_default = shown == self.show(default) && !matches!(self.name, "dir" | "save");
        let values = match (&self.kind, &self.home) {
            (Kind::Special(special), Home::Own) => (special.lines)(config),
            (Kind::Special(_), _) => vec![shown],
            (Kind::OptionalText, _) if shown.is_empty() => Vec::new(),
            (Kind::Text | Kind::OptionalText | Kind::FileName, _) => vec![quote(&shown)],
            (Kind::Memory(..), _) => vec![parse_i64(shown.as_bytes()).map_or(shown, format_memory)],
            _ => vec![shown],
        };
        let line = |value: String| RewriteLine { text: format!("{} {value}", self.name), is_default };
        Rewrite { name: self.name, lines: values.into_iter().map(line).collect() }
    }
}

impl Only {
    fn check(&self, shown: &str) -> Result<(), String> {
        if self.values.contains(&shown) { Ok(()) } else { Err(self.because.to_owned()) }
    }
}

/// A value between its text and its home.
enum Value {
    Number(i64),
    Text(String),
}

impl Kind {
    fn parse(&self, text: &str) -> Result<Value, String> {
        let number = match self {
            Kind::YesNo => match text {
                _ if text.eq_ignore_ascii_case("yes") => 1,
                _ if text.eq_ignore_ascii_case("no") => 0,
                _ => return Err("argument must be 'yes' or 'no'".to_owned()),
            },
            Kind::Int(min, max) => {
                let value = parse_i64(text.as_bytes());
                within(value.ok_or("argument couldn't be parsed into an integer")?, *min, *max)?
            }
            Kind::Memory(min, max) => {
                within(parse_memory(text).ok_or("argument must be a memory value")?, *min, *max)?
            }
            Kind::MemoryOrPercent => memory_or_percent(text)?,
            Kind::Octal(min, max) => {
                let value = i64::from_str_radix(text, 8);
                let value = value.map_err(|_| "argument couldn't be parsed as an octal number")?;
                if !(*min..=*max).contains(&value) {
                    return Err(format!("argument must be between {min:o} and {max:o} inclusive"));
                }
                value
            }
            Kind::Choice(rows) => {
                let row = rows.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
                let names = || rows.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
                row.ok_or_else(|| format!("argument(s) must be one of the following: {}", names()))?.1
            }
            Kind::FileName if text.contains('/') => {
                return Err("dbfilename can't be a path, just a filename".to_owned());
            }
            Kind::Text | Kind::OptionalText | Kind::FileName => return Ok(Value::Text(text.to_owned())),
            Kind::Special(_) => unreachable!("special parameters read their own words"),
        };
        Ok(Value::Number(number))
    }

    fn show(&self, value: &Value) -> String {
        match (self, value) {
            (_, Value::Text(text)) => text.clone(),
            (Kind::YesNo, Value::Number(number)) => if *number != 0 { "yes" } else { "no" }.to_owned(),
            (Kind::Octal(..), Value::Number(number)) => format!("{number:o}"),
            (Kind::MemoryOrPercent, Value::Number(number)) if *number < 0 => format!("{}%", -number),
            (Kind::Choice(rows), Value::Number(number)) => {
                let row = rows.iter().find(|(_, value)| value == number);
                row.map_or("unknown", |(name, _)| name).to_owned()
            }
            (_, Value::Number(number)) => number.to_string(),
        }
    }
}

fn within(value: i64, min: i64, max: i64) -> Result<i64, String> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(format!("argument must be between {min} and {max} inclusive"))
}

/// Bytes with an optional unit: `b`, `k`, `kb`, `m`, `mb`, `g`, `gb`, where `kb` is 1024 and `k` 1000.
pub fn parse_memory(text: &str) -> Option<i64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    let number = digits.parse::<u64>().ok()?.checked_mul(scale)?;
    i64::try_from(number).ok()
}

fn memory_or_percent(text: &str) -> Result<i64, String> {
    if let Some(bytes) = parse_memory(text) {
        return Ok(bytes);
    }
    let percent = text.strip_suffix('%').and_then(|digits| parse_i64(digits.as_bytes())).filter(|p| *p >= 0);
    match percent.ok_or("argument must be a memory or percent value")? {
        percent if percent > 100 => Err("percentage argument must be less or equal to 100".to_owned()),
        percent => Ok(-percent),
    }
}

fn format_memory(bytes: i64) -> String {
    for (unit, name) in [(1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")] {
        if bytes > 0 && bytes % unit == 0 {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

/// In double quotes, as the grammar of redis.conf reads it back.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(byte as char);
            }
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x20..=0x7e => out.push(byte as char),
            _ => write!(out, "\\x{byte:02x}").expect("a string takes any text"),
        }
    }
    out.push('"');
    out
}

macro_rules! number {
    ($($int:ty),*) => {$(
        impl Number for $int {
            fn number(&self) -> i64 {
                *self as i64
            }

            /// The row's limits have made sure that it fits.
            fn set_number(&mut self, value: i64) {
                *self = value as $int;
            }
        }
    )*};
}

number!(i64, i32, u16, u32, usize);

/// The numbers of an enum's variants are their places in the list, which is in the order of the enum.
macro_rules! number_of_variant {
    ($($kind:ident: $all:expr;)*) => {$(
        impl Number for $kind {
            fn number(&self) -> i64 {
                *self as i64
            }

            fn set_number(&mut self, value: i64) {
                *self = $all[usize::try_from(value).expect("the row names the variants")];
            }
        }
    )*};
}

number_of_variant! {
    Protected: [Protected::No, Protected::Local, Protected::Yes];
    Policy: Policy::ALL;
    OomScoreAdj: [OomScoreAdj::No, OomScoreAdj::Relative, OomScoreAdj::Absolute];
    AuthClients: [AuthClients::No, AuthClients::Yes, AuthClients::Optional];
    PropagationError: [
        PropagationError::Ignore,
        PropagationError::Panic,
        PropagationError::PanicOnReplicas,
        PropagationError::Resync,
    ];
    DisklessLoad: [
        DisklessLoad::Disabled,
        DisklessLoad::OnEmptyDb,
        DisklessLoad::SwapDb,
        DisklessLoad::FlushBeforeLoad,
        DisklessLoad::Serving,
    ];
}

// ---- special parameters ----

static SAVE: Special = Special {
    many_words: true,
    set: |config, words, source| {
        let words = if words == [""] { &[] } else { words };
        let invalid = || "Invalid save parameters".to_owned();
        if !words.len().is_multiple_of(2) {
            return Err(invalid());
        }
        let mut points = Vec::new();
        for pair in words.chunks(2) {
            let number = |word: &str| parse_i64(word.as_bytes()).and_then(|n| u64::try_from(n).ok());
            let seconds = number(pair[0]).filter(|seconds| *seconds >= 1).ok_or_else(invalid)?;
            points.push(SavePoint { seconds, changes: number(pair[1]).ok_or_else(invalid)? });
        }
        if source == Source::Command || words.is_empty() || !config.save_from_file {
            config.save.clear();
        }
        config.save_from_file |= source == Source::File;
        config.save.extend(points);
        Ok(())
    },
    show: |config| {
        let points = config.save.iter().map(|point| format!("{} {}", point.seconds, point.changes));
        points.collect::<Vec<_>>().join(" ")
    },
    lines: |config| match config.save.is_empty() {
        true => vec!["\"\"".to_owned()],
        false => config.save.iter().map(|point| format!("{} {}", point.seconds, point.changes)).collect(),
    },
};

static OUTPUT_LIMITS: Special = Special {
    many_words: true,
    set: |config, words, _| {
        let error = |what: &str| Err(format!("{what} buffer limit configuration."));
        if words.is_empty() || !words.len().is_multiple_of(4) {
            return error("Wrong number of arguments in");
        }
        let (mut normal, mut replica, mut pubsub) =
            (config.output_limit_normal, config.output_limit_replica, config.output_limit_pubsub);
        for row in words.chunks(4) {
            let class = match row[0].to_ascii_lowercase().as_str() {
                "normal" => &mut normal,
                "slave" | "replica" => &mut replica,
                "pubsub" => &mut pubsub,
                _ => return error("Invalid client class specified in"),
            };
            let bytes = |word| parse_memory(word).and_then(|bytes| u64::try_from(bytes).ok());
            let seconds = parse_i64(row[3].as_bytes()).and_then(|seconds| u64::try_from(seconds).ok());
            let (Some(hard_bytes), Some(soft_bytes), Some(soft_seconds)) =
                (bytes(row[1]), bytes(row[2]), seconds)
            else {
                return error("Error in hard, soft or soft_seconds setting in");
            };
            *class = OutputLimit { hard_bytes, soft_bytes, soft_seconds };
        }
        (config.output_limit_normal, config.output_limit_replica, config.output_limit_pubsub) =
            (normal, replica, pubsub);
        Ok(())
    },
    show: |config| {
        let rows = output_limits(config, "slave").map(|(name, limit)| {
            format!("{name} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
        });
        rows.join(" ")
    },
    lines: |config| {
        let rows = output_limits(config, "replica").map(|(name, limit)| {
            let [hard, soft] = [limit.hard_bytes, limit.soft_bytes].map(|bytes| format_memory(bytes as i64));
            format!("{name} {hard} {soft} {}", limit.soft_seconds)
        });
        rows.to_vec()
    },
};

fn output_limits(config: &Config, replica: &'static str) -> [(&'static str, OutputLimit); 3] {
    [
        ("normal", config.output_limit_normal),
        (replica, config.output_limit_replica),
        ("pubsub", config.output_limit_pubsub),
    ]
}

static BIND: Special = Special {
    many_words: true,
    set: |config, words, _| {
        if words.len() > 16 {
            return Err("Too many bind addresses specified.".to_owned());
        }
        let words = if words == [""] { &[] } else { words };
        config.bind = words.iter().map(|word| (*word).to_owned()).collect();
        Ok(())
    },
    show: |config| config.bind.join(" "),
    lines: |config| match config.bind.is_empty() {
        true => vec!["\"\"".to_owned()],
        false => vec![config.bind.join(" ")],
    },
};

static REPLICAOF: Special = Special {
    many_words: true,
    set: |config, words, _| {
        let [host, port] = words else { return Err("wrong number of arguments".to_owned()) };
        if host.eq_ignore_ascii_case("no") && port.eq_ignore_ascii_case("one") {
            config.replicaof = None;
            return Ok(());
        }
        let port = port.parse::<u16>().map_err(|_| "Invalid master port")?;
        config.replicaof = Some(((*host).to_owned(), port));
        Ok(())
    },
    show: |config| {
        config.replicaof.as_ref().map_or_else(String::new, |(host, port)| format!("{host} {port}"))
    },
    lines: |config| config.replicaof.iter().map(|(host, port)| format!("{host} {port}")).collect(),
};

static NOTIFY: Special = Special {
    many_words: false,
    set: |config, words, _| {
        let [letters] = words else { return Err("wrong number of arguments".to_owned()) };
        let events = Event::parse(letters.as_bytes())
            .ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")?;
        config.notify_keyspace_events = events.letters();
        Ok(())
    },
    show: |config| config.notify_keyspace_events.clone(),
    lines: |config| vec![quote(&config.notify_keyspace_events)],
};

static PERCENTILES: Special = Special {
    many_words: true,
    set: |config, words, _| {
        let words = if words == [""] { &[] } else { words };
        let mut percentiles = Vec::new();
        for word in words {
            let value = structures::number::parse_f64(word.as_bytes());
            let value = value.ok_or("Invalid latency-tracking-info-percentiles parameters")?;
            if !(0.0..=100.0).contains(&value) {
                return Err(
                    "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".to_owned()
                );
            }
            percentiles.push(value);
        }
        config.latency_percentiles = percentiles;
        Ok(())
    },
    show: |config| {
        config.latency_percentiles.iter().map(|p| show_percentile(*p)).collect::<Vec<_>>().join(" ")
    },
    lines: |config| match config.latency_percentiles.is_empty() {
        true => vec!["\"\"".to_owned()],
        false => {
            vec![config.latency_percentiles.iter().map(|p| show_percentile(*p)).collect::<Vec<_>>().join(" ")]
        }
    },
};

/// With as many decimals as it needs, six at most.
pub fn show_percentile(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

static OOM_VALUES: Special = Special {
    many_words: true,
    set: |config, words, _| {
        let words: &[&str; 3] = words.try_into().map_err(|_| "wrong number of arguments".to_owned())?;
        let values = words.map(|word| word.parse::<i32>().ok().filter(|n| (-2000..=2000).contains(n)));
        let [Some(primary), Some(replica), Some(child)] = values else {
            return Err("Invalid oom-score-adj-values, elements must be between -2000 and 2000.".to_owned());
        };
        config.oom_score_adj_values = [primary, replica, child];
        Ok(())
    },
    show: |config| config.oom_score_adj_values.map(|value| value.to_string()).join(" "),
    lines: |config| vec![config.oom_score_adj_values.map(|value| value.to_string()).join(" ")],
};

static PROC_TITLE: Special = Special {
    many_words: false,
    set: |config, words, _| {
        let [template] = words else { return Err("wrong number of arguments".to_owned()) };
        if !process_title::is_valid(config, template) {
            return Err("template format is invalid or contains unknown variables".to_owned());
        }
        config.proc_title_template = (*template).to_owned();
        Ok(())
    },
    show: |config| config.proc_title_template.clone(),
    lines: |config| vec![quote(&config.proc_title_template)],
};

/// What a signal means for the shutdown.
static ON_SIGINT: Special = Special {
    many_words: true,
    set: |config, words, _| {
        config.shutdown_on_sigint = Shutdown::parse(words)?;
        Ok(())
    },
    show: |config| config.shutdown_on_sigint.to_string(),
    lines: |config| vec![config.shutdown_on_sigint.to_string()],
};

static ON_SIGTERM: Special = Special {
    many_words: true,
    set: |config, words, _| {
        config.shutdown_on_sigterm = Shutdown::parse(words)?;
        Ok(())
    },
    show: |config| config.shutdown_on_sigterm.to_string(),
    lines: |config| vec![config.shutdown_on_sigterm.to_string()],
};

static TLS_PROTOCOLS: Special = Special {
    many_words: true,
    set: |config, words, _| {
        let words = words.iter().filter(|word| !word.is_empty());
        config.tls.protocols = words.map(|word| Protocol::parse(word)).collect::<Result<_, _>>()?;
        Ok(())
    },
    show: |config| config.tls.protocols.iter().map(Protocol::to_string).collect::<Vec<_>>().join(" "),
    lines: |config| match config.tls.protocols.is_empty() {
        true => Vec::new(),
        false => {
            let names: Vec<String> = config.tls.protocols.iter().map(Protocol::to_string).collect();
            vec![quote(&names.join(" "))]
        }
    },
};

// ---- the table ----

const INT_MAX: i64 = i32::MAX as i64;
const INT_MIN: i64 = i32::MIN as i64;
const LONG_MAX: i64 = i64::MAX;

const PROTECTED: Kind = Kind::Choice(&[("no", 0), ("yes", 2), ("local", 1)]);

const fn row(name: &'static str, kind: Kind, home: Home) -> Param {
    Param {
        name,
        alias: "",
        immutable: false,
        protected: false,
        sensitive: false,
        hidden: false,
        denied_while_loading: false,
        kind,
        home,
        only: None,
    }
}

const fn field(name: &'static str, kind: Kind, slot: fn(&mut Config) -> Slot<'_>) -> Param {
    row(name, kind, Home::Field(slot))
}

const fn flag(name: &'static str, slot: fn(&mut Config) -> Slot<'_>) -> Param {
    row(name, Kind::YesNo, Home::Field(slot))
}

/// A parameter without a mechanism, and its default.
const fn kept(name: &'static str, kind: Kind, default: &'static str) -> Param {
    row(name, kind, Home::Kept(default))
}

const fn special(name: &'static str, special: &'static Special) -> Param {
    row(name, Kind::Special(special), Home::Own)
}

impl Param {
    const fn or(mut self, alias: &'static str) -> Param {
        self.alias = alias;
        self
    }

    const fn immutable(mut self) -> Param {
        self.immutable = true;
        self
    }

    const fn protected(mut self) -> Param {
        self.protected = true;
        self
    }

    const fn sensitive(mut self) -> Param {
        self.sensitive = true;
        self
    }

    const fn hidden(mut self) -> Param {
        self.hidden = true;
        self
    }

    const fn not_while_loading(mut self) -> Param {
        self.denied_while_loading = true;
        self
    }

    /// Refuses all other values.
    const fn only(mut self, values: &'static [&'static str], because: &'static str) -> Param {
        self.only = Some(Only { values, because });
        self
    }
}

fn encodings(config: &mut Config) -> &mut EncodingLimits {
    &mut config.encodings
}

const NO_AOF: &str = "the append only file is not supported yet";
const NO_CLUSTER: &str = "cluster mode is not supported yet";
const NO_KEY_PASS: &str = "encrypted keys are not supported: decrypt the key and protect its file";

/// Every parameter, by what it is about.
pub static PARAMS: &[Param] = &[
    // network
    special("bind", &BIND),
    field("port", Kind::Int(0, 65535), |c| Slot::Number(&mut c.port)),
    flag("always-show-logo", |c| Slot::Flag(&mut c.always_show_logo)).immutable(),
    flag("protected-mode", |c| Slot::Flag(&mut c.protected_mode)),
    field("tcp-backlog", Kind::Int(0, INT_MAX), |c| Slot::Number(&mut c.tcp_backlog)).immutable(),
    field("unixsocket", Kind::OptionalText, |c| Slot::Text(&mut c.unixsocket)).immutable(),
    field("unixsocketperm", Kind::Octal(0, 0o777), |c| Slot::Number(&mut c.unixsocketperm)).immutable(),
    field("timeout", Kind::Int(0, INT_MAX), |c| Slot::Number(&mut c.timeout_s)),
    field("tcp-keepalive", Kind::Int(0, INT_MAX), |c| Slot::Number(&mut c.tcp_keepalive_s)),
    field("maxclients", Kind::Int(1, u32::MAX as i64), |c| Slot::Number(&mut c.maxclients)),
    field("proto-max-bulk-len", Kind::Memory(1 << 20, LONG_MAX), |c| Slot::Number(&mut c.proto_max_bulk_len)),
    field("client-query-buffer-limit", Kind::Memory(1 << 20, LONG_MAX), |c| {
        Slot::Number(&mut c.client_query_buffer_limit)
    }),
    special("client-output-buffer-limit", &OUTPUT_LIMITS),
    field("maxmemory-clients", Kind::MemoryOrPercent, |c| Slot::Number(&mut c.maxmemory_clients)),
    field("bind-source-addr", Kind::OptionalText, |c| Slot::Text(&mut c.bind_source_addr)),
    field("socket-mark-id", Kind::Int(0, u32::MAX as i64), |c| Slot::Number(&mut c.socket_mark_id))
        .immutable(),
    // general
    flag("daemonize", |c| Slot::Flag(&mut c.daemonize)).immutable(),
    field("pidfile", Kind::OptionalText, |c| Slot::Text(&mut c.pidfile)).immutable(),
    field("loglevel", Kind::Choice(&[("debug", 0), ("verbose", 1), ("notice", 2), ("warning", 3)]), |c| {
        Slot::Number(&mut c.loglevel)
    }),
    field("logfile", Kind::Text, |c| Slot::Text(&mut c.logfile)).immutable(),
    field("databases", Kind::Int(1, INT_MAX), |c| Slot::Number(&mut c.databases)).immutable(),
    field("dir", Kind::Text, |c| Slot::Text(&mut c.dir)).protected().not_while_loading(),
    field("hz", Kind::Int(0, INT_MAX), |c| Slot::Number(&mut c.hz)),
    field("requirepass", Kind::OptionalText, |c| Slot::Text(&mut c.requirepass)).sensitive(),
    field("enable-debug-command", PROTECTED, |c| Slot::Number(&mut c.enable_debug_command)).immutable(),
    field("enable-protected-configs", PROTECTED, |c| Slot::Number(&mut c.enable_protected_configs))
        .immutable(),
    kept("enable-module-command", PROTECTED, "no").immutable(),
    special("notify-keyspace-events", &NOTIFY),
    field("shutdown-timeout", Kind::Int(0, INT_MAX), |c| Slot::Number(&mut c.shutdown_timeout_s)),
    special("shutdown-on-sigint", &ON_SIGINT),
    special("shutdown-on-sigterm", &ON_SIGTERM),
    // snapshots
    special("save", &SAVE),
    field("dbfilename", Kind::FileName, |c| Slot::Text(&mut c.dbfilename)).protected(),
    flag("rdbcompression", |c| Slot::Flag(&mut c.rdbcompression)),
    flag("rdbchecksum", |c| Slot::Flag(&mut c.rdbchecksum)).immutable(),
    flag("stop-writes-on-bgsave-error", |c| Slot::Flag(&mut c.stop_writes_on_bgsave_error)),
    flag("rdb-del-sync-files", |c| Slot::Flag(&mut c.rdb_del_sync_files)),
    field("rdb-key-save-delay", Kind::Int(INT_MIN, INT_MAX), |c| Slot::Number(&mut c.rdb_key_save_delay_us))
        .hidden(),
    field("key-load-delay", Kind::Int(INT_MIN, INT_MAX), |c| Slot::Number(&mut c.key_load_delay_us)).hidden(),
    field("loading-process-events-interval-bytes", Kind::Int(1024, INT_MAX), |c| {
        Slot::Number(&mut c.loading_process_events_interval_bytes)
    })
    .hidden(),
    field("sanitize-dump-payload", Kind::Choice(&[("no", 0), ("yes", 1), ("clients", 2)]), |c| {
        Slot::Number(&mut c.sanitize_dump_payload)
    }),
    kept("rdb-save-incremental-fsync", Kind::YesNo, "yes"),
    // replication
    special("replicaof", &REPLICAOF).or("slaveof").immutable(),
    field("masterauth", Kind::OptionalText, |c| Slot::Text(&mut c.masterauth)).or("primaryauth").sensitive(),
    field("masteruser", Kind::OptionalText, |c| Slot::Text(&mut c.masteruser)).or("primaryuser").sensitive(),
    flag("replica-serve-stale-data", |c| Slot::Flag(&mut c.replica_serve_stale_data))
        .or("slave-serve-stale-data"),
    flag("replica-read-only", |c| Slot::Flag(&mut c.replica_read_only)).or("slave-read-only"),
    flag("repl-diskless-sync", |c| Slot::Flag(&mut c.repl_diskless_sync)),
    field("repl-diskless-sync-delay", Kind::Int(0, INT_MAX), |c| {
        Slot::Number(&mut c.repl_diskless_sync_delay_s)
    }),
    field("repl-diskless-sync-max-replicas", Kind::Int(0, INT_MAX), |c| {
        Slot::Number(&mut c.repl_diskless_sync_max_replicas)
    }),
    field(
        "repl-diskless-load",
        Kind::Choice(&[
            ("disabled", 0),
            ("on-empty-db", 1),
            ("swapdb", 2),
            ("flush-before-load", 3),
            ("serving", 4),
        ]),
        |c| Slot::Number(&mut c.repl_diskless_load),
    )
    .not_while_loading(),
    flag("dual-channel-replication-enabled", |c| Slot::Flag(&mut c.dual_channel_replication)),
    flag("repl-rdb-channel", |c| Slot::Flag(&mut c.repl_rdb_channel)),
    field("replica-full-sync-buffer-limit", Kind::Memory(0, LONG_MAX), |c| {
        Slot::Number(&mut c.replica_full_sync_buffer_limit)
    }),
    field("repl-full-sync-max", Kind::Int(0, INT_MAX), |c| Slot::Number(&mut c.repl_full_sync_max)),
    field("repl-full-sync-rate", Kind::Memory(0, LONG_MAX), |c| Slot::Number(&mut c.repl_full_sync_rate)),
    field("repl-ping-replica-period", Kind::Int(1, INT_MAX), |c| {
        Slot::Number(&mut c.repl_ping_replica_period_s)
    })
    .or("repl-ping-slave-period"),
    field("repl-heartbeat-period-ms", Kind::Int(-1, INT_MAX), |c| {
        Slot::Number(&mut c.repl_heartbeat_period_ms)
    }),
    field("repl-assume-rdb-version", Kind::Int(9, 12), |c| Slot::Number(&mut c.repl_assume_rdb_version)),
    field("repl-refusal-seconds", Kind::Int(0, INT_MAX), |c| Slot::Number(&mut c.repl_refusal_s)),
    flag("replica-guard-empty-primary", |c| Slot::Flag(&mut c.replica_guard_empty_primary)),
    field("repl-timeout", Kind::Int(1, INT_MAX), |c| Slot::Number(&mut c.repl_timeout_s)),
    flag("repl-disable-tcp-nodelay", |c| Slot::Flag(&mut c.repl_disable_tcp_nodelay)),
    field("repl-backlog-size", Kind::Memory(1, LONG_MAX), |c| Slot::Number(&mut c.repl_backlog_size)),
    field("repl-backlog-seconds", Kind::Int(0, INT_MAX), |c| Slot::Number(&mut c.repl_backlog_seconds)),
    field("repl-backlog-disk-size", Kind::Memory(0, LONG_MAX), |c| {
        Slot::Number(&mut c.repl_backlog_disk_size)
    }),
    field("repl-lag-disk-size", Kind::Memory(0, LONG_MAX), |c| Slot::Number(&mut c.repl_lag_disk_size)),
    field("repl-backlog-ttl", Kind::Int(0, LONG_MAX), |c| Slot::Number(&mut c.repl_backlog_ttl_s)),
    field("replica-priority", Kind::Int(0, INT_MAX), |c| Slot::Number(&mut c.replica_priority))
        .or("slave-priority"),
    flag("replica-announced", |c| Slot::Flag(&mut c.replica_announced)),
    field("replica-announce-ip", Kind::OptionalText, |c| Slot::Text(&mut c.replica_announce_ip))
        .or("slave-announce-ip"),
    field("replica-announce-port", Kind::Int(0, 65535), |c| Slot::Number(&mut c.replica_announce_port))
        .or("slave-announce-port"),
    flag("replica-lazy-flush", |c| Slot::Flag(&mut c.replica_lazy_flush)).or("slave-lazy-flush"),
    field("min-replicas-to-write", Kind::Int(0, INT_MAX), |c| Slot::Number(&mut c.min_replicas_to_write))
        .or("min-slaves-to-write"),
    field("min-replicas-max-lag", Kind::Int(0, INT_MAX), |c| Slot::Number(&mut c.min_replicas_max_lag_s))
        .or("min-slaves-max-lag"),
    flag("replica-ignore-maxmemory", |c| Slot::Flag(&mut c.replica_ignore_maxmemory))
        .or("slave-ignore-maxmemory"),
    flag("replica-ignore-disk-write-errors", |c| Slot::Flag(&mut c.replica_ignore_disk_write_errors)),
    // With the append only file, which is not there yet, the first two differ.
    field(
        "propagation-error-behavior",
        Kind::Choice(&[("ignore", 0), ("panic", 1), ("panic-on-replicas", 2), ("resync", 3)]),
        |c| Slot::Number(&mut c.propagation_error_behavior),
    ),
    // lazy freeing
    flag("lazyfree-lazy-eviction", |c| Slot::Flag(&mut c.lazyfree_lazy_eviction)),
    flag("lazyfree-lazy-expire", |c| Slot::Flag(&mut c.lazyfree_lazy_expire)),
    flag("lazyfree-lazy-server-del", |c| Slot::Flag(&mut c.lazyfree_lazy_server_del)),
    flag("lazyfree-lazy-user-del", |c| Slot::Flag(&mut c.lazyfree_lazy_user_del)),
    flag("lazyfree-lazy-user-flush", |c| Slot::Flag(&mut c.lazyfree_lazy_user_flush)),
    // encodings
    field("hash-max-listpack-entries", Kind::Int(0, LONG_MAX), |c| {
        Slot::Number(&mut encodings(c).hash_entries)
    })
    .or("hash-max-ziplist-entries"),
    field("hash-max-listpack-value", Kind::Memory(0, LONG_MAX), |c| {
        Slot::Number(&mut encodings(c).hash_value)
    })
    .or("hash-max-ziplist-value"),
    field("set-max-intset-entries", Kind::Int(0, LONG_MAX), |c| {
        Slot::Number(&mut encodings(c).set_intset_entries)
    }),
    field("set-max-listpack-entries", Kind::Int(0, LONG_MAX), |c| {
        Slot::Number(&mut encodings(c).set_listpack_entries)
    }),
    field("set-max-listpack-value", Kind::Memory(0, LONG_MAX), |c| {
        Slot::Number(&mut encodings(c).set_listpack_value)
    }),
    field("zset-max-listpack-entries", Kind::Int(0, LONG_MAX), |c| {
        Slot::Number(&mut encodings(c).zset_entries)
    })
    .or("zset-max-ziplist-entries"),
    field("zset-max-listpack-value", Kind::Memory(0, LONG_MAX), |c| {
        Slot::Number(&mut encodings(c).zset_value)
    })
    .or("zset-max-ziplist-value"),
    field("list-max-listpack-size", Kind::Int(INT_MIN, INT_MAX), |c| {
        Slot::Number(&mut encodings(c).list_fill)
    })
    .or("list-max-ziplist-size"),
    field("list-compress-depth", Kind::Int(0, INT_MAX), |c| {
        Slot::Number(&mut encodings(c).list_compress_depth)
    }),
    field("stream-node-max-bytes", Kind::Memory(0, LONG_MAX), |c| {
        Slot::Number(&mut encodings(c).stream_node_bytes)
    }),
    field("stream-node-max-entries", Kind::Int(0, LONG_MAX), |c| {
        Slot::Number(&mut encodings(c).stream_node_entries)
    }),
    field("hll-sparse-max-bytes", Kind::Memory(0, LONG_MAX), |c| Slot::Number(&mut c.hll_sparse_max_bytes)),
    // slow log and latency
    field("slowlog-log-slower-than", Kind::Int(-1, LONG_MAX), |c| {
        Slot::Number(&mut c.slowlog_log_slower_than_us)
    }),
    field("slowlog-max-len", Kind::Int(0, LONG_MAX), |c| Slot::Number(&mut c.slowlog_max_len)),
    flag("latency-tracking", |c| Slot::Flag(&mut c.latency_tracking)),
    special("latency-tracking-info-percentiles", &PERCENTILES),
    field("latency-monitor-threshold", Kind::Int(0, LONG_MAX), |c| {
        Slot::Number(&mut c.latency_monitor_threshold_ms)
    }),
    // memory
    field("maxmemory", Kind::Memory(0, LONG_MAX), |c| Slot::Number(&mut c.maxmemory)),
    field(
        "maxmemory-policy",
        Kind::Choice(&[
            ("volatile-lru", Policy::VolatileLru as i64),
            ("volatile-lfu", Policy::VolatileLfu as i64),
            ("volatile-random", Policy::VolatileRandom as i64),
            ("volatile-ttl", Policy::VolatileTtl as i64),
            ("allkeys-lru", Policy::AllKeysLru as i64),
            ("allkeys-lfu", Policy::AllKeysLfu as i64),
            ("allkeys-random", Policy::AllKeysRandom as i64),
            ("noeviction", Policy::NoEviction as i64),
        ]),
        |c| Slot::Number(&mut c.maxmemory_policy),
    ),
    field("maxmemory-samples", Kind::Int(1, INT_MAX), |c| Slot::Number(&mut c.maxmemory_samples)),
    field("maxmemory-eviction-tenacity", Kind::Int(0, 100), |c| {
        Slot::Number(&mut c.maxmemory_eviction_tenacity)
    }),
    field("lfu-log-factor", Kind::Int(0, INT_MAX), |c| Slot::Number(&mut c.lfu_log_factor)),
    field("lfu-decay-time", Kind::Int(0, INT_MAX), |c| Slot::Number(&mut c.lfu_decay_time_min)),
    kept("activedefrag", Kind::YesNo, "no").only(&["no"], "active defragmentation is not supported"),
    kept("active-defrag-ignore-bytes", Kind::Memory(1, LONG_MAX), "104857600"),
    kept("active-defrag-threshold-lower", Kind::Int(0, 1000), "10"),
    kept("active-defrag-threshold-upper", Kind::Int(0, 1000), "100"),
    kept("active-defrag-cycle-min", Kind::Int(1, 99), "1"),
    kept("active-defrag-cycle-max", Kind::Int(1, 99), "25"),
    kept("active-defrag-max-scan-fields", Kind::Int(1, LONG_MAX), "1000"),
    kept("jemalloc-bg-thread", Kind::YesNo, "yes"),
    kept("activerehashing", Kind::YesNo, "yes"),
    kept("active-expire-effort", Kind::Int(1, 10), "1"),
    kept("dynamic-hz", Kind::YesNo, "yes"),
    kept("tracking-table-max-keys", Kind::Int(0, LONG_MAX), "1000000"),
    // the append only file
    kept("appendonly", Kind::YesNo, "no").not_while_loading().only(&["no"], NO_AOF),
    kept("appendfilename", Kind::Text, "appendonly.aof").immutable(),
    kept("appenddirname", Kind::Text, "appendonlydir").immutable(),
    kept("appendfsync", Kind::Choice(&[("everysec", 0), ("always", 1), ("no", 2)]), "everysec"),
    kept("no-appendfsync-on-rewrite", Kind::YesNo, "no"),
    kept("auto-aof-rewrite-percentage", Kind::Int(0, INT_MAX), "100"),
    kept("auto-aof-rewrite-min-size", Kind::Memory(0, LONG_MAX), "67108864"),
    kept("aof-load-truncated", Kind::YesNo, "yes"),
    kept("aof-use-rdb-preamble", Kind::YesNo, "yes"),
    kept("aof-timestamp-enabled", Kind::YesNo, "no"),
    kept("aof-rewrite-incremental-fsync", Kind::YesNo, "yes"),
    kept("aof-disable-auto-gc", Kind::YesNo, "no"),
    // scripts, access lists
    kept("busy-reply-threshold", Kind::Int(0, LONG_MAX), "5000").or("lua-time-limit"),
    kept("lua-enable-deprecated-api", Kind::YesNo, "no").immutable().hidden(),
    kept("aclfile", Kind::Text, "").immutable().only(&[""], "ACL files are not supported yet"),
    kept("acllog-max-len", Kind::Int(0, LONG_MAX), "128"),
    kept("acl-pubsub-default", Kind::Choice(&[("allchannels", 0), ("resetchannels", 1)]), "resetchannels"),
    // the process
    kept("io-threads", Kind::Int(1, 128), "1")
        .immutable()
        .only(&["1"], "threads for input and output are not supported yet"),
    kept("io-threads-do-reads", Kind::YesNo, "no").immutable(),
    flag("set-proc-title", |c| Slot::Flag(&mut c.set_proc_title)).immutable(),
    special("proc-title-template", &PROC_TITLE),
    flag("crash-log-enabled", |c| Slot::Flag(&mut c.crash_log_enabled)),
    kept("crash-memcheck-enabled", Kind::YesNo, "yes"),
    flag("use-exit-on-panic", |c| Slot::Flag(&mut c.use_exit_on_panic)).hidden(),
    field("watchdog-period", Kind::Int(0, INT_MAX), |c| Slot::Number(&mut c.watchdog_period_ms)).hidden(),
    kept("disable-thp", Kind::YesNo, "yes").immutable(),
    kept("ignore-warnings", Kind::Text, ""),
    kept("supervised", Kind::Choice(&[("upstart", 0), ("systemd", 1), ("auto", 2), ("no", 3)]), "no")
        .immutable()
        .only(&["no", "auto", "systemd"], "supervision by upstart is not supported"),
    flag("syslog-enabled", |c| Slot::Flag(&mut c.syslog_enabled)).immutable(),
    field("syslog-ident", Kind::Text, |c| Slot::Text(&mut c.syslog_ident)).immutable(),
    // By the numbers of RFC 5424.
    field(
        "syslog-facility",
        Kind::Choice(&[
            ("user", 1),
            ("local0", 16),
            ("local1", 17),
            ("local2", 18),
            ("local3", 19),
            ("local4", 20),
            ("local5", 21),
            ("local6", 22),
            ("local7", 23),
        ]),
        |c| Slot::Number(&mut c.syslog_facility),
    )
    .immutable(),
    field("oom-score-adj", Kind::Choice(&[("no", 0), ("yes", 1), ("relative", 1), ("absolute", 2)]), |c| {
        Slot::Number(&mut c.oom_score_adj)
    }),
    special("oom-score-adj-values", &OOM_VALUES),
    field("server_cpulist", Kind::OptionalText, |c| Slot::Text(&mut c.server_cpulist)).immutable(),
    field("bio_cpulist", Kind::OptionalText, |c| Slot::Text(&mut c.bio_cpulist)).immutable(),
    kept("aof_rewrite_cpulist", Kind::OptionalText, "").immutable(),
    field("bgsave_cpulist", Kind::OptionalText, |c| Slot::Text(&mut c.bgsave_cpulist)).immutable(),
    // cluster
    kept("cluster-enabled", Kind::YesNo, "no").immutable().only(&["no"], NO_CLUSTER),
    kept("cluster-config-file", Kind::Text, "nodes.conf").immutable(),
    kept("cluster-node-timeout", Kind::Int(0, LONG_MAX), "15000"),
    kept("cluster-port", Kind::Int(0, 65535), "0").immutable(),
    kept("cluster-announce-ip", Kind::OptionalText, ""),
    kept("cluster-announce-hostname", Kind::OptionalText, ""),
    kept("cluster-announce-port", Kind::Int(0, 65535), "0"),
    kept("cluster-announce-tls-port", Kind::Int(0, 65535), "0"),
    kept("cluster-announce-bus-port", Kind::Int(0, 65535), "0"),
    kept("cluster-require-full-coverage", Kind::YesNo, "yes"),
    kept("cluster-replica-no-failover", Kind::YesNo, "no").or("cluster-slave-no-failover"),
    kept("cluster-replica-validity-factor", Kind::Int(0, INT_MAX), "10").or("cluster-slave-validity-factor"),
    kept("cluster-migration-barrier", Kind::Int(0, INT_MAX), "1"),
    kept("cluster-allow-replica-migration", Kind::YesNo, "yes"),
    kept("cluster-allow-reads-when-down", Kind::YesNo, "no"),
    kept("cluster-allow-pubsubshard-when-down", Kind::YesNo, "yes"),
    kept("cluster-link-sendbuf-limit", Kind::Memory(0, LONG_MAX), "0"),
    kept(
        "cluster-preferred-endpoint-type",
        Kind::Choice(&[("ip", 0), ("hostname", 1), ("unknown-endpoint", 2)]),
        "ip",
    ),
    // TLS
    field("tls-port", Kind::Int(0, 65535), |c| Slot::Number(&mut c.tls.port)),
    flag("tls-replication", |c| Slot::Flag(&mut c.tls.replication)),
    kept("tls-cluster", Kind::YesNo, "no").only(&["no"], NO_CLUSTER),
    field("tls-auth-clients", Kind::Choice(&[("no", 0), ("yes", 1), ("optional", 2)]), |c| {
        Slot::Number(&mut c.tls.auth_clients)
    }),
    flag("tls-prefer-server-ciphers", |c| Slot::Flag(&mut c.tls.prefer_server_ciphers)),
    flag("tls-session-caching", |c| Slot::Flag(&mut c.tls.session_caching)),
    field("tls-session-cache-size", Kind::Int(0, INT_MAX), |c| Slot::Number(&mut c.tls.session_cache_size)),
    field("tls-session-cache-timeout", Kind::Int(0, INT_MAX), |c| {
        Slot::Number(&mut c.tls.session_cache_timeout_s)
    }),
    field("tls-cert-file", Kind::OptionalText, |c| Slot::Text(&mut c.tls.cert_file)),
    field("tls-key-file", Kind::OptionalText, |c| Slot::Text(&mut c.tls.key_file)),
    kept("tls-key-file-pass", Kind::OptionalText, "").sensitive().only(&[""], NO_KEY_PASS),
    field("tls-client-cert-file", Kind::OptionalText, |c| Slot::Text(&mut c.tls.client_cert_file)),
    field("tls-client-key-file", Kind::OptionalText, |c| Slot::Text(&mut c.tls.client_key_file)),
    kept("tls-client-key-file-pass", Kind::OptionalText, "").sensitive().only(&[""], NO_KEY_PASS),
    kept("tls-dh-params-file", Kind::OptionalText, ""),
    field("tls-ca-cert-file", Kind::OptionalText, |c| Slot::Text(&mut c.tls.ca_cert_file)),
    field("tls-ca-cert-dir", Kind::OptionalText, |c| Slot::Text(&mut c.tls.ca_cert_dir)),
    special("tls-protocols", &TLS_PROTOCOLS),
    field("tls-ciphers", Kind::OptionalText, |c| Slot::Text(&mut c.tls.ciphers)),
    field("tls-ciphersuites", Kind::OptionalText, |c| Slot::Text(&mut c.tls.ciphersuites)),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn directive(config: &mut Config, line: &str) -> Result<(), String> {
        let mut words = line.split(' ').map(|word| if word == "''" { "" } else { word });
        let name = words.next().unwrap();
        let args: Vec<&[u8]> = words.map(str::as_bytes).collect();
        apply_directive(config, name.as_bytes(), &args)
    }

    fn shown(config: &mut Config, name: &str) -> String {
        get(config, name.as_bytes()).pop().map_or_else(|| "(none)".into(), |(_, value)| value)
    }

    #[test]
    fn every_default_is_a_value_that_its_row_accepts() {
        for param in PARAMS {
            let mut config = Config::default();
            let before = param.show(&mut config);
            param.set_text(&mut config, before.as_bytes(), Source::Command).unwrap_or_else(|error| {
                let none = param.name == "replicaof" && before.is_empty();
                assert!(none, "{}: {error}", param.name);
            });
            assert_eq!(param.show(&mut config), before, "{}", param.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = PARAMS
            .iter()
            .flat_map(|param| [param.name, param.alias])
            .filter(|name| !name.is_empty())
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn values_are_read_and_shown() {
        for (line, name, value) in [
            ("maxclients 100", "maxclients", "100"),
            ("proto-max-bulk-len 1gb", "proto-max-bulk-len", "1073741824"),
            ("repl-backlog-size 1k", "repl-backlog-size", "1000"),
            ("repl-backlog-size 1Kb", "repl-backlog-size", "1024"),
            ("unixsocketperm 700", "unixsocketperm", "700"),
            ("slave-read-only no", "replica-read-only", "no"),
            ("replica-read-only NO", "slave-read-only", "no"),
            ("loglevel DEBUG", "loglevel", "debug"),
            ("enable-debug-command local", "enable-debug-command", "local"),
            ("repl-diskless-load swapdb", "repl-diskless-load", "swapdb"),
            ("bind 127.0.0.1 -::1", "bind", "127.0.0.1 -::1"),
            ("bind ''", "bind", ""),
            ("notify-keyspace-events KEA", "notify-keyspace-events", "AKE"),
            ("save ''", "save", ""),
            ("replicaof localhost 6380", "slaveof", "localhost 6380"),
            ("appendonly no", "appendonly", "no"),
            ("latency-tracking-info-percentiles 50 99.9", "latency-tracking-info-percentiles", "50 99.9"),
            ("hash-max-ziplist-entries 7", "hash-max-listpack-entries", "7"),
            (
                "client-output-buffer-limit slave 1mb 2 3",
                "client-output-buffer-limit",
                "normal 0 0 0 slave 1048576 2 3 pubsub 33554432 8388608 60",
            ),
        ] {
            let mut config = Config::default();
            assert_eq!(directive(&mut config, line), Ok(()), "{line}");
            assert_eq!(shown(&mut config, name), value, "{line}");
        }
    }

    #[test]
    fn reasons_are_those_of_redis() {
        for (line, reason) in [
            ("nope 1", "Bad directive or wrong number of arguments"),
            ("port", "wrong number of arguments"),
            ("port 1 2", "wrong number of arguments"),
            ("port x", "argument couldn't be parsed into an integer"),
            ("port 65536", "argument must be between 0 and 65535 inclusive"),
            ("daemonize maybe", "argument must be 'yes' or 'no'"),
            ("repl-backlog-size x", "argument must be a memory value"),
            ("maxmemory-clients 101%", "percentage argument must be less or equal to 100"),
            ("maxmemory-clients x", "argument must be a memory or percent value"),
            ("unixsocketperm 9", "argument couldn't be parsed as an octal number"),
            ("unixsocketperm 1000", "argument must be between 0 and 777 inclusive"),
            ("loglevel x", "argument(s) must be one of the following: debug, verbose, notice, warning"),
            ("save 1", "Invalid save parameters"),
            ("save 0 1", "Invalid save parameters"),
            ("dbfilename a/b", "dbfilename can't be a path, just a filename"),
            ("notify-keyspace-events ?", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
            ("client-output-buffer-limit a 1 2", "Wrong number of arguments in buffer limit configuration."),
            (
                "client-output-buffer-limit a 1 2 3",
                "Invalid client class specified in buffer limit configuration.",
            ),
            ("replicaof host 99999", "Invalid master port"),
            ("tls-protocols TLSv1.1", "TLSv1.1 is not supported, only TLSv1.2 and TLSv1.3 are"),
            (
                "tls-protocols SSLv3",
                "Invalid tls-protocols specified. Use a combination of 'TLSv1.2' and 'TLSv1.3'.",
            ),
            ("tls-key-file-pass x", "encrypted keys are not supported: decrypt the key and protect its file"),
            ("appendonly yes", "the append only file is not supported yet"),
            ("rename-command a b", "No such command in rename-command"),
            ("rename-command config|get b", "No such command in rename-command"),
            ("rename-command get SET", "Target command name already exists"),
            ("rename-command get", "Bad directive or wrong number of arguments"),
        ] {
            assert_eq!(directive(&mut Config::default(), line).unwrap_err(), reason, "{line}");
        }
    }

    #[test]
    fn the_first_save_line_replaces_the_defaults_and_others_add() {
        let mut config = Config::default();
        directive(&mut config, "save 900 1").unwrap();
        directive(&mut config, "save 300 10 60 100").unwrap();
        assert_eq!(shown(&mut config, "save"), "900 1 300 10 60 100");
        directive(&mut config, "save ''").unwrap();
        assert_eq!(shown(&mut config, "save"), "");
        directive(&mut config, "save 1 1").unwrap();
        assert_eq!(shown(&mut config, "save"), "1 1");
    }

    #[test]
    fn patterns_find_names_and_aliases_but_nothing_hidden() {
        let mut config = Config::default();
        let names =
            |found: Vec<(String, String)>| found.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(get(&mut config, b"*-ANNOUNCED")), ["replica-announced"]);
        assert_eq!(names(get(&mut config, b"Slave-Priority")), ["Slave-Priority"]);
        assert_eq!(names(get(&mut config, b"rdb-key-save-*")), [""; 0]);
        assert_eq!(names(get(&mut config, b"rdb-key-save-delay")), ["rdb-key-save-delay"]);
        assert!(names(get(&mut config, b"*")).len() > 180);
    }

    #[test]
    fn what_is_not_default_is_rewritten() {
        let mut config = Config::default();
        for line in [
            "repl-backlog-size 2mb",
            "requirepass a\"b",
            "save 1 2",
            "bind ::1",
            "slaveof h 1",
            "tls-protocols tlsv1.3",
        ] {
            directive(&mut config, line).unwrap();
        }
        let rows = rewrite_lines(&mut config);
        let changed: Vec<&str> = rows
            .iter()
            .flat_map(|row| &row.lines)
            .filter(|line| !line.is_default)
            .map(|line| line.text.as_str())
            .collect();
        assert_eq!(
            changed,
            [
                "bind ::1",
                "dir \".\"",
                "requirepass \"a\\\"b\"",
                "save 1 2",
                "replicaof h 1",
                "repl-backlog-size 2mb",
                "tls-protocols \"TLSv1.3\""
            ]
        );
        let none: Vec<&str> = rows.iter().filter(|row| row.lines.is_empty()).map(|row| row.name).collect();
        assert!(none.contains(&"masterauth") && !none.contains(&"logfile"), "{none:?}");
    }

    #[test]
    fn what_has_no_mechanism_stands_in_the_list_of_deviations() {
        let compat = include_str!("../../../docs/COMPAT.md");
        for param in PARAMS.iter().filter(|param| matches!(param.home, Home::Kept(_))) {
            assert!(compat.contains(&format!("`{}`", param.name)), "{} is not in docs/COMPAT.md", param.name);
        }
    }
}
