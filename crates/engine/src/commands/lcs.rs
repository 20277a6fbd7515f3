//! What two strings have in common: `LCS`.
//!
//! The table of lengths is the textbook's dynamic programming; which of several longest subsequences is found, and in
//! which order its runs are listed, follows from walking it back from the end as Redis does.

use std::ops::RangeInclusive;

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, Options,
    is_token,
};
use keyspace::Str;

use crate::ctx::{CmdResult, Ctx, Handler};

pub const COMMANDS: &[Command<Handler>] = &[LCS];

/// LCS key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]
const LCS: Command<Handler> = Command {
    name: "lcs",
    group: Group::String,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::range(1, 1, 1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        summary: "Finds the longest subsequence that two strings have in common.",
        since: "7.0.0",
        complexity: "O(N*M), N and M being the lengths of the strings",
        arguments: &[
            Arg::key("key1", 0),
            Arg::key("key2", 0),
            Arg::pure_token("len", "LEN").optional(),
            Arg::pure_token("idx", "IDX").optional(),
            Arg::integer("len").token("MINMATCHLEN").optional(),
            Arg::pure_token("withmatchlen", "WITHMATCHLEN").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(lcs)
};

/// A longest common subsequence.
#[derive(Debug, Default, PartialEq, Eq)]
struct Common {
    text: Vec<u8>,
    /// Where bytes that stand together in both strings stand in each, last run first.
    runs: Vec<[RangeInclusive<usize>; 2]>,
}

impl Common {
    fn find(a: &[u8], b: &[u8]) -> Common {
        let width = b.len() + 1;
        // lengths[i * width + j]: of the first i bytes of `a` and the first j of `b`.
        let mut lengths = vec![0u32; (a.len() + 1) * width];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                let at = i * width + j;
                lengths[at] = if a[i - 1] == b[j - 1] {
                    lengths[at - width - 1] + 1
                } else {
                    lengths[at - width].max(lengths[at - 1])
                };
            }
        }
        let mut common = Common::default();
        let (mut i, mut j, mut in_run) = (a.len(), b.len(), false);
        while i > 0 && j > 0 {
            let at = i * width + j;
            let matched = a[i - 1] == b[j - 1];
            if matched {
                (i, j) = (i - 1, j - 1);
                common.text.push(a[i]);
                match common.runs.last_mut().filter(|_| in_run) {
                    Some([in_a, in_b]) => (*in_a, *in_b) = (i..=*in_a.end(), j..=*in_b.end()),
                    None => common.runs.push([i..=i, j..=j]),
                }
            } else if lengths[at - width] > lengths[at - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
            in_run = matched;
        }
        common.text.reverse();
        common
    }
}

fn lcs(ctx: &mut Ctx<'_>) -> CmdResult {
    let (argv, store) = (ctx.argv, &mut *ctx.store);
    let mut text = |index: usize| match store.read_str(keyspace::Key::new(argv.at(index))) {
        Ok(value) => Ok(value.map(Str::to_vec).unwrap_or_default()),
        Err(_) => Err(CommandError::fixed("ERR The specified keys must contain string values")),
    };
    // Both are looked up before either is refused.
    let (a, b) = (text(1), text(2));
    let (a, b) = (a?, b?);
    let (mut runs, mut length, mut with_length, mut shortest) = (false, false, false, 0);
    let mut options = Options::new(ctx.argv, 3);
    while let Some(option) = options.next() {
        if is_token(option, "IDX") {
            runs = true;
        } else if is_token(option, "LEN") {
            length = true;
        } else if is_token(option, "WITHMATCHLEN") {
            with_length = true;
        } else if is_token(option, "MINMATCHLEN") {
            shortest = options.int()?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if length && runs {
        return Err(CommandError::fixed("ERR If you want both the length and indexes, please just use IDX."));
    }
    let table_bytes =
        (a.len() + 1).checked_mul(b.len() + 1).and_then(|cells| cells.checked_mul(size_of::<u32>()));
    let allowed = usize::try_from(ctx.core.config.proto_max_bulk_len).unwrap_or(0);
    if table_bytes.is_none_or(|bytes| bytes > allowed) {
        return Err(CommandError::fixed(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    let common = Common::find(&a, &b);
    if length {
        ctx.reply.int(common.text.len() as i64);
        return Ok(());
    }
    if !runs {
        ctx.reply.bulk(&common.text);
        return Ok(());
    }
    ctx.reply.map(2);
    ctx.reply.bulk(b"matches");
    let run_length = |run: &[RangeInclusive<usize>; 2]| (run[0].end() - run[0].start() + 1) as i64;
    let listed = || common.runs.iter().filter(|run| run_length(run) >= shortest);
    ctx.reply.array(listed().count());
    for run in listed() {
        ctx.reply.array(2 + usize::from(with_length));
        for range in run {
            ctx.reply.array(2);
            ctx.reply.int(*range.start() as i64);
            ctx.reply.int(*range.end() as i64);
        }
        if with_length {
            ctx.reply.int(run_length(run));
        }
    }
    ctx.reply.bulk(b"len");
    ctx.reply.int(common.text.len() as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::testing::Harness;

    #[test]
    fn a_subsequence_with_its_runs() {
        let common = Common::find(b"ohmytext", b"mynewtext");
        assert_eq!(common, Common { text: b"mytext".to_vec(), runs: vec![[4..=7, 5..=8], [2..=3, 0..=1]] });
        assert_eq!(Common::find(b"", b"abc"), Common::default());
        assert_eq!(Common::find(b"abc", b"xyz"), Common::default());
        assert_eq!(Common::find(b"abc", b"abc").runs, [[0..=2, 0..=2]]);
    }

    #[test]
    fn forms_of_the_reply() {
        let mut h = Harness::new();
        h.run("MSET a ohmytext b mynewtext");
        for (line, reply) in [
            ("LCS a b", r"$6\r\nmytext\r\n"),
            ("LCS a b LEN", r":6\r\n"),
            ("LCS a nosuch", r"$0\r\n\r\n"),
            (
                "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
                r"*4\r\n$7\r\nmatches\r\n*1\r\n*3\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n:4\r\n$3\r\nlen\r\n:6\r\n",
            ),
            ("LCS a b IDX MINMATCHLEN 5", r"*4\r\n$7\r\nmatches\r\n*0\r\n$3\r\nlen\r\n:6\r\n"),
            ("LCS a b IDX LEN", r"-ERR If you want both the length and indexes, please just use IDX.\r\n"),
            ("LCS a b MINMATCHLEN", r"-ERR syntax error\r\n"),
            ("LCS a b NOSUCH", r"-ERR syntax error\r\n"),
            ("LCS a", r"-ERR wrong number of arguments for \'lcs\' command\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
    }

    #[test]
    fn the_table_may_not_be_larger_than_a_string() {
        let mut h = Harness::with_config(Config { proto_max_bulk_len: 100, ..Config::default() });
        h.run("MSET a abcd b abcd c abcde");
        assert_eq!(h.run("LCS a b LEN"), r":4\r\n");
        assert!(h.run("LCS a c").starts_with("-ERR Insufficient memory"));
    }
}
