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

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The server that this program can also be allocates through it.
#[global_allocator]
static ALLOCATOR: server::allocator::Allocator = server::allocator::allocator();

/// The first argument with which this program is the server, so that `up` needs one program only. The arguments after it
/// are kindred-server's.
const SERVER_VERB: &str = "server";

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
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|verb| verb == SERVER_VERB) {
        let args = std::iter::once("kindred-server".into()).chain(args.into_iter().skip(2)).collect();
        return ExitCode::from(u8::try_from(server::main_with_args(args)).unwrap_or(1));
    }
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
