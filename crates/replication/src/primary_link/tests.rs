//! Transcripts: what comes in, what the link does. Each runs three times: with its bytes as written, one
//! byte at a time, and cut in two at every place; all must come to the same.

mod channel;

use expect_test::{Expect, expect};

use super::*;

/// One event of a scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Connected,
    Closed,
    Bytes(&'static str),
    ChannelConnected,
    ChannelClosed,
    /// On the second connection.
    Second(&'static str),
    /// So many milliseconds pass, then the timer fires.
    Pass(u64),
    Applied(u64),
    Fsynced(u64),
    AckWanted,
    Loaded,
    LoadFailed,
    Broken,
    Retarget,
    Stop,
    TakeOver,
}

use Event::*;

impl Event {
    fn bytes(&self) -> &'static [u8] {
        match self {
            Bytes(text) | Second(text) => text.as_bytes(),
            _ => b"",
        }
    }
}

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const C: &str = "cccccccccccccccccccccccccccccccccccccccc";

const GREETING: &[Event] = &[Connected, Bytes("+PONG\r\n"), Bytes("+OK\r\n+OK\r\n")];

fn position(id: &str, offset: u64) -> Position {
    Position::new(id.parse().expect("an id"), offset)
}

fn config() -> LinkConfig {
    LinkConfig {
        user: None,
        password: None,
        listening_port: 7001,
        announce_ip: None,
        announce_version: None,
        timeout: Millis::from_secs(60),
        load: LoadMode::Disk,
        guarded_keys: None,
        channels: Default::default(),
        stream_bytes_max: None,
    }
}

struct Run {
    link: Option<PrimaryLink>,
    now: Millis,
    lines: Vec<String>,
}

impl Run {
    fn new(resume: Resume) -> Run {
        let mut out = Vec::new();
        let link = PrimaryLink::follow(Millis(0), "10.0.0.1", 6379, resume, &mut out);
        let mut run = Run { link: Some(link), now: Millis(0), lines: Vec::new() };
        run.render(out, b"");
        run
    }

    fn feed(&mut self, config: &LinkConfig, event: Event) {
        let input = match event {
            Bytes(_) | Second(_) => return self.bytes(config, event, event.bytes()),
            ChannelConnected => LinkInput::ChannelConnected,
            ChannelClosed => LinkInput::ChannelClosed("Connection reset by peer"),
            Pass(ms) => {
                self.now = self.now + Millis(ms);
                LinkInput::Tick
            }
            Connected => LinkInput::Connected,
            Closed => LinkInput::Closed("Connection reset by peer"),
            Applied(to) => LinkInput::Applied(to),
            Fsynced(to) => LinkInput::Fsynced(to),
            AckWanted => LinkInput::AckWanted,
            Loaded => LinkInput::SnapshotLoaded,
            LoadFailed => LinkInput::SnapshotFailed("Bad data"),
            Broken => LinkInput::StreamBroken,
            TakeOver => return self.link.as_mut().expect("not stopped").ask_to_take_over(),
            Retarget | Stop => {
                let (link, mut out) = (self.link.take().expect("not stopped"), Vec::new());
                match event {
                    Retarget => self.link = Some(link.retarget(self.now, "10.0.0.2", 6380, &mut out)),
                    _ => link.stop(self.now, &mut out),
                }
                return self.render(out, b"");
            }
        };
        self.step(config, input, b"");
    }

    /// Some of the bytes of that event.
    fn bytes(&mut self, config: &LinkConfig, event: Event, bytes: &[u8]) {
        match event {
            _ if bytes.is_empty() => {}
            Second(_) => self.step(config, LinkInput::ChannelBytes(bytes), bytes),
            _ => self.step(config, LinkInput::Bytes(bytes), bytes),
        }
    }

    fn step(&mut self, config: &LinkConfig, input: LinkInput<'_>, bytes: &[u8]) {
        let mut out = Vec::new();
        let link = self.link.take().expect("not stopped");
        self.link = Some(link.step(config, self.now, input, &mut out));
        self.render(out, bytes);
    }

    fn render(&mut self, actions: Vec<LinkAction>, input: &[u8]) {
        for action in actions {
            let line = match action {
                LinkAction::OpenConnection { host, port } => format!("open {host}:{port}"),
                LinkAction::Send(bytes) => format!("> {}", bytes.escape_ascii()),
                LinkAction::OpenChannel { host, port } => format!("open second {host}:{port}"),
                LinkAction::SendChannel(bytes) => format!("second> {}", bytes.escape_ascii()),
                LinkAction::Log(event) => format!("# {event}"),
                LinkAction::SnapshotBytes(piece) => {
                    format!("snapshot {}", piece.bytes(input).escape_ascii())
                }
                LinkAction::Apply(range) => format!("apply {}", input[range].escape_ascii()),
                LinkAction::FullSync(sync) => format!("full sync: {}", sync.cause.name()),
                other => format!("{other:?}"),
            };
            self.lines.push(line.replace(A, "A").replace(B, "B"));
        }
    }

    /// The transcript, with neighbouring pieces of the same thing joined.
    fn transcript(&self) -> String {
        let mut text = String::new();
        let mut last = "";
        for line in &self.lines {
            let kind = ["snapshot ", "apply "].into_iter().find(|kind| line.starts_with(kind));
            match kind {
                Some(kind) if kind == last => text.push_str(&line[kind.len()..]),
                _ => {
                    text.push('\n');
                    text.push_str(line);
                }
            }
            last = kind.unwrap_or("");
        }
        text.push('\n');
        text.split_off(1)
    }
}

fn run(config: &LinkConfig, resume: Resume, events: &[Event]) -> Run {
    let mut run = Run::new(resume);
    events.iter().for_each(|event| run.feed(config, *event));
    run
}

/// Shows what follows the greeting, and checks that cutting the bytes changes nothing.
fn check_with(config: &LinkConfig, resume: Resume, greeting: &[Event], events: &[Event], expected: Expect) {
    let greeted = run(config, resume, greeting).lines.len();
    let events = [greeting, events].concat();
    let mut whole = run(config, resume, &events);
    let transcript = whole.transcript();
    let lines_after_greeting = Run { lines: whole.lines.split_off(greeted), ..whole };
    expected.assert_eq(&lines_after_greeting.transcript());

    let mut bytewise = Run::new(resume);
    for event in &events {
        match event.bytes() {
            b"" => bytewise.feed(config, *event),
            bytes => bytes.chunks(1).for_each(|byte| bytewise.bytes(config, *event, byte)),
        }
    }
    assert_eq!(bytewise.transcript(), transcript, "one byte at a time");

    for (index, event) in events.iter().enumerate() {
        for cut in 1..event.bytes().len() {
            let (head, tail) = event.bytes().split_at(cut);
            let mut run = run(config, resume, &events[..index]);
            run.bytes(config, *event, head);
            run.bytes(config, *event, tail);
            events[index + 1..].iter().for_each(|event| run.feed(config, *event));
            assert_eq!(run.transcript(), transcript, "cut {event:?} at {cut}");
        }
    }
}

fn check(resume: Resume, events: &[Event], expected: Expect) {
    check_with(&config(), resume, GREETING, events, expected);
}

fn cached() -> Resume {
    Resume::Restored(position(A, 100))
}

#[test]
fn a_first_synchronisation_with_a_snapshot_of_known_size() {
    check_with(
        &config(),
        Resume::Nothing,
        &[],
        &[
            Connected,
            Bytes("+PONG\r\n"),
            Bytes("+OK\r\n+OK\r\n"),
            Bytes("\n\n+FULLRESYNC aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 100\r\n"),
            Bytes("\n\n$9\r\nREDIS"),
            Bytes("0012*1\r\n$4\r\nPI"),
            Pass(1000),
            Loaded,
            Bytes("NG\r\n"),
            Applied(114),
            Pass(1000),
        ],
        expect![[r#"
            # Non blocking connect for SYNC fired the event.
            > *1\r\n$4\r\nPING\r\n
            # Master replied to PING, replication can continue...
            > *3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n
            # Partial resynchronization not possible (no cached master)
            > *3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n
            full sync: no-position
            # Full resync from master: A:100
            # MASTER <-> REPLICA sync: receiving 9 bytes from master to disk
            BeginSnapshot { at: Some(Position { replid: ReplId(A), offset: 100 }), payload: Sized(9) }
            snapshot REDIS0012
            # MASTER <-> REPLICA sync: Flushing old data
            # MASTER <-> REPLICA sync: Loading DB in memory
            PauseReading
            EndSnapshot
            apply *1\r\n$4\r\nPI
            > \n
            DisconnectReplicas
            AdoptHistory(Some(Position { replid: ReplId(A), offset: 100 }))
            # MASTER <-> REPLICA sync: Finished with success
            ResumeReading
            apply NG\r\n
            > *3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$3\r\n114\r\n
        "#]],
    );
}

#[test]
fn a_streamed_snapshot_is_acknowledged_at_once() {
    check(
        Resume::Nothing,
        &[
            Bytes("+FULLRESYNC aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0\r\n"),
            Bytes("$EOF:0123456789012345678901234567890123456789\r\n"),
            Bytes("REDIS0123456789x012345678901234567890123456789"),
            Bytes("tail0120123456789012345678901234567890123456789*1\r\n"),
            Loaded,
            Bytes("$4\r\nPING\r\n"),
            Applied(14),
            Fsynced(7),
            AckWanted,
        ],
        expect![[r#"
            full sync: no-position
            # Full resync from master: A:0
            # MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to disk
            BeginSnapshot { at: Some(Position { replid: ReplId(A), offset: 0 }), payload: UntilMark }
            snapshot REDIS0123456789x012345678901234567890123456789tail012
            # MASTER <-> REPLICA sync: Flushing old data
            # MASTER <-> REPLICA sync: Loading DB in memory
            PauseReading
            EndSnapshot
            apply *1\r\n
            DisconnectReplicas
            AdoptHistory(Some(Position { replid: ReplId(A), offset: 0 }))
            # MASTER <-> REPLICA sync: Finished with success
            ResumeReading
            > *3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$1\r\n0\r\n
            apply $4\r\nPING\r\n
            > *5\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n14\r\n$4\r\nFACK\r\n$1\r\n7\r\n
        "#]],
    );
}

#[test]
fn announcements_follow_the_configuration() {
    let config = LinkConfig {
        user: Some(b"repl".to_vec()),
        password: Some(b"s\r\nt".to_vec()),
        announce_ip: Some("192.168.1.9".to_owned()),
        announce_version: Some("7.2.4".to_owned()),
        ..config()
    };
    let events = [
        Connected,
        Bytes("-NOAUTH Authentication required.\r\n"),
        Bytes("+OK\r\n+OK\r\n-ERR no ip\r\n-ERR no capa\r\n-ERR Unrecognized REPLCONF option: version\r\n"),
    ];
    check_with(
        &config,
        Resume::Nothing,
        &[],
        &events,
        expect![[r#"
        # Non blocking connect for SYNC fired the event.
        > *1\r\n$4\r\nPING\r\n
        # Master replied to PING, replication can continue...
        > *3\r\n$4\r\nAUTH\r\n$4\r\nrepl\r\n$4\r\ns\r\nt\r\n*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*3\r\n$8\r\nREPLCONF\r\n$10\r\nip-address\r\n$11\r\n192.168.1.9\r\n*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n*3\r\n$8\r\nREPLCONF\r\n$7\r\nversion\r\n$5\r\n7.2.4\r\n
        # (Non critical) Master does not understand REPLCONF ip-address: -ERR no ip
        # (Non critical) Master does not understand REPLCONF capa: -ERR no capa
        # (Non critical) Master does not understand REPLCONF version: -ERR Unrecognized REPLCONF option: version
        # Partial resynchronization not possible (no cached master)
        > *3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n
    "#]],
    );
}

#[test]
fn a_password_alone_is_sent_without_a_user() {
    let config = LinkConfig { password: Some(b"secret".to_vec()), ..config() };
    check_with(
        &config,
        Resume::Nothing,
        &[Connected],
        &[
            Bytes("+PONG\r\n"),
            Bytes("-WRONGPASS invalid username-password pair\r\n+OK\r\n+OK\r\n"),
            Pass(1000),
        ],
        expect![[r#"
            # Master replied to PING, replication can continue...
            > *2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n
            # Unable to AUTH to MASTER: -WRONGPASS invalid username-password pair
            CloseConnection
            # Connecting to MASTER 10.0.0.1:6379
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
        "#]],
    );
}

#[test]
fn a_primary_that_answers_ping_with_another_error_is_left_alone_for_a_second() {
    check_with(
        &config(),
        Resume::Nothing,
        &[Connected],
        &[Bytes("-MASTERDOWN Link with MASTER is down\r\n"), Pass(999), Pass(1)],
        expect![[r#"
            # Error reply to PING from master: '-MASTERDOWN Link with MASTER is down'
            CloseConnection
            # Connecting to MASTER 10.0.0.1:6379
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
        "#]],
    );
}

#[test]
fn errors_that_say_the_primary_is_alive() {
    for reply in ["-NOAUTH x\r\n", "-NOPERM x\r\n", "-ERR operation not permitted\r\n", "+anything\r\n"] {
        let run = run(&config(), Resume::Nothing, &[Connected, Bytes(reply)]);
        assert!(run.lines.iter().any(|line| line.contains("replication can continue")), "{reply}");
    }
}

#[test]
fn a_partial_resynchronisation() {
    check(
        cached(),
        &[
            Bytes("\n+CONTINUE aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n*1\r\n$4\r\nPING\r\n"),
            Applied(114),
            Pass(0),
            Pass(999),
            Pass(1),
        ],
        expect![[r#"
            # Successful partial resynchronization with master.
            ContinueFrom(Position { replid: ReplId(A), offset: 100 })
            # MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.
            apply *1\r\n$4\r\nPING\r\n
            > *3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$3\r\n114\r\n
            > *3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$3\r\n114\r\n
        "#]],
    );
}

#[test]
fn continuing_with_a_promoted_primary_shifts_the_history() {
    check(
        Resume::OwnHistory(position(A, 100)),
        &[Bytes("+CONTINUE bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n"), Bytes("x"), Closed],
        expect![[r#"
            # Successful partial resynchronization with master.
            # Master replication ID changed to B
            ShiftHistory { to: ReplId(B) }
            DisconnectReplicas
            ContinueFrom(Position { replid: ReplId(B), offset: 100 })
            # MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.
            apply x
            # Connection with master lost.
            # Caching the disconnected master state.
            CachePrimary(Position { replid: ReplId(B), offset: 100 })
            CloseConnection
            # Reconnecting to MASTER 10.0.0.1:6379
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
        "#]],
    );
}

#[test]
fn a_primary_that_tells_no_id_is_continued_with_under_the_old_one() {
    check(
        cached(),
        &[Bytes("+CONTINUE\r\n"), Pass(0)],
        expect![[r#"
        # Successful partial resynchronization with master.
        ContinueFrom(Position { replid: ReplId(A), offset: 100 })
        # MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.
        > *3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$3\r\n100\r\n
    "#]],
    );
}

#[test]
fn continue_without_having_asked_is_refused() {
    check(
        Resume::Nothing,
        &[Bytes("+CONTINUE\r\n*1\r\n$4\r\nPING\r\n")],
        expect![[r#"
        # Master replied +CONTINUE although no partial resynchronization was asked for
        CloseConnection
    "#]],
    );
}

#[test]
fn a_primary_that_is_not_ready_is_asked_again_later() {
    check(
        cached(),
        &[Bytes("-LOADING Redis is loading the dataset in memory\r\n"), Pass(1000)],
        expect![[r#"
            # Master is currently unable to PSYNC but should be in the future: -LOADING Redis is loading the dataset in memory
            CloseConnection
            # Connecting to MASTER 10.0.0.1:6379
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
        "#]],
    );
    check(
        cached(),
        &[Bytes("-NOMASTERLINK Can't SYNC while not connected with my master\r\n")],
        expect![[r#"
            # Master is currently unable to PSYNC but should be in the future: -NOMASTERLINK Can't SYNC while not connected with my master
            CloseConnection
        "#]],
    );
}

#[test]
fn a_primary_without_psync_is_asked_by_sync() {
    check(
        cached(),
        &[
            Bytes("-ERR unknown command 'PSYNC'\r\n"),
            Bytes("\n$3\r\nRDB*1\r\n$4\r\nPING\r\n"),
            Loaded,
            Bytes("more"),
            AckWanted,
            Pass(1000),
            Closed,
        ],
        expect![[r#"
            # Master does not support PSYNC or is in error state (reply: -ERR unknown command 'PSYNC')
            # Retrying with SYNC...
            full sync: no-psync
            > SYNC\r\n
            # MASTER <-> REPLICA sync: receiving 3 bytes from master to disk
            BeginSnapshot { at: None, payload: Sized(3) }
            snapshot RDB
            # MASTER <-> REPLICA sync: Flushing old data
            # MASTER <-> REPLICA sync: Loading DB in memory
            PauseReading
            EndSnapshot
            apply *1\r\n$4\r\nPING\r\n
            # Discarding previously cached master state.
            DisconnectReplicas
            AdoptHistory(None)
            # MASTER <-> REPLICA sync: Finished with success
            ResumeReading
            apply more
            # Connection with master lost.
            ForgetPrimary
            CloseConnection
            # Reconnecting to MASTER 10.0.0.1:6379
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
        "#]],
    );
    check(
        cached(),
        &[Bytes("+WHAT\r\n")],
        expect![[r#"
            # Unexpected reply to PSYNC from master: +WHAT
            # Retrying with SYNC...
            full sync: no-psync
            > SYNC\r\n
        "#]],
    );
}

#[test]
fn a_malformed_full_resync_leaves_no_position() {
    check(
        cached(),
        &[Bytes("+FULLRESYNC abc 1\r\n"), Bytes("$0\r\n"), Loaded],
        expect![[r#"
            full sync: no-psync
            # Master replied with wrong +FULLRESYNC syntax.
            # MASTER <-> REPLICA sync: receiving 0 bytes from master to disk
            BeginSnapshot { at: None, payload: Sized(0) }
            # MASTER <-> REPLICA sync: Flushing old data
            # MASTER <-> REPLICA sync: Loading DB in memory
            PauseReading
            EndSnapshot
            # Discarding previously cached master state.
            DisconnectReplicas
            AdoptHistory(None)
            # MASTER <-> REPLICA sync: Finished with success
            ResumeReading
        "#]],
    );
}

#[test]
fn the_position_outlives_a_failed_transfer() {
    check(
        cached(),
        &[
            Bytes("+FULLRESYNC bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 500\r\n$10\r\nREDIS"),
            Closed,
            Connected,
            Bytes("+PONG\r\n+OK\r\n+OK\r\n"),
        ],
        expect![[r#"
            full sync: other-history
            # Full resync from master: B:500
            # MASTER <-> REPLICA sync: receiving 10 bytes from master to disk
            BeginSnapshot { at: Some(Position { replid: ReplId(B), offset: 500 }), payload: Sized(10) }
            snapshot REDIS
            # I/O error trying to sync with MASTER: Connection reset by peer
            DiscardSnapshot
            CloseConnection
            # Reconnecting to MASTER 10.0.0.1:6379 after failure
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
            # Non blocking connect for SYNC fired the event.
            > *1\r\n$4\r\nPING\r\n
            # Master replied to PING, replication can continue...
            > *3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n
            # Trying a partial resynchronization (request A:101).
            > *3\r\n$5\r\nPSYNC\r\n$40\r\nA\r\n$3\r\n101\r\n
        "#]],
    );
}

#[test]
fn a_snapshot_that_cannot_be_loaded_is_discarded() {
    let parser = |swapdb| LinkConfig { load: LoadMode::Parser { swapdb }, ..config() };
    let events =
        [Bytes("+FULLRESYNC bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 500\r\n$5\r\nREDIS"), LoadFailed];
    check_with(
        &config(),
        cached(),
        GREETING,
        &events,
        expect![[r#"
            full sync: other-history
            # Full resync from master: B:500
            # MASTER <-> REPLICA sync: receiving 5 bytes from master to disk
            BeginSnapshot { at: Some(Position { replid: ReplId(B), offset: 500 }), payload: Sized(5) }
            snapshot REDIS
            # MASTER <-> REPLICA sync: Flushing old data
            # MASTER <-> REPLICA sync: Loading DB in memory
            PauseReading
            EndSnapshot
            # Failed trying to load the MASTER synchronization DB from disk: Bad data
            DiscardSnapshot
            CloseConnection
            # Reconnecting to MASTER 10.0.0.1:6379 after failure
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
        "#]],
    );
    check_with(
        &parser(false),
        cached(),
        GREETING,
        &events,
        expect![[r#"
            full sync: other-history
            # Full resync from master: B:500
            # MASTER <-> REPLICA sync: receiving 5 bytes from master to parser
            BeginSnapshot { at: Some(Position { replid: ReplId(B), offset: 500 }), payload: Sized(5) }
            # MASTER <-> REPLICA sync: Flushing old data
            # MASTER <-> REPLICA sync: Loading DB in memory
            snapshot REDIS
            PauseReading
            EndSnapshot
            # Failed trying to load the MASTER synchronization DB from socket: Bad data
            DiscardSnapshot
            CloseConnection
            # Reconnecting to MASTER 10.0.0.1:6379 after failure
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
        "#]],
    );
    check_with(
        &parser(true),
        cached(),
        GREETING,
        &events,
        expect![[r#"
            full sync: other-history
            # Full resync from master: B:500
            # MASTER <-> REPLICA sync: receiving 5 bytes from master to parser
            BeginSnapshot { at: Some(Position { replid: ReplId(B), offset: 500 }), payload: Sized(5) }
            # MASTER <-> REPLICA sync: Loading DB in memory
            snapshot REDIS
            PauseReading
            EndSnapshot
            # Failed trying to load the MASTER synchronization DB from socket: Bad data
            # MASTER <-> REPLICA sync: Discarding temporary DB in background
            DiscardSnapshot
            CloseConnection
            # Reconnecting to MASTER 10.0.0.1:6379 after failure
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
        "#]],
    );
}

#[test]
fn loading_into_a_second_data_set_swaps_at_the_end() {
    let config = LinkConfig { load: LoadMode::Parser { swapdb: true }, ..config() };
    let events = [Bytes("+FULLRESYNC bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 500\r\n$5\r\nREDIS"), Loaded];
    check_with(
        &config,
        cached(),
        GREETING,
        &events,
        expect![[r#"
            full sync: other-history
            # Full resync from master: B:500
            # MASTER <-> REPLICA sync: receiving 5 bytes from master to parser
            BeginSnapshot { at: Some(Position { replid: ReplId(B), offset: 500 }), payload: Sized(5) }
            # MASTER <-> REPLICA sync: Loading DB in memory
            snapshot REDIS
            PauseReading
            EndSnapshot
            # Discarding previously cached master state.
            DisconnectReplicas
            # MASTER <-> REPLICA sync: Swapping active DB with loaded DB
            # MASTER <-> REPLICA sync: Discarding old DB in background
            AdoptHistory(Some(Position { replid: ReplId(B), offset: 500 }))
            # MASTER <-> REPLICA sync: Finished with success
            ResumeReading
        "#]],
    );
}

#[test]
fn a_primary_that_aborts_the_snapshot() {
    let full = "+FULLRESYNC bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 500\r\n";
    check(
        cached(),
        &[Bytes(full), Bytes("-ERR BGSAVE failed, replication can't continue\r\n")],
        expect![[r#"
            full sync: other-history
            # Full resync from master: B:500
            # MASTER aborted replication with an error: ERR BGSAVE failed, replication can't continue
            CloseConnection
            # Reconnecting to MASTER 10.0.0.1:6379 after failure
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
        "#]],
    );
    check(
        cached(),
        &[Bytes(full), Bytes("HTTP/1.1 400\r\n")],
        expect![[r#"
            full sync: other-history
            # Full resync from master: B:500
            # Bad protocol from MASTER, the first byte is not '$' (we received 'HTTP/1.1 400'), are you sure the host and port are right?
            CloseConnection
            # Reconnecting to MASTER 10.0.0.1:6379 after failure
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
        "#]],
    );
    check(
        cached(),
        &[Bytes(full), Closed],
        expect![[r#"
            full sync: other-history
            # Full resync from master: B:500
            # I/O error reading bulk count from MASTER: Connection reset by peer
            CloseConnection
            # Reconnecting to MASTER 10.0.0.1:6379 after failure
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
        "#]],
    );
}

#[test]
fn the_connection_may_break_while_the_complete_snapshot_is_loaded() {
    check(
        Resume::Nothing,
        &[
            Bytes("+FULLRESYNC aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 7\r\n$3\r\nRDBxy"),
            Closed,
            Pass(5000),
            Loaded,
            Connected,
            Bytes("+PONG\r\n+OK\r\n+OK\r\n"),
        ],
        expect![[r#"
            full sync: no-position
            # Full resync from master: A:7
            # MASTER <-> REPLICA sync: receiving 3 bytes from master to disk
            BeginSnapshot { at: Some(Position { replid: ReplId(A), offset: 7 }), payload: Sized(3) }
            snapshot RDB
            # MASTER <-> REPLICA sync: Flushing old data
            # MASTER <-> REPLICA sync: Loading DB in memory
            PauseReading
            EndSnapshot
            apply xy
            DisconnectReplicas
            AdoptHistory(Some(Position { replid: ReplId(A), offset: 7 }))
            # MASTER <-> REPLICA sync: Finished with success
            # Connection with master lost.
            # Caching the disconnected master state.
            CachePrimary(Position { replid: ReplId(A), offset: 7 })
            CloseConnection
            # Reconnecting to MASTER 10.0.0.1:6379
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
            # Non blocking connect for SYNC fired the event.
            > *1\r\n$4\r\nPING\r\n
            # Master replied to PING, replication can continue...
            > *3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n
            # Trying a partial resynchronization (request A:8).
            > *3\r\n$5\r\nPSYNC\r\n$40\r\nA\r\n$1\r\n8\r\n
        "#]],
    );
}

#[test]
fn every_stage_may_break_or_time_out() {
    check_with(
        &config(),
        cached(),
        &[],
        &[Closed, Pass(1000)],
        expect![[r#"
        # Error condition on socket for SYNC: Connection reset by peer
        CloseConnection
        # Connecting to MASTER 10.0.0.1:6379
        open 10.0.0.1:6379
        # MASTER <-> REPLICA sync started
    "#]],
    );
    check_with(
        &config(),
        cached(),
        &[Connected],
        &[Closed],
        expect![[r#"
        # Failed to read response from the server: Connection reset by peer
        # Master did not respond to command during SYNC handshake
        CloseConnection
    "#]],
    );
    check(
        cached(),
        &[Closed],
        expect![[r#"
        # Failed to read response from the server: Connection reset by peer
        # Master did not reply to PSYNC, will try later
        CloseConnection
    "#]],
    );
    check_with(
        &config(),
        cached(),
        &[],
        &[Pass(60_000), Pass(1)],
        expect![[r#"
        # Timeout connecting to the MASTER...
        CloseConnection
        # Reconnecting to MASTER 10.0.0.1:6379 after failure
        open 10.0.0.1:6379
        # MASTER <-> REPLICA sync started
    "#]],
    );
    check(
        cached(),
        &[Pass(60_001)],
        expect![[r#"
        # Timeout connecting to the MASTER...
        CloseConnection
        # Reconnecting to MASTER 10.0.0.1:6379 after failure
        open 10.0.0.1:6379
        # MASTER <-> REPLICA sync started
    "#]],
    );
    let full = "+FULLRESYNC bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 500\r\n";
    check(
        cached(),
        &[Bytes(full), Pass(60_000), Bytes("\n"), Pass(60_001)],
        expect![[r#"
            full sync: other-history
            # Full resync from master: B:500
            # Timeout receiving bulk data from MASTER... If the problem persists try to set the 'repl-timeout' parameter in redis.conf to a larger value.
            CloseConnection
            # Reconnecting to MASTER 10.0.0.1:6379 after failure
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
        "#]],
    );
    check(
        cached(),
        &[Bytes("+CONTINUE\r\n"), Pass(60_000), Bytes("\n"), Applied(101), Pass(60_001)],
        expect![[r#"
            # Successful partial resynchronization with master.
            ContinueFrom(Position { replid: ReplId(A), offset: 100 })
            # MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.
            > *3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$3\r\n100\r\n
            apply \n
            # MASTER timeout: no data nor PING received...
            # Connection with master lost.
            # Caching the disconnected master state.
            CachePrimary(Position { replid: ReplId(A), offset: 101 })
            CloseConnection
            # Reconnecting to MASTER 10.0.0.1:6379
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
        "#]],
    );
}

#[test]
fn a_broken_stream_gives_up_the_position() {
    check(
        cached(),
        &[Bytes("+CONTINUE\r\n"), Broken, Connected, Bytes("+PONG\r\n+OK\r\n+OK\r\n")],
        expect![[r#"
            # Successful partial resynchronization with master.
            ContinueFrom(Position { replid: ReplId(A), offset: 100 })
            # MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.
            # Connection with master lost.
            ForgetPrimary
            CloseConnection
            # Reconnecting to MASTER 10.0.0.1:6379
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
            # Non blocking connect for SYNC fired the event.
            > *1\r\n$4\r\nPING\r\n
            # Master replied to PING, replication can continue...
            > *3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n
            # Partial resynchronization not possible (no cached master)
            > *3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n
        "#]],
    );
}

#[test]
fn replicaof_another_keeps_the_position_reached() {
    check(
        cached(),
        &[
            Bytes("+CONTINUE\r\n"),
            Bytes("abcdef"),
            Applied(103),
            Retarget,
            Connected,
            Bytes("+PONG\r\n+OK\r\n+OK\r\n"),
        ],
        expect![[r#"
            # Successful partial resynchronization with master.
            ContinueFrom(Position { replid: ReplId(A), offset: 100 })
            # MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.
            apply abcdef
            # Connection with master lost.
            # Caching the disconnected master state.
            CachePrimary(Position { replid: ReplId(A), offset: 103 })
            CloseConnection
            # Connecting to MASTER 10.0.0.2:6380
            open 10.0.0.2:6380
            # MASTER <-> REPLICA sync started
            # Non blocking connect for SYNC fired the event.
            > *1\r\n$4\r\nPING\r\n
            # Master replied to PING, replication can continue...
            > *3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n
            # Trying a partial resynchronization (request A:104).
            > *3\r\n$5\r\nPSYNC\r\n$40\r\nA\r\n$3\r\n104\r\n
        "#]],
    );
}

#[test]
fn replicaof_no_one_from_every_stage() {
    let full = "+FULLRESYNC bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 500\r\n";
    check(
        cached(),
        &[Bytes("+CONTINUE\r\n"), Stop],
        expect![[r#"
        # Successful partial resynchronization with master.
        ContinueFrom(Position { replid: ReplId(A), offset: 100 })
        # MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.
        # Connection with master lost.
        # Caching the disconnected master state.
        CachePrimary(Position { replid: ReplId(A), offset: 100 })
        CloseConnection
        # Discarding previously cached master state.
        ForgetPrimary
    "#]],
    );
    check(
        cached(),
        &[Bytes(full), Bytes("$5\r\nRE"), Stop],
        expect![[r#"
            full sync: other-history
            # Full resync from master: B:500
            # MASTER <-> REPLICA sync: receiving 5 bytes from master to disk
            BeginSnapshot { at: Some(Position { replid: ReplId(B), offset: 500 }), payload: Sized(5) }
            snapshot RE
            DiscardSnapshot
            CloseConnection
            # Discarding previously cached master state.
            ForgetPrimary
        "#]],
    );
    check_with(
        &config(),
        Resume::Nothing,
        &[],
        &[Stop],
        expect![[r#"
        CloseConnection
    "#]],
    );
    check_with(&config(), Resume::Nothing, &[Closed], &[Stop], expect![[""]]);
}

#[test]
fn a_reply_without_an_end_is_not_hoarded() {
    let mut run = run(&config(), Resume::Nothing, &[Connected]);
    run.bytes(&config(), Bytes(""), &[b'x'; 5000]);
    assert_eq!(run.link.expect("a link").role_state(), "connect");
}

#[test]
#[should_panic(expected = "lies between what was applied before (100) and what was received (103)")]
fn more_than_was_received_cannot_be_applied() {
    run(&config(), cached(), &[GREETING, &[Bytes("+CONTINUE\r\nabc"), Applied(104)]].concat());
}

#[test]
fn info_and_role_at_every_stage() {
    let full = "+FULLRESYNC aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 500\r\n";
    let mut run = Run::new(Resume::Nothing);
    let mut seen = String::new();
    let events = [
        Closed,
        Pass(1000),
        Connected,
        Bytes("+PONG\r\n+OK\r\n+OK\r\n"),
        Bytes(full),
        Pass(2000),
        Bytes("$8\r\nRE"),
        Bytes("DIS001"),
        Loaded,
        Bytes("abc"),
        Applied(502),
        Pass(3000),
        Closed,
        Pass(4000),
    ];
    for event in events {
        run.feed(&config(), event);
        let link = run.link.as_ref().expect("a link");
        let info = link.info(run.now);
        seen.push_str(&format!(
            "{:10} {:>4} up={} io={} read={} applied={} down={} position={:?}",
            link.role_state(),
            link.role_offset(),
            info.up,
            info.last_io_seconds_ago,
            info.read_offset,
            info.applied_offset,
            info.down_since_seconds,
            link.position().map(|at| at.offset),
        ));
        if let Some(sync) = info.sync {
            seen.push_str(&format!(
                " sync={}/{} left={} {:.2}% io={}",
                sync.read_bytes, sync.total_bytes, sync.left_bytes, sync.percent, sync.last_io_seconds_ago
            ));
        }
        seen.push('\n');
    }
    expect![[r#"
        connect      -1 up=false io=-1 read=1 applied=1 down=-1 position=None
        connecting   -1 up=false io=-1 read=1 applied=1 down=-1 position=None
        handshake    -1 up=false io=-1 read=1 applied=1 down=-1 position=None
        handshake    -1 up=false io=-1 read=1 applied=1 down=-1 position=None
        sync         -1 up=false io=-1 read=1 applied=1 down=-1 position=None sync=0/-1 left=-1 0.00% io=0
        sync         -1 up=false io=-1 read=1 applied=1 down=-1 position=None sync=0/-1 left=-1 0.00% io=2
        sync         -1 up=false io=-1 read=1 applied=1 down=-1 position=None sync=2/8 left=6 25.00% io=0
        sync         -1 up=false io=-1 read=1 applied=1 down=-1 position=None sync=8/8 left=0 100.00% io=0
        connected   500 up=true io=0 read=500 applied=500 down=-1 position=Some(500)
        connected   500 up=true io=0 read=503 applied=500 down=-1 position=Some(500)
        connected   502 up=true io=0 read=503 applied=502 down=-1 position=Some(502)
        connected   502 up=true io=3 read=503 applied=502 down=-1 position=Some(502)
        connecting   -1 up=false io=-1 read=502 applied=502 down=0 position=Some(502)
        connecting   -1 up=false io=-1 read=502 applied=502 down=4 position=Some(502)
    "#]]
    .assert_eq(&seen);
}

// ---- the guard ----

fn guarding() -> LinkConfig {
    LinkConfig { guarded_keys: Some(100), ..config() }
}

/// The reply to INFO of a primary with so many keys.
fn info(run_id: &str, id: &str, offset: u64, keys: u64) -> Event {
    let text = format!(
        "# Server\r\nrun_id:{run_id}\r\n# Replication\r\nrole:master\r\nmaster_replid:{id}\r\n\
         master_repl_offset:{offset}\r\n# Keyspace\r\ndb0:keys={keys},expires=0\r\n"
    );
    Bytes(Box::leak(format!("${}\r\n{text}\r\n", text.len()).into_boxed_str()))
}

/// Followed once, then lost.
const FOLLOWED: &[Event] = &[
    Connected,
    Bytes("+PONG\r\n"),
    Bytes("+OK\r\n+OK\r\n"),
    Bytes("+FULLRESYNC aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 100\r\n"),
    Bytes("$3\r\nRDB"),
    Loaded,
    Closed,
];

#[test]
fn a_primary_that_comes_back_empty_is_left_alone_until_it_is_right() {
    let returns = [Connected, Bytes("+PONG\r\n"), Bytes("+OK\r\n+OK\r\n")];
    let events = [
        &returns[..],
        &[info("one", B, 0, 0), Pass(4999), Pass(1)],
        // The same process has grown since; then it cannot be reached; then it is another, with its data.
        &returns[..],
        &[info("one", B, 9999, 99), Pass(5000), Closed, Pass(1000)],
        &returns[..],
        &[info("two", C, 7, 90)],
        &[Bytes("+FULLRESYNC cccccccccccccccccccccccccccccccccccccccc 7\r\n")],
    ]
    .concat();
    check_with(
        &guarding(),
        Resume::Nothing,
        FOLLOWED,
        &events,
        expect![[r#"
            # Non blocking connect for SYNC fired the event.
            > *1\r\n$4\r\nPING\r\n
            # Master replied to PING, replication can continue...
            > *3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n*1\r\n$4\r\nINFO\r\n
            # MASTER <-> REPLICA sync: refused, since it would wipe this replica: the primary has 0 keys at B:0 and this replica 100 keys at A:100 of a history that the primary does not know. The data is kept, and the primary is asked again quietly until it has its data back; REPLICAOF follows it all the same (replica-guard-empty-primary)
            CloseConnection
            open 10.0.0.1:6379
            > *1\r\n$4\r\nPING\r\n
            > *3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n*1\r\n$4\r\nINFO\r\n
            CloseConnection
            open 10.0.0.1:6379
            CloseConnection
            open 10.0.0.1:6379
            > *1\r\n$4\r\nPING\r\n
            > *3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n*1\r\n$4\r\nINFO\r\n
            # MASTER <-> REPLICA sync: the primary has a data set again, replication can continue
            # Trying a partial resynchronization (request A:101).
            > *3\r\n$5\r\nPSYNC\r\n$40\r\nA\r\n$3\r\n101\r\n
            full sync: other-history
            # Full resync from master: cccccccccccccccccccccccccccccccccccccccc:7
        "#]],
    );
}

#[test]
fn replicaof_follows_a_refused_primary() {
    let events = [
        &[Connected, Bytes("+PONG\r\n"), Bytes("+OK\r\n+OK\r\n"), info("one", B, 0, 0), Retarget][..],
        &[Connected, Bytes("+PONG\r\n"), Bytes("+OK\r\n+OK\r\n")],
        &[Bytes("+FULLRESYNC bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 0\r\n")],
    ]
    .concat();
    check_with(
        &guarding(),
        Resume::Nothing,
        FOLLOWED,
        &events,
        expect![[r#"
        # Non blocking connect for SYNC fired the event.
        > *1\r\n$4\r\nPING\r\n
        # Master replied to PING, replication can continue...
        > *3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n*1\r\n$4\r\nINFO\r\n
        # MASTER <-> REPLICA sync: refused, since it would wipe this replica: the primary has 0 keys at B:0 and this replica 100 keys at A:100 of a history that the primary does not know. The data is kept, and the primary is asked again quietly until it has its data back; REPLICAOF follows it all the same (replica-guard-empty-primary)
        CloseConnection
        # MASTER <-> REPLICA sync: following the refused primary, as REPLICAOF demands
        # Connecting to MASTER 10.0.0.2:6380
        open 10.0.0.2:6380
        # MASTER <-> REPLICA sync started
        # Non blocking connect for SYNC fired the event.
        > *1\r\n$4\r\nPING\r\n
        # Master replied to PING, replication can continue...
        > *3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n
        # Trying a partial resynchronization (request A:101).
        > *3\r\n$5\r\nPSYNC\r\n$40\r\nA\r\n$3\r\n101\r\n
        full sync: other-history
        # Full resync from master: B:0
    "#]],
    );
}

#[test]
fn without_info_a_younger_history_is_refused() {
    let events = [
        &[Connected, Bytes("+PONG\r\n"), Bytes("+OK\r\n+OK\r\n-NOPERM no\r\n")][..],
        &[Bytes("+FULLRESYNC bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 99\r\n"), Pass(59_999), Pass(1)],
        &[Connected, Bytes("+PONG\r\n"), Bytes("+OK\r\n+OK\r\n-NOPERM no\r\n")],
        &[Bytes("+FULLRESYNC bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 100\r\n")],
    ]
    .concat();
    check_with(
        &guarding(),
        Resume::Nothing,
        FOLLOWED,
        &events,
        expect![[r#"
        # Non blocking connect for SYNC fired the event.
        > *1\r\n$4\r\nPING\r\n
        # Master replied to PING, replication can continue...
        > *3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n*1\r\n$4\r\nINFO\r\n
        # Trying a partial resynchronization (request A:101).
        > *3\r\n$5\r\nPSYNC\r\n$40\r\nA\r\n$3\r\n101\r\n
        # MASTER <-> REPLICA sync: refused, since it would wipe this replica: the primary stands at B:99 and this replica 100 keys at A:100 of a history that the primary does not know. The data is kept, and the primary is asked again quietly until it has its data back; REPLICAOF follows it all the same (replica-guard-empty-primary)
        CloseConnection
        open 10.0.0.1:6379
        > *1\r\n$4\r\nPING\r\n
        > *3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n*1\r\n$4\r\nINFO\r\n
        > *3\r\n$5\r\nPSYNC\r\n$40\r\nA\r\n$3\r\n101\r\n
        full sync: other-history
        # Full resync from master: B:100
    "#]],
    );
}

#[test]
fn a_restored_data_set_is_guarded_against_an_empty_primary_only() {
    let link = |keys, events: &[Event]| {
        let config = guarding();
        let mut run = run(&config, cached(), GREETING);
        run.feed(&config, info("one", B, 0, keys));
        events.iter().for_each(|event| run.feed(&config, *event));
        run.link.expect("not stopped")
    };
    assert_eq!(link(0, &[]).role_state(), "guarded");
    assert!(link(0, &[]).guarded().is_some_and(|guarded| guarded.keys == 100));
    assert_eq!(link(1, &[]).role_state(), "handshake");
    // With nothing to lose, or told not to look, nobody asks.
    for guarded_keys in [None, Some(0)] {
        let config = LinkConfig { guarded_keys, ..config() };
        let run = run(&config, cached(), GREETING);
        assert!(matches!(run.link.expect("not stopped").state(), LinkState::AwaitPsync { .. }));
    }
}

/// Greeted by a replica of ours that is to take over, and asked.
const ASKED: &[Event] = &[TakeOver, Connected, Bytes("+PONG\r\n"), Bytes("+OK\r\n+OK\r\n")];

#[test]
fn a_replica_takes_over() {
    check_with(
        &config(),
        Resume::OwnHistory(position(A, 100)),
        &ASKED[..3],
        &[
            ASKED[3],
            Bytes("+CONTINUE bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n"),
            Closed,
            Connected,
            GREETING[1],
            GREETING[2],
        ],
        expect![[r#"
            # Trying a partial resynchronization (request A:101).
            > *4\r\n$5\r\nPSYNC\r\n$40\r\nA\r\n$3\r\n101\r\n$8\r\nFAILOVER\r\n
            # Successful partial resynchronization with master.
            TakeoverAnswered { accepted: true }
            # Master replication ID changed to B
            ShiftHistory { to: ReplId(B) }
            DisconnectReplicas
            ContinueFrom(Position { replid: ReplId(B), offset: 100 })
            # MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.
            # Connection with master lost.
            # Caching the disconnected master state.
            CachePrimary(Position { replid: ReplId(B), offset: 100 })
            CloseConnection
            # Reconnecting to MASTER 10.0.0.1:6379
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
            # Non blocking connect for SYNC fired the event.
            > *1\r\n$4\r\nPING\r\n
            # Master replied to PING, replication can continue...
            > *3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n
            # Trying a partial resynchronization (request B:101).
            > *3\r\n$5\r\nPSYNC\r\n$40\r\nB\r\n$3\r\n101\r\n
        "#]],
    );
}

#[test]
fn a_replica_refuses_to_take_over() {
    for refusal in
        ["-NOPERM no\r\n", "-LOADING busy\r\n", "-ERR PSYNC FAILOVER can't be sent to a master.\r\n"]
    {
        let events = [ASKED, &[Bytes(refusal)]].concat();
        let run = run(&config(), Resume::OwnHistory(position(A, 100)), &events);
        let ends: Vec<&str> = run.lines[run.lines.len() - 2..].iter().map(String::as_str).collect();
        assert_eq!(ends, ["TakeoverAnswered { accepted: false }", "CloseConnection"], "{refusal}");
    }
}

#[test]
fn a_request_to_take_over_whose_answer_is_lost_may_have_been_followed() {
    check_with(
        &config(),
        Resume::OwnHistory(position(A, 100)),
        ASKED,
        &[
            Closed,
            Pass(1000),
            Connected,
            GREETING[1],
            GREETING[2],
            Bytes("-ERR PSYNC FAILOVER can't be sent to a master.\r\n"),
            Bytes("+CONTINUE bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n"),
        ],
        expect![[r#"
            # Failed to read response from the server: Connection reset by peer
            # Master did not reply to PSYNC, will try later
            CloseConnection
            # Connecting to MASTER 10.0.0.1:6379
            open 10.0.0.1:6379
            # MASTER <-> REPLICA sync started
            # Non blocking connect for SYNC fired the event.
            > *1\r\n$4\r\nPING\r\n
            # Master replied to PING, replication can continue...
            > *3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7001\r\n*7\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n$4\r\ncapa\r\n$7\r\nkindred\r\n
            # Trying a partial resynchronization (request A:101).
            > *4\r\n$5\r\nPSYNC\r\n$40\r\nA\r\n$3\r\n101\r\n$8\r\nFAILOVER\r\n
            > *3\r\n$5\r\nPSYNC\r\n$40\r\nA\r\n$3\r\n101\r\n
            # Successful partial resynchronization with master.
            TakeoverAnswered { accepted: true }
            # Master replication ID changed to B
            ShiftHistory { to: ReplId(B) }
            DisconnectReplicas
            ContinueFrom(Position { replid: ReplId(B), offset: 100 })
            # MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.
        "#]],
    );
}

/// A primary whose snapshots cannot be taken in is left alone for longer and longer; each attempt costs it one.
#[test]
fn a_primary_that_cannot_be_followed_is_asked_ever_more_rarely() {
    let mut run = Run::new(Resume::Nothing);
    let fail = |run: &mut Run| {
        run.feed(&config(), Connected);
        run.bytes(&config(), Bytes(""), b"+PONG\r\n+OK\r\n+OK\r\n");
        run.bytes(&config(), Bytes(""), format!("+FULLRESYNC {B} 500\r\n$5\r\nREDIS").as_bytes());
        run.feed(&config(), LoadFailed);
    };
    // Seconds until the next attempt.
    let wait = |run: &mut Run| {
        let opened = |run: &Run| run.lines.iter().filter(|line| line.starts_with("open ")).count();
        let mut seconds = 0;
        run.lines.clear();
        fail(run);
        while opened(run) == 0 {
            run.feed(&config(), Pass(1000));
            seconds += 1;
        }
        seconds
    };
    let waits: Vec<u32> = (0..10).map(|_| wait(&mut run)).collect();
    assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert!(run.lines.contains(
        &"# What MASTER sent could not be taken in 10 times in a row: asking again in 60 seconds".to_owned()
    ));
    // It is told to follow: that counts anew.
    run.feed(&config(), Retarget);
    assert_eq!(wait(&mut run), 0);
    // A stream that is broken soon counts as well, one that was followed for long does not.
    for (followed_ms, seconds) in [(1000, 1), (61_000, 0)] {
        run.feed(&config(), Connected);
        run.bytes(&config(), Bytes(""), b"+PONG\r\n+OK\r\n+OK\r\n");
        run.bytes(&config(), Bytes(""), format!("+FULLRESYNC {B} 500\r\n$5\r\nREDIS").as_bytes());
        run.feed(&config(), Loaded);
        for _ in 0..followed_ms / 1000 {
            run.feed(&config(), Pass(1000));
            run.bytes(&config(), Bytes(""), b"\n");
        }
        run.lines.clear();
        run.feed(&config(), Broken);
        let mut waited = 0;
        while !run.lines.iter().any(|line| line.starts_with("open ")) {
            run.feed(&config(), Pass(1000));
            waited += 1;
        }
        assert_eq!(waited, seconds, "followed for {followed_ms} ms");
    }
}
