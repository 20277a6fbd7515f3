//! `REPL`: Kindred's own command about replication. `REPL WHY` tells why full synchronisations happened.

use command::{Acl, Arity, Category, Command, Docs, Flag, Flags, Group};
use replication::why::Remembered;
use replication::{FullSyncs, Guarded, Millis, Refused};
use resp::Reply;

use super::write_help;
use crate::ctx::{CmdResult, Ctx, Handler};

pub const COMMANDS: &[Command<Handler>] = &[Command {
    name: "repl",
    group: Group::Server,
    docs: &Docs {
        since: "7.2.4",
        complexity: "Depends on subcommand.",
        summary: "Explains replication.",
        ..Docs::NONE
    },
    ..Command::parent(&[HELP, WHY])
}];

/// REPL WHY
const WHY: Command<Handler> = Command {
    name: "why",
    group: Group::Server,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[Category::Admin, Category::Dangerous]),
    tips: &["nondeterministic_output"],
    docs: &Docs {
        since: "7.2.4",
        complexity: "O(1)",
        summary: "Tells why full synchronisations happened, and why there is none.",
        ..Docs::NONE
    },
    ..Command::runs(why)
};

/// REPL HELP
const HELP: Command<Handler> = Command {
    name: "help",
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    acl: Acl::of(&[]),
    tips: &[],
    docs: &Docs { summary: "Lists the subcommands of REPL.", ..*WHY.docs },
    handler: Some(help),
    ..WHY
};

fn help(ctx: &mut Ctx<'_>) -> CmdResult {
    write_help(
        ctx,
        &[
            "WHY",
            "    Why full synchronisations happened, of replicas of this server and its own, by",
            "    cause, and the last ones in words; the replicas that wait for their turn; those that",
            "    are refused because they could not hold the data; and the primary that is not",
            "    followed because it seems to have lost its data.",
        ],
    );
    Ok(())
}

fn why(ctx: &mut Ctx<'_>) -> CmdResult {
    let repl = &ctx.core.repl;
    let guarded = repl.following.as_ref().and_then(|following| following.link.guarded());
    let queued: Vec<(String, Millis)> =
        ctx.core.queued_replicas().map(|(link, waited)| (link.name(), waited)).collect();
    let reply = &mut ctx.reply;
    reply.map(6);
    reply.bulk(b"role");
    reply.bulk(if repl.is_replica() { b"slave" } else { b"master" });
    reply.bulk(b"served");
    full_syncs(reply, &repl.served);
    reply.bulk(b"received");
    full_syncs(reply, &repl.received);
    reply.bulk(b"queued");
    reply.array(queued.len());
    for (replica, waited) in queued {
        reply.map(2);
        reply.bulk(b"replica");
        reply.bulk(replica.as_bytes());
        reply.bulk(b"waited-ms");
        reply.int(waited.0 as i64);
    }
    reply.bulk(b"refused");
    reply.array(repl.refusals.iter().len());
    repl.refusals.iter().for_each(|one| refused_replica(reply, one));
    reply.bulk(b"guarded");
    match guarded {
        Some(guarded) => refused(reply, guarded),
        None => reply.null(),
    }
    Ok(())
}

fn full_syncs(reply: &mut Reply<'_>, syncs: &FullSyncs) {
    reply.map(3);
    reply.bulk(b"total");
    reply.int(syncs.total() as i64);
    reply.bulk(b"causes");
    reply.map(syncs.counts().count());
    for (cause, count) in syncs.counts() {
        reply.bulk(cause.name().as_bytes());
        reply.int(count as i64);
    }
    reply.bulk(b"last");
    reply.array(syncs.last().len());
    syncs.last().for_each(|one| full_sync(reply, one));
}

fn full_sync(reply: &mut Reply<'_>, one: &Remembered) {
    let sync = &one.sync;
    reply.map(10);
    reply.bulk(b"time-ms");
    reply.int(one.unix_ms);
    reply.bulk(b"peer");
    reply.bulk(one.peer.as_bytes());
    reply.bulk(b"cause");
    reply.bulk(sync.cause.name().as_bytes());
    reply.bulk(b"why");
    reply.bulk(sync.to_string().as_bytes());
    reply.bulk(b"asked");
    reply.bulk_or_null(sync.asked.as_deref().map(str::as_bytes));
    reply.bulk(b"primary");
    reply.bulk_or_null(sync.primary.map(|at| at.to_string()).as_deref().map(str::as_bytes));
    for (name, bytes) in [("missing-bytes", sync.missing_bytes), ("enough-backlog-bytes", sync.enough_bytes)]
    {
        reply.bulk(name.as_bytes());
        int_or_null(reply, bytes.map(|bytes| bytes as i64));
    }
    for (name, time) in [("queued-time-ms", one.queued_unix_ms), ("admitted-time-ms", one.admitted_unix_ms)] {
        reply.bulk(name.as_bytes());
        int_or_null(reply, time);
    }
}

fn int_or_null(reply: &mut Reply<'_>, number: Option<i64>) {
    match number {
        Some(number) => reply.int(number),
        None => reply.null(),
    }
}

fn refused_replica(reply: &mut Reply<'_>, one: &Refused) {
    reply.map(5);
    reply.bulk(b"replica");
    reply.bulk(one.replica.as_bytes());
    reply.bulk(b"why");
    reply.bulk(one.refusal.to_string().as_bytes());
    for (name, number) in [
        ("first-time-ms", one.first_unix_ms),
        ("last-time-ms", one.last_unix_ms),
        ("attempts", one.attempts as i64),
    ] {
        reply.bulk(name.as_bytes());
        reply.int(number);
    }
}

fn refused(reply: &mut Reply<'_>, guarded: &Guarded) {
    reply.map(5);
    reply.bulk(b"why");
    reply.bulk(guarded.to_string().as_bytes());
    reply.bulk(b"primary");
    reply.bulk(guarded.primary.to_string().as_bytes());
    reply.bulk(b"primary-keys");
    match guarded.primary_keys {
        Some(keys) => reply.int(keys as i64),
        None => reply.null(),
    }
    reply.bulk(b"ours");
    reply.bulk(guarded.ours.to_string().as_bytes());
    reply.bulk(b"our-keys");
    reply.int(guarded.keys as i64);
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    #[test]
    fn a_primary_tells_why_it_served_full_syncs() {
        let mut h = Harness::new();
        assert!(h.run("REPL WHY").starts_with(
            r"*12\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$6\r\nserved\r\n*6\r\n$5\r\ntotal\r\n:0\r\n"
        ));
        let (first, second) = (h.connect(), h.connect());
        h.run_on(first, "PSYNC ? -1");
        h.run_on(second, "PSYNC 0123456789012345678901234567890123456789 77");
        h.resp3();
        let reply = h.run("REPL WHY");
        let expected = [
            r"%3\r\n$5\r\ntotal\r\n:2\r\n$6\r\ncauses\r\n%2\r\n$11\r\nno-position\r\n:1\r\n$13\r\nother-history\r\n:1\r\n",
            r"$4\r\nlast\r\n*2\r\n%10\r\n$7\r\ntime-ms\r\n:1700000000000\r\n$4\r\npeer\r\n",
            r"$5\r\nasked\r\n$43\r\n0123456789012345678901234567890123456789:77\r\n",
            r"$13\r\nmissing-bytes\r\n_\r\n",
            r"$7\r\nguarded\r\n_\r\n",
        ];
        for part in expected {
            assert!(reply.contains(part), "{part} in {reply}");
        }
        assert!(h.run("REPL HELP").contains("REPL <subcommand>"));
        let info = h.run("INFO replication");
        assert!(info.contains(r"repl_full_syncs_served:2\r\n"), "{info}");
        assert!(info.contains(r"repl_full_syncs_served_causes:no-position=1,other-history=1\r\n"));
        assert!(info.contains(r"repl_full_syncs_served_last:the replica asked for 0123456789"));
    }
}
