//! An endless stream of writes, the same for the same seed, and a thread that sends it to a server.
//!
//! The commands are the everyday ones of all types and of keys, over few keys and few elements, so that they meet:
//! what one adds another removes, renames, moves or lets expire. Errors are part of it (a key is missing, an element is no
//! number); an error that no server should give fails the test. Keys that expire soon all begin with `brief:`; before
//! servers are compared [`Writes::remove_brief`] deletes what is left of them.
//! A stream [`Writes::with_field_expiries`] also has the commands for expiries of hash fields, which Redis 8 and Valkey 9
//! have; some of its fields expire soon, in keys that stay.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{Batch, Client, Reply};
use super::dataset::FAR_FUTURE_MS;
use super::random::Random;

const DATABASES: [usize; 4] = [0, 1, 2, 15];
const KEYS: u64 = 60;
const ELEMENTS: u64 = 300;

/// Errors that the stream draws from any server.
const EXPECTED_ERRORS: [&str; 13] = [
    "WRONGTYPE",
    "ERR no such key",
    "ERR value is not an integer",
    "ERR value is not a valid float",
    "ERR hash value is not an integer",
    "ERR hash value is not a float",
    "ERR index out of range",
    "ERR increment or decrement would overflow",
    "ERR source and destination objects are the same",
    "NOGROUP",
    "BUSYGROUP",
    "ERR The XGROUP subcommand requires the key to exist",
    "ERR The ID specified in XADD is equal or smaller",
];

pub struct Writes {
    random: Random,
    database: usize,
    field_expiries: bool,
}

impl Writes {
    pub fn new(seed: u64) -> Writes {
        Writes { random: Random::new(seed), database: 0, field_expiries: false }
    }

    /// For a primary that knows expiries of hash fields.
    pub fn with_field_expiries(seed: u64) -> Writes {
        Writes { field_expiries: true, ..Writes::new(seed) }
    }

    /// What must be sent first on each new connection.
    pub fn resume(&self, batch: &mut Batch) {
        batch.push_text(&format!("SELECT {}", self.database));
    }

    /// About `commands` more commands; transactions are not torn apart.
    pub fn fill(&mut self, batch: &mut Batch, commands: usize) {
        while batch.commands < commands {
            match self.random.below(100) {
                0..3 => {
                    batch.push(&["MULTI"]);
                    for _ in 0..=self.random.below(7) {
                        self.command(batch);
                    }
                    batch.push(&["EXEC"]);
                }
                _ => self.command(batch),
            }
        }
    }

    /// Deletes the keys that expire soon, in all databases.
    pub fn remove_brief(&self, batch: &mut Batch) {
        for database in DATABASES {
            batch.push_text(&format!("SELECT {database}"));
            let mut argv = vec!["UNLINK".to_owned()];
            argv.extend((0..KEYS).map(|index| format!("brief:{index}")));
            batch.push(&argv);
        }
        self.resume(batch);
    }

    fn command(&mut self, batch: &mut Batch) {
        let argv = match self.random.below(100) {
            0..23 => self.string(),
            23..37 => self.list(),
            37..51 if self.field_expiries && self.random.chance(60) => self.field_expiry(),
            37..51 => self.hash(),
            51..64 => self.set(),
            64..77 => self.sorted_set(),
            77..88 => self.stream(),
            _ => self.generic(),
        };
        batch.push(&argv);
    }

    fn key(&mut self, family: &str) -> Vec<u8> {
        // A few commands meet a key of another type.
        let family =
            if self.random.chance(1) { self.random.pick(&["s", "l", "h", "t", "z", "x"]) } else { family };
        format!("{family}:{}", self.random.below(KEYS)).into_bytes()
    }

    fn element(&mut self) -> Vec<u8> {
        let number = self.random.below(ELEMENTS);
        match self.random.below(20) {
            0..7 => number.to_string().into_bytes(),
            7 => self.random.bytes((number % 90) as usize),
            8 if number < 20 => vec![number as u8; 3000],
            _ => format!("element-{number}").into_bytes(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        match self.random.below(100) {
            0..30 => self.random.between(-1_000_000, 1_000_000).to_string().into_bytes(),
            30..35 => Vec::new(),
            35..37 => {
                let len = self.random.below(6000) as usize;
                self.random.bytes(len)
            }
            37..40 => vec![b'c'; self.random.below(3000) as usize],
            _ => {
                let len = self.random.below(100) as usize;
                self.random.bytes(len)
            }
        }
    }

    fn number(&mut self, from: i64, to: i64) -> Vec<u8> {
        self.random.between(from, to).to_string().into_bytes()
    }

    /// A half.
    fn score(&mut self) -> Vec<u8> {
        format!("{}", self.random.between(-2000, 2000) as f64 / 2.0).into_bytes()
    }

    fn pick(&mut self, of: &[&str]) -> Vec<u8> {
        self.random.pick(of).as_bytes().to_vec()
    }

    fn elements(&mut self, most: u64) -> Vec<Vec<u8>> {
        (0..=self.random.below(most)).map(|_| self.element()).collect()
    }

    fn string(&mut self) -> Vec<Vec<u8>> {
        let key = self.key("s");
        match self.random.below(20) {
            0..4 => vec![b"SET".to_vec(), key, self.value()],
            4 => {
                let (option, number) = match self.random.below(4) {
                    0 => ("EX", self.number(100_000, 900_000)),
                    1 => ("PX", self.number(100_000_000, 900_000_000)),
                    2 => ("EXAT", self.number(FAR_FUTURE_MS / 1000, FAR_FUTURE_MS / 1000 + 999)),
                    _ => ("PXAT", self.number(FAR_FUTURE_MS, FAR_FUTURE_MS + 999)),
                };
                vec![b"SET".to_vec(), key, self.value(), option.as_bytes().to_vec(), number]
            }
            5 => {
                let option = self.pick(&["NX", "XX", "KEEPTTL", "GET"]);
                vec![b"SET".to_vec(), key, self.value(), option]
            }
            6 => vec![b"SETEX".to_vec(), key, self.number(100_000, 900_000), self.value()],
            7 => vec![b"APPEND".to_vec(), key, self.value()],
            8 => vec![b"SETRANGE".to_vec(), key, self.number(0, 300), self.value()],
            9 => vec![self.pick(&["INCR", "DECR"]), key],
            10 => vec![self.pick(&["INCRBY", "DECRBY"]), key, self.number(-1000, 1000)],
            11 => vec![b"INCRBYFLOAT".to_vec(), key, self.score()],
            12 => vec![b"INCRBYFLOAT".to_vec(), key, b"0.1".to_vec()],
            13 => vec![self.pick(&["MSET", "MSETNX"]), key, self.value(), self.key("s"), self.value()],
            14 => vec![self.pick(&["GETSET", "SETNX"]), key, self.value()],
            15 => vec![b"GETDEL".to_vec(), key],
            16 => match self.random.below(2) {
                0 => vec![b"GETEX".to_vec(), key, b"PERSIST".to_vec()],
                _ => vec![b"GETEX".to_vec(), key, b"PX".to_vec(), self.number(100_000_000, 900_000_000)],
            },
            _ => {
                let brief = format!("brief:{}", self.random.below(KEYS)).into_bytes();
                vec![b"SET".to_vec(), brief, self.value(), b"PX".to_vec(), self.number(1, 400)]
            }
        }
    }

    fn list(&mut self) -> Vec<Vec<u8>> {
        let key = self.key("l");
        match self.random.below(16) {
            0..5 => {
                let command = self.pick(&["LPUSH", "RPUSH", "RPUSH", "LPUSHX", "RPUSHX"]);
                [vec![command, key], self.elements(12)].concat()
            }
            5 => vec![self.pick(&["LPOP", "RPOP"]), key],
            6 => vec![self.pick(&["LPOP", "RPOP"]), key, self.number(0, 12)],
            7 => vec![b"LSET".to_vec(), key, self.number(-20, 20), self.value()],
            8 => {
                vec![b"LINSERT".to_vec(), key, self.pick(&["BEFORE", "AFTER"]), self.element(), self.value()]
            }
            9 => vec![b"LREM".to_vec(), key, self.number(-3, 3), self.element()],
            10 => vec![b"LTRIM".to_vec(), key, self.number(-60, 5), self.number(-5, 120)],
            11 => vec![b"RPOPLPUSH".to_vec(), key, self.key("l")],
            12 => {
                let ends = (self.pick(&["LEFT", "RIGHT"]), self.pick(&["LEFT", "RIGHT"]));
                vec![b"LMOVE".to_vec(), key, self.key("l"), ends.0, ends.1]
            }
            13 => vec![b"RPUSH".to_vec(), key, self.value(), self.value()],
            _ => [vec![b"RPUSH".to_vec(), key], self.elements(40)].concat(),
        }
    }

    fn hash(&mut self) -> Vec<Vec<u8>> {
        let key = self.key("h");
        match self.random.below(12) {
            0..5 => {
                let mut argv = vec![self.pick(&["HSET", "HSET", "HMSET"]), key];
                for field in self.elements(12) {
                    argv.extend([field, self.value()]);
                }
                argv
            }
            5 => vec![b"HSETNX".to_vec(), key, self.element(), self.value()],
            6 | 7 => [vec![b"HDEL".to_vec(), key], self.elements(12)].concat(),
            8 => vec![b"HINCRBY".to_vec(), key, b"counter".to_vec(), self.number(-1000, 1000)],
            9 => vec![b"HINCRBYFLOAT".to_vec(), key, b"counter".to_vec(), self.score()],
            10 => vec![b"HINCRBYFLOAT".to_vec(), key, self.element(), b"3.3".to_vec()],
            _ => vec![b"HINCRBY".to_vec(), key, self.element(), self.number(-9, 9)],
        }
    }

    fn field_expiry(&mut self) -> Vec<Vec<u8>> {
        let key = self.key("h");
        let far = (
            self.number(FAR_FUTURE_MS / 1000, FAR_FUTURE_MS / 1000 + 999),
            self.number(FAR_FUTURE_MS, FAR_FUTURE_MS + 999),
        );
        let time = |option: &str, time: Vec<u8>| vec![option.as_bytes().to_vec(), time];
        let head = match self.random.below(20) {
            0..3 => vec![b"HEXPIRE".to_vec(), key, self.number(100_000, 900_000)],
            3 => vec![b"HPEXPIREAT".to_vec(), key, far.1],
            4 => vec![b"HEXPIREAT".to_vec(), key, far.0, self.pick(&["NX", "XX", "GT", "LT"])],
            5..8 => vec![b"HPEXPIRE".to_vec(), key, self.number(1, 400)],
            8 => vec![b"HEXPIRE".to_vec(), key, b"0".to_vec()],
            9 | 10 => vec![b"HPERSIST".to_vec(), key],
            11 => vec![b"HGETDEL".to_vec(), key],
            12 => vec![b"HGETEX".to_vec(), key, b"PERSIST".to_vec()],
            13 => [vec![b"HGETEX".to_vec(), key], time("PXAT", far.1)].concat(),
            14 => [vec![b"HGETEX".to_vec(), key], time("PX", self.number(1, 400))].concat(),
            option => {
                let mut argv = vec![b"HSETEX".to_vec(), key];
                if self.random.chance(20) {
                    argv.push(self.pick(&["FNX", "FXX"]));
                }
                match option {
                    15 => argv.push(b"KEEPTTL".to_vec()),
                    16 => argv.extend(time("EX", self.number(100_000, 900_000))),
                    17 => argv.extend(time("EXAT", far.0)),
                    18 => argv.extend(time("PX", self.number(1, 400))),
                    _ => {}
                }
                let fields = self.elements(6);
                argv.extend([b"FIELDS".to_vec(), fields.len().to_string().into_bytes()]);
                for field in fields {
                    argv.extend([field, self.value()]);
                }
                return argv;
            }
        };
        let fields = self.elements(9);
        [head, vec![b"FIELDS".to_vec(), fields.len().to_string().into_bytes()], fields].concat()
    }

    fn set(&mut self) -> Vec<Vec<u8>> {
        let key = self.key("t");
        match self.random.below(14) {
            0..5 => [vec![b"SADD".to_vec(), key], self.elements(20)].concat(),
            5 => {
                let numbers: Vec<Vec<u8>> = (0..9).map(|_| self.number(-70_000, 70_000)).collect();
                [vec![b"SADD".to_vec(), key], numbers].concat()
            }
            6 | 7 => [vec![b"SREM".to_vec(), key], self.elements(20)].concat(),
            8 => vec![b"SPOP".to_vec(), key],
            9 => vec![b"SPOP".to_vec(), key, self.number(0, 30)],
            10 => vec![b"SMOVE".to_vec(), key, self.key("t"), self.element()],
            11 => vec![b"SRANDMEMBER".to_vec(), key, self.number(-5, 5)],
            _ => {
                let command = self.pick(&["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"]);
                vec![command, key, self.key("t"), self.key("t")]
            }
        }
    }

    fn sorted_set(&mut self) -> Vec<Vec<u8>> {
        let key = self.key("z");
        match self.random.below(16) {
            0..5 => {
                let mut argv = vec![b"ZADD".to_vec(), key];
                for member in self.elements(12) {
                    argv.extend([self.score(), member]);
                }
                argv
            }
            5 => {
                let option = self.pick(&["NX", "XX", "GT", "LT", "CH"]);
                vec![
                    b"ZADD".to_vec(),
                    key,
                    option,
                    self.score(),
                    self.element(),
                    self.score(),
                    self.element(),
                ]
            }
            6 => vec![b"ZADD".to_vec(), key, b"INCR".to_vec(), self.score(), self.element()],
            7 => vec![b"ZINCRBY".to_vec(), key, self.score(), self.element()],
            8 | 9 => [vec![b"ZREM".to_vec(), key], self.elements(12)].concat(),
            10 => vec![self.pick(&["ZPOPMIN", "ZPOPMAX"]), key, self.number(0, 6)],
            11 => vec![b"ZREMRANGEBYRANK".to_vec(), key, self.number(-30, 5), self.number(-10, 10)],
            12 => vec![b"ZREMRANGEBYSCORE".to_vec(), key, self.score(), b"(100".to_vec()],
            13 => self.lexical(),
            14 => {
                // Sums go where no sum is taken from: repeated doubling would leave the range of exact halves.
                let command = self.pick(&["ZUNIONSTORE", "ZINTERSTORE"]);
                let sum = format!("sum:{}", self.random.below(KEYS)).into_bytes();
                vec![
                    command,
                    sum,
                    b"2".to_vec(),
                    key,
                    self.key("z"),
                    b"WEIGHTS".to_vec(),
                    b"2".to_vec(),
                    b"0.5".to_vec(),
                ]
            }
            _ => match self.random.below(3) {
                0 => vec![b"ZDIFFSTORE".to_vec(), self.key("z"), b"2".to_vec(), key, self.key("z")],
                1 => vec![b"ZRANGESTORE".to_vec(), self.key("z"), key, b"0".to_vec(), self.number(-5, 30)],
                _ => {
                    let aggregate = self.pick(&["MIN", "MAX"]);
                    let from = self.key("z");
                    vec![
                        b"ZUNIONSTORE".to_vec(),
                        self.key("z"),
                        b"2".to_vec(),
                        key,
                        from,
                        b"AGGREGATE".to_vec(),
                        aggregate,
                    ]
                }
            },
        }
    }

    /// Where scores differ it is not defined what a lexical range is, and replicas of real servers do diverge there
    /// (it depends on the levels in the skip list). So these keys are not touched by other commands.
    fn lexical(&mut self) -> Vec<Vec<u8>> {
        let key = format!("lexical:{}", self.random.below(4)).into_bytes();
        if self.random.chance(25) {
            let from = [&b"["[..], &self.element()].concat();
            return vec![b"ZREMRANGEBYLEX".to_vec(), key, from, b"(element-2".to_vec()];
        }
        let members = self.elements(20).into_iter().flat_map(|member| [b"0".to_vec(), member]);
        [vec![b"ZADD".to_vec(), key], members.collect()].concat()
    }

    fn stream(&mut self) -> Vec<Vec<u8>> {
        let key = self.key("x");
        let words = |text: &str| text.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        let (group, consumer) = (self.pick(&["g", "h"]), self.pick(&["alice", "bob"]));
        let of_group = |command: &str| vec![command.as_bytes().to_vec(), key.clone(), group.clone()];
        match self.random.below(20) {
            0..8 => {
                let mut argv = vec![b"XADD".to_vec(), key];
                match self.random.below(8) {
                    0 => argv.extend([b"MAXLEN".to_vec(), b"=".to_vec(), self.number(0, 200)]),
                    1 => argv.extend([b"MAXLEN".to_vec(), b"~".to_vec(), self.number(0, 200)]),
                    2 => argv.push(b"NOMKSTREAM".to_vec()),
                    _ => {}
                }
                argv.push(self.pick(&["*", "*", "*", "4102444800000-*", "5-1"]));
                for name in ["temperature", "humidity", "note"].iter().take(1 + self.random.below(3) as usize)
                {
                    argv.extend([name.as_bytes().to_vec(), self.value()]);
                }
                if self.random.chance(10) {
                    argv.extend([self.element(), self.value()]);
                }
                argv
            }
            8 => [words("XTRIM"), vec![key], words("MAXLEN ~"), vec![self.number(0, 100)]].concat(),
            9 => [words("XTRIM"), vec![key], words("MAXLEN ="), vec![self.number(0, 100)]].concat(),
            10 => vec![b"XDEL".to_vec(), key, b"5-1".to_vec()],
            11 => [words("XGROUP CREATE"), vec![key, group], words("0 MKSTREAM")].concat(),
            12 => [words("XGROUP SETID"), vec![key, group, self.pick(&["0", "$", "5-1"])]].concat(),
            13 => match self.random.below(3) {
                0 => [words("XGROUP DESTROY"), vec![key, group]].concat(),
                1 => [words("XGROUP CREATECONSUMER"), vec![key, group, consumer]].concat(),
                _ => [words("XGROUP DELCONSUMER"), vec![key, group, consumer]].concat(),
            },
            14..17 => {
                let mut argv = [words("XREADGROUP GROUP"), vec![group, consumer], words("COUNT 7")].concat();
                if self.random.chance(20) {
                    argv.push(b"NOACK".to_vec());
                }
                argv.extend([b"STREAMS".to_vec(), key, self.pick(&[">", ">", ">", "0"])]);
                argv
            }
            17 => [of_group("XACK"), words("5-1 4102444800000-0 4102444800000-1")].concat(),
            18 => [of_group("XCLAIM"), vec![consumer], words("0 4102444800000-0 5-1 FORCE")].concat(),
            _ => [of_group("XAUTOCLAIM"), vec![consumer], words("0 0 COUNT 9")].concat(),
        }
    }

    fn generic(&mut self) -> Vec<Vec<u8>> {
        let family = self.random.pick(&["s", "l", "h", "t", "z", "x"]);
        let (key, other) = (self.key(family), self.key(family));
        match self.random.below(40) {
            0..6 => vec![b"EXPIRE".to_vec(), key, self.number(100_000, 900_000)],
            6..8 => vec![b"PEXPIRE".to_vec(), key, self.number(100_000_000, 900_000_000)],
            8..10 => {
                vec![b"EXPIREAT".to_vec(), key, self.number(FAR_FUTURE_MS / 1000, FAR_FUTURE_MS / 1000 + 999)]
            }
            10..12 => vec![b"PEXPIREAT".to_vec(), key, self.number(FAR_FUTURE_MS, FAR_FUTURE_MS + 999)],
            12 => {
                let option = self.pick(&["NX", "XX", "GT", "LT"]);
                vec![b"EXPIRE".to_vec(), key, self.number(100_000, 900_000), option]
            }
            13 => vec![self.pick(&["EXPIRE", "PEXPIRE"]), key, self.number(-5, 0)],
            14..18 => vec![b"PERSIST".to_vec(), key],
            18..22 => vec![self.pick(&["DEL", "UNLINK"]), key, other],
            22..25 => vec![b"RENAME".to_vec(), key, other],
            25 => vec![b"RENAMENX".to_vec(), key, other],
            26..28 => match self.random.below(3) {
                0 => vec![b"COPY".to_vec(), key, other],
                1 => vec![b"COPY".to_vec(), key, other, b"REPLACE".to_vec()],
                _ => {
                    let database = self.other_database().to_string().into_bytes();
                    vec![b"COPY".to_vec(), key, other, b"DB".to_vec(), database, b"REPLACE".to_vec()]
                }
            },
            28..30 => vec![b"MOVE".to_vec(), key, self.other_database().to_string().into_bytes()],
            30 if self.random.chance(5) => vec![b"SWAPDB".to_vec(), b"1".to_vec(), b"15".to_vec()],
            // ASYNC: Redis 8.2 blocks its link to the primary while it frees a database that is flushed without it,
            // and forgets the history when the link is cut in that moment, whoever its primary is.
            31 if self.random.chance(2) && self.database == 2 => vec![b"FLUSHDB".to_vec(), b"ASYNC".to_vec()],
            32 => vec![b"TOUCH".to_vec(), key],
            _ => {
                self.database = DATABASES[self.random.below(DATABASES.len() as u64) as usize];
                vec![b"SELECT".to_vec(), self.database.to_string().into_bytes()]
            }
        }
    }

    /// A database that is not the selected one.
    fn other_database(&mut self) -> usize {
        let others: Vec<usize> =
            DATABASES.into_iter().filter(|database| *database != self.database).collect();
        others[self.random.below(others.len() as u64) as usize]
    }
}

/// Fails on an error that the stream should not draw.
fn check(replies: &[Reply], batch: &Batch) {
    for (index, reply) in replies.iter().enumerate() {
        let errors = match reply {
            Reply::Array(Some(items)) => items.iter().filter_map(Reply::error).collect(),
            other => other.error().into_iter().collect::<Vec<_>>(),
        };
        for error in errors {
            if !EXPECTED_ERRORS.iter().any(|expected| error.starts_with(expected)) {
                panic!(
                    "{error:?} to command {index} of\n{}",
                    batch.bytes[..batch.bytes.len().min(20_000)].escape_ascii()
                );
            }
        }
    }
}

/// Sends `commands` commands of the stream as fast as the server takes them, and removes the brief keys behind them.
pub fn pour(client: &mut Client, writes: &mut Writes, commands: usize) {
    let mut sent = 0;
    let mut batch = Batch::new();
    writes.resume(&mut batch);
    while sent < commands {
        writes.fill(&mut batch, 200);
        check(&client.batch(&batch), &batch);
        sent += batch.commands;
        batch.clear();
    }
    writes.remove_brief(&mut batch);
    client.batch_ok(&batch);
}

/// A thread that sends the stream to a server at a moderate rate, follows it elsewhere, and can be stopped for a moment.
pub struct Writer {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    orders: Mutex<Orders>,
    changed: Condvar,
}

#[derive(Default)]
struct Orders {
    target: u16,
    paused: bool,
    /// The writer has seen `paused`, has an answer to all it sent, and has removed the brief keys.
    idle: bool,
    ended: bool,
    /// The server may go away or become a replica: the writer tries again instead of failing.
    patient: bool,
    accepted: u64,
    failure: Option<String>,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().expect("nobody panics with the orders")
    }
}

impl Writer {
    /// Starts writing to the server on `port`: every `interval`, about 25 commands.
    pub fn start(port: u16, seed: u64, interval: Duration) -> Writer {
        let state = Arc::new(State::default());
        state.lock().target = port;
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            let mut writes = Writes::new(seed);
            let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                write(&shared, &mut writes, interval)
            }));
            let mut orders = shared.lock();
            orders.ended = true;
            if panic.is_err() {
                orders.failure = Some("the writer failed, see above".to_owned());
            }
            shared.changed.notify_all();
        });
        Writer { state, thread: Some(thread) }
    }

    /// Returns when nothing is on its way and no brief key is left.
    pub fn pause(&self) {
        let mut orders = self.state.lock();
        orders.paused = true;
        orders.idle = false;
        self.state.changed.notify_all();
        while !orders.idle {
            assert!(!orders.ended, "{:?}", orders.failure);
            orders = self.state.changed.wait(orders).expect("nobody panics with the orders");
        }
    }

    pub fn resume(&self) {
        self.state.lock().paused = false;
        self.state.changed.notify_all();
    }

    /// From now on losing the server is no failure: the writer tries again, there or where [`Writer::turn_to`] says.
    pub fn be_patient(&self) {
        self.state.lock().patient = true;
    }

    pub fn turn_to(&self, port: u16) {
        let mut orders = self.state.lock();
        orders.target = port;
        orders.patient = true;
        self.state.changed.notify_all();
    }

    /// Returns when `commands` more commands have been accepted.
    pub fn wait_for_more(&self, commands: u64) {
        let mut orders = self.state.lock();
        let goal = orders.accepted + commands;
        let since = Instant::now();
        while orders.accepted < goal {
            assert!(!orders.ended, "{:?}", orders.failure);
            assert!(since.elapsed() < Duration::from_secs(60), "the writer makes no progress");
            let wait = self.state.changed.wait_timeout(orders, Duration::from_millis(100));
            orders = wait.expect("nobody panics with the orders").0;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.state.lock().ended = true;
        self.state.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let failure = self.state.lock().failure.take();
        if !thread::panicking() {
            assert_eq!(failure, None);
        }
    }
}

fn write(state: &State, writes: &mut Writes, interval: Duration) {
    let mut connection: Option<(u16, Client)> = None;
    let mut batch = Batch::new();
    loop {
        let (target, paused) = {
            let mut orders = state.lock();
            while orders.paused && orders.idle && !orders.ended {
                orders = state.changed.wait(orders).expect("nobody panics with the orders");
            }
            if orders.ended {
                return;
            }
            (orders.target, orders.paused)
        };
        batch.clear();
        if connection.as_ref().is_none_or(|(port, _)| *port != target) {
            connection = Client::connect(target).ok().map(|client| (target, client));
            writes.resume(&mut batch);
        }
        if paused {
            writes.remove_brief(&mut batch);
        } else {
            writes.fill(&mut batch, 25);
        }
        let sent = connection.as_mut().map(|(_, client)| client.try_batch(&batch));
        // As it is now: who takes the server away asks for patience before.
        let patient = state.lock().patient;
        match sent {
            Some(Ok(replies)) if !patient || !replies.iter().any(refused) => {
                check(&replies, &batch);
                let mut orders = state.lock();
                orders.accepted += batch.commands as u64;
                orders.idle = paused;
                state.changed.notify_all();
            }
            Some(Err(error)) if !patient => panic!("the writer lost its server: {error}"),
            None if !patient => panic!("the writer cannot connect"),
            _ => {
                connection = None;
                thread::sleep(Duration::from_millis(5));
            }
        }
        if !paused {
            thread::sleep(interval);
        }
    }
}

/// The server is, for now, not one to write to.
fn refused(reply: &Reply) -> bool {
    let words = ["READONLY", "LOADING", "MASTERDOWN", "EXECABORT", "ERR EXEC without MULTI"];
    reply.error().is_some_and(|error| words.iter().any(|word| error.starts_with(word)))
}
