//! Replication as values: what each side knows of the other, and what it does next.
//!
//! Nothing here owns a socket, a file, a clock, a thread or a source of randomness. Inputs are bytes,
//! events and the time; outputs are actions for the owner (the engine, or the simulator) to carry out in
//! order. Time is [`Millis`] since any fixed origin.
//!
//! | module | side | holds |
//! |---|---|---|
//! | [`history`] | both | the history ids of a server, and whether a replica may continue |
//! | [`primary_link`] | replica | the link to its primary: connect, handshake, transfer, stream |
//! | [`replica_link`] | primary | one replica: its announcements, snapshot, cursor, acknowledgements |
//! | [`primary`] | primary | what concerns all replicas: pings, the backlog's life, when to snapshot |
//! | [`places`], [`pace`] | primary | who may be synchronised in full now, and how fast |
//! | [`heartbeat`], [`lag`] | both | how far behind a replica is, in time |
//! | [`reader`], [`refusal`] | primary | what a replica can be sent, and those that cannot be served |
//! | [`why`] | both | why full synchronisations happened |
//! | [`wait`] | primary | clients that wait until enough replicas acknowledged |
//! | [`failover`] | primary | handing its place over to a replica |
//!
//! An offset never travels without its history id ([`log::Position`]) between modules and over the wire;
//! inside one link, which follows one history, cursors are plain offsets.

pub mod failover;
pub mod heartbeat;
pub mod history;
pub mod lag;
pub mod pace;
pub mod places;
pub mod primary;
pub mod primary_link;
pub mod reader;
pub mod refusal;
pub mod replica_link;
mod time;
pub mod wait;
pub mod why;
mod wire;

pub use failover::{Failover, FailoverAction, FailoverInput, FailoverRequest};
pub use history::{FullResyncWhy, History, PsyncDecision, PsyncRequest, SecondHistory, decide_psync};
pub use lag::WriteMarks;
pub use pace::Pace;
pub use places::Places;
pub use primary::{PrimaryAction, PrimaryConfig, PrimaryCron, SnapshotPlan};
pub use primary_link::{Guarded, LinkAction, LinkConfig, LinkEvent, LinkInput, PrimaryLink};
pub use reader::{Feature, Needs, Reader};
pub use refusal::{Refusal, Refusals, Refused};
pub use replica_link::{ReplicaAction, ReplicaEvent, ReplicaInput, ReplicaLink};
pub use time::{Level, Millis};
pub use wait::WaitQueue;
pub use why::{Cause, FullSync, FullSyncs};
