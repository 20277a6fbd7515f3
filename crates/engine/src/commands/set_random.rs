//! Sets: random members, and going through all of them in steps.

use std::collections::HashSet;

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, ParseArgs,
};
use keyspace::Set;
use resp::ArgsBuf;
use structures::listpack::Entry;
use structures::number::IntText;

use crate::commands::elements::{
    Sampling, delete_emptied, reply_empty_scan, reply_entry, reply_scan, sampling_pays,
};
use crate::commands::scan::{Over, ScanOptions};
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;

pub const COMMANDS: &[Command<Handler>] = &[SPOP, SRANDMEMBER, SSCAN];

/// Members that one propagated `SREM` removes at most.
const REMOVED_AT_ONCE: usize = 1024;

/// SPOP key [count]
const SPOP: Command<Handler> = Command {
    name: "spop",
    group: Group::Set,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Write, Flag::Fast]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Delete])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1), with a count O(N), N being the count.",
        summary: "Removes one or several random members from a set and returns them.",
        history: &[("3.2.0", "Takes a count.")],
        arguments: &[Arg::key("key", 0), Arg::integer("count").since("3.2.0").optional()],
        ..Docs::NONE
    },
    ..Command::runs(spop)
};

fn spop(ctx: &mut Ctx<'_>) -> CmdResult {
    match ctx.argv.len() {
        2 => {}
        3 => return spop_count(ctx),
        _ => return Err(CommandError::Syntax),
    }
    let key = ctx.key(1);
    let mut rng = ctx.store.fork_rng();
    let Some(mut set) = ctx.store.write_set(key).map_err(wrong_type)? else {
        ctx.reply.null();
        return Ok(());
    };
    let popped = set.pop_random(&mut rng).expect("a set in a database is not empty");
    let emptied = set.is_empty();
    drop(set);
    let mut scratch = IntText::new();
    let text = popped.text(&mut scratch);
    ctx.reply.bulk(text);
    ctx.store.notify(Event::SET, "spop", key.bytes);
    ctx.store.effects.propagate_as(&[b"SREM", key.bytes, text]);
    if emptied {
        delete_emptied(ctx, key);
    }
    ctx.store.modified(key.bytes);
    Ok(())
}

fn spop_count(ctx: &mut Ctx<'_>) -> CmdResult {
    let count = ctx.argv.positive(2)? as usize;
    let key = ctx.key(1);
    let mut rng = ctx.store.fork_rng();
    let recording = ctx.store.effects.recording;
    let Some(mut set) = ctx.store.write_set(key).map_err(wrong_type)? else {
        ctx.reply.set(0);
        return Ok(());
    };
    let count = count.min(set.len());
    ctx.reply.set(count);
    if count == 0 {
        return Ok(());
    }
    if count == set.len() {
        set.iter().for_each(|member| reply_entry(&mut ctx.reply, member));
        drop(set);
        ctx.store.notify(Event::SET, "spop", key.bytes);
        delete_emptied(ctx, key);
        ctx.store.effects.propagate_as(&[b"DEL", key.bytes]);
        ctx.store.modified_times(key.bytes, count);
        return Ok(());
    }
    let (mut removals, mut scratch) = (Vec::new(), IntText::new());
    for index in 0..count {
        let popped = set.pop_random(&mut rng).expect("fewer are popped than there are");
        let text = popped.text(&mut scratch);
        ctx.reply.bulk(text);
        if recording {
            if index % REMOVED_AT_ONCE == 0 {
                removals.push(ArgsBuf::from_iter([b"SREM", key.bytes]));
            }
            removals.last_mut().expect("one was just begun").push(text);
        }
    }
    drop(set);
    ctx.store.notify(Event::SET, "spop", key.bytes);
    ctx.store.effects.propagate_nothing();
    for removal in &removals {
        let args: Vec<&[u8]> = removal.as_args().iter().collect();
        ctx.store.effects.propagate_as(&args);
    }
    ctx.store.modified_times(key.bytes, count);
    Ok(())
}

/// SRANDMEMBER key [count]
const SRANDMEMBER: Command<Handler> = Command {
    name: "srandmember",
    group: Group::Set,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1), with a count O(N), N being its absolute value.",
        summary: "Returns one or several random members of a set.",
        history: &[("2.6.0", "Takes a count.")],
        arguments: &[Arg::key("key", 0), Arg::integer("count").since("2.6.0").optional()],
        ..Docs::NONE
    },
    ..Command::runs(srandmember)
};

fn srandmember(ctx: &mut Ctx<'_>) -> CmdResult {
    match ctx.argv.len() {
        2 => {}
        3 => return srandmember_count(ctx),
        _ => return Err(CommandError::Syntax),
    }
    let mut rng = ctx.store.fork_rng();
    let set = ctx.store.read_set(ctx.key(1)).map_err(wrong_type)?;
    match set.as_ref().and_then(|set| set.random(&mut rng)) {
        None => ctx.reply.null(),
        Some(member) => reply_entry(&mut ctx.reply, member),
    }
    Ok(())
}

fn srandmember_count(ctx: &mut Ctx<'_>) -> CmdResult {
    let count = ctx.argv.int_within(2, -i64::MAX..=i64::MAX)?;
    let mut rng = ctx.store.fork_rng();
    let Some(set) = ctx.store.read_set(ctx.key(1)).map_err(wrong_type)? else {
        ctx.reply.array(0);
        return Ok(());
    };
    let (wanted, size) = (count.unsigned_abs() as usize, set.len());
    let reply = &mut ctx.reply;
    if count < 0 || wanted == 1 {
        let limit = ctx.core.reply_limit(ctx.session);
        reply.array(wanted);
        for _ in 0..wanted {
            if reply.pending_bytes() >= limit {
                break;
            }
            reply_entry(reply, set.random(&mut rng).expect("a set in a database is not empty"));
        }
        return Ok(());
    }
    let wanted = wanted.min(size);
    reply.array(wanted);
    match set {
        Set::Table(_) if !sampling_pays(wanted, size) => {
            let mut places = HashSet::with_capacity(wanted);
            while places.len() < wanted {
                let member = set.random(&mut rng).expect("a set in a database is not empty");
                let Entry::Str(text) = member else { unreachable!("a table holds texts") };
                // Members of a table differ in where they lie.
                if places.insert(text.as_ptr()) {
                    reply_entry(reply, member);
                }
            }
        }
        _ => {
            let mut sampling = Sampling::new(wanted, size, &mut rng);
            set.iter().filter(|_| sampling.takes_next()).for_each(|member| reply_entry(reply, member));
        }
    }
    Ok(())
}

/// SSCAN key cursor [MATCH pattern] [COUNT count]
const SSCAN: Command<Handler> = Command {
    name: "sscan",
    group: Group::Set,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Set]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    tips: &["nondeterministic_output"],
    docs: &Docs {
        since: "2.8.0",
        complexity: "O(1) per call, O(N) for all calls together.",
        summary: "Goes through the members of a set in steps.",
        arguments: &[
            Arg::key("key", 0),
            Arg::integer("cursor"),
            Arg::pattern("pattern").token("MATCH").optional(),
            Arg::integer("count").token("COUNT").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(sscan)
};

fn sscan(ctx: &mut Ctx<'_>) -> CmdResult {
    let cursor = ctx.argv.cursor(2)?;
    let Some(set) = ctx.store.read_set(ctx.key(1)).map_err(wrong_type)? else {
        reply_empty_scan(&mut ctx.reply);
        return Ok(());
    };
    let options = ScanOptions::parse(ctx.argv, 3, Over::Collection)?;
    reply_scan(&mut ctx.reply, cursor, &options, |cursor, visit| {
        set.scan(cursor, |member| visit(member, None))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::testing::Harness;

    /// A node with a set `t` of 40 texts (a table), one `l` of 40 texts (a listpack) and one `i` of 40 integers.
    fn harness() -> Harness {
        let mut h = Harness::new();
        h.node.store.limits.set_listpack_entries = 128;
        for index in 0..40 {
            h.run(&format!("SADD l m{index}"));
            h.run(&format!("SADD i {index}"));
        }
        h.node.store.limits.set_listpack_entries = 0;
        (0..40).for_each(|index| drop(h.run(&format!("SADD t m{index}"))));
        h.propagated();
        h
    }

    /// The bulks of an array or set.
    fn bulks(reply: &str) -> Vec<String> {
        reply.split(r"\r\n").skip(2).step_by(2).filter(|text| !text.is_empty()).map(Into::into).collect()
    }

    fn distinct(members: &[String]) -> usize {
        let mut sorted: Vec<_> = members.to_vec();
        sorted.sort();
        sorted.dedup();
        sorted.len()
    }

    #[test]
    fn popped_members_are_propagated_as_removals() {
        for key in ["t", "l", "i"] {
            let mut h = harness();
            let popped = bulks(&h.run(&format!("SPOP {key} 30")));
            assert_eq!((popped.len(), distinct(&popped)), (30, 30));
            assert_eq!(h.run(&format!("SCARD {key}")), r":10\r\n");
            assert_eq!(h.propagated(), [format!("SREM {key} {}", popped.join(" "))]);
            let dirty = h.node.store.effects.dirty;
            let rest = bulks(&h.run(&format!("SPOP {key} 40")));
            assert_eq!((rest.len(), distinct(&[rest, popped].concat())), (10, 40));
            assert_eq!(h.propagated(), [format!("DEL {key}")]);
            assert_eq!(h.node.store.effects.dirty - dirty, 10);
            assert_eq!(h.run(&format!("SCARD {key}")), r":0\r\n");
        }
    }

    #[test]
    fn many_removals_go_in_batches() {
        let mut h = Harness::new();
        for index in 0..3000 {
            h.run(&format!("SADD s m{index}"));
        }
        h.propagated();
        let popped = bulks(&h.run("SPOP s 2500"));
        let propagated = h.propagated();
        assert_eq!((propagated[0].as_str(), propagated.last().map(String::as_str)), ("MULTI", Some("EXEC")));
        let removals = &propagated[1..propagated.len() - 1];
        assert_eq!(removals.len(), 3);
        let removed: Vec<&str> = removals
            .iter()
            .flat_map(|removal| removal.strip_prefix("SREM s ").expect("a removal").split(' '))
            .collect();
        assert_eq!(removed, popped);
        let single = bulks(&h.run("SPOP s 1"));
        assert_eq!(h.propagated(), [format!("SREM s {}", single[0])]);
    }

    #[test]
    fn picked_members_differ_unless_the_count_is_negative() {
        let mut h = harness();
        for key in ["t", "l", "i"] {
            for (count, expected) in
                [(1, 1), (2, 2), (5, 5), (13, 13), (14, 14), (39, 39), (40, 40), (99, 40)]
            {
                let picked = bulks(&h.run(&format!("SRANDMEMBER {key} {count}")));
                assert_eq!((picked.len(), distinct(&picked)), (expected, expected), "{key} {count}");
            }
            let picked = bulks(&h.run(&format!("SRANDMEMBER {key} -100")));
            assert_eq!(picked.len(), 100);
            assert!(distinct(&picked) > 25);
        }
    }

    #[test]
    fn every_member_is_picked_alike() {
        let mut h = harness();
        for key in ["t", "l", "i"] {
            for count in [-40, 4, 20] {
                let (mut seen, mut drawn) = (BTreeMap::<String, f64>::new(), 0.0);
                while drawn < 8000.0 {
                    for member in bulks(&h.run(&format!("SRANDMEMBER {key} {count}"))) {
                        *seen.entry(member).or_default() += 1.0;
                        drawn += 1.0;
                    }
                }
                let mean = drawn / 40.0;
                let chi_square: f64 = seen.values().map(|count| (count - mean).powi(2) / mean).sum();
                assert_eq!(seen.len(), 40);
                // 39 degrees of freedom: 110 is one in a hundred million.
                assert!(chi_square < 110.0, "{key} {count}: {chi_square}");
            }
        }
    }

    #[test]
    fn a_scan_visits_every_member() {
        let mut h = Harness::new();
        for index in 0..5000 {
            h.run(&format!("SADD s m{index}"));
        }
        let (mut cursor, mut seen, mut calls) = ("0".to_owned(), Vec::new(), 0);
        loop {
            let reply = h.run(&format!("SSCAN s {cursor} COUNT 100"));
            let lines: Vec<&str> = reply.split(r"\r\n").collect();
            cursor = lines[2].into();
            seen.extend(lines[4..].iter().skip(1).step_by(2).map(|text| text.to_string()));
            calls += 1;
            if cursor == "0" {
                break;
            }
        }
        seen.retain(|text| !text.is_empty());
        assert_eq!((seen.len(), distinct(&seen)), (5000, 5000));
        assert!((20..=60).contains(&calls), "{calls}");
    }
}
