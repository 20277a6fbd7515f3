//! `cargo xtask test`: everything that has to hold before a change lands, in one go. A failing step does not stop the others;
//! the last line adds up all tests, a check such as rustfmt counting as one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::{diff, miri, packages, peers, process, tidy, upstream, workspace};

#[derive(clap::Args)]
pub struct Options {
    /// Seeds that the simulator runs
    #[arg(long, default_value_t = 1000)]
    seeds: u32,
    /// Only the steps whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
}

enum Outcome {
    Ran(Counts),
    /// With the reason.
    Skipped(String),
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

type Step = (&'static str, fn(&Options) -> Result<Outcome>);

/// In this order: what is quick and often wrong first. The workspace's tests come after the peers, which they talk to.
const STEPS: &[Step] = &[
    ("fmt", |_| check(cargo(&["fmt", "--all", "--check"]))),
    ("clippy", |_| check(cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))),
    ("tidy", |_| Ok(Outcome::Ran(one(tidy::run()? == 0)))),
    ("deny", deny),
    ("peers", |_| peers::print(false).map(|()| Outcome::Ran(one(true)))),
    ("workspace tests", workspace_tests),
    ("doc tests", |_| counted(cargo(&["test", "--workspace", "--doc", "--no-fail-fast"]), parse_cargo_test)),
    ("miri", run_miri),
    ("diff", run_diff),
    ("upstream", run_upstream),
    ("sim", sim),
];

/// The version of cargo-deny that is built where none is installed.
const CARGO_DENY: &str = "0.20.2";

/// No step may take longer; each is far below it.
const STEP_LIMIT: Duration = Duration::from_secs(25 * 60);

/// Gives whether all passed.
pub fn run(options: &Options) -> Result<bool> {
    packages::ensure_debian(upstream::DEBIAN_PACKAGES)?;
    let mut total = Counts::default();
    let mut report = Vec::new();
    for (name, step) in STEPS {
        if !options.only.is_empty() && !options.only.iter().any(|only| name.contains(only.as_str())) {
            continue;
        }
        println!("\n=== {name}");
        let started = Instant::now();
        let outcome = step(options).unwrap_or_else(|error| {
            println!("{name}: {error:#}");
            Outcome::Ran(one(false))
        });
        let seconds = started.elapsed().as_secs_f64();
        report.push(match outcome {
            Outcome::Ran(counts) => {
                total.add(counts);
                format!(
                    "{name:<16} {seconds:>7.1} s  passed {:>5}, failed {:>3}",
                    counts.passed, counts.failed
                )
            }
            Outcome::Skipped(why) => format!("{name:<16} {seconds:>7.1} s  skipped: {why}"),
        });
    }
    println!("\n=== all steps");
    for line in report {
        println!("{line}");
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(total.failed == 0 && total.passed > 0)
}

fn one(passed: bool) -> Counts {
    Counts { passed: usize::from(passed), failed: usize::from(!passed) }
}

fn cargo(args: &[&str]) -> Command {
    // timeout holds the limit even if we are killed, and takes the step's children with it.
    let mut command = Command::new("timeout");
    command.arg("--kill-after=5").arg(STEP_LIMIT.as_secs().to_string()).arg("cargo").args(args);
    command.current_dir(workspace::root()).env("CARGO_TERM_COLOR", "never").stdin(Stdio::null());
    command
}

fn check(mut command: Command) -> Result<Outcome> {
    let status = command.status().context("starting cargo")?;
    Ok(Outcome::Ran(one(status.success())))
}

/// Licences, bans and sources always; advisories where their database can be reached, which a build machine may not.
fn deny(_: &Options) -> Result<Outcome> {
    let tool = cargo_deny()?;
    // It reads the manifests of all dependencies, those for other systems too, which a build here does not fetch.
    process::run(&mut cargo(&["fetch", "--locked"]))?;
    let deny = |args: &[&str]| {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "120"]).arg(&tool).args(args).current_dir(workspace::root());
        command.stdin(Stdio::null()).output().context("starting cargo-deny")
    };
    let mut counts = Counts::default();
    let checked = deny(&["--offline", "--log-level", "error", "check", "licenses", "bans", "sources"])?;
    print!("{}", String::from_utf8_lossy(&checked.stderr));
    counts.add(one(checked.status.success()));
    let advisories = deny(&["--log-level", "error", "check", "advisories"])?;
    let said = String::from_utf8_lossy(&advisories.stderr);
    if !advisories.status.success() && said.contains("failed to fetch advisory database") {
        println!("advisories: their database is out of reach, so they were not checked");
    } else {
        print!("{said}");
        counts.add(one(advisories.status.success()));
    }
    Ok(Outcome::Ran(counts))
}

/// The installed cargo-deny, or one built into the cache.
fn cargo_deny() -> Result<PathBuf> {
    if process::is_installed("cargo-deny") {
        return Ok(PathBuf::from("cargo-deny"));
    }
    let _lock = workspace::lock("cargo-deny.lock")?;
    let into = workspace::cache().join("cargo-deny");
    let tool = into.join("bin/cargo-deny");
    if !tool.is_file() {
        fs::create_dir_all(&into)?;
        packages::build_crate("cargo-deny", CARGO_DENY, &into)?;
    }
    Ok(tool)
}

fn workspace_tests(_: &Options) -> Result<Outcome> {
    let (mut command, parse): (Command, fn(&str) -> Option<Counts>) =
        if process::is_installed("cargo-nextest") {
            (
                cargo(&[
                    "nextest",
                    "run",
                    "--workspace",
                    "--no-fail-fast",
                    "--no-tests=pass",
                    "--status-level=fail",
                ]),
                parse_nextest,
            )
        } else {
            (
                cargo(&["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"]),
                parse_cargo_test,
            )
        };
    let environment = peers::environment();
    ensure!(!environment.is_empty(), "no peer is in the cache");
    command.envs(environment).env("KINDRED_PEERS_REQUIRED", "1");
    counted(command, parse)
}

fn run_upstream(_: &Options) -> Result<Outcome> {
    if !workspace::has_server() {
        let listed =
            std::fs::read_to_string(workspace::root().join("tests/upstream/passing.txt")).unwrap_or_default();
        ensure!(listed.is_empty(), "tests are listed as passing, but the workspace has no kindred-server");
        return Ok(Outcome::Skipped("the workspace has no kindred-server yet".to_owned()));
    }
    let counts = upstream::run(&upstream::Options::default_list())?;
    Ok(Outcome::Ran(Counts { passed: counts.passed, failed: counts.failed }))
}

fn run_miri(_: &Options) -> Result<Outcome> {
    Ok(match miri::run(&miri::Options::short())? {
        Some(counts) => Outcome::Ran(Counts { passed: counts.passed, failed: counts.failed }),
        None => Outcome::Skipped("no nightly toolchain with miri".to_owned()),
    })
}

fn run_diff(_: &Options) -> Result<Outcome> {
    let counts = diff::run(&diff::Options::short())?;
    Ok(Outcome::Ran(Counts { passed: counts.passed, failed: counts.failed }))
}

/// The simulator prints `N passed, N failed` as a line of its own; without one, its exit code is one test.
fn sim(options: &Options) -> Result<Outcome> {
    let manifest: PathBuf = workspace::root().join("crates/sim");
    if !manifest.join("src/main.rs").exists() {
        return Ok(Outcome::Skipped("crates/sim has no program yet".to_owned()));
    }
    counted(
        cargo(&["run", "--release", "--package", "kindred-sim", "--", "--seeds", &options.seeds.to_string()]),
        parse_plain,
    )
}

/// Runs a step that prints how many tests passed. A step that ends well without saying so counts as one; one that fails
/// without a failed test (it did not even compile) counts as one failure.
fn counted(command: Command, parse: fn(&str) -> Option<Counts>) -> Result<Outcome> {
    let (success, output) = tee(command)?;
    let mut counts = parse(&output).unwrap_or_else(|| one(success));
    if !success && counts.failed == 0 {
        counts.failed = 1;
    }
    Ok(Outcome::Ran(counts))
}

/// Runs a program, showing and keeping what it prints on either stream.
fn tee(mut command: Command) -> Result<(bool, String)> {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("starting cargo")?;
    let (lines, received) = mpsc::channel();
    let streams: [Box<dyn std::io::Read + Send>; 2] = [
        Box::new(child.stdout.take().expect("standard output is a pipe")),
        Box::new(child.stderr.take().expect("standard error is a pipe")),
    ];
    for stream in streams {
        let lines = lines.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            // Tests may print bytes that are no text.
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let _ = lines.send(String::from_utf8_lossy(&line).into_owned());
                line.clear();
            }
        });
    }
    drop(lines);
    let mut output = String::new();
    for line in received {
        print!("{line}");
        output.push_str(&line);
    }
    Ok((child.wait()?.success(), output))
}

/// `Summary [ 1.060s] 23/30 tests run: 20 passed (1 slow), 2 failed, 1 timed out, 4 skipped`
fn parse_nextest(output: &str) -> Option<Counts> {
    let line = output.lines().rev().find(|line| line.trim_start().starts_with("Summary ["))?;
    let (_, results) = line.split_once(" run: ")?;
    // Notes in parentheses may hold commas.
    let plain: String =
        results.split('(').map(|part| part.split_once(')').map_or(part, |(_, rest)| rest)).collect();
    let mut counts = Counts::default();
    for part in plain.split(", ") {
        let (number, what) = part.trim().split_once(' ')?;
        let number: usize = number.parse().ok()?;
        match what.trim() {
            "passed" => counts.passed += number,
            "skipped" => {}
            _ => counts.failed += number,
        }
    }
    Some(counts)
}

/// The sum of all `test result: ok. 5 passed; 0 failed; …`
fn parse_cargo_test(output: &str) -> Option<Counts> {
    let mut counts = None;
    for line in output.lines().filter(|line| line.starts_with("test result: ")) {
        let number = |what: &str| -> Option<usize> {
            line.split("; ").find_map(|part| part.strip_suffix(what)?.split_whitespace().last()?.parse().ok())
        };
        let counts: &mut Counts = counts.get_or_insert_default();
        counts.passed += number(" passed")?;
        counts.failed += number(" failed")?;
    }
    counts
}

/// The last line `5 passed, 0 failed`.
fn parse_plain(output: &str) -> Option<Counts> {
    output.lines().rev().find_map(|line| {
        let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
        Some(Counts { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: usize, failed: usize) -> Option<Counts> {
        Some(Counts { passed, failed })
    }

    #[test]
    fn summaries_are_read() {
        assert_eq!(
            parse_nextest("     Summary [   1.060s] 23 tests run: 23 passed, 0 skipped\n"),
            counts(23, 0)
        );
        let mixed = "     Summary [  61.1s] 23/30 tests run: 20 passed (1 slow, 1 flaky), 2 failed, 1 timed out, 4 skipped\nerror: test run failed\n";
        assert_eq!(parse_nextest(mixed), counts(20, 3));
        assert_eq!(parse_nextest("error: could not compile\n"), None);
        let cargo = "test result: ok. 5 passed; 0 failed; 1 ignored\nx\ntest result: FAILED. 2 passed; 3 failed; 0 ignored\n";
        assert_eq!(parse_cargo_test(cargo), counts(7, 3));
        assert_eq!(parse_cargo_test("error\n"), None);
        assert_eq!(parse_plain("seed 1\n1000 passed, 2 failed\nbye\n"), counts(1000, 2));
    }

    #[test]
    fn a_step_that_breaks_without_a_count_is_one_failure() {
        let broken = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            match counted(command, parse_plain).unwrap() {
                Outcome::Ran(counts) => counts,
                Outcome::Skipped(_) => unreachable!("counted never skips"),
            }
        };
        assert_eq!(broken("echo boom >&2; exit 3"), one(false));
        assert_eq!(broken("echo 5 passed, 0 failed; exit 1"), Counts { passed: 5, failed: 1 });
        assert_eq!(broken("echo 5 passed, 2 failed >&2; exit 1"), Counts { passed: 5, failed: 2 });
        assert_eq!(broken("true"), one(true));
    }
}
