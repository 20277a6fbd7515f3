//! A full synchronisation on two connections, as the replica sees it: the snapshot comes on the second, and the stream,
//! which waits for it here instead of at the primary, on the first. What the two say stands in
//! [`crate::replica_link::channel`].
//!
//! The link's own state is that of the snapshot, wherever it comes from: `AwaitPayload`, `Transfer`, `Loading`. Beside it
//! stands a [`Channel`], which knows how far either connection is:
//!
//! ```text
//!   second   Connecting ─▶ Auth ─▶ Replconf ─▶ Position ─▶ Snapshot     (header and bytes by the link's state)
//!                                                 │
//!   stream   Waits ───────────────────────────────┴─▶ Joining ─▶ Asked ─▶ Flows      Valkey
//!            Flows                                                                    Redis
//! ```
//!
//! The snapshot is given to be loaded when it is there and the stream flows. A failure of either before that ends both,
//! and nothing is left of what came. The one that is lost while the snapshot is loaded is mourned afterwards: what had
//! come of the stream is executed, which may be all that was missing.

use std::ops::ControlFlow;

use log::{Position, ReplId};

use super::{LinkAction, LinkConfig, LinkEvent, LinkState, PrimaryLink, parse_full_resync};
use crate::Millis;
use crate::wire::{self, Line, LineBuffer, lossy};

/// A synchronisation on two connections, from the primary's proposal until the snapshot is loaded.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    form: Form,
    /// What the primary was asked for when it proposed this.
    asked: Option<Position>,
    second: Second,
    stream: Stream,
    /// The beginning of a reply on the second connection.
    line: LineBuffer,
    /// The snapshot has come in full.
    pub complete: bool,
    /// Bytes of the stream that wait for the snapshot.
    pub ahead: u64,
    /// There is no room for more of them.
    full: bool,
}

/// Whose words are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Valkey,
    /// The primary knows the first connection by this number.
    Redis {
        client: u64,
    },
}

/// What is awaited on the second connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    Connecting,
    Auth,
    Replconf,
    Position,
    Snapshot,
}

/// What is awaited on the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    /// The position, which the second one brings.
    Waits,
    /// The reply to `REPLCONF set-rdb-client-id`.
    Joining,
    /// The reply to PSYNC.
    Asked,
    Flows,
}

impl Form {
    /// From the reply to PSYNC, if it is the proposal.
    pub fn parse(line: &[u8]) -> Option<Form> {
        if line == b"+DUALCHANNELSYNC" {
            return Some(Form::Valkey);
        }
        let client = line.strip_prefix(b"+RDBCHANNELSYNC ")?;
        Some(Form::Redis { client: std::str::from_utf8(client).ok()?.parse().ok()? })
    }
}

impl Channel {
    pub fn flows(&self) -> bool {
        self.stream == Stream::Flows
    }
}

impl PrimaryLink {
    /// The primary proposes to send the snapshot on a connection of its own.
    pub(super) fn begin_channel(
        &mut self,
        now: Millis,
        asked: Option<Position>,
        form: Form,
        out: &mut Vec<LinkAction>,
    ) {
        out.push(LinkAction::Log(LinkEvent::ChannelProposed));
        self.takeover_answered(true, out);
        out.push(LinkAction::OpenChannel { host: self.host.clone(), port: self.port });
        self.channel = Some(Channel {
            form,
            asked,
            second: Second::Connecting,
            stream: match form {
                Form::Valkey => Stream::Waits,
                Form::Redis { .. } => Stream::Flows,
            },
            line: LineBuffer::default(),
            complete: false,
            ahead: 0,
            full: false,
        });
        self.enter(LinkState::AwaitPayload { at: None, last_io: now });
    }

    // ---- the second connection ----

    pub(super) fn channel_connected(&mut self, config: &LinkConfig, now: Millis, out: &mut Vec<LinkAction>) {
        let Some(channel) = &mut self.channel else { return };
        channel.second = match config.password {
            Some(_) => Second::Auth,
            None => Second::Replconf,
        };
        out.push(LinkAction::SendChannel(announcement(config, channel.form)));
        self.heard_of_snapshot(now);
    }

    pub(super) fn channel_closed(&mut self, now: Millis, reason: &str, out: &mut Vec<LinkAction>) {
        let Some(channel) = &self.channel else { return };
        // What it was for has come.
        if channel.complete {
            return;
        }
        let reason = reason.to_owned();
        if let LinkState::Transfer { .. } = self.state {
            out.push(LinkAction::Log(LinkEvent::TransferError(reason)));
            return self.reconnect_after_failure(now, out);
        }
        self.channel_failed(now, reason, out);
    }

    pub(super) fn channel_bytes(
        &mut self,
        config: &LinkConfig,
        now: Millis,
        input: &[u8],
        out: &mut Vec<LinkAction>,
    ) {
        self.heard_of_snapshot(now);
        let mut from = 0;
        while from < input.len() {
            let Some(channel) = self.channel.as_mut().filter(|channel| !channel.complete) else { return };
            if let LinkState::Transfer { .. } = self.state {
                match self.transfer_bytes(config, now, input, from, out) {
                    Some(end) => from = end,
                    None => return,
                }
                continue;
            }
            match channel.line.feed(&input[from..]) {
                Line::Partial => return,
                Line::TooLong => {
                    out.push(LinkAction::Log(LinkEvent::ReplyTooLong));
                    return self.retry_later(now, out);
                }
                Line::Whole(line, taken) => {
                    from += taken;
                    self.channel_reply(config, now, &line, out);
                }
            }
        }
    }

    /// A whole line on the second connection, before the snapshot.
    fn channel_reply(&mut self, config: &LinkConfig, now: Millis, line: &[u8], out: &mut Vec<LinkAction>) {
        let Some(channel) = &mut self.channel else { return };
        match channel.second {
            Second::Connecting => {}
            Second::Auth if line.starts_with(b"-") => {
                out.push(LinkAction::Log(LinkEvent::AuthError(lossy(line))));
                self.retry_later(now, out);
            }
            Second::Auth => channel.second = Second::Replconf,
            Second::Replconf if line.starts_with(b"-") => self.channel_failed(now, lossy(line), out),
            Second::Replconf => {
                channel.second = Second::Position;
                out.push(LinkAction::SendChannel(match channel.form {
                    Form::Valkey => b"SYNC\r\n".to_vec(),
                    Form::Redis { .. } => wire::psync(None, false),
                }));
            }
            // A newline keeps the link alive while the primary is busy with another snapshot.
            Second::Position if line.is_empty() => {}
            Second::Position => {
                let found = match channel.form {
                    Form::Valkey => parse_end_offset(line).map(|(at, client)| (at, Some(client))),
                    Form::Redis { .. } if line.starts_with(b"+FULLRESYNC") => {
                        parse_full_resync(line).map(|at| (at, None))
                    }
                    Form::Redis { .. } => None,
                };
                match found {
                    Some((at, client)) => self.position_known(config, now, at, client, out),
                    None => self.channel_failed(now, lossy(line), out),
                }
            }
            Second::Snapshot => {
                let LinkState::AwaitPayload { at, .. } = self.state else {
                    unreachable!("headers are read where the payload is awaited")
                };
                self.payload_header(config, now, at, line, out);
            }
        }
    }

    /// The snapshot that follows was taken at this position. `client` is the number of the second connection, if the
    /// primary has to be told which it is.
    fn position_known(
        &mut self,
        config: &LinkConfig,
        now: Millis,
        at: Position,
        client: Option<u64>,
        out: &mut Vec<LinkAction>,
    ) {
        let asked = self.channel.as_ref().and_then(|channel| channel.asked);
        if self.full_resync(config, now, asked, Some(at), out) == ControlFlow::Break(()) {
            return;
        }
        self.enter(LinkState::AwaitPayload { at: Some(at), last_io: now });
        let Some(channel) = &mut self.channel else { return };
        channel.second = Second::Snapshot;
        if let Some(client) = client {
            channel.stream = Stream::Joining;
            let client = client.to_string();
            out.push(LinkAction::Send(wire::command(&[
                b"REPLCONF",
                b"set-rdb-client-id",
                client.as_bytes(),
            ])));
        }
    }

    // ---- the first connection ----

    /// Bytes of the first connection from `from` on: gives how far they were taken.
    pub(super) fn beside_bytes(
        &mut self,
        config: &LinkConfig,
        now: Millis,
        input: &[u8],
        from: usize,
        out: &mut Vec<LinkAction>,
    ) -> usize {
        let Some(channel) = &mut self.channel else { return from };
        if channel.flows() {
            channel.ahead += (input.len() - from) as u64;
            out.push(LinkAction::Apply(from..input.len()));
            if let Some(limit) = config.stream_bytes_max.filter(|limit| channel.ahead >= *limit)
                && !std::mem::replace(&mut channel.full, true)
            {
                out.push(LinkAction::Log(LinkEvent::StreamWaitsAtPrimary { limit }));
                out.push(LinkAction::PauseReading);
            }
            return input.len();
        }
        match self.line.feed(&input[from..]) {
            Line::Partial => input.len(),
            Line::TooLong => {
                out.push(LinkAction::Log(LinkEvent::ReplyTooLong));
                self.retry_later(now, out);
                input.len()
            }
            Line::Whole(line, taken) => {
                self.beside_reply(config, now, &line, out);
                from + taken
            }
        }
    }

    fn beside_reply(&mut self, config: &LinkConfig, now: Millis, line: &[u8], out: &mut Vec<LinkAction>) {
        let at = match self.state {
            LinkState::AwaitPayload { at, .. } | LinkState::Transfer { at, .. } => at,
            _ => None,
        };
        let Some(channel) = &mut self.channel else { return };
        match (channel.stream, at) {
            _ if line.is_empty() => {}
            (Stream::Joining, Some(at)) if !line.starts_with(b"-") => {
                channel.stream = Stream::Asked;
                out.push(LinkAction::Send(wire::psync(Some(at), false)));
            }
            (Stream::Asked, Some(at)) if continues(line, at) => {
                channel.stream = Stream::Flows;
                out.push(LinkAction::Log(LinkEvent::StreamsBeside));
                if channel.complete {
                    self.transferred(config, now, out);
                }
            }
            _ => {
                out.push(LinkAction::Log(LinkEvent::PsyncUnexpected(lossy(line))));
                self.retry_later(now, out);
            }
        }
    }

    // ---- both ----

    /// Another attempt may bring the same, so not at once.
    fn channel_failed(&mut self, now: Millis, reason: String, out: &mut Vec<LinkAction>) {
        out.push(LinkAction::Log(LinkEvent::ChannelFailed(reason)));
        self.retry_later(now, out);
    }

    fn heard_of_snapshot(&mut self, now: Millis) {
        if let LinkState::AwaitPayload { last_io, .. } | LinkState::Transfer { last_io, .. } = &mut self.state
        {
            *last_io = now;
        }
    }
}

/// AUTH and the one REPLCONF that says what the connection is for.
fn announcement(config: &LinkConfig, form: Form) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    super::write_auth(config, &mut out);
    let port = config.listening_port.to_string();
    let stream = match form {
        Form::Redis { client } => client.to_string(),
        Form::Valkey => String::new(),
    };
    let mut args: Vec<&[u8]> = vec![b"REPLCONF", b"capa", b"eof", b"rdb-only", b"1", b"rdb-channel", b"1"];
    if let Form::Redis { .. } = form {
        args.extend([b"main-ch-client-id".as_slice(), stream.as_bytes()]);
    }
    args.extend([b"listening-port".as_slice(), port.as_bytes()]);
    if let Some(ip) = &config.announce_ip {
        args.extend([b"ip-address".as_slice(), ip.as_bytes()]);
    }
    // Redis refuses the whole for a word that it does not know.
    if let (Some(version), Form::Valkey) = (&config.announce_version, form) {
        args.extend([b"version".as_slice(), version.as_bytes()]);
    }
    wire::write_command(&mut out, &args);
    out
}

/// `$ENDOFF:<offset> <id> <db> <client id>`. The database is in the snapshot, too.
fn parse_end_offset(line: &[u8]) -> Option<(Position, u64)> {
    let mut words = std::str::from_utf8(line.strip_prefix(b"$ENDOFF:")?).ok()?.split(' ');
    let (offset, id, _db, client) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let replid = ReplId::parse(id.as_bytes()).ok()?;
    Some((Position::new(replid, offset.parse().ok()?), client.parse().ok()?))
}

/// Whether the reply to PSYNC is that the stream goes on from there, in the history that was asked for.
fn continues(line: &[u8], at: Position) -> bool {
    let Some(rest) = line.strip_prefix(b"+CONTINUE") else { return false };
    let id = rest.strip_prefix(b" ").and_then(|id| ReplId::parse(id).ok());
    id.is_none_or(|id| id == at.replid)
}
