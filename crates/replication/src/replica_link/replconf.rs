//! REPLCONF: what a replica announces before it asks for synchronisation, and what it acknowledges.

use std::fmt;

use super::channel::Channel;
use super::{ReplicaLink, ReplicaState};
use crate::Millis;
use crate::wire::{lossy, parse_i64};

/// Longest address that is accepted from `REPLCONF ip-address`, in bytes.
const ADDRESS_BYTES_MAX: usize = 255;

/// What a replica can do (`REPLCONF capa`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It finds the end of a snapshot of unknown size.
    pub eof: bool,
    /// It understands the new id in `+CONTINUE <id>`.
    pub psync2: bool,
    /// It takes the snapshot on a connection of its own, as Redis does since version 8.
    pub rdb_channel: bool,
    /// It is Kindred, and knows whatever we write.
    pub kindred: bool,
    /// The same in Valkey's way.
    pub dual_channel: bool,
}

/// What to leave out of the snapshot (`REPLCONF rdb-filter-only`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    pub exclude_data: bool,
    pub exclude_functions: bool,
}

/// What to do after a REPLCONF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replconf {
    /// Reply `+OK`.
    Ok,
    /// Reply with the error.
    Error(ReplconfError),
    /// It has named its other connection ([`ReplicaLink::channel`]): reply `+OK` if that [may be
    /// joined](ReplicaLink::may_join), else take it back by [`ReplicaLink::unjoin`] and reply with the error.
    Joins(ReplconfError),
    /// Reply nothing.
    Silent,
    /// Reply nothing. The replica acknowledged; clients in WAIT may go on.
    Acked {
        /// It was the first after a streamed snapshot: begin to send the log from this offset.
        start_stream: Option<u64>,
        /// It was the first after a snapshot that came over another connection.
        synced: bool,
    },
    /// Reply nothing. Our primary asks for an acknowledgement: [`crate::LinkInput::AckWanted`].
    AckWanted,
}

/// A refused REPLCONF; its `Display` is the error as sent, without the leading `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplconfError {
    Syntax,
    NotAnInteger,
    OutOfRange,
    AddressTooLong(usize),
    MissingFilterValues,
    UnsupportedFilter(String),
    Unrecognized(String),
    UnknownSnapshotChannel(i64),
    UnknownStreamChannel(i64),
}

impl ReplicaLink {
    /// Takes the arguments after the word REPLCONF, in pairs. Pairs before one that is refused stay in force,
    /// as in Redis.
    pub fn replconf(&mut self, now: Millis, args: &[&[u8]]) -> Replconf {
        if args.len() % 2 == 1 {
            return Replconf::Error(ReplconfError::Syntax);
        }
        let mut joins = None;
        for (index, pair) in args.chunks_exact(2).enumerate() {
            let value = pair[1];
            let option = pair[0].to_ascii_lowercase();
            let outcome = match option.as_slice() {
                b"ack" => return self.ack(now, value, &args[index * 2 + 2..]),
                b"getack" => return Replconf::AckWanted,
                b"listening-port" => self.announce_port(value),
                b"ip-address" => self.announce_address(value),
                b"version" => {
                    self.version = Some(lossy(value));
                    Ok(())
                }
                b"capa" => {
                    // Capabilities that we do not know do not concern us.
                    self.capabilities.eof |= value.eq_ignore_ascii_case(b"eof");
                    self.capabilities.psync2 |= value.eq_ignore_ascii_case(b"psync2");
                    self.capabilities.rdb_channel |= value.eq_ignore_ascii_case(b"rdb-channel-repl");
                    self.capabilities.kindred |= value.eq_ignore_ascii_case(b"kindred");
                    self.capabilities.dual_channel |= value.eq_ignore_ascii_case(b"dual-channel");
                    Ok(())
                }
                b"rdb-only" => parse_flag(value).map(|flag| self.rdb_only = flag),
                b"rdb-channel" => parse_flag(value).map(|flag| {
                    self.channel = if flag { Channel::Snapshot { stream: None } } else { Channel::Both };
                }),
                b"main-ch-client-id" => client_id(value).map(|client| {
                    self.channel = Channel::Snapshot { stream: Some(client as u64) };
                    // Only Redis 8 has these words.
                    self.capabilities.rdb_channel = true;
                    joins = Some(ReplconfError::UnknownStreamChannel(client));
                }),
                b"set-rdb-client-id" => client_id(value).map(|client| {
                    self.channel = Channel::Stream { snapshot: Some(client as u64) };
                    joins = Some(ReplconfError::UnknownSnapshotChannel(client));
                }),
                b"rdb-filter-only" => self.announce_filter(value),
                _ => Err(ReplconfError::Unrecognized(lossy(pair[0]))),
            };
            if let Err(error) = outcome {
                return Replconf::Error(error);
            }
        }
        joins.map_or(Replconf::Ok, Replconf::Joins)
    }

    fn announce_port(&mut self, value: &[u8]) -> Result<(), ReplconfError> {
        self.listening_port = parse_i64(value).ok_or(ReplconfError::NotAnInteger)?;
        Ok(())
    }

    fn announce_address(&mut self, value: &[u8]) -> Result<(), ReplconfError> {
        if value.len() > ADDRESS_BYTES_MAX {
            return Err(ReplconfError::AddressTooLong(value.len()));
        }
        self.announced_ip = Some(lossy(value));
        Ok(())
    }

    /// The value names what to include; everything else is left out.
    fn announce_filter(&mut self, value: &[u8]) -> Result<(), ReplconfError> {
        let names = split_words(value).ok_or(ReplconfError::MissingFilterValues)?;
        self.filter = SnapshotFilter { exclude_data: true, exclude_functions: true };
        for name in names {
            if !name.eq_ignore_ascii_case(b"functions") {
                return Err(ReplconfError::UnsupportedFilter(lossy(&name)));
            }
            self.filter.exclude_functions = false;
        }
        Ok(())
    }

    /// `ACK offset [FACK offset]`; a client that is no replica is ignored.
    fn ack(&mut self, now: Millis, offset: &[u8], rest: &[&[u8]]) -> Replconf {
        let Some(offset) = parse_i64(offset) else { return Replconf::Silent };
        let fsynced = match rest {
            [word, offset, ..] if word.eq_ignore_ascii_case(b"fack") => parse_i64(offset),
            _ => None,
        };
        self.acknowledged.time = now;
        self.acknowledged.offset = self.acknowledged.offset.max(offset.max(0) as u64);
        if let Some(fsynced) = fsynced {
            let before = self.acknowledged.fsynced.unwrap_or(0);
            self.acknowledged.fsynced = Some(before.max(fsynced.max(0) as u64));
        }
        match &mut self.state {
            ReplicaState::Handshake => {
                self.acknowledged = Default::default();
                Replconf::Silent
            }
            ReplicaState::Online { cursor, awaiting_first_ack } => {
                let first = std::mem::take(awaiting_first_ack);
                Replconf::Acked { start_stream: first.then_some(*cursor), synced: false }
            }
            ReplicaState::Beside { cursor } => {
                let cursor = *cursor;
                self.channel = Channel::Both;
                self.enter(ReplicaState::Online { cursor, awaiting_first_ack: false });
                Replconf::Acked { start_stream: None, synced: true }
            }
            _ => Replconf::Acked { start_stream: None, synced: false },
        }
    }
}

impl fmt::Display for ReplconfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplconfError::Syntax => write!(f, "ERR syntax error"),
            ReplconfError::NotAnInteger => write!(f, "ERR value is not an integer or out of range"),
            ReplconfError::OutOfRange => {
                write!(f, "ERR value is out of range, value must between 0 and 1")
            }
            ReplconfError::AddressTooLong(len) => {
                write!(f, "ERR REPLCONF ip-address provided by replica instance is too long: {len} bytes")
            }
            ReplconfError::MissingFilterValues => write!(f, "ERR Missing rdb-filter-only values"),
            ReplconfError::UnsupportedFilter(name) => {
                write!(f, "ERR Unsupported rdb-filter-only option: {name}")
            }
            ReplconfError::UnknownSnapshotChannel(client) => {
                write!(f, "ERR Unrecognized RDB client id {client}")
            }
            ReplconfError::UnknownStreamChannel(client) => {
                write!(f, "ERR Unrecognized RDB client id: {client}")
            }
            ReplconfError::Unrecognized(option) => {
                write!(f, "ERR Unrecognized REPLCONF option: {option}")
            }
        }
    }
}

impl std::error::Error for ReplconfError {}

fn parse_flag(value: &[u8]) -> Result<bool, ReplconfError> {
    match parse_i64(value).ok_or(ReplconfError::NotAnInteger)? {
        flag @ (0 | 1) => Ok(flag == 1),
        _ => Err(ReplconfError::OutOfRange),
    }
}

fn client_id(value: &[u8]) -> Result<i64, ReplconfError> {
    parse_i64(value).ok_or(ReplconfError::NotAnInteger)
}

/// Words as on a command line: parted by blanks, or quoted. `None` when a quote is not closed, or text
/// follows one.
fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line.iter().copied().peekable();
    loop {
        while rest.next_if(u8::is_ascii_whitespace).is_some() {}
        let Some(first) = rest.next() else { return Some(words) };
        let mut word = Vec::new();
        if first == b'"' || first == b'\'' {
            loop {
                match rest.next()? {
                    byte if byte == first => break,
                    b'\\' if rest.peek() == Some(&first) => word.extend(rest.next()),
                    byte => word.push(byte),
                }
            }
            if rest.peek().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                return None;
            }
        } else {
            word.push(first);
            word.extend(std::iter::from_fn(|| rest.next_if(|byte| !byte.is_ascii_whitespace())));
        }
        words.push(word);
    }
}
