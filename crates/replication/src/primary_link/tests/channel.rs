//! Snapshot and stream on two connections.

use expect_test::expect;

use super::*;

/// A link that announces both forms of the synchronisation on two connections.
fn announcing() -> LinkConfig {
    let channels = ChannelsOffered { valkey: true, redis: true };
    LinkConfig { channels, announce_version: Some("9.0.0".to_owned()), ..config() }
}

const GREETING_OF_THREE: &[Event] = &[Connected, Bytes("+PONG\r\n"), Bytes("+OK\r\n+OK\r\n+OK\r\n")];

/// Valkey's form up to where the snapshot begins, and Redis's.
const VALKEY: &[Event] = &[
    Connected,
    Bytes("+PONG\r\n"),
    Bytes("+OK\r\n+OK\r\n+OK\r\n"),
    Bytes("+DUALCHANNELSYNC\r\n"),
    ChannelConnected,
    Second("+OK\r\n"),
    Second("\n$ENDOFF:100 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa -1 6\r\n"),
];
const REDIS: &[Event] = &[
    Connected,
    Bytes("+PONG\r\n"),
    Bytes("+OK\r\n+OK\r\n+OK\r\n"),
    Bytes("+RDBCHANNELSYNC 6\r\n"),
    ChannelConnected,
    Second("+OK\r\n"),
    Second("+FULLRESYNC aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 100\r\n"),
];
const JOINED: &[Event] = &[Bytes("+OK\r\n"), Bytes("+CONTINUE aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")];

#[test]
fn valkey_sends_snapshot_and_stream_on_two_connections() {
    let greeting = GREETING_OF_THREE;
    let events = [
        &VALKEY[3..],
        &[Bytes("+OK\r\n"), Second("$9\r\nREDIS")],
        &[Bytes("\n+CONTINUE aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n*1\r\n$4\r\n")],
        &[Second("0012"), Pass(1000), Bytes("PING"), Loaded, Bytes("\r\n"), Applied(114), ChannelClosed],
    ];
    check_with(
        &announcing(),
        Resume::Nothing,
        greeting,
        &events.concat(),
        expect![[r#"
            # PSYNC is not possible, initialize RDB channel.
            open second 10.0.0.1:6379
            second> *11\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$8\r\nrdb-only\r\n$1\r\n1\r\n$11\r\nrdb-channel\r\n$1\r\n1\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n$7\r\nversion\r\n$5\r\n9.0.0\r\n
            second> SYNC\r\n
            full sync: no-position
            # Full resync from master: A:100
            > *3\r\n$8\r\nREPLCONF\r\n$17\r\nset-rdb-client-id\r\n$1\r\n6\r\n
            > *3\r\n$5\r\nPSYNC\r\n$40\r\nA\r\n$3\r\n101\r\n
            # MASTER <-> REPLICA sync: receiving 9 bytes from master to disk
            BeginSnapshot { at: Some(Position { replid: ReplId(A), offset: 100 }), payload: Sized(9) }
            snapshot REDIS
            # MASTER <-> REPLICA sync: RDB and replication stream are received in parallel
            apply *1\r\n$4\r\n
            snapshot 0012
            CloseChannel
            # MASTER <-> REPLICA sync: Flushing old data
            # MASTER <-> REPLICA sync: Loading DB in memory
            EndSnapshot
            > \n
            apply PING
            DisconnectReplicas
            AdoptHistory(Some(Position { replid: ReplId(A), offset: 100 }))
            # MASTER <-> REPLICA sync: Finished with success
            ResumeReading
            > *3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$3\r\n100\r\n
            apply \r\n
        "#]],
    );
}

#[test]
fn redis_sends_snapshot_and_stream_on_two_connections() {
    let passwords = LinkConfig { password: Some(b"pw".to_vec()), user: Some(b"me".to_vec()), ..announcing() };
    let events = [
        &[Connected, Bytes("+PONG\r\n"), Bytes("+OK\r\n+OK\r\n+OK\r\n+OK\r\n")],
        &[Bytes("+RDBCHANNELSYNC 6\r\n*1\r\n"), ChannelConnected, Second("+OK\r\n+OK\r\n")],
        &[Second("\n+FULLRESYNC aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 100\r\n")][..],
        &[Bytes("$4\r\n"), Second("$EOF:0123456789012345678901234567890123456789\r\nREDIS0123456789")],
        &[Second("012345678901234567890123456789"), Bytes("PING\r\n"), Loaded, Applied(114)],
    ];
    check_with(
        &passwords,
        cached(),
        &[],
        &events.concat(),
        expect![[r#"
            # Non blocking connect for SYNC fired the event.
            > *1\r\n$4\r\nPING\r\n
            # Master replied to PING, replication can continue...
            > *3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$2\r\npw\r\n*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*11\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n$4\r\ncapa\r\n$12\r\ndual-channel\r\n$4\r\ncapa\r\n$16\r\nrdb-channel-repl\r\n*3\r\n$8\r\nREPLCONF\r\n$7\r\nversion\r\n$5\r\n9.0.0\r\n
            # Trying a partial resynchronization (request A:101).
            > *3\r\n$5\r\nPSYNC\r\n$40\r\nA\r\n$3\r\n101\r\n
            # PSYNC is not possible, initialize RDB channel.
            open second 10.0.0.1:6379
            apply *1\r\n
            second> *3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$2\r\npw\r\n*11\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$8\r\nrdb-only\r\n$1\r\n1\r\n$11\r\nrdb-channel\r\n$1\r\n1\r\n$17\r\nmain-ch-client-id\r\n$1\r\n6\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n
            second> *3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n
            full sync: backlog-too-small
            # Full resync from master: A:100
            apply $4\r\n
            # MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to disk
            BeginSnapshot { at: Some(Position { replid: ReplId(A), offset: 100 }), payload: UntilMark }
            snapshot REDIS
            CloseChannel
            # MASTER <-> REPLICA sync: Flushing old data
            # MASTER <-> REPLICA sync: Loading DB in memory
            EndSnapshot
            apply PING\r\n
            # Discarding previously cached master state.
            DisconnectReplicas
            AdoptHistory(Some(Position { replid: ReplId(A), offset: 100 }))
            # MASTER <-> REPLICA sync: Finished with success
            ResumeReading
            > *3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$3\r\n100\r\n
        "#]],
    );
}

/// A small snapshot is there before the primary has put the two together: it must not lose the second before.
#[test]
fn a_snapshot_waits_for_the_stream_to_flow() {
    let events = [&[Second("$4\r\n0012"), ChannelClosed, Pass(1000)], JOINED, &[Loaded]].concat();
    check_with(
        &announcing(),
        Resume::Nothing,
        VALKEY,
        &events,
        expect![[r#"
            # MASTER <-> REPLICA sync: receiving 4 bytes from master to disk
            BeginSnapshot { at: Some(Position { replid: ReplId(A), offset: 100 }), payload: Sized(4) }
            snapshot 0012
            > *3\r\n$5\r\nPSYNC\r\n$40\r\nA\r\n$3\r\n101\r\n
            # MASTER <-> REPLICA sync: RDB and replication stream are received in parallel
            CloseChannel
            # MASTER <-> REPLICA sync: Flushing old data
            # MASTER <-> REPLICA sync: Loading DB in memory
            EndSnapshot
            DisconnectReplicas
            AdoptHistory(Some(Position { replid: ReplId(A), offset: 100 }))
            # MASTER <-> REPLICA sync: Finished with success
            ResumeReading
            > *3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$3\r\n100\r\n
        "#]],
    );
}

#[test]
fn the_rest_of_the_stream_is_executed_when_it_is_lost_behind_the_snapshot() {
    let rest = [Bytes("*1\r\n$4\r\nPING\r\n*1"), Second("$4\r\n0012"), Closed, Pass(1000), Loaded];
    let executed = [Applied(114), Pass(100), Pass(100)];
    check_with(
        &announcing(),
        Resume::Nothing,
        REDIS,
        &[&rest[..], &executed].concat(),
        expect![[r#"
        apply *1\r\n$4\r\nPING\r\n*1
        # MASTER <-> REPLICA sync: receiving 4 bytes from master to disk
        BeginSnapshot { at: Some(Position { replid: ReplId(A), offset: 100 }), payload: Sized(4) }
        snapshot 0012
        CloseChannel
        # MASTER <-> REPLICA sync: Flushing old data
        # MASTER <-> REPLICA sync: Loading DB in memory
        EndSnapshot
        DisconnectReplicas
        AdoptHistory(Some(Position { replid: ReplId(A), offset: 100 }))
        # MASTER <-> REPLICA sync: Finished with success
        # Connection with master lost.
        # Caching the disconnected master state.
        CachePrimary(Position { replid: ReplId(A), offset: 114 })
        CloseConnection
        # Reconnecting to MASTER 10.0.0.1:6379
        open 10.0.0.1:6379
        # MASTER <-> REPLICA sync started
    "#]],
    );
    let whole = [Bytes("*1\r\n$4\r\nPING\r\n"), Second("$4\r\n0012"), Closed, Loaded, Applied(114)];
    let run = run(&announcing(), Resume::Nothing, &[REDIS, &whole].concat());
    assert!(matches!(run.link.as_ref().map(PrimaryLink::state), Some(LinkState::Connecting { .. })));
    assert_eq!(run.link.and_then(|link| link.position()), Some(position(A, 114)));
}

#[test]
fn what_waits_of_the_stream_is_bounded() {
    let config = LinkConfig { stream_bytes_max: Some(10), ..announcing() };
    let mut bounded = run(&config, Resume::Nothing, REDIS);
    let before = bounded.lines.len();
    for event in
        [Bytes("*1\r\n"), Bytes("$4\r\nPING"), Bytes("\r\n"), Second("$4\r\n0012"), Loaded, Applied(114)]
    {
        bounded.feed(&config, event);
    }
    let lines = bounded.lines.split_off(before);
    let about_reading: Vec<&str> = lines
        .iter()
        .map(String::as_str)
        .filter(|line| line.contains("Reading") || line.contains("limit"))
        .collect();
    assert_eq!(
        about_reading,
        [
            "# MASTER <-> REPLICA sync: 10 bytes of the stream wait for the snapshot, which is the limit: more waits \
             at the MASTER",
            "PauseReading",
            "ResumeReading",
        ]
    );
}

/// Whatever fails before the snapshot is complete and the stream flows: both connections end, what came is forgotten, the
/// position is kept, and a new attempt begins.
#[test]
fn either_connection_may_fail_at_every_stage() {
    let transfer = [Second("$4\r\n00")];
    for form in [VALKEY, REDIS] {
        let all = [form, if form == VALKEY { JOINED } else { &[] }, &transfer].concat();
        for stage in 4..=all.len() {
            for failure in [
                Closed,
                ChannelClosed,
                Pass(60_001),
                LoadFailed,
                Retarget,
                Second("-ERR no\r\n"),
                Bytes("-ERR no\r\n"),
            ] {
                let before = run(&announcing(), cached(), &all[..stage]);
                let flows = form == REDIS || stage > all.len() - 1 - transfer.len();
                let in_transfer = stage == all.len();
                let harmless = match failure {
                    LoadFailed => !in_transfer,
                    // Before it is connected nothing comes; within the snapshot it is a part of that.
                    Second(_) => stage == 4 || in_transfer,
                    Bytes(_) => flows,
                    _ => false,
                };
                let lines = before.lines.len();
                let mut after = before;
                after.feed(&announcing(), failure);
                let said = after.lines[lines..].join("\n");
                let what = format!("{form:?} at {stage}, {failure:?}:\n{said}");
                let ended = ["DiscardSnapshot", "CloseChannel", "CloseConnection"]
                    .iter()
                    .all(|line| said.contains(line));
                assert_eq!(ended, !harmless, "{what}");
                let link = after.link.as_ref().expect("not stopped");
                assert_eq!(link.position(), Some(position(A, 100)), "{what}");
                if !harmless {
                    // What the old connections had to say is not for the new attempt.
                    after.feed(&announcing(), Second("+OK\r\n"));
                    after.feed(&announcing(), ChannelClosed);
                    assert!(after.link.as_ref().is_some_and(|link| link.channel.is_none()), "{what}");
                    after.feed(&announcing(), Pass(1001));
                    let state = after.link.as_ref().expect("not stopped").state();
                    assert!(matches!(state, LinkState::Connecting { .. }), "{what}");
                }
            }
        }
    }
}

#[test]
fn a_primary_that_seems_to_have_lost_its_data_is_not_loaded_from_a_second_connection() {
    let config = LinkConfig { guarded_keys: Some(7), ..announcing() };
    let followed = [GREETING_OF_THREE, &[Bytes("-NOPERM\r\n"), Bytes("+CONTINUE\r\n"), Closed]].concat();
    let mut guarded = run(&config, cached(), &followed);
    let greeting = [GREETING_OF_THREE, &[Bytes("-NOPERM\r\n"), Bytes("+DUALCHANNELSYNC\r\n")]].concat();
    let second = [
        ChannelConnected,
        Second("+OK\r\n"),
        Second("$ENDOFF:99 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb -1 6\r\n"),
    ];
    for event in [&greeting[..], &second].concat() {
        guarded.feed(&config, event);
    }
    let link = guarded.link.expect("not stopped");
    assert_eq!((link.role_state(), link.position()), ("guarded", Some(position(A, 100))));
    assert!(!guarded.lines.iter().any(|line| line.starts_with("BeginSnapshot")));
}
