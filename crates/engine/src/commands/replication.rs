//! Replication as commands: `REPLICAOF`, `FAILOVER`, `PSYNC`, `REPLCONF`, `WAIT`, `ROLE`.
//!
//! The protocol itself lies in the `replication` crate; what it asks for is carried out in [`crate::serving`] and
//! [`crate::following`]. A change of role waits until the command that asked for it has returned.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, ParseArgs, is_token,
};
use replication::failover::FailoverRefusal;
use replication::primary::count_acked;
use replication::replica_link::{Replconf, ReplicaLink, SyncRequest};
use replication::{FailoverAction, FailoverRequest, Millis, ReplicaEvent};
use resp::Args;

use crate::core::{Core, RoleChange};
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::pause;
use crate::serving::synchronise;
use crate::session::{Blocked, LOST, Role};

pub const COMMANDS: &[Command<Handler>] = &[FAILOVER, PSYNC, REPLCONF, REPLICAOF, ROLE, SLAVEOF, SYNC, WAIT];

/// REPLICAOF host port | NO ONE
const REPLICAOF: Command<Handler> = Command {
    name: "replicaof",
    group: Group::Server,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Stale, Flag::NoAsyncLoading]),
    acl: Acl::of(&[Category::Admin, Category::Dangerous]),
    docs: &Docs {
        since: "5.0.0",
        complexity: "O(1)",
        summary: "Makes the server a replica of another one, or a primary.",
        arguments: &[Arg::string("host"), Arg::integer("port")],
        ..Docs::NONE
    },
    ..Command::runs(replicaof)
};

/// FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]
const FAILOVER: Command<Handler> = Command {
    name: "failover",
    group: Group::Server,
    arity: Arity::AtLeast(1),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Stale]),
    docs: &Docs {
        since: "6.2.0",
        complexity: "O(1)",
        summary: "Hands the place of the primary over to a replica that has everything.",
        arguments: &[
            Arg::block(
                "target",
                &[Arg::string("host"), Arg::integer("port"), Arg::pure_token("force", "FORCE").optional()],
            )
            .token("TO")
            .optional(),
            Arg::pure_token("abort", "ABORT").optional(),
            Arg::integer("milliseconds").token("TIMEOUT").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(failover)
};

/// SLAVEOF host port | NO ONE
const SLAVEOF: Command<Handler> = Command {
    name: "slaveof",
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1)",
        summary: "The old name of REPLICAOF.",
        arguments: &[Arg::string("host"), Arg::integer("port")],
        ..Docs::NONE
    },
    ..REPLICAOF
};

/// PSYNC replid offset
const PSYNC: Command<Handler> = Command {
    name: "psync",
    group: Group::Server,
    arity: Arity::AtLeast(3),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::NoAsyncLoading, Flag::NoMulti]),
    docs: &Docs {
        since: "2.8.0",
        complexity: "O(1)",
        summary: "Asks for the replication stream from a position on; sent by replicas.",
        arguments: &[Arg::string("replicationid"), Arg::integer("offset")],
        ..Docs::NONE
    },
    ..Command::runs(psync)
};

/// SYNC
const SYNC: Command<Handler> = Command {
    name: "sync",
    group: Group::Server,
    arity: Arity::Exactly(1),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::NoAsyncLoading, Flag::NoMulti]),
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Asks for a snapshot and the replication stream after it; sent by old replicas and tools.",
        ..Docs::NONE
    },
    ..Command::runs(sync)
};

/// REPLCONF [option value …]
const REPLCONF: Command<Handler> = Command {
    name: "replconf",
    group: Group::Server,
    arity: Arity::AtLeast(1),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale, Flag::AllowBusy]),
    docs: &Docs {
        since: "3.0.0",
        complexity: "O(1)",
        summary: "What a replica tells of itself, and how it acknowledges.",
        ..Docs::NONE
    },
    ..Command::runs(replconf)
};

/// WAIT numreplicas timeout
const WAIT: Command<Handler> = Command {
    name: "wait",
    group: Group::Generic,
    arity: Arity::Exactly(3),
    flags: Flags::of(&[Flag::Noscript]),
    acl: Acl::of(&[Category::Connection]),
    tips: &["request_policy:all_shards", "response_policy:agg_min"],
    docs: &Docs {
        since: "3.0.0",
        complexity: "O(1)",
        summary: "Waits until so many replicas have acknowledged the writes of this session.",
        arguments: &[Arg::integer("numreplicas"), Arg::integer("timeout")],
        ..Docs::NONE
    },
    ..Command::runs(wait)
};

/// ROLE
const ROLE: Command<Handler> = Command {
    name: "role",
    group: Group::Server,
    arity: Arity::Exactly(1),
    flags: Flags::of(&[Flag::Noscript, Flag::Loading, Flag::Stale, Flag::Fast]),
    acl: Acl::of(&[Category::Admin, Category::Dangerous]),
    docs: &Docs {
        since: "2.8.12",
        complexity: "O(1)",
        summary: "Tells the place of the server in replication.",
        ..Docs::NONE
    },
    ..Command::runs(role)
};

fn replicaof(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.core.repl.failover.is_active() {
        return Err(CommandError::fixed("ERR REPLICAOF not allowed while failing over."));
    }
    if is_token(&ctx.argv[1], "no") && is_token(&ctx.argv[2], "one") {
        if ctx.core.is_replica() {
            ctx.core.role_change = Some(RoleChange::Promote);
            ctx.core.config.replicaof = None;
            let client = super::client::describe_running(ctx);
            ctx.core.notice(format!("MASTER MODE enabled (user request from '{client}')"));
        }
        ctx.reply.ok();
        return Ok(());
    }
    if ctx.session.is_replica() {
        return Err(CommandError::fixed("ERR Command is not valid when client is a replica."));
    }
    let port = ctx.argv.int_within_or(2, 0..=65535, CommandError::fixed("ERR Invalid master port"))? as u16;
    let host = String::from_utf8_lossy(&ctx.argv[1]).into_owned();
    if let Some(following) = &ctx.core.repl.following
        && following.host.eq_ignore_ascii_case(&host)
        && following.port == port
        && following.link.guarded().is_none()
    {
        ctx.core.notice(
            "REPLICAOF would result into synchronization with the master we are already connected with. No operation \
             performed.",
        );
        ctx.reply.simple("OK Already connected to specified master");
        return Ok(());
    }
    let client = super::client::describe_running(ctx);
    ctx.core.notice(format!("REPLICAOF {host}:{port} enabled (user request from '{client}')"));
    ctx.core.config.replicaof = Some((host.clone(), port));
    ctx.core.role_change = Some(RoleChange::Follow { host, port });
    ctx.reply.ok();
    Ok(())
}

fn failover(ctx: &mut Ctx<'_>) -> CmdResult {
    let refuse = |refusal: FailoverRefusal| CommandError::text(refusal.to_string());
    if ctx.argv.len() == 2 && is_token(&ctx.argv[1], "abort") {
        if !ctx.core.repl.failover.is_active() {
            return Err(refuse(FailoverRefusal::NotInProgress));
        }
        ctx.core.role_change = Some(RoleChange::AbortFailover);
        ctx.reply.ok();
        return Ok(());
    }
    let asked = failover_request(ctx.argv)?;
    let core = &*ctx.core;
    let links: Vec<&ReplicaLink> = core.replica_links().collect();
    let mut actions = Vec::new();
    let state = core
        .repl
        .failover
        .request(core.monotonic(), asked, core.is_replica(), links.iter().copied(), &mut actions)
        .map_err(refuse)?;
    ctx.core.repl.failover = state;
    for action in actions {
        match action {
            FailoverAction::Log(event) => ctx.core.notice(event.to_string()),
            action => unreachable!("a failover begins by waiting, not with {action:?}"),
        }
    }
    pause::settle_expiry(ctx.store, ctx.core);
    ctx.reply.ok();
    Ok(())
}

fn failover_request(argv: Args<'_>) -> Result<FailoverRequest, CommandError> {
    let mut asked = FailoverRequest::default();
    let mut at = 1;
    while at < argv.len() {
        let left = argv.len() - at - 1;
        if is_token(&argv[at], "timeout") && left >= 1 && asked.timeout.is_none() {
            let timeout_ms = argv.int(at + 1)?;
            if timeout_ms <= 0 {
                return Err(CommandError::fixed("ERR FAILOVER timeout must be greater than 0"));
            }
            asked.timeout = Some(Millis(timeout_ms as u64));
            at += 2;
        } else if is_token(&argv[at], "to") && left >= 2 && asked.to.is_none() {
            asked.to = Some((String::from_utf8_lossy(&argv[at + 1]).into_owned(), argv.int(at + 2)?));
            at += 3;
        } else if is_token(&argv[at], "force") && !asked.force {
            asked.force = true;
            at += 1;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok(asked)
}

/// `PSYNC id offset FAILOVER`: the primary, whose history that is, makes this replica the primary and itself a replica.
fn take_over(ctx: &mut Ctx<'_>, request: SyncRequest) -> CmdResult {
    let id = ctx.argv[1].to_ascii_lowercase();
    ctx.core.warning(format!("Failover request received for replid {}.", ctx.argv[1].escape_ascii()));
    if !ctx.core.is_replica() {
        return Err(CommandError::fixed("ERR PSYNC FAILOVER can't be sent to a master."));
    }
    if id != ctx.core.repl.history.id.as_bytes() {
        return Err(CommandError::fixed("ERR PSYNC FAILOVER replid must match my replid."));
    }
    let client = super::client::describe_running(ctx);
    ctx.core.notice(format!("MASTER MODE enabled (failover request from '{client}')"));
    ctx.core.config.replicaof = None;
    ctx.core.role_change = Some(RoleChange::TakeOver(request));
    Ok(())
}

fn psync(ctx: &mut Ctx<'_>) -> CmdResult {
    // One that asks once more is ignored.
    if ctx.session.is_replica() {
        return Ok(());
    }
    match SyncRequest::psync(&ctx.argv[1], &ctx.argv[2]) {
        Ok(request) if ctx.argv.get(3).is_some_and(|word| is_token(word, "failover")) => {
            take_over(ctx, request)
        }
        Ok(request) => {
            synchronise(ctx, request);
            Ok(())
        }
        Err(refusal) => {
            let name = match &ctx.session.replconf {
                Some(link) => link.name(),
                None => ReplicaLink::new(ctx.session.ip(), ctx.session.id).name(),
            };
            let event = ReplicaEvent::WrongOffset(name);
            ctx.core.log(event.level(), event.to_string());
            Err(CommandError::text(refusal.to_string()))
        }
    }
}

fn sync(ctx: &mut Ctx<'_>) -> CmdResult {
    if !ctx.session.is_replica() {
        synchronise(ctx, SyncRequest::Sync);
    }
    Ok(())
}

fn replconf(ctx: &mut Ctx<'_>) -> CmdResult {
    let now = ctx.core.monotonic();
    let args: Vec<&[u8]> = ctx.argv.tail(1).iter().collect();
    let outcome = match &mut ctx.session.role {
        // The stream of the primary carries nothing else than the wish for an acknowledgement.
        Role::Primary => {
            ctx.core.repl.ack_wanted |= args.first().is_some_and(|word| is_token(word, "getack"));
            return Ok(());
        }
        Role::Replica(replica) => replica.link.replconf(now, &args),
        Role::Client => {
            let (peer, id) = (ctx.session.ip().to_owned(), ctx.session.id);
            let link = ctx.session.replconf.get_or_insert_with(|| Box::new(ReplicaLink::new(&peer, id)));
            link.replconf(now, &args)
        }
    };
    match outcome {
        Replconf::Ok => ctx.reply.ok(),
        Replconf::Joins(error) => {
            let link = ctx.session.replconf.as_deref_mut();
            if let Some(link) = link.filter(|link| !ctx.core.partner_waits(link)) {
                link.unjoin();
                return Err(CommandError::text(error.to_string()));
            }
            ctx.reply.ok();
        }
        Replconf::Error(error) => return Err(CommandError::text(error.to_string())),
        Replconf::Silent | Replconf::AckWanted => {}
        Replconf::Acked { start_stream, synced } => {
            ctx.core.repl.acked = true;
            if synced && let Role::Replica(replica) = &ctx.session.role {
                let event = ReplicaEvent::Succeeded(replica.link.name());
                ctx.core.log(event.level(), event.to_string());
            }
            if start_stream.is_some() {
                ctx.core.repl.announced_end = 0;
            }
        }
    }
    Ok(())
}

fn wait(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.core.is_replica() {
        return Err(CommandError::fixed(
            "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is \
             configured to be writable (which is not the default) writes to replicas are just local and are not \
             propagated.",
        ));
    }
    let replicas = ctx.argv.int(1)?;
    let timeout_ms =
        ctx.argv.int(2).map_err(|_| CommandError::fixed("ERR timeout is not an integer or out of range"))?;
    if timeout_ms < 0 {
        return Err(CommandError::fixed("ERR timeout is negative"));
    }
    let offset = ctx.session.last_write_offset;
    let acked = count_acked(offset, ctx.core.replica_links());
    // What is lost is not waited for.
    let waits = (acked as i64) < replicas && offset != LOST;
    let running = ctx.core.running.filter(|_| !ctx.core.in_exec && waits);
    let Some(conn) = running else {
        ctx.reply.int(acked as i64);
        return Ok(());
    };
    let deadline = (timeout_ms > 0).then(|| ctx.core.monotonic() + Millis(timeout_ms as u64));
    ctx.core.repl.waiting.add((conn, ctx.session.id), offset, replicas as usize, deadline);
    ctx.core.repl.getack_due = true;
    ctx.session.blocked = Some(Blocked::Wait);
    Ok(())
}

fn role(ctx: &mut Ctx<'_>) -> CmdResult {
    let Some(following) = &ctx.core.repl.following else {
        primary_role(ctx.core, &mut ctx.reply);
        return Ok(());
    };
    ctx.reply.array(5);
    ctx.reply.bulk(b"slave");
    ctx.reply.bulk(following.host.as_bytes());
    ctx.reply.int(i64::from(following.port));
    ctx.reply.bulk(following.link.role_state().as_bytes());
    ctx.reply.int(following.link.role_offset());
    Ok(())
}

fn primary_role(core: &Core, reply: &mut resp::Reply<'_>) {
    let online: Vec<&ReplicaLink> = core.replica_links().filter(|link| link.is_online()).collect();
    reply.array(3);
    reply.bulk(b"master");
    reply.int(core.repl.offset() as i64);
    reply.array(online.len());
    for link in online {
        reply.array(3);
        reply.bulk(link.ip().as_bytes());
        reply.bulk(link.listening_port().to_string().as_bytes());
        reply.bulk(link.acknowledged().offset.to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use crate::action::{Action, ConnId};
    use crate::testing::Harness;

    fn logged(h: &mut Harness, text: &str) -> bool {
        let actions = h.node.take_actions();
        actions.iter().any(|action| matches!(action, Action::Log { message, .. } if message.contains(text)))
    }

    /// Whether the process would end over these bytes of the stream.
    fn ends(h: &mut Harness, conn: ConnId, bytes: &[u8]) -> bool {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| h.raw(conn, bytes))).is_err()
    }

    #[test]
    fn an_error_of_the_stream_may_end_a_replica() {
        for (behavior, read_only, expected) in [
            ("ignore", "yes", false),
            ("panic", "yes", true),
            ("panic-on-replicas", "yes", true),
            ("panic", "no", false),
            ("resync", "yes", false),
        ] {
            let (mut h, conn) = Harness::following();
            h.run(&format!("CONFIG SET propagation-error-behavior {behavior} replica-read-only {read_only}"));
            assert_eq!(ends(&mut h, conn, b"*1\r\n$4\r\nNONE\r\n"), expected, "{behavior} {read_only}");
        }
    }

    /// What the primary has and this replica cannot: no copy any more, and not one that looks like it.
    #[test]
    fn a_command_that_is_not_known_here_ends_the_stream() {
        for (behavior, read_only, leaves) in
            [("resync", "yes", true), ("resync", "no", false), ("ignore", "yes", false)]
        {
            let (mut h, conn) = Harness::following();
            h.run(&format!("CONFIG SET propagation-error-behavior {behavior} replica-read-only {read_only}"));
            h.raw(conn, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*2\r\n$4\r\nVADD\r\n$1\r\nv\r\n");
            assert!(logged(&mut h, "its data set is fetched anew") == leaves, "{behavior} {read_only}");
            assert_eq!(h.node.core.repl.is_link_down(), leaves);
            // A command that is known and fails is another matter: it failed on the primary, too, or should have.
            let (mut h, conn) = Harness::following();
            h.raw(conn, b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n*2\r\n$4\r\nLLEN\r\n$1\r\na\r\n");
            assert!(!h.node.core.repl.is_link_down());
        }
    }

    #[test]
    fn a_replica_that_cannot_save_ends_unless_told_otherwise() {
        let write = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n";
        for (ignore, expected) in [("no", true), ("yes", false)] {
            let (mut h, conn) = Harness::following();
            h.run_args(&[b"CONFIG", b"SET", b"save", b"3600 1"]);
            h.run(&format!("CONFIG SET replica-ignore-disk-write-errors {ignore}"));
            assert!(!ends(&mut h, conn, write));
            h.node.core.snapshots.last_save_failed = true;
            assert!(!ends(&mut h, conn, b"*1\r\n$4\r\nPING\r\n"));
            h.node.take_actions();
            assert_eq!(ends(&mut h, conn, write), expected, "{ignore}");
            let line = "Replica is applying a command even though it is unable to write to disk.";
            assert_eq!(logged(&mut h, line), !expected);
            if !expected {
                h.raw(conn, write);
                assert!(!logged(&mut h, line));
                h.advance_ms(10_001);
                h.raw(conn, write);
                assert!(logged(&mut h, line));
            }
        }
    }

    #[test]
    fn small_packets_to_a_replica_are_gathered_if_wanted() {
        for wanted in ["no", "yes"] {
            let mut h = Harness::new();
            h.run(&format!("CONFIG SET repl-disable-tcp-nodelay {wanted}"));
            let replica = h.connect();
            h.run_on(replica, "PSYNC ? -1");
            let gathers =
                |action: &Action| matches!(action, Action::GatherPackets { conn } if *conn == replica);
            assert_eq!(h.node.take_actions().iter().any(gathers), wanted == "yes");
        }
    }

    #[test]
    fn a_snapshot_without_data_is_empty() {
        use crate::snapshot::Step;
        for (filter, steps) in [("REPLCONF rdb-only 1", 2), ("REPLCONF rdb-filter-only functions", 1)] {
            let mut h = Harness::new();
            h.run("SET a 1");
            let replica = h.connect();
            h.run_on(replica, "REPLCONF capa eof");
            h.run_on(replica, filter);
            h.run_on(replica, "PSYNC ? -1");
            h.node.before_sleep();
            let mut seen = 0;
            while let Some(step) = h.node.snapshot_batch(1 << 20) {
                seen += 1;
                assert_eq!(matches!(step, Step::Walked), seen == steps, "{filter}");
            }
            assert_eq!(seen, steps, "{filter}");
        }
    }

    #[test]
    fn a_role_changes_in_the_middle_of_a_transaction() {
        let mut h = Harness::new();
        h.propagated();
        h.run("MULTI");
        for queued in ["SET a 1", "REPLICAOF 127.0.0.1 1", "ROLE", "REPLICAOF NO ONE", "SET b 2"] {
            assert_eq!(h.run(queued), r"+QUEUED\r\n");
        }
        assert_eq!(
            h.run("EXEC"),
            r"*5\r\n+OK\r\n+OK\r\n*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:1\r\n$10\r\nconnecting\r\n:-1\r\n+OK\r\n+OK\r\n"
        );
        assert_eq!(h.propagated(), ["SELECT 0", "SET a 1", "SELECT 0", "SET b 2"]);
        h.run("CLIENT REPLY OFF");
        h.run("MULTI");
        h.run("REPLICAOF 127.0.0.1 1");
        h.run("REPLICAOF NO ONE");
        h.run("PING");
        assert_eq!(h.run("EXEC"), "");
        assert_eq!(h.run("CLIENT REPLY ON"), r"+OK\r\n");
    }

    /// What valkey 9.1.2 and redis 8.2.3 answer, each to the words of its own.
    #[test]
    fn only_a_connection_that_waits_can_be_joined() {
        let mut h = Harness::new();
        h.run("CONFIG SET repl-rdb-channel yes");
        for (command, reply) in [
            ("set-rdb-client-id 99", r"-ERR Unrecognized RDB client id 99\r\n"),
            ("main-ch-client-id 99", r"-ERR Unrecognized RDB client id: 99\r\n"),
            ("set-rdb-client-id x", r"-ERR value is not an integer or out of range\r\n"),
            ("rdb-channel 2", r"-ERR value is out of range, value must between 0 and 1\r\n"),
            ("rdb-channel 1", r"+OK\r\n"),
        ] {
            let client = h.connect();
            assert_eq!(h.run_on(client, &format!("REPLCONF {command}")), reply);
        }
        let (stream, snapshot, late) = (h.connect(), h.connect(), h.connect());
        h.run_on(stream, "REPLCONF capa eof capa psync2 capa rdb-channel-repl");
        let proposal = h.run_on(stream, "PSYNC ? -1");
        let id = proposal.strip_prefix("+RDBCHANNELSYNC ").and_then(|rest| rest.strip_suffix(r"\r\n"));
        let join = format!(
            "REPLCONF capa eof rdb-only 1 rdb-channel 1 main-ch-client-id {}",
            id.expect("a proposal")
        );
        assert_eq!(h.run_on(snapshot, &join), r"+OK\r\n");
        assert_eq!(h.run_on(late, &join), r"+OK\r\n", "the first to ask for its snapshot has it");
        h.run_on(snapshot, "PSYNC ? -1");
        let refusal = r"-ERR The other channel of this replica is gone\r\n";
        assert_eq!(h.run_on(late, "PSYNC ? -1"), refusal);
        assert_eq!(h.node.core.repl.replicas, [stream, snapshot]);
        assert_eq!(h.node.core.known_replicas().count(), 1);
        // One alone is of no use.
        h.node.closed(snapshot);
        h.node.before_sleep();
        assert!(h.node.core.repl.replicas.is_empty());
    }

    #[test]
    fn a_replica_gets_no_answers() {
        for (command, name) in [("PING", "ping"), ("SLOWLOG GET", "slowlog|get"), ("NONE", "<unknown>")] {
            let mut h = Harness::new();
            let replica = h.connect();
            h.run_on(replica, "PSYNC ? -1");
            assert_eq!(h.node.core.repl.replicas, [replica]);
            h.node.take_actions();
            assert_eq!(h.run_on(replica, command), "");
            let line = format!("Replica generated a reply to command '{name}', disconnecting it: ");
            assert!(logged(&mut h, &line), "{command}");
            assert!(h.node.core.repl.replicas.is_empty());
        }
        let mut h = Harness::new();
        let replica = h.connect();
        h.run_on(replica, "PSYNC ? -1");
        h.node.take_actions();
        assert_eq!(h.run_on(replica, "SET a 1"), "");
        assert!(logged(
            &mut h,
            "Replica can't interact with the keyspace' after processing the command 'SET'"
        ));
        assert_eq!(h.run("EXISTS a"), r":0\r\n");
    }

    #[test]
    fn psync_with_a_wrong_offset_is_logged() {
        let mut h = Harness::new();
        assert!(h.run("PSYNC replicationid offset_str").starts_with("-ERR value is not an integer"));
        assert!(logged(&mut h, "asks for synchronization but with a wrong offset"));
    }

    #[test]
    fn a_writable_replica_deletes_what_its_clients_let_expire() {
        let mut h = Harness::new();
        h.run("SET primarys 1 PX 10");
        h.run("REPLICAOF 127.0.0.1 1");
        h.run("CONFIG SET replica-read-only no");
        h.run("SET a 1 PX 10");
        h.run("SET b 1");
        h.run("PEXPIRE b 10");
        h.run("SET c 1 PX 10");
        h.run("PERSIST c");
        assert!(h.run("INFO stats").contains("slave_expires_tracked_keys:3"));
        h.advance_ms(11);
        h.node.tick();
        assert_eq!(h.run("DBSIZE"), r":2\r\n");
        assert_eq!(h.run("GET c"), r"$1\r\n1\r\n");
        assert!(h.run("INFO stats").contains("slave_expires_tracked_keys:0"));
    }
}
