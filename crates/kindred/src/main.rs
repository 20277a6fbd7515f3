//! `kindred`, the operator's tool.
//!
//! [`up`] starts a primary with its replicas (or replicas of an existing server) and shows how they keep up. The live
//! view is split so that everything but the last step is plain data: [`client`] fetches INFO texts, [`info`] reads them,
//! [`view`] turns them into what an operator wants to know, [`screen`] draws it.

mod client;
mod info;
mod node;
mod screen;
mod up;
mod view;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Kindred: a Redis-compatible store made for replication.
#[derive(Parser)]
#[command(name = "kindred", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Up(up::Options),
}

fn main() -> ExitCode {
    let Cli { command: Command::Up(options) } = Cli::parse();
    match up::run(&options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kindred: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
