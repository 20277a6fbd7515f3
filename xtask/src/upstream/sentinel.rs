//! Upstream's Sentinel suite: real Sentinels watch servers of ours. Files are named `sentinel/00-base`, ….
//!
//! `runtest-sentinel` starts five Sentinels and five servers, once, and runs its units against them one after the other.
//! Here each unit has a run, a tree and ports of its own, as the files of `runtest` have. It prints `HH:MM:SS> NAME: ` when
//! a test begins, whatever the test says meanwhile, then `OK` or `FAILED: WHY`. A failed test ends its unit.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use super::runtest::{FileRun, Outcome, ordinal};

pub const PROGRAM: &str = "./runtest-sentinel";

const INSTANCES_TCL: &str = "tests/instances.tcl";

/// Where a test begins in it.
const TEST: &str = "proc test {descr code} {\n";

/// How a unit begins.
const INIT: &str = "source \"../tests/includes/init-tests.tcl\"\n";

/// A unit that counts on what one before it has set: by default Sentinel asks for INFO every 10 s, and may see too late
/// that the primary was restarted and loads.
const NEEDS_EARLIER: (&str, &str) =
    ("12-master-reboot", "foreach_sentinel_id id {\n    S $id sentinel debug info-period 100\n}\n");

/// What the suite says at its end if nothing failed: no test, no instance that crashed, no file descriptor that a Sentinel
/// passed on to its scripts. It counts as a test.
const ALL_GOOD: &str = "GOOD! No errors.";

/// The unit of a file of this suite.
pub fn unit(file: &str) -> Option<&str> {
    file.strip_prefix("sentinel/")
}

/// Where in the tree the file is.
pub fn source(unit: &str) -> String {
    format!("tests/sentinel/tests/{unit}.tcl")
}

/// Moves the suite's ports, which are fixed, into `count` ports from `base` on, Sentinels in the lower half, and has it
/// leave out the tests named, for which `runtest-sentinel` has no option.
pub fn prepare(tree: &Path, unit: &str, base: u16, count: u16, left_out: &[&str]) -> Result<()> {
    if let Some(name) = left_out.iter().find(|name| name.starts_with('/') || name.contains(['{', '}', '\\']))
    {
        bail!("not-run.txt: tests of the Sentinel suite are left out by their whole names: {name}");
    }
    let names: String = left_out.iter().map(|name| format!("{{{name}}} ")).collect();
    let path = tree.join(INSTANCES_TCL);
    let mut text = fs::read_to_string(&path)?;
    for (from, to) in [
        ("set ::sentinel_base_port 20000\n", format!("set ::sentinel_base_port {base}\n")),
        ("set ::redis_base_port 30000\n", format!("set ::redis_base_port {}\n", base + count / 2)),
        ("set ::redis_port_count 1024\n", format!("set ::redis_port_count {}\n", count / 2)),
        (
            TEST,
            format!(
                "{TEST}    if {{$descr in {{{names}}}}} {{\n        puts \"00:00:00> $descr: SKIPPED\"\n        return\n    }}\n"
            ),
        ),
    ] {
        if text.matches(from).count() != 1 {
            bail!("{INSTANCES_TCL} is not the one of redis 7.0.15");
        }
        text = text.replace(from, &to);
    }
    fs::write(path, text)?;
    if unit == NEEDS_EARLIER.0 {
        let unit = tree.join(source(unit));
        let text = fs::read_to_string(&unit)?;
        fs::write(unit, text.replacen(INIT, &format!("{INIT}{}", NEEDS_EARLIER.1), 1))?;
    }
    Ok(())
}

pub fn parse(output: &str) -> FileRun {
    let mut run = FileRun::default();
    let mut seen = Default::default();
    // The test that has begun and not ended.
    let mut pending: Option<String> = None;
    let mut failed: Option<String> = None;
    for line in output.lines() {
        let mut rest = line;
        if let Some((name, said)) = begun(line) {
            failed = None;
            pending = Some(ordinal(&without_port(name), &mut seen));
            rest = said;
        }
        // What a test prints stands before its verdict, on the same line or not.
        let why = rest.split_once("FAILED: ").map(|(_, why)| why);
        if let Some(why) = why {
            if why.starts_with("caught an error") {
                run.exception = Some(why.to_owned());
            }
            if let Some(name) = pending.take() {
                run.details.insert(name.clone(), format!("{why}\n"));
                run.results.insert(name.clone(), Outcome::Failed);
                failed = Some(name);
            }
        } else if pending.is_some() && (rest == "OK" || rest.ends_with(" OK")) {
            run.results.extend(pending.take().map(|name| (name, Outcome::Passed)));
        } else if rest == "SKIPPED" {
            run.results.extend(pending.take().map(|name| (name, Outcome::Skipped)));
        } else if rest == ALL_GOOD {
            run.finished = true;
            run.results.insert(ALL_GOOD.to_owned(), Outcome::Passed);
        } else if rest.starts_with("WARNING ") && rest.ends_with(" test(s) failed.") {
            run.finished = true;
            run.results.insert(ALL_GOOD.to_owned(), Outcome::Failed);
        } else if rest.starts_with("ERROR: ") || rest.starts_with("*** Crash report found") {
            run.exception.get_or_insert_with(|| rest.to_owned());
        } else if let Some(name) = &failed {
            let details = run.details.entry(name.clone()).or_default();
            details.push_str(line);
            details.push('\n');
        }
    }
    if let Some(name) = pending {
        run.details.insert(name.clone(), "the suite was broken off in it\n".to_owned());
        run.results.insert(name, Outcome::Failed);
    }
    run
}

/// `HH:MM:SS> NAME: WHAT IT SAYS`
fn begun(line: &str) -> Option<(&str, &str)> {
    let (clock, rest) = line.split_once("> ")?;
    let is_clock = clock.len() == 8 && clock.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    let (name, said) = rest.split_once(": ")?;
    is_clock.then_some((name, said))
}

/// A name may hold the address of an instance, whose port differs from run to run.
fn without_port(name: &str) -> String {
    let Some((before, after)) = name.split_once("127.0.0.1:") else { return name.to_owned() };
    format!("{before}ADDRESS{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_behind_what_a_test_prints() {
        let output = "\
Starting sentinel #0 at port 20000
Testing unit: 01-conf-update.tcl
13:18:41> (init) Restart killed instances: redis/0 sentinel/1 OK
13:18:42> We can failover with Sentinel 1 crashed: Waiting for process 42 to exit...
OK
13:18:49> New master 127.0.0.1:11704 role matches: OK
13:18:49> New master 127.0.0.1:11701 role matches: OK
13:18:50> Manual failover works: FAILED: At least one Sentinel did not receive failover info
(Jumping to next unit after error)
Cleaning up...
killing stale instance 4711
WARNING 1 test(s) failed.
";
        let run = parse(output);
        let results: Vec<(&str, Outcome)> =
            run.results.iter().map(|(name, outcome)| (name.as_str(), *outcome)).collect();
        assert_eq!(
            results,
            [
                ("(init) Restart killed instances", Outcome::Passed),
                (ALL_GOOD, Outcome::Failed),
                ("Manual failover works", Outcome::Failed),
                ("New master ADDRESS role matches", Outcome::Passed),
                ("New master ADDRESS role matches (2)", Outcome::Passed),
                ("We can failover with Sentinel 1 crashed", Outcome::Passed),
            ]
        );
        assert!(run.finished && run.exception.is_none());
        assert!(run.details["Manual failover works"].starts_with("At least one Sentinel"));
    }

    #[test]
    fn an_error_is_a_failure_of_the_test_that_it_broke() {
        let output = "13:18:41> one: OK\n13:18:42> two: FAILED: caught an error in the test ERR unknown command\n\
                      ERR unknown command\n    while executing\nCleaning up...\nWARNING 1 test(s) failed.\n";
        let run = parse(output);
        assert!(run.passed("one") && !run.passed("two") && !run.passed(ALL_GOOD));
        assert_eq!(run.exception.as_deref(), Some("caught an error in the test ERR unknown command"));
    }

    #[test]
    fn what_does_not_end_has_failed() {
        let run = parse(
            "13:18:41> one: OK\n13:18:42> two: WARNING: Aborting the test.\nProblems starting redis #0\n",
        );
        assert!(run.passed("one") && !run.finished);
        assert_eq!(run.results["two"], Outcome::Failed);
    }

    #[test]
    fn a_crash_that_no_test_saw_fails_the_end() {
        let output =
            "13:18:41> one: OK\n*** Crash report found in redis_0/log.txt ***\nWARNING 12 test(s) failed.\n";
        let run = parse(output);
        assert_eq!(run.results[ALL_GOOD], Outcome::Failed);
        assert!(run.exception.is_some_and(|why| why.contains("redis_0")));
        assert!(parse("13:18:41> one: OK\nGOOD! No errors.\n").passed(ALL_GOOD));
    }

    #[test]
    fn a_test_that_is_left_out_is_skipped_by_itself() {
        let run = parse("00:00:00> two: SKIPPED\n13:18:41> three: OK\nGOOD! No errors.\n");
        assert_eq!(run.results["two"], Outcome::Skipped);
        assert!(run.passed("three") && run.passed(ALL_GOOD));
    }

    #[test]
    fn the_suite_is_changed_where_it_must_or_refused() {
        let dir = crate::workspace::TempDir::new("sentinel-suite").unwrap();
        fs::create_dir(dir.path().join("tests")).unwrap();
        let file = dir.path().join(INSTANCES_TCL);
        let ports =
            "set ::sentinel_base_port 20000\nset ::redis_base_port 30000\nset ::redis_port_count 1024\n";
        fs::write(&file, format!("{ports}{TEST}    body\n}}\n")).unwrap();
        let unit = dir.path().join(source("12-master-reboot"));
        fs::create_dir_all(unit.parent().unwrap()).unwrap();
        fs::write(&unit, format!("{INIT}test\n")).unwrap();
        assert!(prepare(dir.path(), "12-master-reboot", 12_100, 800, &["/(a|b)"]).is_err());
        prepare(dir.path(), "12-master-reboot", 12_100, 800, &["one (1)", "two"]).unwrap();
        let changed = fs::read_to_string(&file).unwrap();
        assert!(fs::read_to_string(&unit).unwrap().starts_with(&format!("{INIT}foreach_sentinel_id id")));
        for line in [
            "set ::sentinel_base_port 12100",
            "set ::redis_base_port 12500",
            "set ::redis_port_count 400",
            "    if {$descr in {{one (1)} {two} }} {",
        ] {
            assert!(changed.lines().any(|found| found == line), "{line} is not in\n{changed}");
        }
        assert!(prepare(dir.path(), "12-master-reboot", 12_100, 800, &[]).is_err());
    }
}
