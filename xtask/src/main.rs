//! `cargo xtask VERB`: what a developer and CI do beside `cargo build`. One file per noun; docs/TESTING.md tells how to use it.

mod bench;
mod client;
mod packages;
mod peers;
mod process;
mod upstream;
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
    /// Run Redis's own test suite against the server, under the ratchet in tests/upstream
    Upstream(upstream::Options),
    /// Measure the server and its peers in one run
    Bench(bench::Options),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().verb {
        Verb::Peers { with_kevy } => peers::print(with_kevy)?,
        Verb::Upstream(options) => {
            let counts = upstream::run(&options)?;
            println!("{} passed, {} failed", counts.passed, counts.failed);
            if counts.failed > 0 {
                std::process::exit(1);
            }
        }
        Verb::Bench(options) => bench::run(&options)?,
    }
    Ok(())
}
