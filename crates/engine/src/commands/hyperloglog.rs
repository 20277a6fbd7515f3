//! HyperLogLogs: strings that estimate how many different elements they were given. The bytes and the estimate are
//! `structures::hyperloglog`; here are the commands.
//!
//! `PFCOUNT` of one key reads, and yet it may write: the count is kept in the string. It does so on replicas too,
//! where the change stays theirs; a primary propagates the command.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, is_token,
};
use keyspace::entry::new_raw_vec;
use keyspace::{Entry, EntryExt, Str};
use structures::hyperloglog::{
    self as hll, Corrupted, DENSE_LEN, Encoding, NotHyperLogLog, Place, REGISTERS, Registers, View,
};

use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;

pub const COMMANDS: &[Command<Handler>] = &[PFADD, PFCOUNT, PFDEBUG, PFMERGE, PFSELFTEST];

/// PFADD key [element …]
const PFADD: Command<Handler> = Command {
    name: "pfadd",
    group: Group::HyperLogLog,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    acl: Acl::of(&[Category::HyperLogLog]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Insert])],
    docs: &Docs {
        summary: "Adds elements to a HyperLogLog; creates it if there is none.",
        since: "2.8.9",
        complexity: "O(1) for each element",
        arguments: &[Arg::key("key", 0), Arg::string("element").optional().multiple()],
        ..Docs::NONE
    },
    ..Command::runs(pfadd)
};

/// PFCOUNT key [key …]
const PFCOUNT: Command<Handler> = Command {
    name: "pfcount",
    group: Group::HyperLogLog,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Readonly, Flag::MayReplicate]),
    acl: Acl::of(&[Category::HyperLogLog]),
    keys: &[KeySpec::range(1, -1, 1, &[Key::Rw, Key::Access])
        .notes("RW because it may change the internal representation of the key, and propagate to replicas")],
    docs: &Docs {
        summary: "Estimates how many different elements were added to HyperLogLogs.",
        since: "2.8.9",
        complexity: "O(1) with one key whose count has not changed since the last time, else O(N), N being the \
                     number of keys, with a large constant",
        arguments: &[Arg::key("key", 0).multiple()],
        ..Docs::NONE
    },
    ..Command::runs(pfcount)
};

/// PFDEBUG GETREG|DECODE|ENCODING|TODENSE key
const PFDEBUG: Command<Handler> = Command {
    name: "pfdebug",
    group: Group::HyperLogLog,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Admin]),
    acl: Acl::of(&[Category::HyperLogLog]),
    keys: &[KeySpec::at(2, &[Key::Rw, Key::Access])],
    docs: &Docs {
        summary: "Looks into a HyperLogLog, for tests.",
        since: "2.8.9",
        complexity: "N/A",
        syscmd: true,
        arguments: &[Arg::string("subcommand"), Arg::key("key", 0)],
        ..Docs::NONE
    },
    ..Command::runs(pfdebug)
};

/// PFMERGE destkey [sourcekey …]
const PFMERGE: Command<Handler> = Command {
    name: "pfmerge",
    group: Group::HyperLogLog,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::HyperLogLog]),
    keys: &[
        KeySpec::at(1, &[Key::Rw, Key::Access, Key::Insert]),
        KeySpec::range(2, -1, 1, &[Key::Ro, Key::Access]),
    ],
    docs: &Docs {
        summary: "Adds all that HyperLogLogs were given to another one.",
        since: "2.8.9",
        complexity: "O(N), N being the number of keys, with a large constant",
        arguments: &[Arg::key("destkey", 0), Arg::key("sourcekey", 1).optional().multiple()],
        ..Docs::NONE
    },
    ..Command::runs(pfmerge)
};

/// PFSELFTEST
const PFSELFTEST: Command<Handler> = Command {
    name: "pfselftest",
    group: Group::HyperLogLog,
    arity: Arity::Exactly(1),
    flags: Flags::of(&[Flag::Admin]),
    acl: Acl::of(&[Category::HyperLogLog]),
    docs: &Docs {
        summary: "Tests HyperLogLogs on this machine.",
        since: "2.8.9",
        complexity: "N/A",
        syscmd: true,
        ..Docs::NONE
    },
    ..Command::runs(pfselftest)
};

fn corrupted(_: Corrupted) -> CommandError {
    CommandError::fixed("INVALIDOBJ Corrupted HLL object detected")
}

/// The HyperLogLog that an entry holds, for a command that may change it. Redis takes the string out of its compact form
/// as soon as it is seen to be one, whether it is changed then or not; what OBJECT ENCODING says tells.
fn view_to_change(entry: &Entry) -> Result<View<'_>, CommandError> {
    let view = view(entry)?;
    entry.mark_raw();
    Ok(view)
}

/// The HyperLogLog that an entry holds.
fn view(entry: &Entry) -> Result<View<'_>, CommandError> {
    let view = match entry.as_str().map_err(wrong_type)? {
        Str::Int(_) => Err(NotHyperLogLog),
        Str::Bytes(bytes) => View::new(bytes),
        Str::Shared(bytes) => View::new(bytes),
    };
    view.map_err(|_| CommandError::fixed("WRONGTYPE Key is not a valid HyperLogLog string value."))
}

fn pfadd(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, sparse_max) = (ctx.key(1), ctx.core.config.hll_sparse_max_bytes);
    let elements = ctx.argv.tail(2);
    let mut changes = 0;
    match ctx.store.write(key) {
        None => {
            let mut bytes = hll::EMPTY.to_vec();
            for element in elements.iter() {
                changes +=
                    usize::from(hll::add(&mut bytes, Place::of(element), sparse_max).map_err(corrupted)?);
            }
            changes += 1;
            hll::invalidate_cached_count(&mut bytes);
            ctx.store.add_entry(key.hash, new_raw_vec(key.bytes, bytes, None));
        }
        Some(entry) => {
            // Most elements change nothing: nothing is copied for those before the first that does.
            let view = view_to_change(entry)?;
            let mut places = elements.iter().map(Place::of);
            let mut first = None;
            for place in &mut places {
                if view.would_change(place).map_err(corrupted)? {
                    first = Some(place);
                    break;
                }
            }
            let Some(first) = first else {
                ctx.reply.int(0);
                return Ok(());
            };
            let places = std::iter::once(first).chain(places);
            if view.encoding() == Encoding::Dense {
                let add = |bytes: &mut [u8]| {
                    hll::invalidate_cached_count(bytes);
                    places.filter(|place| hll::dense_add(bytes, *place)).count()
                };
                changes = entry.edit_bytes(DENSE_LEN, add).map_err(wrong_type)?;
            } else {
                let mut bytes = entry.as_str().map_err(wrong_type)?.to_vec();
                for place in places {
                    changes += usize::from(hll::add(&mut bytes, place, sparse_max).map_err(corrupted)?);
                }
                hll::invalidate_cached_count(&mut bytes);
                entry.store_raw_vec(bytes);
            }
        }
    }
    ctx.store.modified_times(key.bytes, changes);
    ctx.store.notify(Event::STRING, "pfadd", key.bytes);
    ctx.reply.int(1);
    Ok(())
}

fn pfcount(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.argv.len() > 2 {
        let union = merged(ctx)?.0;
        ctx.reply.int(union.map_or(0, |union| union.count() as i64));
        return Ok(());
    }
    let key = ctx.key(1);
    let Some(entry) = ctx.store.read(key) else {
        ctx.reply.int(0);
        return Ok(());
    };
    let view = view_to_change(entry)?;
    if let Some(count) = view.cached_count() {
        ctx.reply.int(count as i64);
        return Ok(());
    }
    let count = view.count().map_err(corrupted)?;
    let entry = ctx.store.db_mut().edit(key).expect("the key was found above");
    entry.edit_bytes(0, |bytes| hll::set_cached_count(bytes, count)).map_err(wrong_type)?;
    ctx.store.modified(key.bytes);
    ctx.reply.int(count as i64);
    Ok(())
}

/// The union of the HyperLogLogs of all arguments, `None` if no key is there, and whether one of them is dense.
fn merged(ctx: &mut Ctx<'_>) -> Result<(Option<Registers>, bool), CommandError> {
    let (mut registers, mut dense) = (None, false);
    for index in 1..ctx.argv.len() {
        let Some(entry) = ctx.store.read(ctx.key(index)) else { continue };
        let view = view(entry)?;
        dense |= view.encoding() == Encoding::Dense;
        registers.get_or_insert_with(Registers::new).merge(view).map_err(corrupted)?;
    }
    Ok((registers, dense))
}

fn pfmerge(ctx: &mut Ctx<'_>) -> CmdResult {
    let (key, sparse_max) = (ctx.key(1), ctx.core.config.hll_sparse_max_bytes);
    let (registers, dense) = merged(ctx)?;
    let registers = registers.unwrap_or_default();
    match ctx.store.write(key) {
        None => {
            let mut bytes = hll::EMPTY.to_vec();
            registers.write_to(&mut bytes, dense, sparse_max).map_err(corrupted)?;
            ctx.store.add_entry(key.hash, new_raw_vec(key.bytes, bytes, None));
        }
        Some(entry) => {
            let mut bytes = entry.as_str().map_err(wrong_type)?.to_vec();
            registers.write_to(&mut bytes, dense, sparse_max).map_err(corrupted)?;
            entry.store_raw_vec(bytes);
        }
    }
    ctx.store.modified(key.bytes);
    ctx.store.notify(Event::STRING, "pfadd", key.bytes);
    ctx.reply.ok();
    Ok(())
}

fn pfdebug(ctx: &mut Ctx<'_>) -> CmdResult {
    let (verb, key) = (ctx.argv.at(1), ctx.key(2));
    let Some(entry) = ctx.store.write(key) else {
        return Err(CommandError::fixed("ERR The specified key does not exist"));
    };
    let view = view_to_change(entry)?;
    if is_token(verb, "GETREG") {
        let sparse = view.encoding() == Encoding::Sparse;
        let mut registers = Registers::new();
        registers.merge(view).map_err(corrupted)?;
        ctx.reply.array(REGISTERS);
        registers.iter().for_each(|register| ctx.reply.int(i64::from(register)));
        if sparse {
            make_dense(ctx, key)?;
        }
    } else if is_token(verb, "DECODE") {
        if view.encoding() != Encoding::Sparse {
            return Err(CommandError::fixed("ERR HLL encoding is not sparse"));
        }
        let runs = view.runs().map(|run| match (run.rank, run.wide) {
            (0, false) => format!("z:{}", run.length),
            (0, true) => format!("Z:{}", run.length),
            (rank, _) => format!("v:{rank},{}", run.length),
        });
        let text = runs.collect::<Vec<_>>().join(" ");
        ctx.reply.bulk(text.as_bytes());
    } else if is_token(verb, "ENCODING") {
        ctx.reply.simple(match view.encoding() {
            Encoding::Dense => "dense",
            Encoding::Sparse => "sparse",
        });
    } else if is_token(verb, "TODENSE") {
        let sparse = view.encoding() == Encoding::Sparse;
        if sparse {
            make_dense(ctx, key)?;
        }
        ctx.reply.int(i64::from(sparse));
    } else {
        let verb = String::from_utf8_lossy(verb);
        return Err(CommandError::text(format!("ERR Unknown PFDEBUG subcommand '{verb}'")));
    }
    Ok(())
}

/// Gives a sparse HyperLogLog its other form. Counted as a change, so that replicas do the same; watchers see none.
fn make_dense(ctx: &mut Ctx<'_>, key: keyspace::Key<'_>) -> CmdResult {
    let entry = ctx.store.db_mut().edit(key).expect("the caller has found the key");
    let dense = view(entry)?.to_dense().map_err(corrupted)?;
    entry.store_raw_vec(dense);
    ctx.store.effects.dirty += 1;
    Ok(())
}

/// Elements that the self test adds: as many as 0.81 % of are still far from a coincidence.
const SELF_TEST_ELEMENTS: u64 = 1_000_000;

/// Adds random elements to a sparse and a dense HyperLogLog, and looks at every power of ten whether they agree and
/// are about right.
fn pfselftest(ctx: &mut Ctx<'_>) -> CmdResult {
    let sparse_max = ctx.core.config.hll_sparse_max_bytes;
    let failed = |text: String| CommandError::text(format!("TESTFAILED {text}"));
    let mut bytes = hll::EMPTY.to_vec();
    let empty = View::new(&hll::EMPTY).expect("an empty HyperLogLog is one");
    let mut dense = empty.to_dense().map_err(corrupted)?;
    let (seed, mut checkpoint) = (ctx.store.random(), 1);
    for number in 1..=SELF_TEST_ELEMENTS {
        let place = Place::of(&(number ^ seed).to_le_bytes());
        hll::dense_add(&mut dense, place);
        hll::add(&mut bytes, place, sparse_max).map_err(corrupted)?;
        if number != checkpoint {
            continue;
        }
        let [view, dense_view] = [&bytes, &dense].map(|bytes| View::new(bytes).expect("it was made above"));
        if number < sparse_max as u64 / 2 && view.encoding() != Encoding::Sparse {
            return Err(failed("sparse encoding not used".into()));
        }
        let (mut registers, mut dense_registers) = (Registers::new(), Registers::new());
        registers.merge(view).map_err(corrupted)?;
        dense_registers.merge(dense_view).map_err(corrupted)?;
        let differs = registers.iter().zip(dense_registers.iter()).position(|(a, b)| a != b);
        if let Some(index) = differs {
            return Err(failed(format!("dense/sparse disagree on register {index}")));
        }
        let count = dense_view.count().map_err(corrupted)?;
        if view.count().map_err(corrupted)? != count || registers.count() != count {
            return Err(failed("dense/sparse disagree".into()));
        }
        // Six times the standard error, to which ten elements cannot be held: a collision is one of them.
        let most = if number == 10 { 1 } else { (1.04 / 128.0 * 6.0 * number as f64).ceil() as u64 };
        let error = count.abs_diff(number);
        if error > most {
            return Err(failed(format!("Too big error. card:{number} abserr:{error}")));
        }
        checkpoint *= 10;
    }
    ctx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    fn bytes_of(h: &mut Harness, key: &str) -> Vec<u8> {
        let reply = h.run_args(&[b"GET", key.as_bytes()]);
        let head = reply.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        reply[head..reply.len() - 2].to_vec()
    }

    fn dirty(h: &mut Harness, line: &str) -> (u64, String) {
        let before = h.node.store.effects.dirty;
        let reply = h.run(line);
        (h.node.store.effects.dirty - before, reply)
    }

    #[test]
    fn elements_are_added_and_counted() {
        let mut h = Harness::new();
        assert_eq!(dirty(&mut h, "PFADD a"), (1, r":1\r\n".into()));
        assert_eq!(dirty(&mut h, "PFADD a"), (0, r":0\r\n".into()));
        assert_eq!(dirty(&mut h, "PFADD a x y x"), (2, r":1\r\n".into()));
        assert_eq!(dirty(&mut h, "PFADD a x y x"), (0, r":0\r\n".into()));
        assert_eq!(dirty(&mut h, "PFADD b y z"), (3, r":1\r\n".into()));
        assert_eq!(h.run("OBJECT ENCODING a"), r"$3\r\nraw\r\n");
        assert_eq!(dirty(&mut h, "PFCOUNT a"), (1, r":2\r\n".into()));
        assert_eq!(dirty(&mut h, "PFCOUNT a"), (0, r":2\r\n".into()), "the count is kept");
        assert_eq!(dirty(&mut h, "PFCOUNT a b none"), (0, r":3\r\n".into()));
        assert_eq!(dirty(&mut h, "PFMERGE c a b none"), (1, r"+OK\r\n".into()));
        assert_eq!(dirty(&mut h, "PFCOUNT c"), (1, r":3\r\n".into()));
        assert_eq!(h.run("PFCOUNT none"), r":0\r\n");
        assert_eq!(h.run("PFCOUNT none neither"), r":0\r\n");
        assert_eq!(
            h.propagated(),
            [
                "SELECT 0",
                "PFADD a",
                "PFADD a x y x",
                "PFADD b y z",
                "PFCOUNT a",
                "PFMERGE c a b none",
                "PFCOUNT c"
            ]
        );
    }

    #[test]
    fn the_bytes_are_those_of_redis() {
        // Observed on redis 7.0.15.
        let mut h = Harness::new();
        h.run("PFADD a foo bar hello");
        let observed = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x5c\xb3\x90GJ\x80C\x15\x80X\xe7";
        assert_eq!(bytes_of(&mut h, "a"), observed);
        h.run("PFCOUNT a");
        assert_eq!(bytes_of(&mut h, "a")[8..16], [3, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn whoever_may_change_one_leaves_it_raw() {
        // Observed on redis 7.0.15, redis 8.2.3 and valkey 9.1.2.
        let mut h = Harness::new();
        h.run("PFADD source a b c");
        let text = bytes_of(&mut h, "source");
        for (command, encoding) in [
            ("PFADD h", "raw"),
            ("PFADD h a", "raw"),
            ("PFADD h z", "raw"),
            ("PFCOUNT h", "raw"),
            ("PFCOUNT h source", "embstr"),
            ("PFMERGE h", "raw"),
            ("PFMERGE other h", "embstr"),
            ("PFDEBUG ENCODING h", "raw"),
            ("PFDEBUG nope h", "raw"),
        ] {
            h.run_args(&[b"SET", b"h", &text]);
            assert_eq!(h.run("OBJECT ENCODING h"), r"$6\r\nembstr\r\n");
            h.run(command);
            let said = h.run("OBJECT ENCODING h");
            assert!(said.contains(encoding), "{command}: {said}");
        }
        h.run("PFCOUNT source");
        let counted = bytes_of(&mut h, "source");
        h.run_args(&[b"SET", b"h", &counted]);
        h.propagated();
        assert_eq!(h.run("PFCOUNT h"), r":3\r\n");
        assert_eq!(h.run("OBJECT ENCODING h"), r"$3\r\nraw\r\n");
        assert_eq!(h.propagated(), Vec::<String>::new(), "the count was kept");
    }

    #[test]
    fn what_is_no_hyperloglog_is_refused() {
        let mut h = Harness::new();
        let not = r"-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n";
        let broken = r"-INVALIDOBJ Corrupted HLL object detected\r\n";
        h.run("SET int 12");
        h.run("SET text HYLLxxxxxxxxxxxxxxxxxxx");
        h.run("RPUSH list 1");
        h.run("PFADD sound a b c");
        h.run("PFADD tail a b c");
        h.run("APPEND tail hello");
        assert_eq!(h.run("PFADD int x"), not);
        assert_eq!(h.run("PFADD text x"), not);
        assert_eq!(h.run("PFADD tail x"), r":1\r\n", "what lies behind the register is not looked at");
        h.propagated();
        for command in ["PFCOUNT {}", "PFCOUNT sound {}", "PFMERGE sound {}", "PFMERGE {} sound"] {
            for (key, error) in [("int", not), ("text", not), ("tail", broken)] {
                assert_eq!(h.run(&command.replace("{}", key)), error, "{command} {key}");
            }
            assert!(
                h.run(&command.replace("{}", "list")).starts_with("-WRONGTYPE Operation against"),
                "{command}"
            );
        }
        assert_eq!(h.propagated(), Vec::<String>::new());
    }

    #[test]
    fn the_dense_form() {
        let mut h = Harness::new();
        h.run("CONFIG SET hll-sparse-max-bytes 30");
        h.run("PFADD a 1 2 3");
        assert_eq!(h.run("PFDEBUG ENCODING a"), r"+sparse\r\n");
        h.run("PFADD a 4 5 6");
        assert_eq!(h.run("PFDEBUG ENCODING a"), r"+dense\r\n");
        assert_eq!(h.run("STRLEN a"), r":12304\r\n");
        assert_eq!(h.run("PFCOUNT a"), r":6\r\n");
        assert_eq!(h.run("PFADD a 4 5 7"), r":1\r\n");
        assert_eq!(h.run("PFCOUNT a"), r":7\r\n");
        assert_eq!(h.run("PFADD a 4 5 7"), r":0\r\n");
        h.run("PFADD b 8");
        h.run("PFMERGE c b a");
        assert_eq!(h.run("PFDEBUG ENCODING c"), r"+dense\r\n");
        assert_eq!(h.run("PFCOUNT c"), r":8\r\n");
        assert_eq!(h.run("PFDEBUG DECODE c"), r"-ERR HLL encoding is not sparse\r\n");
        assert_eq!(h.run("PFDEBUG TODENSE c"), r":0\r\n");
        assert_eq!(h.run("PFDEBUG TODENSE b"), r":1\r\n");
        assert_eq!(h.run("PFCOUNT b"), r":1\r\n");
        h.run("PFADD d foo");
        assert_eq!(h.run("PFDEBUG DECODE d"), r"$20\r\nZ:7348 v:5,1 Z:9035\r\n".replace("20", "19"));
        h.propagated();
        assert!(h.run("PFDEBUG GETREG d").starts_with(r"*16384\r\n:0\r\n"));
        assert_eq!(h.run("PFDEBUG ENCODING d"), r"+dense\r\n");
        assert_eq!(h.propagated(), ["PFDEBUG GETREG d"]);
        assert_eq!(h.run("PFDEBUG GETREG e"), r"-ERR The specified key does not exist\r\n");
        assert_eq!(h.run("PFDEBUG nope d"), r"-ERR Unknown PFDEBUG subcommand \'nope\'\r\n");
    }

    #[test]
    fn the_self_test_passes() {
        assert_eq!(Harness::new().run("PFSELFTEST"), r"+OK\r\n");
    }

    #[test]
    fn readers_of_a_dense_one_keep_their_bytes() {
        let mut h = Harness::new();
        h.run("PFADD a x");
        h.run("PFDEBUG TODENSE a");
        let before = h.node.store.db().peek(keyspace::Key::new(b"a")).map(|entry| entry.duplicate(b"b"));
        h.run("PFADD a y");
        use keyspace::{EntryExt as _, Str};
        let Some(entry) = before else { panic!("the key is there") };
        let Ok(Str::Shared(bytes)) = entry.as_str() else { panic!("a dense one is shared") };
        assert_ne!(**bytes, bytes_of(&mut h, "a"));
    }
}
