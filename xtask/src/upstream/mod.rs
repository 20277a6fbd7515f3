//! Redis's own test suite, run with our server in the place of `src/redis-server`.
//!
//! The suite comes from Debian's source package of redis 7.0.15 (with Debian's patches, as the binary has them) and is never
//! committed. Each test file runs in a `runtest` process, a copy of the tree and a port range of its own, so that a crash or an
//! exception in one file loses no other. `--durable` makes an error inside a test a failure of that test alone.

mod ratchet;
mod runtest;
mod sentinel;
mod tls;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace::TempDir;
use crate::{packages, peers, process, workspace};
use ratchet::{Ratchet, Test};
use runtest::{FileRun, Outcome};

/// Debian packages that the suite runs on: the interpreter, the `kill` and `ps` that it calls, and what unpacks it.
pub const DEBIAN_PACKAGES: &[&str] = &["tcl", "procps", "dpkg-dev"];

#[derive(clap::Args, Clone)]
pub struct Options {
    /// Test files, such as unit/auth; the whole default list if none is named
    pub files: Vec<String>,
    /// Server in the place of src/redis-server; default: this workspace's kindred-server
    #[arg(long)]
    pub server: Option<PathBuf>,
    /// Record newly passing tests, and give unexplained failures a line in known-failing.txt
    #[arg(long)]
    pub update: bool,
    /// Run the real redis 7.0.15 and record what passes there
    #[arg(long, conflicts_with_all = ["server", "update"])]
    pub reference: bool,
    /// Test files that run at the same time
    #[arg(long, default_value_t = 3)]
    pub clients: usize,
    /// Leave out what is tagged tls
    #[arg(long)]
    pub tls_free: bool,
    /// Seconds that one file may take; the longest, integration/replication, takes 240 on two cores
    #[arg(long, default_value_t = 420)]
    pub limit: u64,
    /// Only tests of this name, or matching /REGEXP; no ratchet then
    #[arg(long)]
    pub only: Vec<String>,
    /// Show runtest's output, and server logs of failed tests; keep the run's directories
    #[arg(long)]
    pub verbose: bool,
    /// First port; default: a range that no other run of xtask on this machine holds
    #[arg(long)]
    pub baseport: Option<u16>,
    /// Passed on to runtest
    #[arg(last = true)]
    pub runtest: Vec<String>,
}

impl Options {
    /// The whole default list against this workspace's server.
    pub fn default_list() -> Options {
        #[derive(clap::Parser)]
        struct Bare {
            #[command(flatten)]
            options: Options,
        }
        <Bare as clap::Parser>::parse_from(["upstream"]).options
    }
}

/// How many of the tests that count passed and failed: a failure is a regression or an unexplained one.
pub struct Counts {
    pub passed: usize,
    pub failed: usize,
}

/// What the foundation answers for, the long ones first, so that the last worker is not left alone with one.
const FILES: &[&str] = &[
    "integration/replication",
    "integration/replication-psync",
    "sentinel/00-base",
    "sentinel/02-slaves-reconf",
    "sentinel/07-down-conditions",
    "sentinel/12-master-reboot",
    "integration/psync2",
    "integration/replication-buffer",
    "integration/psync2-reg",
    "integration/psync2-pingoff",
    "integration/psync2-master-restart",
    "integration/replication-2",
    "integration/replication-3",
    "integration/replication-4",
    "integration/rdb",
    "integration/corrupt-dump",
    "integration/corrupt-dump-fuzzer",
    "integration/convert-zipmap-hash-on-load",
    "integration/convert-ziplist-hash-on-load",
    "integration/convert-ziplist-zset-on-load",
    "integration/block-repl",
    "integration/failover",
    "integration/shutdown",
    "unit/hyperloglog",
    "unit/type/zset",
    "unit/type/list",
    "unit/type/list-2",
    "unit/type/list-3",
    "unit/type/set",
    "unit/type/hash",
    "unit/type/string",
    "unit/type/incr",
    "unit/type/stream",
    "unit/type/stream-cgroups",
    "unit/bitops",
    "unit/bitfield",
    "unit/expire",
    "unit/wait",
    "unit/pause",
    "unit/multi",
    "unit/pubsub",
    "unit/pubsubshard",
    "unit/scan",
    "unit/sort",
    "unit/geo",
    "unit/dump",
    "unit/info",
    "unit/info-command",
    "unit/keyspace",
    "unit/maxmemory",
    "unit/introspection",
    "unit/oom-score-adj",
    "unit/obuf-limits",
    "unit/client-eviction",
    "unit/memefficiency",
    "unit/querybuf",
    "unit/pendingquerybuf",
    "unit/networking",
    "unit/limits",
    "integration/redis-cli",
    "integration/redis-benchmark",
    "integration/dismiss-mem",
    "integration/logging",
    "unit/introspection-2",
    "unit/other",
    "unit/slowlog",
    "unit/lazyfree",
    "unit/latency-monitor",
    "unit/protocol",
    "unit/auth",
    "unit/quit",
    "unit/printver",
    "sentinel/01-conf-update",
    "sentinel/03-runtime-reconf",
    "sentinel/04-slave-selection",
    "sentinel/05-manual",
    "sentinel/06-ckquorum",
    "sentinel/08-hostname-conf",
    "sentinel/09-acl-support",
    "sentinel/10-replica-priority",
    "sentinel/11-port-0",
    "sentinel/13-info-command",
    "tls/integration/replication-4",
    "tls/integration/replication-2",
    "tls/integration/replication-3",
    "tls/integration/failover",
    "tls/integration/redis-cli",
    "tls/unit/auth",
    "tls/unit/tls",
];

/// Ports: each run of xtask holds one slot of this many, and each of its workers an equal share. They end below the kernel's
/// range for outgoing connections, which begins at 32768.
const SLOT_PORTS: u16 = 2400;
const FIRST_PORT: u16 = 12_100;
const SLOTS: u16 = 8;
/// runtest looks for its own port just below the range that it is given.
const RUNTEST_PORTS: u16 = 32;

pub fn run(options: &Options) -> Result<Counts> {
    let server = server(options)?;
    let tree = source_tree()?;
    let files: Vec<&str> = if options.files.is_empty() {
        FILES.to_vec()
    } else {
        options.files.iter().map(String::as_str).collect()
    };
    for file in &files {
        let plain = tls::file(file).unwrap_or(file);
        let source = sentinel::unit(file).map_or_else(|| format!("tests/{plain}.tcl"), sentinel::source);
        if !tree.join(source).exists() {
            bail!("upstream has no test file {file}");
        }
    }
    if !options.only.is_empty() && files.iter().any(|file| sentinel::unit(file).is_some()) {
        bail!("--only picks tests of ordinary files; the Sentinel suite runs whole units: name the files");
    }
    if files.iter().any(|file| tls::file(file).is_some()) {
        packages::ensure_debian(tls::DEBIAN_PACKAGES)?;
        tls::prepare(&tree)?;
    }
    let dir = workspace::root().join("tests/upstream");
    let mut ratchet = Ratchet::load(&dir)?;
    let started = Instant::now();
    println!("upstream: {} files against {}", files.len(), server.display());

    let work = TempDir::new("upstream")?;
    let not_run = if options.reference { Vec::new() } else { ratchet::read_not_run(&dir)? };
    let ports = Ports::take(options)?;
    let suite = Suite { options, server: &server, tree: &tree, work: work.path(), ports, not_run };
    let mut runs = suite.run_all(&files);

    let has_ratchet = options.only.is_empty() && options.runtest.is_empty();
    if has_ratchet && !options.reference {
        let suspects = files_of(&ratchet.judge(&runs).regressed);
        if !suspects.is_empty() {
            println!("once more, because a listed test failed: {}", suspects.join(" "));
            let again = suite.run_all(&suspects.iter().map(String::as_str).collect::<Vec<_>>());
            for (file, second) in again {
                merge(runs.get_mut(&file).expect("a repeated file ran before"), second);
            }
        }
    }
    let verdict = ratchet.judge(&runs);
    print_table(&runs, &ratchet, &verdict);
    print_failures(&runs, options);
    if options.verbose {
        println!("kept: {}", work.keep().display());
    }
    let passed = runs.values().map(|run| run.count(Outcome::Passed)).sum();
    println!("upstream: {:.0} s", started.elapsed().as_secs_f64());

    if options.reference {
        ratchet.refer_to(&runs);
        ratchet.save(&dir)?;
        println!("reference.txt: {} tests", ratchet.reference.len());
        return Ok(Counts { passed, failed: 0 });
    }
    if !has_ratchet {
        let failed =
            runs.values().map(|run| run.count(Outcome::Failed) + usize::from(run.exception.is_some())).sum();
        return Ok(Counts { passed, failed });
    }
    print_tests("regressed", &verdict.regressed);
    print_tests(
        "passes on the real server, neither passing nor explained in known-failing.txt",
        &verdict.unexplained,
    );
    print_tests("newly passing", &verdict.newly_passing);
    if options.update {
        ratchet.tighten(&verdict);
        ratchet.save(&dir)?;
        println!("tests/upstream is updated");
    } else if !verdict.newly_passing.is_empty() {
        println!("keep them with: cargo xtask upstream --update");
    }
    Ok(Counts { passed, failed: verdict.regressed.len() + verdict.unexplained.len() })
}

fn server(options: &Options) -> Result<PathBuf> {
    if options.reference {
        return peers::fetch_one("redis70");
    }
    let server = match &options.server {
        Some(server) => std::path::absolute(server)?,
        None => workspace::build_server()?
            .context("the workspace has no kindred-server yet; --server names another")?,
    };
    if !server.is_file() {
        bail!("no server at {}", server.display());
    }
    Ok(server)
}

/// The unpacked source package, fetched on first use.
fn source_tree() -> Result<PathBuf> {
    packages::ensure_debian(DEBIAN_PACKAGES)?;
    peers::fetch_one("redis70")?;
    let _lock = workspace::lock("upstream.lock")?;
    let dir = workspace::cache().join("upstream");
    let tree = dir.join("redis");
    if tree.join("runtest").exists() {
        return Ok(tree);
    }
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    let unpacked =
        packages::unpack_debian_source("redis", &dir).context("the Debian source package of redis")?;
    let header = fs::read_to_string(unpacked.join("src/version.h"))?;
    if !header.contains("\"7.0.15\"") {
        bail!("the source package is not redis 7.0.15: {}", header.lines().next().unwrap_or_default());
    }
    fs::rename(unpacked, &tree)?;
    Ok(tree)
}

struct Suite<'a> {
    options: &'a Options,
    server: &'a Path,
    tree: &'a Path,
    work: &'a Path,
    ports: Ports,
    /// Tests that are left out: (file, name, or /REGEXP).
    not_run: Vec<(String, String)>,
}

impl Suite<'_> {
    /// Runs the files with `--clients` workers, and gives their results by file.
    fn run_all(&self, files: &[&str]) -> BTreeMap<String, FileRun> {
        let queue: Mutex<VecDeque<&str>> = Mutex::new(files.iter().copied().collect());
        let runs = Mutex::new(BTreeMap::new());
        let workers = self.options.clients.clamp(1, files.len().max(1));
        std::thread::scope(|scope| {
            for worker in 0..workers {
                let (queue, runs) = (&queue, &runs);
                scope.spawn(move || {
                    loop {
                        let next = queue.lock().expect("no worker panics with the queue").pop_front();
                        let Some(file) = next else { return };
                        let started = Instant::now();
                        let run = self.run_file(file, worker, workers).unwrap_or_else(|error| FileRun {
                            exception: Some(format!("could not be run: {error:#}")),
                            ..FileRun::default()
                        });
                        let seconds = started.elapsed().as_secs_f64();
                        let (passed, failed) = (run.count(Outcome::Passed), run.count(Outcome::Failed));
                        let note = if run.finished { "" } else { ", broken off" };
                        println!("  {file}: {passed} passed, {failed} failed{note} ({seconds:.1} s)");
                        runs.lock().expect("no worker panics with the results").insert(file.to_owned(), run);
                    }
                });
            }
        });
        runs.into_inner().expect("all workers have ended")
    }

    fn run_file(&self, file: &str, worker: usize, workers: usize) -> Result<FileRun> {
        let label = file.replace('/', "-");
        let dir =
            (1..).map(|n| self.work.join(format!("{label}.{n}"))).find(|dir| !dir.exists()).expect("endless");
        self.lay_out(&dir)?;
        let share = self.ports.count / u16::try_from(workers)?;
        let base = self.ports.base + share * u16::try_from(worker)?;
        let (program, mut args) = match sentinel::unit(file) {
            Some(unit) => {
                sentinel::prepare(&dir, unit, base, share, &self.left_out(file).collect::<Vec<_>>())?;
                (sentinel::PROGRAM, vec!["--single".to_owned(), unit.to_owned()])
            }
            None => ("./runtest", self.runtest_args(file, base + RUNTEST_PORTS, share - RUNTEST_PORTS)),
        };
        if self.options.verbose {
            args.push("--dont-clean".into());
        }
        args.extend(self.options.runtest.iter().cloned());
        let log = dir.join("runtest.log");
        let limit = Duration::from_secs(self.options.limit);
        let ended = process::run_limited(program, &args, &dir, limit, &log)?;
        // Logs may hold arbitrary bytes of the keys that the tests use.
        let output = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        if self.options.verbose {
            print!("{output}");
        }
        let mut run = match sentinel::unit(file) {
            Some(_) => sentinel::parse(&output),
            None => runtest::parse(file, &output),
        };
        if ended == process::Ended::TimedOut {
            run.exception.get_or_insert_with(|| format!("took longer than {} s", self.options.limit));
        }
        if !self.options.verbose {
            fs::remove_dir_all(&dir)?;
        }
        Ok(run)
    }

    /// Names, or /REGEXP.
    fn left_out<'a>(&'a self, file: &'a str) -> impl Iterator<Item = &'a str> {
        self.not_run.iter().filter(move |(of, _)| of == file).map(|(_, pattern)| pattern.as_str())
    }

    fn runtest_args(&self, file: &str, baseport: u16, ports: u16) -> Vec<String> {
        let plain = tls::file(file).unwrap_or(file);
        let mut args: Vec<String> =
            ["--single", plain, "--clients", "1", "--durable"].map(str::to_owned).to_vec();
        if plain != file {
            args.push("--tls".into());
        }
        args.extend(["--baseport".into(), baseport.to_string(), "--portcount".into(), ports.to_string()]);
        for only in &self.options.only {
            args.extend(["--only".into(), only.clone()]);
        }
        for pattern in self.left_out(file) {
            args.extend(["--skiptest".into(), pattern.to_owned()]);
        }
        if self.options.tls_free {
            args.extend(["--tags".into(), "-tls".into()]);
        }
        if self.options.verbose {
            args.push("--dump-logs".into());
        }
        args
    }

    /// The part of the tree that tests read, with our server and Debian's tools as the binaries in `src`.
    fn lay_out(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir.join("src"))?;
        for part in ["tests", "utils", "runtest", "runtest-sentinel", "redis.conf", "sentinel.conf"] {
            let mut copy = Command::new("cp");
            process::output(copy.arg("--recursive").arg(self.tree.join(part)).arg(dir))?;
        }
        // The suite knows small sets as hash tables only, as Redis 7.0 had them; 7.2's listpacks are told to stay away.
        let asked = Command::new(self.server).arg("--version").output()?;
        let helper = dir.join(SERVER_TCL);
        let mut starts = end_block_once(&fs::read_to_string(&helper)?)?;
        if String::from_utf8_lossy(&asked.stdout).contains("kindred=") {
            starts = starts.replace(tls::CLUSTER_LINE, "");
            let config = dir.join("tests/assets/default.conf");
            let text = fs::read_to_string(&config)?;
            fs::write(&config, format!("{text}\nset-max-listpack-entries 0\n"))?;
        }
        fs::write(&helper, starts)?;
        std::os::unix::fs::symlink(self.server, dir.join("src/redis-server"))?;
        for tool in ["redis-cli", "redis-benchmark", "redis-sentinel", "redis-check-rdb", "redis-check-aof"] {
            std::os::unix::fs::symlink(peers::tool(tool)?, dir.join("src").join(tool))?;
        }
        Ok(())
    }
}

/// Where the suite starts and ends servers.
const SERVER_TCL: &str = "tests/support/server.tcl";

/// With `--durable`, an error outside of any test is to cost the block of its outermost `start_server` only. Upstream kills
/// that server, then falls through to where a block ends well and takes the next server off its stack as well, which
/// breaks the file when none is left. And it takes an error within a test for one outside if a server was started there:
/// the test would pass. Besides, it waits two minutes for a server that has ended at once.
fn end_block_once(helper: &str) -> Result<String> {
    let mut patched = helper.to_owned();
    for (from, to) in [
        (
            "if {!$assertion && $::durable} {",
            "if {!$assertion && $::durable && $::cur_test eq {} && $::servers eq {}} {",
        ),
        (
            "send_data_packet $::test_server_fd err [join $details \"\\n\"]\n            } else {\n                # Re-raise",
            "send_data_packet $::test_server_fd err [join $details \"\\n\"]\n                \
             set ::tags [lrange $::tags 0 end-[llength $tags]]\n                return\n            } else {\n                # Re-raise",
        ),
        (
            // A server that has refused its configuration is not waited for.
            "            set port_busy 1\n            break\n        }\n",
            "            set port_busy 1\n            break\n        }\n        \
             if {$maxiter > 1 && ![process_is_alive $pid]} {\n            set maxiter 1\n        }\n",
        ),
    ] {
        if helper.matches(from).count() != 1 {
            bail!("{SERVER_TCL} is not the one of redis 7.0.15");
        }
        patched = patched.replace(from, to);
    }
    Ok(patched)
}

/// A range of ports that this run holds against other runs on the machine.
struct Ports {
    base: u16,
    count: u16,
    _slot: Option<File>,
}

impl Ports {
    fn take(options: &Options) -> Result<Ports> {
        if let Some(base) = options.baseport {
            return Ok(Ports { base, count: SLOT_PORTS, _slot: None });
        }
        for slot in 0..SLOTS {
            let file = File::create(std::env::temp_dir().join(format!("kindred-ports-{slot}.lock")))?;
            if file.try_lock().is_ok() {
                return Ok(Ports {
                    base: FIRST_PORT + slot * SLOT_PORTS,
                    count: SLOT_PORTS,
                    _slot: Some(file),
                });
            }
        }
        bail!("{SLOTS} runs of the suite hold all port ranges")
    }
}

/// A flaky test counts as passed if it passes in either run.
fn merge(first: &mut FileRun, second: FileRun) {
    for (name, outcome) in second.results {
        if outcome == Outcome::Passed {
            first.details.remove(&name);
            first.results.insert(name, outcome);
        } else {
            first.results.entry(name).or_insert(outcome);
        }
    }
    if second.finished {
        first.finished = true;
        first.exception = None;
    }
}

fn files_of(tests: &[Test]) -> Vec<String> {
    let mut files: Vec<String> = tests.iter().map(|(file, _)| file.clone()).collect();
    files.dedup();
    files
}

fn print_table(runs: &BTreeMap<String, FileRun>, ratchet: &Ratchet, verdict: &ratchet::Verdict) {
    let count = |tests: &[Test], file: &str| tests.iter().filter(|(of, _)| of == file).count();
    let row = |name: &str,
               passed: usize,
               failed: usize,
               new: usize,
               expected: usize,
               reference: usize,
               note: &str| {
        println!("{name:<36} {passed:>6} {failed:>6} {new:>6} {expected:>8} {reference:>9}  {note}");
    };
    println!(
        "\n{:<36} {:>6} {:>6} {:>6} {:>8} {:>9}",
        "file", "passed", "failed", "new", "expected", "reference"
    );
    let mut total = [0; 5];
    for (file, run) in runs {
        let numbers = [
            run.count(Outcome::Passed),
            run.count(Outcome::Failed),
            count(&verdict.newly_passing, file),
            ratchet.passing.iter().filter(|(of, _)| of == file).count(),
            ratchet.reference.iter().filter(|(of, _)| of == file).count(),
        ];
        for (sum, number) in total.iter_mut().zip(numbers) {
            *sum += number;
        }
        let note = match (&run.exception, run.finished) {
            (Some(why), _) => why.lines().next().unwrap_or_default(),
            (None, false) => "broken off",
            (None, true) => "",
        };
        row(file, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], note);
    }
    row("total", total[0], total[1], total[2], total[3], total[4], "");
    println!();
}

/// What failed, with the first lines of why; exceptions whole.
fn print_failures(runs: &BTreeMap<String, FileRun>, options: &Options) {
    let lines = if options.verbose { usize::MAX } else { 3 };
    for (file, run) in runs {
        for (name, details) in &run.details {
            println!("[err] {file}: {name}");
            for line in details.lines().take(lines) {
                println!("      {line}");
            }
        }
        if let Some(why) = &run.exception {
            println!("[exception] {file}: {why}");
        }
    }
}

fn print_tests(title: &str, tests: &[Test]) {
    if tests.is_empty() {
        return;
    }
    println!("{title}: {}", tests.len());
    for (file, name) in tests {
        println!("  {file}: {name}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_can_only_help() {
        let mut first =
            runtest::parse("f", "[ok]: a (1 ms)\n[err]: b in tests/f.tcl\nwhy\n[exception]: broke\n");
        merge(
            &mut first,
            runtest::parse(
                "f",
                "[err]: a in tests/f.tcl\nwhy\n[ok]: b (1 ms)\n[ok]: c (1 ms)\n[1/1 done]: f (1 seconds)\n",
            ),
        );
        assert!(first.passed("a") && first.passed("b") && first.passed("c"));
        assert!(first.finished && first.exception.is_none() && first.details.is_empty());
    }

    #[test]
    fn an_error_outside_of_tests_ends_its_block_once() {
        let block = "            if {!$assertion && $::durable} {\n                \
                     send_data_packet $::test_server_fd err [join $details \"\\n\"]\n            } else {\n                \
                     # Re-raise, let handler\n            \
                     set port_busy 1\n            break\n        }\n";
        let patched = end_block_once(block).unwrap();
        assert!(
            patched.contains("$::cur_test eq {}") && patched.contains("return\n            } else {"),
            "{patched}"
        );
        assert!(end_block_once(&patched).is_err() && end_block_once("").is_err());
    }

    #[test]
    fn the_default_list_has_a_ratchet_and_no_file_twice() {
        let options = Options::default_list();
        assert!(
            options.files.is_empty()
                && options.only.is_empty()
                && options.runtest.is_empty()
                && !options.update
        );
        let files: std::collections::BTreeSet<&str> = FILES.iter().copied().collect();
        assert_eq!(files.len(), FILES.len());
    }

    #[test]
    fn port_ranges_stay_below_the_ephemeral_ports() {
        assert!(u32::from(FIRST_PORT) + u32::from(SLOTS) * u32::from(SLOT_PORTS) <= 32_768);
    }
}
