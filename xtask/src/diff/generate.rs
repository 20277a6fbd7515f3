//! Random commands from the syntax of each: few keys, few fields, numbers at boundaries, wrong types, wrong arity.
//!
//! Nothing generated depends on a reply, so that an episode is a plain list that can be replayed and cut down. Expiries lie
//! in the past or years ahead, never in between: time plays no part.

use super::random::Random;
use super::table::{Arg, Command, Kind};

pub type Argv = Vec<Vec<u8>>;

pub struct Generator<'t> {
    table: &'t [Command],
    /// One number per command, each above the one before: how often it comes.
    weights: Vec<u32>,
    random: Random,
    /// Only scores that have the same text in 17 digits as in the shortest form.
    plain_scores: bool,
    /// Valkey judges expiries of hash fields by rules of its own (see COMPAT): only what is an expiry in either.
    plain_field_times: bool,
    /// What DUMP gave for some values of each type.
    payloads: &'t [Vec<u8>],
    /// Entries of streams come in the order of their ids.
    next_id: u64,
    /// Times to live that were given out.
    times: u64,
}

/// What a command's arguments have told while they are generated.
#[derive(Default)]
struct Call {
    argv: Argv,
    /// Where the number of what follows has to be filled in.
    count_at: Option<usize>,
    /// How many came the last time that something was repeated.
    repeated: usize,
    /// BYLEX, BYSCORE and the like, decided before the range is made.
    by_lex: bool,
    by_score: bool,
    /// On the keys of their own whose members all have the score 0: a range by text over others is not defined.
    level: bool,
}

const LETTERS: &[u8] = b"slhtzxgp";

impl<'t> Generator<'t> {
    pub fn new(table: &'t [Command], payloads: &'t [Vec<u8>], against: &str, seed: u64) -> Generator<'t> {
        let mut sum = 0;
        let weights = table.iter().map(|command| {
            // Later servers compare with IDs that were deleted.
            let skipped = command.words[0] == "xsetid" && against != "redis70";
            sum += if skipped { 0 } else { weight(command) };
            sum
        });
        let weights = weights.collect();
        Generator {
            table,
            weights,
            random: Random::new(seed),
            plain_scores: against == "redis70",
            plain_field_times: against.starts_with("valkey"),
            payloads,
            next_id: 1,
            times: 0,
        }
    }

    /// A list of about `len` commands, beginning with the protocol to speak.
    pub fn episode(&mut self, len: usize) -> Vec<Argv> {
        let proto = if self.random.percent(50) { "3" } else { "2" };
        let mut steps = vec![words(&["HELLO", proto])];
        while steps.len() < len {
            if self.random.per_mille(12) {
                self.transaction(&mut steps);
            } else if self.random.per_mille(10) {
                let db = self.random.pick(&["0", "1", "2", "0", "0", "16", "-1", "x"]).as_bytes().to_vec();
                steps.push(vec![b"SELECT".to_vec(), db]);
            } else if self.random.per_mille(4) {
                steps.push(words(&["DEBUG", "DIGEST"]));
            } else {
                let command = self.command();
                self.make_consumer(&command, &mut steps);
                steps.push(command);
            }
        }
        steps.push(words(&["DEBUG", "DIGEST"]));
        steps
    }

    fn transaction(&mut self, steps: &mut Vec<Argv>) {
        steps.push(words(&["MULTI"]));
        for _ in 0..self.random.below(7) {
            let command = self.command();
            // Valkey fails the whole transaction for it, and the later Redis too.
            if self.plain_scores || !command[0].eq_ignore_ascii_case(b"watch") {
                self.make_consumer(&command, steps);
                steps.push(command);
            }
        }
        steps.push(words(&[if self.random.percent(85) { "EXEC" } else { "DISCARD" }]));
    }

    /// Since 7.2 a consumer is made also by what finds nothing for it.
    fn make_consumer(&self, argv: &Argv, steps: &mut Vec<Argv>) {
        if self.plain_scores || argv.len() < 4 {
            return;
        }
        let is = |at: usize, word: &[u8]| argv[at].eq_ignore_ascii_case(word);
        let mut make = |key: &Vec<u8>, group: &[Vec<u8>]| {
            let mut make = words(&["XGROUP", "CREATECONSUMER"]);
            make.push(key.clone());
            make.extend_from_slice(group);
            steps.push(make);
        };
        if is(0, b"XCLAIM") || is(0, b"XAUTOCLAIM") {
            make(&argv[1], &argv[2..4]);
        } else if is(0, b"XREADGROUP")
            && let Some(streams) = argv.iter().position(|arg| arg.eq_ignore_ascii_case(b"STREAMS"))
        {
            let keys = &argv[streams + 1..];
            keys[..keys.len() / 2].iter().for_each(|key| make(key, &argv[2..4]));
        }
    }

    pub fn command(&mut self) -> Argv {
        let all = *self.weights.last().expect("the table is not empty");
        let at = self.random.below(all as usize) as u32;
        let command = &self.table[self.weights.partition_point(|weight| *weight <= at)];
        let mut call = Call::default();
        call.argv.extend(command.words.iter().map(|word| word.to_uppercase().into_bytes()));
        call.by_lex = command.words[0].ends_with("bylex") || command.words[0] == "zlexcount";
        call.by_score = command.words[0].ends_with("byscore") || command.words[0] == "zcount";
        if matches!(command.words[0].as_str(), "zrange" | "zrangestore") {
            let kind = self.random.below(3);
            call.by_lex = kind == 1;
            call.by_score = kind == 2;
        }
        call.level = call.by_lex
            || command.words[0] == "zadd" && self.random.percent(25)
            || matches!(command.words[0].as_str(), "zrem" | "zcard" | "zpopmin") && self.random.percent(15);
        for arg in &command.arguments {
            self.argument(command, arg, &mut call);
        }
        if self.random.percent(4) && !call.level {
            self.spoil(command, &mut call.argv);
        }
        if command.words[0].starts_with("sort") {
            order_sort(&mut call.argv);
        }
        call.argv
    }

    fn argument(&mut self, command: &Command, arg: &Arg, call: &mut Call) {
        // The form of a range was decided before its limits were made.
        let decided = match arg.name.as_str() {
            "sortby" => Some(call.by_lex || call.by_score),
            _ => None,
        };
        if arg.optional && !decided.unwrap_or_else(|| self.random.percent(30)) {
            return;
        }
        let times = match arg.multiple {
            true if ["id", "weight"].contains(&arg.name.as_str()) && self.random.percent(95) => {
                call.repeated.max(1)
            }
            true if self.random.percent(4) => 15 + self.random.below(30),
            true => 1 + self.random.below(4).min(self.random.below(4)),
            false => 1,
        };
        if arg.multiple {
            call.repeated = times;
            if let Some(at) = call.count_at.take()
                && self.random.percent(95)
            {
                call.argv[at] = times.to_string().into_bytes();
            }
        }
        for time in 0..times {
            if let Some(token) = &arg.token
                && arg.kind != Kind::PureToken
                && !token.is_empty()
                && (time == 0 || arg.multiple_token)
            {
                call.argv.push(token.clone().into_bytes());
            }
            match arg.kind {
                Kind::Block => arg.within.iter().for_each(|within| self.argument(command, within, call)),
                Kind::OneOf => {
                    let mut at = self.random.below(arg.within.len());
                    if let Some(true) = decided {
                        let wanted = if call.by_lex { "BYLEX" } else { "BYSCORE" };
                        let found =
                            arg.within.iter().position(|within| within.token.as_deref() == Some(wanted));
                        at = found.unwrap_or(at);
                    }
                    self.argument(command, &arg.within[at], call);
                }
                Kind::PureToken => {
                    let token = arg.token.clone().unwrap_or_default();
                    let token = if token == "*" { self.stream_id(command) } else { token.into_bytes() };
                    call.argv.push(token);
                }
                _ => {
                    let counts = arg.name.starts_with("num");
                    let value = if counts { self.small_number() } else { self.value(command, arg, call) };
                    call.argv.push(value);
                    if counts {
                        call.count_at = Some(call.argv.len() - 1);
                    }
                }
            }
        }
    }

    /// Makes a call that is probably wrong.
    fn spoil(&mut self, command: &Command, argv: &mut Argv) {
        let first = command.words.len();
        let count = argv.len() - first;
        let at = first + if count == 0 { 0 } else { self.random.below(count) };
        // Redis 7.0 allows them no option, which in a transaction is another kind of error.
        if self.plain_scores && command.words[0].ends_with("rank") {
            return;
        }
        if self.has_plain_times(command) {
            return;
        }
        // What is not far away could become a time.
        let has_time =
            command.arguments.iter().any(|arg| ["seconds", "milliseconds"].contains(&arg.name.as_str()))
                || argv.iter().any(|arg| arg.len() >= 9 && arg.iter().all(u8::is_ascii_digit));
        let odds = if is_touchy(command) {
            3
        } else if has_time {
            5
        } else {
            6
        };
        match self.random.below(odds) {
            0 if count > 0 => drop(argv.remove(at)),
            1 => argv[0].make_ascii_lowercase(),
            2 if count > 0 => argv.push(argv[at].clone()),
            3 if count > 0 => argv[at] = self.odd_text(),
            4 => argv.push(self.odd_text()),
            // A number among the members could become a score.
            5 if count > 1 && !(self.plain_scores && command.group == "sorted-set") => {
                let other = first + self.random.below(count);
                argv.swap(at, other);
            }
            _ => {}
        }
    }

    /// A command that gives the fields of a hash an expiry, where only some are the same on both sides.
    fn has_plain_times(&self, command: &Command) -> bool {
        let names = ["hexpire", "hpexpire", "hexpireat", "hpexpireat", "hsetex", "hgetex"];
        self.plain_field_times && names.contains(&command.words[0].as_str())
    }

    fn value(&mut self, command: &Command, arg: &Arg, call: &Call) -> Vec<u8> {
        if self.has_plain_times(command) {
            let times = match arg.name.as_str() {
                name if name.starts_with("unix-time-milli") => ["4102444800000", "4102444800001", "1"],
                name if name.starts_with("unix-time") => ["4102444800", "4102444801", "1"],
                "seconds" | "milliseconds" => return self.far_away(),
                _ => [""; 3],
            };
            if !times[0].is_empty() {
                // Valkey's changes nothing if the time is over and there is no such hash; a transaction may watch it.
                let times = if command.words[0] == "hsetex" { &times[..2] } else { &times };
                return self.random.pick(times).as_bytes().to_vec();
            }
        } else if arg.kind != Kind::Key && self.random.per_mille(15) && !is_touchy(command) && !call.level {
            return self.odd_text();
        }
        let name = arg.name.as_str();
        match arg.kind {
            Kind::Key => self.key(command, call),
            Kind::Pattern => self.pattern(command),
            Kind::UnixTime => self.unix_time(command, arg),
            Kind::Double => self.double(command, name, call),
            Kind::Integer => self.integer(command, arg, call),
            _ => self.string(command, arg, call),
        }
    }

    fn key(&mut self, command: &Command, call: &Call) -> Vec<u8> {
        if call.level {
            return vec![b'e', b'0' + self.random.below(3) as u8];
        }
        let own = match command.group.as_str() {
            "string" => b's',
            "list" => b'l',
            "hash" => b'h',
            "set" => b't',
            "sorted-set" => b'z',
            "stream" => b'x',
            "geo" => b'g',
            "hyperloglog" => b'p',
            "bitmap" => b's',
            _ => *self.random.pick(LETTERS),
        };
        if self.random.per_mille(3) {
            return self.odd_text();
        }
        let letter = if self.random.percent(90) { own } else { *self.random.pick(LETTERS) };
        vec![letter, b'0' + self.random.below(4) as u8]
    }

    fn pattern(&mut self, command: &Command) -> Vec<u8> {
        if command.words[0].starts_with("sort") {
            let patterns = ["s*", "h*->f1", "nosort", "#", "h*->", "*", "z*", "h1->f*", "->f1"];
            return self.random.pick(&patterns).as_bytes().to_vec();
        }
        let patterns = ["*", "?1", "[a-m]*", "[^s]*", "*1", "m1*", "f*", "s\\0", "", "x", "**", "[", "\\"];
        self.random.pick(&patterns).as_bytes().to_vec()
    }

    fn unix_time(&mut self, command: &Command, arg: &Arg) -> Vec<u8> {
        let milliseconds = arg.name.contains("milli");
        // SET keeps what is over until somebody looks: when it is gone from digests depends on time.
        if command.group == "string" {
            let far = if milliseconds { "4102444800000" } else { "4102444800" };
            return self.random.pick(&[far, far, far, far, far, "0", "-1", "x"]).as_bytes().to_vec();
        }
        let far = if milliseconds { "4102444800000" } else { "4102444800" };
        let times = [
            far,
            far,
            far,
            far,
            far,
            "1",
            "0",
            "-1",
            "9223372036854775807",
            "9223372036854775",
            "x",
            if milliseconds { "4102444800001" } else { "4102444801" },
        ];
        self.random.pick(&times).as_bytes().to_vec()
    }

    fn double(&mut self, command: &Command, name: &str, call: &Call) -> Vec<u8> {
        match name {
            "score" | "increment" if call.level => b"0".to_vec(),
            "increment" if self.plain_scores && command.group == "sorted-set" => self.score(),
            "weight" => self.weight(),
            "longitude" => {
                self.degrees(&["13.361389", "15.087269", "2.35", "-122.4", "0", "180", "-180", "181"])
            }
            "latitude" => {
                self.degrees(&["38.115556", "37.502669", "48.85", "37.7", "0", "85.05112878", "-85", "86"])
            }
            "radius" | "width" | "height" => self
                .random
                .pick(&["1", "200", "1000", "5000.5", "0", "-1", "100000", "20000000"])
                .as_bytes()
                .to_vec(),
            "timeout" => self.random.pick(&["0.001", "0.002", "-1", "x", "0.0005"]).as_bytes().to_vec(),
            "min" | "max" | "start" | "stop" => self.range_limit(command, call),
            _ => self.score(),
        }
    }

    fn degrees(&mut self, known: &[&str]) -> Vec<u8> {
        self.random.pick(known).as_bytes().to_vec()
    }

    /// None that overflows or is -0: after the one SORT of Redis reads no number, and SORT makes a sorted set one that keeps
    /// the other.
    fn score(&mut self) -> Vec<u8> {
        const PLAIN: &[&str] = &[
            "0", "1", "2", "3", "-1", "-2", "0.5", "1.25", "-0.75", "inf", "-inf", "+inf", "1e3", "100000",
            "1.5e3", "2.0",
        ];
        const ANY: &[&str] = &[
            "9007199254740992",
            "-9007199254740993",
            "4294967296",
            "0.1",
            "3.14159",
            "1e300",
            "-1e-300",
            "1e17",
            "123456789012345678",
            "0.30000000000000004",
            "9223372036854775807",
            "5e-324",
            "1e21",
            "1.7976931348623157e308",
            "-2.5e-5",
            "0.001",
        ];
        if self.random.percent(40) {
            return self.random.below(30).to_string().into_bytes();
        }
        if !self.plain_scores && self.random.percent(30) {
            return self.random.pick(ANY).as_bytes().to_vec();
        }
        if self.random.per_mille(20) {
            // Later servers take no hexadecimal and no blank before a number.
            let (hexadecimal, blank) = if self.plain_scores { ("0x10", " 1") } else { ("x", "1 ") };
            return self
                .random
                .pick(&[blank, hexadecimal, "nan", "1.2.3", "", "1e", "e1"])
                .as_bytes()
                .to_vec();
        }
        self.random.pick(PLAIN).as_bytes().to_vec()
    }

    fn weight(&mut self) -> Vec<u8> {
        if self.plain_scores || self.random.percent(60) {
            let weights = ["1", "2", "0.5", "-1", "0", "3", "1", "inf", "x"];
            return self.random.pick(&weights).as_bytes().to_vec();
        }
        self.score()
    }

    /// A limit of ZRANGE and its relatives, of streams' ranges, or an index.
    fn range_limit(&mut self, command: &Command, call: &Call) -> Vec<u8> {
        if command.group == "stream" {
            return self.stream_id(command);
        }
        if call.by_lex {
            let limits = ["-", "+", "[a", "(a", "[m1", "(m1", "[m2", "(m3", "[m15", "[", "(", "m1", "[f0"];
            return self.random.pick(&limits).as_bytes().to_vec();
        }
        if call.by_score {
            let score = self.score();
            return match self.random.below(4) {
                0 => [b"(", &score[..]].concat(),
                1 => self.random.pick(&["-inf", "+inf", "(inf", "(-inf"]).as_bytes().to_vec(),
                _ => score,
            };
        }
        self.index()
    }

    fn index(&mut self) -> Vec<u8> {
        match self.random.below(40) {
            // Later Redis cuts the index of LSET to 32 bits.
            0 if self.plain_scores => self.boundary(),
            0..10 => b"0".to_vec(),
            10..18 => b"-1".to_vec(),
            _ => (self.random.below(25) as i64 - 12).to_string().into_bytes(),
        }
    }

    fn small_number(&mut self) -> Vec<u8> {
        (self.random.below(6) as i64 - 1).to_string().into_bytes()
    }

    fn boundary(&mut self) -> Vec<u8> {
        const NUMBERS: &[&str] = &[
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "-9223372036854775809",
            "4294967295",
            "4294967296",
            "2147483647",
            "-2147483648",
            "18446744073709551615",
            "-0",
            "+1",
            "01",
            " 1",
            "1 ",
            "1.0",
            "",
        ];
        let number = *self.random.pick(NUMBERS);
        // Later servers read some of these otherwise: see COMPAT.
        if !self.plain_scores && matches!(number, "-9223372036854775808" | " 1") {
            return b"-9223372036854775807".to_vec();
        }
        number.as_bytes().to_vec()
    }

    fn integer(&mut self, command: &Command, arg: &Arg, call: &Call) -> Vec<u8> {
        let name = arg.name.as_str();
        let token = arg.token.as_deref().unwrap_or_default();
        let stream = command.group == "stream";
        match name {
            "milliseconds" if token == "BLOCK" => {
                self.random.pick(&["1", "2", "3", "-1", "x"]).as_bytes().to_vec()
            }
            "seconds" | "milliseconds" | "ttl" | "ms" if token != "IDLE" && self.random.percent(60) => {
                self.far_away()
            }
            "seconds" | "milliseconds" | "ttl" | "ms" if token != "IDLE" => {
                const TIMES: &[&str] =
                    &["0", "-1", "9223372036854775807", "9223372036854775", "-9223372036854775808", "x"];
                self.random.pick(TIMES).as_bytes().to_vec()
            }
            // Later servers cut it to the entries that there are.
            _ if token == "ENTRIESREAD" && !self.plain_scores => {
                self.random.pick(&["0", "-1", "0", "-2"]).as_bytes().to_vec()
            }
            "weight" => self.weight(),
            "increment" if command.group == "sorted-set" => self.score(),
            "index1" | "index2" => {
                self.random.pick(&["0", "1", "2", "2", "16", "-1", "x"]).as_bytes().to_vec()
            }
            _ if name.contains("db") => {
                self.random.pick(&["0", "1", "2", "1", "16", "-1", "x"]).as_bytes().to_vec()
            }
            "cursor" => self.cursor(),
            "offset" if command.words[0] == "setrange" => self.bit_offset(),
            "offset" if command.group == "bitmap" => self.bit_offset(),
            "bit" | "value" if command.group == "bitmap" => {
                self.random.pick(&["0", "1", "1", "0", "2", "-1", "255", "127"]).as_bytes().to_vec()
            }
            "increment" | "decrement" | "value" => match self.random.below(8) {
                0 => self.boundary(),
                1 => self
                    .random
                    .pick(&["9223372036854775800", "-9223372036854775800", "1000000"])
                    .as_bytes()
                    .to_vec(),
                _ => (self.random.below(40) as i64 - 20).to_string().into_bytes(),
            },
            "min-idle-time" | "idle" => self.idle(),
            // A count that is far below 0 asks for as many random picks.
            _ if command.words[0].contains("rand") => {
                (self.random.below(30) as i64 - 12).to_string().into_bytes()
            }
            "start" | "end" | "stop" if stream || call.by_lex || call.by_score => {
                self.range_limit(command, call)
            }
            "start" | "end" | "stop" | "index" => self.index(),
            _ => match self.random.below(30) {
                0 => self.boundary(),
                _ => (self.random.below(14) as i64 - 3).to_string().into_bytes(),
            },
        }
    }

    /// A time that comes once, and is far from others, so that GT and LT depend on no clock.
    fn far_away(&mut self) -> Vec<u8> {
        self.times += 1;
        (100_000_000 + 10_000 * (self.times * 4801 % 10_007)).to_string().into_bytes()
    }

    fn idle(&mut self) -> Vec<u8> {
        self.random.pick(&["0", "0", "0", "1000000000", "-1"]).as_bytes().to_vec()
    }

    /// None that overflows, as of scores.
    fn cursor(&mut self) -> Vec<u8> {
        self.random.pick(&["0", "0", "0", "0", "0", "0", "0", "x", "-1"]).as_bytes().to_vec()
    }

    /// Either small or beyond what both servers let a string grow to.
    fn bit_offset(&mut self) -> Vec<u8> {
        match self.random.below(20) {
            0 => self
                .random
                .pick(&["-1", "4294967296", "9223372036854775807", "1048576", "1048577", "8388608", "x"])
                .as_bytes()
                .to_vec(),
            1 => self.random.below(3000).to_string().into_bytes(),
            _ => self.random.below(120).to_string().into_bytes(),
        }
    }

    fn string(&mut self, command: &Command, arg: &Arg, call: &Call) -> Vec<u8> {
        let name = arg.name.as_str();
        let token = arg.token.as_deref().unwrap_or_default();
        if name.contains("serialized") && !self.payloads.is_empty() {
            let mut payload = self.random.pick(self.payloads).clone();
            if self.random.percent(15) {
                let at = self.random.below(payload.len());
                payload[at] ^= 1 << self.random.below(8);
            }
            return payload;
        }
        match name {
            "min-idle-time" => return self.idle(),
            "min" | "max" | "start" | "end" | "stop" | "id" | "lastid" | "last-id" | "last-delivered-id"
                if command.group == "stream" =>
            {
                return self.stream_id(command);
            }
            "threshold" => {
                return match self.random.percent(50) {
                    true => self.random.below(12).to_string().into_bytes(),
                    false => self.stream_id(command),
                };
            }
            "min" | "max" | "start" | "stop" if command.group == "sorted-set" => {
                return self.range_limit(command, call);
            }
            "group" | "groupname" => return self.random.pick(&["g1", "g2", "g3"]).as_bytes().to_vec(),
            "consumer" | "consumername" => return self.random.pick(&["c1", "c2", "c3"]).as_bytes().to_vec(),
            "type" => {
                return self
                    .random
                    .pick(&["string", "list", "set", "zset", "hash", "stream", "x", "ZSET"])
                    .as_bytes()
                    .to_vec();
            }
            "operation" => {
                return self.random.pick(&["AND", "OR", "XOR", "NOT", "and", "x"]).as_bytes().to_vec();
            }
            "encoding" => {
                return self
                    .random
                    .pick(&["u8", "i8", "u1", "i64", "u63", "u64", "i5", "u16", "x", "i65", "u0"])
                    .as_bytes()
                    .to_vec();
            }
            "offset" if command.group == "bitmap" => {
                let offset = self.bit_offset();
                return if self.random.percent(30) && offset.len() < 4 {
                    [b"#", &offset[..]].concat()
                } else {
                    offset
                };
            }
            "pattern" => return self.pattern(command),
            "cursor" => return self.cursor(),
            _ if token == "MATCH" => return self.pattern(command),
            _ if name.contains("field") => return self.field(),
            _ if name.contains("member") => return self.element(),
            _ if command.group == "set" || name.contains("element") || name.contains("pivot") => {
                return self.element();
            }
            _ => {}
        }
        self.text()
    }

    fn field(&mut self) -> Vec<u8> {
        match self.random.below(40) {
            0 => self.text(),
            1 => self.random.below(40).to_string().into_bytes(),
            _ => format!("f{}", self.random.below(24)).into_bytes(),
        }
    }

    fn element(&mut self) -> Vec<u8> {
        match self.random.below(40) {
            0 => self.text(),
            1..18 => (self.random.below(50) as i64 - 10).to_string().into_bytes(),
            18..20 => self
                .random
                .pick(&[
                    "32767",
                    "32768",
                    "-32769",
                    "2147483647",
                    "2147483648",
                    "-2147483649",
                    "9223372036854775807",
                    "-9223372036854775808",
                    "9223372036854775808",
                ])
                .as_bytes()
                .to_vec(),
            _ => format!("m{}", self.random.below(24)).into_bytes(),
        }
    }

    fn text(&mut self) -> Vec<u8> {
        match self.random.below(100) {
            0..30 => (self.random.below(200) as i64 - 100).to_string().into_bytes(),
            30..36 => self.boundary(),
            36..40 => self.score(),
            40..46 => self.odd_text(),
            46..49 => vec![
                b'a' + self.random.below(3) as u8;
                [44, 45, 63, 64, 65, 70, 255, 256][self.random.below(8)]
            ],
            49 => vec![b'z'; 1000 + self.random.below(2000)],
            50..70 => format!("m{}", self.random.below(24)).into_bytes(),
            _ => self
                .random
                .pick(&["hello", "world", "foobar", "ohmytext", "mynewtext", "a", "3.0e3"])
                .as_bytes()
                .to_vec(),
        }
    }

    fn odd_text(&mut self) -> Vec<u8> {
        match self.random.below(12) {
            0 => Vec::new(),
            1 => b"\x00\xff\r\n$-1\r\n".to_vec(),
            2 => (0..self.random.below(20)).map(|_| self.random.next() as u8).collect(),
            3 if !self.plain_scores => self.boundary(),
            3 | 4 => b"nan".to_vec(),
            5 => b"inf".to_vec(),
            6 => b"-1".to_vec(),
            7 => self
                .random
                .pick(&["COUNT", "LIMIT", "WITHSCORES", "GET", "NX", "REPLACE"])
                .as_bytes()
                .to_vec(),
            8 => b"1e40".to_vec(),
            9 => b"\"quoted \\ text\"".to_vec(),
            10 => b"7.5".to_vec(),
            _ => b"abc".to_vec(),
        }
    }

    fn stream_id(&mut self, command: &Command) -> Vec<u8> {
        let name = command.words[0].as_str();
        if name == "xadd" && self.random.percent(75) {
            self.next_id += self.random.below(3) as u64;
            let sequence = self.random.below(3);
            return match self.random.below(10) {
                0 => format!("{}-*", self.next_id).into_bytes(),
                _ => format!("{}-{sequence}", self.next_id).into_bytes(),
            };
        }
        if name == "xreadgroup" && self.random.percent(60) {
            return b">".to_vec();
        }
        let near = |back: usize, generator: &Generator<'_>| generator.next_id.saturating_sub(back as u64);
        match self.random.below(16) {
            0 => b"-".to_vec(),
            // Redis 7.0 does not know it, and Valkey goes by the last ID, which no entry may have.
            1 if name.starts_with("xread") && (self.plain_scores || self.plain_field_times) => b"$".to_vec(),
            1 => b"+".to_vec(),
            2 => b"$".to_vec(),
            3 => b"0".to_vec(),
            4 => b"0-0".to_vec(),
            // To XREADGROUP of Redis it is the same as `>`.
            5 if name != "xreadgroup" => b"18446744073709551615-18446744073709551615".to_vec(),
            6 => self.odd_text(),
            7 => {
                let back = self.random.below(20);
                format!("({}-{}", near(back, self), self.random.below(3)).into_bytes()
            }
            8 => near(self.random.below(20), self).to_string().into_bytes(),
            _ => {
                let back = self.random.below(20);
                format!("{}-{}", near(back, self), self.random.below(3)).into_bytes()
            }
        }
    }
}

/// Commands whose numbers are chosen with care: a timeout of 0 waits for ever, and so do as many random picks as a count far
/// below 0 asks for. Later Redis cuts LSET's index.
fn is_touchy(command: &Command) -> bool {
    command.blocking || command.words[0].contains("rand") || command.words[0] == "lset"
}

/// What empties much comes rarely, and so does what stops the pipeline. What redis 7.0 has not is compared with later peers
/// only, and so comes often there.
fn weight(command: &Command) -> u32 {
    match command.words[0].as_str() {
        _ if command.is_new => 200,
        "flushall" | "flushdb" => 1,
        "swapdb" | "randomkey" | "dump" | "scan" => 8,
        "sscan" | "hscan" | "zscan" | "spop" | "srandmember" | "hrandfield" | "zrandmember" => 15,
        "del" | "unlink" | "move" | "rename" => 20,
        "keys" => 10,
        _ if command.blocking => 6,
        _ => 40,
    }
}

/// Leaves away what makes the order of SORT's result, or what is of it, depend on the order of a hash table: of texts that
/// are the same, and of a part of what is not sorted.
fn order_sort(argv: &mut Argv) {
    let at = |argv: &Argv, option: &[u8]| argv.iter().position(|arg| arg.eq_ignore_ascii_case(option));
    let Some(by) = at(argv, b"BY") else { return };
    argv.retain(|arg| !arg.eq_ignore_ascii_case(b"ALPHA"));
    if argv.get(by + 1).is_some_and(|pattern| !pattern.contains(&b'*'))
        && let Some(limit) = at(argv, b"LIMIT")
    {
        argv.drain(limit..argv.len().min(limit + 3));
    }
}

pub fn words(words: &[&str]) -> Argv {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}
