//! The single writer: sessions and their commands, the gates, execution units and their effects, snapshots, both
//! roles of replication. No socket, file, clock or thread: see [`node::Node`] for how it is driven.

pub mod action;
mod announce;
mod bridge;
pub mod client_limit;
pub mod commands;
pub mod config;
pub mod conns;
pub mod core;
pub mod ctx;
pub mod dispatch;
pub mod effects;
pub mod env;
pub mod evict;
mod failover;
pub mod following;
pub mod functions;
pub mod info;
pub mod key_waits;
pub mod latency;
pub mod load;
pub mod log_disk;
pub mod migrate;
pub mod node;
pub mod notify;
pub mod oom_score;
pub mod output_limit;
pub mod own_expiries;
pub mod params;
pub mod pause;
pub mod payload;
pub mod persist;
pub mod process_title;
pub mod pubsub;
pub mod rdb_writer;
pub mod repl;
pub mod replica;
pub mod serving;
pub mod session;
pub mod shutdown;
pub mod snapshot;
pub mod stats;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;
pub mod turn;
pub(crate) mod value_builder;
pub mod watch;

pub use action::{Action, ConnId, SpillFile};
pub use config::Config;
pub use node::Node;
pub use session::Peer;

/// The version whose behaviour clients may expect: `redis_version` of `INFO`.
pub const REDIS_VERSION: &str = "7.2.4";
