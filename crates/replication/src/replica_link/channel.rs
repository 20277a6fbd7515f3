//! A replica on two connections: the snapshot comes on one, the stream on the other at the same time.
//!
//! Both vendors have it, for the same end: what is written during the transfer waits at the replica instead of here. The
//! primary proposes it in place of `+FULLRESYNC`, on the connection that is to carry the stream:
//!
//! ```text
//!            Valkey, since 8.0                              Redis, since 8.0
//!   stream   > PSYNC id next                                > PSYNC id next
//!            < +DUALCHANNELSYNC                             < +RDBCHANNELSYNC <client id of the stream>
//!   snapshot > REPLCONF capa eof rdb-only 1 rdb-channel 1 … > REPLCONF … rdb-channel 1 main-ch-client-id <that id> …
//!            > SYNC                                         > PSYNC ? -1
//!            < $ENDOFF:<offset> <id> <db> <client id>       < +FULLRESYNC <id> <offset>
//!   stream   > REPLCONF set-rdb-client-id <that id>         < the log from offset + 1 on, without a word before it
//!            > PSYNC <id> <offset + 1>
//!            < +CONTINUE <id>, and the log
//!   snapshot < $EOF:<mark>, and the rest as ever            the same
//!   stream   > REPLCONF ACK, when the snapshot is loaded    the same
//! ```
//!
//! Until the two have found each other the log is kept for the connection of the snapshot, from then on for that of the
//! stream. Whoever loses one of them before the snapshot was sent loses both. (The bytes of real pairs, valkey 9.1.2 and
//! redis 8.2.3.)

use super::{ReplicaLink, ReplicaState};

/// What a connection carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Channel {
    #[default]
    Both,
    /// The snapshot alone; the stream goes over the connection of this client, once it is known.
    Snapshot { stream: Option<u64> },
    /// The stream; the snapshot goes over the connection of this client, once it is known.
    Stream { snapshot: Option<u64> },
}

/// Which forms of the synchronisation on two connections this server offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelsOffered {
    /// `dual-channel-replication-enabled`, to Valkey's replicas.
    pub valkey: bool,
    /// `repl-rdb-channel`, to those of Redis.
    pub redis: bool,
}

impl Channel {
    /// The client of the other connection.
    pub fn partner(self) -> Option<u64> {
        match self {
            Channel::Both => None,
            Channel::Snapshot { stream: partner } | Channel::Stream { snapshot: partner } => partner,
        }
    }

    pub(super) fn is_snapshot(self) -> bool {
        matches!(self, Channel::Snapshot { .. })
    }

    /// Where it is known which is which, the other connection is that of `client`.
    pub(super) fn join(&mut self, client: u64) {
        match self {
            Channel::Both => *self = Channel::Stream { snapshot: Some(client) },
            Channel::Snapshot { stream: partner } | Channel::Stream { snapshot: partner } => {
                *partner = Some(client);
            }
        }
    }
}

impl ReplicaLink {
    pub fn channel(&self) -> Channel {
        self.channel
    }

    pub fn client_id(&self) -> u64 {
        self.client_id
    }

    /// Whether `other` is the connection that this one has named as its partner, and still waits for it.
    pub fn may_join(&self, other: &ReplicaLink) -> bool {
        let is_meant = self.channel.partner() == Some(other.client_id);
        is_meant
            && match self.channel {
                Channel::Both => false,
                Channel::Snapshot { .. } => {
                    matches!(other.state, ReplicaState::WaitChannel { .. }) && other.channel == Channel::Both
                }
                Channel::Stream { .. } => {
                    let at_work = matches!(
                        other.state,
                        ReplicaState::SnapshotRunning { .. }
                            | ReplicaState::SendSnapshot { .. }
                            | ReplicaState::Transmitted { .. }
                    );
                    at_work && other.channel == Channel::Snapshot { stream: None }
                }
            }
    }

    /// Forgets the partner that this connection has named.
    pub fn unjoin(&mut self) {
        self.channel = match self.channel {
            Channel::Snapshot { .. } => Channel::Snapshot { stream: None },
            Channel::Both | Channel::Stream { .. } => Channel::Both,
        };
    }

    /// Whether it is the second connection of a replica that is known by its first.
    pub fn is_second(&self) -> bool {
        matches!(self.channel, Channel::Snapshot { stream: Some(_) })
    }

    /// Whether this connection is of no use when `other` has ended: the snapshot can no longer be completed, or there is
    /// nobody to load it.
    pub fn falls_with(&self, other: &ReplicaLink) -> bool {
        let is_partner = self.channel.partner() == Some(other.client_id)
            || other.channel.partner() == Some(self.client_id) && self.is_attached();
        let is_done = matches!(other.state, ReplicaState::Transmitted { .. }) || self.is_online();
        is_partner && !is_done
    }
}
