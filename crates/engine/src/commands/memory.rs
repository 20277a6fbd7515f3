//! `MEMORY`: what a key costs, where memory goes, and what may be wrong with that.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, Options,
    is_token,
};
use keyspace::EntryExt;
use resp::Reply;
use structures::number::push_f64;

use super::write_help;
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::info::{Memory, ratio};

pub const COMMANDS: &[Command<Handler>] = &[Command {
    name: "memory",
    group: Group::Server,
    docs: &Docs {
        since: "4.0.0",
        complexity: "Depends on the subcommand",
        summary: "Tells how memory is used.",
        ..Docs::NONE
    },
    ..Command::parent(&[DOCTOR, HELP, MALLOC_STATS, PURGE, STATS, USAGE])
}];

/// MEMORY DOCTOR
const DOCTOR: Command<Handler> = Command {
    name: "doctor",
    group: Group::Server,
    arity: Arity::Exactly(2),
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    docs: &Docs {
        since: "4.0.0",
        complexity: "O(1)",
        summary: "Says in words what is wrong with the use of memory.",
        ..Docs::NONE
    },
    ..Command::runs(doctor)
};

/// MEMORY MALLOC-STATS
const MALLOC_STATS: Command<Handler> = Command {
    name: "malloc-stats",
    group: Group::Server,
    arity: Arity::Exactly(2),
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    docs: &Docs {
        since: "4.0.0",
        complexity: "Depends on how much memory is allocated, could be slow",
        summary: "Returns the allocator's report on itself.",
        ..Docs::NONE
    },
    ..Command::runs(malloc_stats)
};

/// MEMORY PURGE
const PURGE: Command<Handler> = Command {
    name: "purge",
    group: Group::Server,
    arity: Arity::Exactly(2),
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    docs: &Docs {
        since: "4.0.0",
        complexity: "Depends on how much memory is allocated, could be slow",
        summary: "Asks the allocator to give free pages back to the operating system.",
        ..Docs::NONE
    },
    ..Command::runs(purge)
};

/// MEMORY STATS
const STATS: Command<Handler> = Command {
    name: "stats",
    group: Group::Server,
    arity: Arity::Exactly(2),
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    docs: &Docs {
        since: "4.0.0",
        complexity: "O(1)",
        summary: "Tells what memory is used for.",
        ..Docs::NONE
    },
    ..Command::runs(stats)
};

/// MEMORY HELP
const HELP: Command<Handler> = Command {
    name: "help",
    group: Group::Server,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    docs: &Docs {
        since: "4.0.0",
        complexity: "O(1)",
        summary: "Lists the subcommands of MEMORY.",
        ..Docs::NONE
    },
    ..Command::runs(help)
};

/// MEMORY USAGE key [SAMPLES count]
const USAGE: Command<Handler> = Command {
    name: "usage",
    group: Group::Server,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Read]),
    keys: &[KeySpec::at(2, &[Key::Ro])],
    docs: &Docs {
        since: "4.0.0",
        complexity: "O(N), when N is the number of elements of the value",
        summary: "Estimates the bytes that a key and its value take.",
        arguments: &[Arg::key("key", 0), Arg::integer("count").token("SAMPLES").optional()],
        ..Docs::NONE
    },
    ..Command::runs(usage)
};

fn help(ctx: &mut Ctx<'_>) -> CmdResult {
    write_help(
        ctx,
        &[
            "DOCTOR",
            "    What is wrong with the use of memory, in words.",
            "MALLOC-STATS",
            "    The allocator's report on itself.",
            "PURGE",
            "    Ask the allocator to give free pages back to the operating system.",
            "STATS",
            "    What memory is used for.",
            "USAGE <key> [SAMPLES <count>]",
            "    Bytes that <key> and its value take.",
        ],
    );
    Ok(())
}

/// Every element is counted: the number of samples is checked, and not needed.
fn usage(ctx: &mut Ctx<'_>) -> CmdResult {
    let mut options = Options::new(ctx.argv, 3);
    while let Some(option) = options.next() {
        if !is_token(option, "samples") || options.int()? < 0 {
            return Err(CommandError::Syntax);
        }
    }
    match ctx.store.peek(ctx.key(2)) {
        // A slot of the table is part of what the key costs.
        Some(entry) => ctx.reply.int((entry.total_bytes() + SLOT_BYTES) as i64),
        None => ctx.reply.null(),
    }
    Ok(())
}

fn malloc_stats(ctx: &mut Ctx<'_>) -> CmdResult {
    let report = ctx.core.env.allocator_report();
    let text = report.as_deref().unwrap_or("Stats not supported for the current allocator");
    ctx.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

fn purge(ctx: &mut Ctx<'_>) -> CmdResult {
    if !ctx.core.env.purge_allocator() {
        return Err(CommandError::fixed("ERR Error purging dirty pages"));
    }
    ctx.reply.ok();
    Ok(())
}

/// A value of `MEMORY STATS`.
enum Stat {
    Bytes(u64),
    Difference(i64),
    Share(f64),
}

fn stats(ctx: &mut Ctx<'_>) -> CmdResult {
    let memory = overview(ctx);
    let keys = ctx.store.total_keys() as u64;
    let net = memory.used.saturating_sub(memory.startup);
    let bytes = |value: usize| Stat::Bytes(value as u64);
    let beyond = |large: u64, small: u64| Stat::Difference(large as i64 - small as i64);
    let percent = |part: u64, whole: u64| Stat::Share(ratio(part, whole) * 100.0);
    let before = [
        ("peak.allocated", Stat::Bytes(memory.peak)),
        ("total.allocated", Stat::Bytes(memory.used)),
        ("startup.allocated", Stat::Bytes(memory.startup)),
        ("replication.backlog", bytes(memory.log.backlog)),
        ("clients.slaves", bytes(memory.log.replicas)),
        ("clients.normal", bytes(memory.clients)),
        ("cluster.links", Stat::Bytes(0)),
        ("aof.buffer", Stat::Bytes(0)),
        ("lua.caches", Stat::Bytes(0)),
        ("functions.caches", Stat::Bytes(0)),
    ];
    let after = [
        ("overhead.total", Stat::Bytes(memory.overhead)),
        ("keys.count", Stat::Bytes(keys)),
        ("keys.bytes-per-key", Stat::Bytes(net.checked_div(keys).unwrap_or(0))),
        ("dataset.bytes", Stat::Bytes(memory.dataset)),
        ("dataset.percentage", percent(memory.dataset, net)),
        ("peak.percentage", percent(memory.used, memory.peak)),
        ("allocator.allocated", Stat::Bytes(memory.used)),
        ("allocator.active", Stat::Bytes(memory.active)),
        ("allocator.resident", Stat::Bytes(memory.resident)),
        ("allocator-fragmentation.ratio", Stat::Share(ratio(memory.active, memory.used))),
        ("allocator-fragmentation.bytes", beyond(memory.active, memory.used)),
        ("allocator-rss.ratio", Stat::Share(ratio(memory.resident, memory.active))),
        ("allocator-rss.bytes", beyond(memory.resident, memory.active)),
        ("rss-overhead.ratio", Stat::Share(ratio(memory.rss, memory.resident))),
        ("rss-overhead.bytes", beyond(memory.rss, memory.resident)),
        ("fragmentation", Stat::Share(ratio(memory.rss, memory.used))),
        ("fragmentation.bytes", beyond(memory.rss, memory.used)),
    ];
    let filled: Vec<usize> =
        (0..ctx.store.databases()).filter(|index| !ctx.store.db_at(*index).is_empty()).collect();
    ctx.reply.map(before.len() + filled.len() + after.len());
    before.iter().for_each(|row| write_stat(&mut ctx.reply, row));
    for index in filled {
        let db = ctx.store.db_at(index);
        let expires = db.expires().bytes();
        ctx.reply.bulk(format!("db.{index}").as_bytes());
        ctx.reply.map(3);
        for (name, value) in [
            ("overhead.hashtable.main", db.overhead_bytes() - expires),
            ("overhead.hashtable.expires", expires),
            ("overhead.hashtable.slot-to-keys", 0),
        ] {
            write_stat(&mut ctx.reply, &(name, bytes(value)));
        }
    }
    after.iter().for_each(|row| write_stat(&mut ctx.reply, row));
    Ok(())
}

fn write_stat(reply: &mut Reply<'_>, (name, value): &(&str, Stat)) {
    reply.bulk(name.as_bytes());
    match value {
        Stat::Bytes(value) => reply.int(*value as i64),
        Stat::Difference(value) => reply.int(*value),
        Stat::Share(value) => {
            let mut text = Vec::new();
            push_f64(&mut text, *value);
            reply.double_text(&text);
        }
    }
}

fn overview(ctx: &Ctx<'_>) -> Memory {
    Memory::new(ctx.store, ctx.core, &ctx.core.env.process())
}

fn doctor(ctx: &mut Ctx<'_>) -> CmdResult {
    let clients = ctx.core.conns.len() - ctx.core.repl.replicas.len();
    let text = diagnosis(&overview(ctx), clients, ctx.core.repl.replicas.len());
    ctx.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

/// Findings below this much memory would be about nothing. Bytes.
const DIAGNOSED_MIN: u64 = 5 << 20;

/// Redis's rules for what is wrong: a high peak (1.5 times what is used), much memory beyond what is used (1.4 times, and
/// more than 10 MB), clients that hold 200 kB each, or replicas 10 MB each.
fn diagnosis(memory: &Memory, clients: usize, replicas: usize) -> String {
    if memory.used < DIAGNOSED_MIN {
        return "This server is nearly empty: with so little in it there is nothing to be said about its memory.\n"
            .to_owned();
    }
    let high = |large: u64, small: u64, factor: f64| {
        ratio(large, small) > factor && large.saturating_sub(small) > 10 << 20
    };
    let each = |bytes: usize, count: usize| bytes.checked_div(count).unwrap_or(0);
    let findings = [
        (
            ratio(memory.peak, memory.used) > 1.5,
            "Peak memory: more than 150 % of what is used now were used in the past. The process may still hold the \
             difference, which can look like fragmentation and is none. MEMORY PURGE gives it back.",
        ),
        (
            high(memory.rss, memory.used, 1.4),
            "High total RSS: the process holds more than 1.4 times what is used. Freed memory may lie in pages that \
             others still use, or the peak was high: see the other findings.",
        ),
        (
            high(memory.active, memory.used, 1.1),
            "High allocator fragmentation: more than a tenth of the allocator's pages is free space between what is \
             used, as after many values have changed their sizes.",
        ),
        (
            high(memory.resident, memory.active, 1.1),
            "High allocator RSS overhead: the allocator keeps free pages. MEMORY PURGE gives them back.",
        ),
        (
            high(memory.rss, memory.resident, 1.1),
            "High process RSS overhead: memory is held that the allocator does not know of.",
        ),
        (
            each(memory.clients, clients) > 200 << 10,
            "Big client buffers: a client holds more than 200 kB on average. Some may not read their replies; \
             CLIENT LIST shows them.",
        ),
        (
            each(memory.log.replicas, replicas) > 10 << 20,
            "Big replica buffers: more than 10 MB per replica wait to be sent. Replicas or the network are slower \
             than the writes.",
        ),
    ];
    let found: Vec<&str> = findings.iter().filter(|(is, _)| *is).map(|(_, text)| *text).collect();
    if found.is_empty() {
        return "No problem with the memory of this server was found.\n".to_owned();
    }
    let mut text = String::from("Findings about the memory of this server:\n");
    found.iter().for_each(|finding| {
        text.push_str("\n * ");
        text.push_str(finding);
        text.push('\n');
    });
    text
}

/// A key's share of the table, on average.
const SLOT_BYTES: usize = 14;

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    #[test]
    fn stats_add_up() {
        let mut h = Harness::new();
        h.run("SET a x");
        h.run("SELECT 3");
        h.run("SET b x EX 100");
        let text = h.run("MEMORY STATS");
        assert!(text.starts_with(r"*58\r\n$14\r\npeak.allocated\r\n:1048576\r\n"), "{text}");
        for part in [
            r"$4\r\ndb.0\r\n*6\r\n$23\r\noverhead.hashtable.main\r\n:",
            r"$4\r\ndb.3\r\n*6\r\n",
            r"$10\r\nkeys.count\r\n:2\r\n",
            r"$18\r\nkeys.bytes-per-key\r\n:524288\r\n",
            r"$15\r\npeak.percentage\r\n$3\r\n100\r\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(h.resp3().run("MEMORY STATS").starts_with(r"%29\r\n"));
    }

    #[test]
    fn the_doctor_finds_what_is_wrong() {
        use super::diagnosis;
        use crate::info::Memory;
        const MB: u64 = 1 << 20;
        let healthy = |used| Memory {
            used,
            peak: used,
            startup: MB,
            log: Default::default(),
            clients: 0,
            overhead: MB,
            dataset: used - MB,
            rss: used,
            active: used,
            resident: used,
        };
        assert!(diagnosis(&healthy(4 * MB), 1, 0).contains("nearly empty"));
        assert!(diagnosis(&healthy(100 * MB), 1, 0).starts_with("No problem"));
        let ill = Memory { peak: 200 * MB, rss: 180 * MB, clients: 3 << 20, ..healthy(100 * MB) };
        let text = diagnosis(&ill, 3, 0);
        for finding in ["Peak memory", "High total RSS", "High process RSS overhead", "Big client buffers"] {
            assert!(text.contains(&format!("\n * {finding}: ")), "{text}");
        }
        assert!(!text.contains("fragmentation:") && !text.contains("Big replica"), "{text}");
        let mut h = Harness::new();
        assert!(h.run("MEMORY DOCTOR").contains("nearly empty"));
        assert_eq!(h.run("MEMORY PURGE"), r"+OK\r\n");
        assert!(h.run("MEMORY MALLOC-STATS").contains("Stats not supported"));
        assert!(h.run("MEMORY HELP").starts_with(r"*13\r\n"));
    }

    #[test]
    fn usage_grows_with_the_value() {
        let mut h = Harness::new();
        h.run("SET a x");
        h.run_args(&[b"SET", b"b", &[b'x'; 10_000]]);
        let small: i64 = h.run("MEMORY USAGE a").trim_matches([':', '\\', 'r', 'n']).parse().unwrap();
        let large: i64 =
            h.run("MEMORY USAGE b SAMPLES 5").trim_matches([':', '\\', 'r', 'n']).parse().unwrap();
        assert!(small < 100 && large > 10_000, "{small} {large}");
        assert_eq!(h.run("MEMORY USAGE none"), r"$-1\r\n");
        assert_eq!(h.run("MEMORY USAGE a SAMPLES"), r"-ERR syntax error\r\n");
    }
}
