//! Other programs: run one to its end, run one with a time limit, read what the kernel accounts to it.
//!
//! Whatever we start we end by its pid or by the process group that we made for it, never by name.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// Runs to the end with our own standard streams; an exit code other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {}", describe(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", describe(command));
    }
    Ok(())
}

/// Runs to the end and gives back standard output; on failure the error carries what was written to standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("starting {}", describe(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}\n{}", describe(command), output.status, stderr.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    ByItself,
    TimedOut,
}

/// Runs `program` below coreutils' `timeout`, which makes a process group of its own, so that the limit holds even if we die.
/// Standard output and standard error go to `log`. Whatever the program left running in its group is killed at the end.
pub fn run_limited(program: &str, args: &[String], dir: &Path, limit: Duration, log: &Path) -> Result<Ended> {
    let out = File::create(log)?;
    let mut child = Command::new("timeout")
        .arg("--kill-after=5")
        .arg(limit.as_secs().to_string())
        .arg(program)
        .args(args)
        .current_dir(dir)
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .with_context(|| format!("starting {program} below timeout"))?;
    let group = Pid::from_child(&child);
    let status = child.wait()?;
    let _ = kill_process_group(group, Signal::KILL);
    // 124 is timeout's own code for "the limit passed"; after --kill-after it dies of the same signal: 137 or a signal.
    let timed_out = matches!(status.code(), Some(124 | 137)) || status.code().is_none();
    Ok(if timed_out { Ended::TimedOut } else { Ended::ByItself })
}

pub fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args().take(4) {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

/// CPU time of all live threads of the process in nanoseconds, current to within a scheduler tick: from
/// `/proc/PID/task/*/schedstat`, or from utime + stime in steps of 10 ms where the kernel keeps no schedstat.
pub fn cpu_ns(pid: u32) -> Result<u64> {
    let mut total = None;
    for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} is gone"))? {
        let schedstat = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        if let Some(ns) = parse_schedstat(&schedstat) {
            *total.get_or_insert(0) += ns;
        }
    }
    match total {
        Some(ns) => Ok(ns),
        None => parse_stat_cpu_ns(&fs::read_to_string(format!("/proc/{pid}/stat"))?),
    }
}

/// `NANOSECONDS_RUN NANOSECONDS_WAITED TIMESLICES`; a kernel that does not count says `0 0 0`, even of a thread that has run.
fn parse_schedstat(text: &str) -> Option<u64> {
    let mut fields = text.split_whitespace().map(str::parse::<u64>);
    let (run, _waited, timeslices) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
    (timeslices > 0).then_some(run)
}

/// Fields 14 and 15 of `/proc/PID/stat`, counted after the command name, which may hold blanks and parentheses.
fn parse_stat_cpu_ns(stat: &str) -> Result<u64> {
    let after_name = &stat[stat.rfind(')').context("no command name in stat")? + 1..];
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = fields.get(11).context("stat is short")?.parse::<u64>()?
        + fields.get(12).context("stat is short")?.parse::<u64>()?;
    Ok(ticks * 10_000_000)
}

/// Proportional set size in bytes of the process and of the children that it has just now: pages shared between a parent
/// and its fork count once.
pub fn pss_with_children(pid: u32) -> u64 {
    let mut total = pss(pid).unwrap_or(0);
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        // A child can end between the two reads: then it holds nothing any more.
        total +=
            children.split_whitespace().filter_map(|child| child.parse().ok()).filter_map(pss).sum::<u64>();
    }
    total
}

fn pss(pid: u32) -> Option<u64> {
    parse_kib_field(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?, "Pss:")
}

/// Resident set size in bytes.
pub fn rss(pid: u32) -> Option<u64> {
    parse_kib_field(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")
}

/// Bytes from a line `Name:   123 kB`.
fn parse_kib_field(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pss_is_read_from_its_own_line() {
        let rollup = "55c240314000-7ffea4b1a000 ---p 00000000 00:00 0  [rollup]\nRss:                1760 kB\nPss:                 348 kB\nPss_Dirty:           112 kB\n";
        assert_eq!(parse_kib_field(rollup, "Pss:"), Some(348 * 1024));
        assert_eq!(parse_kib_field(rollup, "Rss:"), Some(1760 * 1024));
        assert_eq!(parse_kib_field(rollup, "Swap:"), None);
    }

    #[test]
    fn stat_is_counted_after_the_command_name() {
        let stat = "42 (redis) server) S 1 42 42 0 -1 4194560 900 0 0 0 7 5 0 0 20 0 5 0 100 1 1";
        assert_eq!(parse_stat_cpu_ns(stat).unwrap(), 12 * 10_000_000);
    }

    #[test]
    fn our_own_cpu_time_grows_as_we_spin() {
        let before = cpu_ns(std::process::id()).unwrap();
        let started = std::time::Instant::now();
        while cpu_ns(std::process::id()).unwrap() < before + 20_000_000 {
            assert!(started.elapsed() < Duration::from_secs(20), "no 20 ms of CPU time in 20 s");
        }
        // All our threads together cannot have run for longer than there are cores.
        let cores = std::thread::available_parallelism().unwrap().get() as f64;
        let after = cpu_ns(std::process::id()).unwrap();
        assert!((after - before) as f64 / 1e9 <= started.elapsed().as_secs_f64() * cores + 0.1);
    }

    #[test]
    fn schedstat_of_a_kernel_that_does_not_count_is_none() {
        assert_eq!(parse_schedstat("536848378 239037 137\n"), Some(536_848_378));
        assert_eq!(parse_schedstat("0 0 1\n"), Some(0));
        assert_eq!(parse_schedstat("0 0 0\n"), None);
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn a_program_over_its_limit_is_killed_with_what_it_started() {
        let dir = crate::workspace::TempDir::new("limit-test").unwrap();
        let log = dir.path().join("log");
        let args = ["-c".to_owned(), "sleep 600 & echo $!; sleep 600".to_owned()];
        let ended = run_limited("sh", &args, dir.path(), Duration::from_secs(1), &log).unwrap();
        assert_eq!(ended, Ended::TimedOut);
        let grandchild = fs::read_to_string(&log).unwrap().trim().to_owned();
        // The signal is sent; the kernel may take a moment to act on it.
        let is_gone = || {
            let state = fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        };
        assert!(
            (0..200).any(|_| is_gone() || {
                std::thread::sleep(Duration::from_millis(10));
                false
            }),
            "{grandchild} still runs"
        );
    }
}
