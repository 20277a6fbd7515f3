//! The process around the engine: how a server is started, configured, watched, driven and stopped.
//!
//! [`serve::main_with_args`] is the program. [`event_loop`] drives the engine; everything that may block happens on
//! threads of its own ([`files`], [`snapshot_thread`], [`connect`], [`migrate`], [`reclaim`]), which answer through [`report`].
//! Encryption has a thread as well ([`tls`]), which speaks to it through sockets.

pub mod accept;
pub mod affinity;
pub mod allocator;
pub mod cli;
pub mod config_file;
pub mod connect;
pub mod crash;
pub mod daemon;
pub mod env;
pub mod event_loop;
pub mod files;
pub mod listener;
pub mod logger;
pub mod migrate;
pub mod oom_score;
pub mod process_title;
pub mod reclaim;
pub mod report;
pub mod serve;
pub mod snapshot_thread;
pub mod tls;
pub mod watchdog;

pub use serve::main_with_args;
