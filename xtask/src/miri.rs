//! `cargo xtask miri`: the tests of `structures`, where the unsafe code is, in Miri, which interprets them and stops at the
//! first undefined behaviour: a pointer used outside of its block or after its time, two references that must not be
//! there together, bytes that were never written, a race.
//!
//! Miri comes with nightly compilers only. Without one nothing runs and nothing counts. It sees no clock, file or entropy of
//! the machine, so that a seed decides which random cases come and how threads take turns: what fails fails again.

use std::collections::VecDeque;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::workspace;

#[derive(clap::Args)]
pub struct Options {
    /// Only tests whose names contain one of these
    filters: Vec<String>,
    /// What pointers may do: stacked, tree; both if none is named
    #[arg(long, value_delimiter = ',')]
    borrows: Vec<Borrows>,
    /// How many seeds, from 0 on
    #[arg(long, default_value_t = 1)]
    seeds: u32,
    /// Interpreters that run at the same time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// The rules that Rust's references are held to; the language has not settled on one of them yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Borrows {
    Stacked,
    Tree,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: usize,
    pub failed: usize,
}

/// What the tests of one interpreter said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    counts: Counts,
    /// Tests that were not reached since one before them ended the interpreter.
    left: Vec<String>,
    failed: Vec<String>,
}

/// Integers are not made pointers again, what is aligned by accident only does not count as aligned, and sines are those
/// of a machine, the same each time.
const MIRIFLAGS: &str =
    "-Zmiri-strict-provenance -Zmiri-symbolic-alignment-check -Zmiri-deterministic-floats";

/// Miri knows the vector instructions up to AVX2, but takes the machine to have only what the compiler is told.
const RUSTFLAGS: &str = "-Ctarget-feature=+avx2,+popcnt";

/// What the cargo and the rustup that run us would pass on to another toolchain's cargo.
const INHERITED: &[&str] = &[
    "RUSTUP_TOOLCHAIN",
    "CARGO",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
];

/// Interpreters per job: each takes seconds to begin, and the last ones to end should not run alone for long.
const BATCHES_PER_JOB: usize = 4;

/// Seconds that one interpreter may take.
const LIMIT_S: u32 = 1200;

impl Options {
    /// For `cargo xtask test`: once, under the rules that allow less.
    pub fn short() -> Options {
        Options { filters: Vec::new(), borrows: vec![Borrows::Stacked], seeds: 1, jobs: 2 }
    }
}

/// `None` without a toolchain that has Miri, which is said. A test counts once for each set of rules and each seed.
pub fn run(options: &Options) -> Result<Option<Counts>> {
    if !is_installed() {
        println!("miri: no nightly toolchain with miri, nothing run");
        return Ok(None);
    }
    let names = tests(&options.filters)?;
    ensure!(!names.is_empty(), "no test has such a name");
    let models = match &options.borrows[..] {
        [] => &[Borrows::Stacked, Borrows::Tree][..],
        named => named,
    };
    let batches = deal(&names, options.jobs.max(1) * BATCHES_PER_JOB);
    let mut queue = VecDeque::new();
    for &model in models {
        for seed in 0..options.seeds {
            queue.extend(batches.iter().map(|names| (model, seed, names.clone())));
        }
    }
    let queue = Mutex::new(queue);
    let next = || queue.lock().expect("no worker panics with the lock").pop_front();
    let work = || -> Result<Counts> {
        let mut counts = Counts::default();
        while let Some((model, seed, names)) = next() {
            let ran = run_batch(model, seed, names)?;
            (counts.passed, counts.failed) = (counts.passed + ran.passed, counts.failed + ran.failed);
        }
        Ok(counts)
    };
    let ran: Vec<Result<Counts>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..options.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    let mut total = Counts::default();
    for counts in ran {
        let counts = counts?;
        (total.passed, total.failed) = (total.passed + counts.passed, total.failed + counts.failed);
    }
    Ok(Some(total))
}

/// Whether there is a nightly toolchain with Miri and the standard library's source, which Miri's own is built from.
fn is_installed() -> bool {
    let setup = cargo().args(["miri", "setup"]).output();
    setup.is_ok_and(|output| output.status.success())
}

fn cargo() -> Command {
    // Whatever happens to us, it ends by itself.
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &LIMIT_S.to_string(), "cargo", "+nightly"]);
    for name in INHERITED {
        command.env_remove(name);
    }
    // A missing toolchain is not fetched.
    command.env("RUSTUP_AUTO_INSTALL", "0");
    command.env("RUSTFLAGS", RUSTFLAGS).env("CARGO_TERM_COLOR", "never");
    command.current_dir(workspace::root()).stdin(Stdio::null());
    command
}

/// The unit tests of `structures` with these options for the interpreter and arguments for the tests' program.
fn miri(flags: &str, args: &[&str]) -> Result<Output> {
    let mut command = cargo();
    command.args(["miri", "test", "--package", "kindred-structures", "--lib"]);
    command.arg("--target-dir").arg(workspace::target().join("miri")).arg("--").args(args);
    command.env("MIRIFLAGS", flags).output().context("starting cargo")
}

/// Names of the tests that contain one of the filters.
fn tests(filters: &[String]) -> Result<Vec<String>> {
    let output = miri(MIRIFLAGS, &["--list"])?;
    ensure!(
        output.status.success(),
        "the tests cannot be listed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let listed = String::from_utf8_lossy(&output.stdout);
    let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    let wanted = |name: &&str| filters.is_empty() || filters.iter().any(|filter| name.contains(&filter[..]));
    Ok(names.filter(wanted).map(str::to_owned).collect())
}

/// Up to `count` parts, neighbours apart: long tests lie beside long ones.
fn deal(names: &[String], count: usize) -> Vec<Vec<String>> {
    let count = count.min(names.len());
    (0..count).map(|first| names.iter().skip(first).step_by(count).cloned().collect()).collect()
}

/// Runs tests one after the other, going on behind each that ends the interpreter.
fn run_batch(model: Borrows, seed: u32, mut names: Vec<String>) -> Result<Counts> {
    let mut flags = format!("{MIRIFLAGS} -Zmiri-seed={seed}");
    if model == Borrows::Tree {
        flags += " -Zmiri-tree-borrows";
    }
    let mut counts = Counts::default();
    while !names.is_empty() {
        let args: Vec<&str> = ["--exact"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let output = miri(&flags, &args)?;
        let verdict = judge(&names, &String::from_utf8_lossy(&output.stdout), output.status.success());
        for name in &verdict.failed {
            println!("{name}: FAILED with {model:?} Borrows, seed {seed}");
        }
        if verdict.counts.failed > 0 {
            let said = [&output.stdout[..], &output.stderr].concat();
            String::from_utf8_lossy(&said).lines().for_each(|line| println!("    {line}"));
        }
        counts.passed += verdict.counts.passed;
        counts.failed += verdict.counts.failed;
        names = verdict.left;
    }
    Ok(counts)
}

/// Reads `test NAME ... ok`, one line per test in the order of the names. A test is cut off when it ends the interpreter:
/// it has failed, and those behind it are left. What goes wrong after the last, a leak, is one failure.
fn judge(names: &[String], said: &str, success: bool) -> Verdict {
    let mut verdict = Verdict::default();
    let mut reached = 0;
    for (name, result) in said.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ... ")) {
        let name = name.strip_suffix(" - should panic").unwrap_or(name);
        if result == "ok" {
            verdict.counts.passed += 1;
        } else if !result.starts_with("ignored") {
            verdict.failed.push(name.to_owned());
        }
        reached += 1;
        if result.is_empty() {
            break;
        }
    }
    if verdict.failed.is_empty() && !success {
        verdict.failed.push(names.get(reached).map_or("after the last test", |name| name).to_owned());
        reached += 1;
    }
    verdict.counts.failed = verdict.failed.len();
    verdict.left = names.get(reached..).unwrap_or_default().to_vec();
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["a", "b", "c", "d"].map(str::to_owned).to_vec()
    }

    fn verdict(passed: usize, failed: &[&str], left: &[&str]) -> Verdict {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Verdict { counts: Counts { passed, failed: failed.len() }, failed: owned(failed), left: owned(left) }
    }

    #[test]
    fn a_test_that_ends_the_interpreter_has_failed_and_the_others_are_left() {
        let all = "\nrunning 4 tests\ntest a ... ok\ntest b - should panic ... ok\ntest c ... ignored, no\ntest d ... ok\n";
        assert_eq!(judge(&names(), all, true), verdict(3, &[], &[]));
        assert_eq!(judge(&names(), all, false), verdict(3, &["after the last test"], &[]));
        let panicked = "test a ... ok\ntest b ... FAILED\ntest c ... ok\ntest d ... ok\n";
        assert_eq!(judge(&names(), panicked, false), verdict(3, &["b"], &[]));
        assert_eq!(judge(&names(), "test a ... ok\ntest b ... ", false), verdict(1, &["b"], &["c", "d"]));
        assert_eq!(
            judge(&names(), "test a ... FAILED\ntest b ... ", false),
            verdict(0, &["a", "b"], &["c", "d"])
        );
        assert_eq!(judge(&names(), "", false), verdict(0, &["a"], &["b", "c", "d"]));
    }

    #[test]
    fn tests_are_dealt_out() {
        assert_eq!(deal(&names(), 3), [vec!["a", "d"], vec!["b"], vec!["c"]]);
        assert_eq!(deal(&names()[..1], 8), [["a"]]);
    }
}
