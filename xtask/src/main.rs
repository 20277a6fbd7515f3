//! `cargo xtask VERB`: what a developer and CI do beside `cargo build`. One file per noun; docs/TESTING.md tells how to use it.

mod bench;
mod client;
mod diff;
mod fuzz;
mod miri;
mod mutants;
mod packages;
mod peers;
mod process;
mod test;
mod tidy;
mod upstream;
mod workspace;

use std::process::ExitCode;

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
    /// Send random commands to the server and to its peers, and compare every reply
    Diff(diff::Options),
    /// Look for bytes that make a parser, RESTORE or a snapshot's load crash, hang or take much memory
    Fuzz(fuzz::Options),
    /// Run the tests of the unsafe code in Miri, which needs a nightly toolchain with it
    Miri(miri::Options),
    /// Put one fault after another into a copy of the code, and see whether the simulator finds it
    Mutants(mutants::Options),
    /// Run the simulator; what follows is passed on, see `cargo xtask sim -- --help`
    Sim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Everything that has to hold before a change lands
    Test(test::Options),
    /// Style, layering, licences
    Tidy,
}

fn main() -> anyhow::Result<ExitCode> {
    match Args::parse().verb {
        Verb::Peers { with_kevy } => peers::print(with_kevy)?,
        Verb::Upstream(options) => {
            let counts = upstream::run(&options)?;
            println!("{} passed, {} failed", counts.passed, counts.failed);
            return Ok(exit_code(counts.failed == 0));
        }
        Verb::Bench(options) => bench::run(&options)?,
        Verb::Diff(options) => {
            let counts = diff::run(&options)?;
            println!("{} passed, {} failed", counts.passed, counts.failed);
            return Ok(exit_code(counts.failed == 0));
        }
        Verb::Fuzz(options) => {
            let counts = fuzz::run(&options)?;
            println!("{} passed, {} failed", counts.passed, counts.failed);
            return Ok(exit_code(counts.failed == 0));
        }
        Verb::Miri(options) => {
            let counts = miri::run(&options)?.unwrap_or_default();
            println!("{} passed, {} failed", counts.passed, counts.failed);
            return Ok(exit_code(counts.failed == 0));
        }
        Verb::Mutants(options) => mutants::run(&options)?,
        Verb::Sim { args } => {
            let mut command = std::process::Command::new("cargo");
            command.args(["run", "--release", "--quiet", "--package", "kindred-sim", "--"]).args(args);
            let status = command.current_dir(workspace::root()).status()?;
            return Ok(exit_code(status.success()));
        }
        Verb::Test(options) => return Ok(exit_code(test::run(&options)?)),
        Verb::Tidy => return Ok(exit_code(tidy::run()? == 0)),
    }
    Ok(ExitCode::SUCCESS)
}

fn exit_code(passed: bool) -> ExitCode {
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_passes_arguments_on() {
        <Args as clap::CommandFactory>::command().debug_assert();
        let args =
            Args::parse_from(["xtask", "upstream", "unit/auth", "--clients", "1", "--", "--tags", "-slow"]);
        let Verb::Upstream(options) = args.verb else { panic!("upstream is another verb") };
        assert_eq!(options.files, ["unit/auth"]);
        assert_eq!(options.runtest, ["--tags", "-slow"]);
    }
}
