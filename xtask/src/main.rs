//! `cargo xtask VERB`: what a developer and CI do beside `cargo build`. One file per noun; docs/TESTING.md tells how to use it.

mod packages;
mod peers;
mod process;
mod workspace;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Kindred's chores: peers, tests, measurements")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Unpack the real servers that Kindred is compared with into the cache
    Peers {
        /// Also build kevy 3.17.3 (minutes)
        #[arg(long)]
        with_kevy: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Args::parse().verb {
        Verb::Peers { with_kevy } => peers::print(with_kevy),
    }
}
