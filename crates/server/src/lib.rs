//! The process around the engine: how a server is started, configured, watched and stopped.

pub mod cli;
pub mod config_file;
pub mod crash;
pub mod daemon;
pub mod listener;
pub mod logger;
