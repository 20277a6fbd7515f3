//! What upstream's `runtest` prints, as results per test.
//!
//! One line per event: `[ok]: NAME (12 ms)`, `[err]: NAME in tests/FILE.tcl` with the details on the following lines,
//! `[skip]: NAME`, `[ignore]: NAME: WHY`, `[exception]: …` when the file itself broke, `[1/1 done]: FILE (3 seconds)` at the end.

use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// One run of one test file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FileRun {
    /// Results by test name; a repeated name carries ` (2)`, ` (3)`, … in order of appearance.
    pub results: BTreeMap<String, Outcome>,
    /// Why the file broke off before its end, first line first.
    pub exception: Option<String>,
    /// Details of each failed test by its name.
    pub details: BTreeMap<String, String>,
    /// The file ran to its end.
    pub finished: bool,
}

impl FileRun {
    pub fn passed(&self, name: &str) -> bool {
        self.results.get(name) == Some(&Outcome::Passed)
    }

    pub fn count(&self, outcome: Outcome) -> usize {
        self.results.values().filter(|found| **found == outcome).count()
    }
}

/// Files that loop for a time, not for a count, or over random choices: how often a name appears differs from run to run.
/// There the numbers in a name are blanked, and all that share a name count as one test, passed if all passed.
const LOOPING: &[&str] = &["integration/psync2", "integration/psync2-reg"];

pub fn parse(file: &str, output: &str) -> FileRun {
    let looping = LOOPING.contains(&file);
    let mut run = FileRun::default();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    // The test or the exception that plain lines belong to.
    let mut failed: Option<String> = None;
    for line in output.lines() {
        let Some((status, data)) = event(line) else {
            match &failed {
                Some(name) => {
                    let details = run.details.entry(name.clone()).or_default();
                    details.push_str(line);
                    details.push('\n');
                }
                None => append_to_exception(&mut run, line),
            }
            continue;
        };
        failed = None;
        let (outcome, name) = match status {
            "ok" => (Outcome::Passed, strip_elapsed(data)),
            "err" => (Outcome::Failed, strip_file(data)),
            "skip" => (Outcome::Skipped, data),
            "ignore" => (Outcome::Skipped, data.rsplit_once(": ").map_or(data, |(name, _why)| name)),
            "exception" => {
                run.exception.get_or_insert_with(|| data.to_owned());
                continue;
            }
            _ => {
                run.finished |= status.ends_with(" done");
                continue;
            }
        };
        let name = if looping { blank_numbers(name) } else { ordinal(name, &mut seen) };
        let entry = run.results.entry(name.clone()).or_insert(outcome);
        if outcome == Outcome::Failed {
            *entry = outcome;
            failed = Some(name);
        }
    }
    run
}

/// `[STATUS]: DATA`
fn event(line: &str) -> Option<(&str, &str)> {
    let (status, data) = line.strip_prefix('[')?.split_once("]: ")?;
    let known = matches!(status, "ok" | "err" | "skip" | "ignore" | "exception" | "ready" | "testing")
        || status.ends_with(" done");
    known.then_some((status, data))
}

fn append_to_exception(run: &mut FileRun, line: &str) {
    if let Some(exception) = &mut run.exception
        && exception.lines().count() < 12
    {
        exception.push('\n');
        exception.push_str(line);
    }
}

/// `NAME (12 ms)`
fn strip_elapsed(data: &str) -> &str {
    match data.rsplit_once(" (") {
        Some((name, elapsed)) if elapsed.ends_with(" ms)") => name,
        _ => data,
    }
}

/// `NAME in tests/FILE.tcl`
fn strip_file(data: &str) -> &str {
    data.rsplit_once(" in tests/").map_or(data, |(name, _file)| name)
}

/// Tells repeated names apart: the second is `NAME (2)`.
pub fn ordinal(name: &str, seen: &mut BTreeMap<String, usize>) -> String {
    let count = seen.entry(name.to_owned()).or_insert(0);
    *count += 1;
    if *count == 1 { name.to_owned() } else { format!("{name} ({count})") }
}

/// Every number that stands by itself (`#3`, `x = 4711`, `CYCLE 2`) becomes `N`; digits within a word (`PSYNC2`) stay.
fn blank_numbers(name: &str) -> String {
    let mut blanked = String::with_capacity(name.len());
    let mut previous = ' ';
    for c in name.chars() {
        let in_word = previous.is_alphabetic() && previous != 'N';
        if c.is_ascii_digit() && !in_word {
            if previous != 'N' {
                blanked.push('N');
            }
            previous = 'N';
        } else {
            blanked.push(c);
            previous = c;
        }
    }
    blanked
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
Cleanup: may take some time... OK
Starting test server at port 21079
[ready]: 4711
Testing unit/auth
[ok]: AUTH fails if no password is configured server side (1 ms)
[err]: Arity check for auth command in tests/unit/auth.tcl
Expected 'ERR a*' to equal or match 'OK'
[ok]: AUTH succeeds (when the password is right) (12 ms)
[ok]: SET (2 ms)
[ok]: SET (3 ms)
[skip]: Not this one
[ignore]: Big one: large memory flag not provided
[1/1 done]: unit/auth (2 seconds)

                   The End

*** [err]: Arity check for auth command in tests/unit/auth.tcl
";

    #[test]
    fn events_become_results() {
        let run = parse("unit/auth", OUTPUT);
        let results: Vec<(&str, Outcome)> =
            run.results.iter().map(|(name, outcome)| (name.as_str(), *outcome)).collect();
        assert_eq!(
            results,
            [
                ("AUTH fails if no password is configured server side", Outcome::Passed),
                ("AUTH succeeds (when the password is right)", Outcome::Passed),
                ("Arity check for auth command", Outcome::Failed),
                ("Big one", Outcome::Skipped),
                ("Not this one", Outcome::Skipped),
                ("SET", Outcome::Passed),
                ("SET (2)", Outcome::Passed),
            ]
        );
        assert!(run.finished && run.exception.is_none());
        assert_eq!(run.details["Arity check for auth command"], "Expected 'ERR a*' to equal or match 'OK'\n");
    }

    #[test]
    fn an_exception_keeps_what_was_reached() {
        let output = "[ok]: one (1 ms)\n[exception]: Executing test client: ERR unknown command 'multi'.\n    while executing\n";
        let run = parse("unit/multi", output);
        assert!(run.passed("one") && !run.finished);
        assert_eq!(
            run.exception.as_deref(),
            Some("Executing test client: ERR unknown command 'multi'.\n    while executing")
        );
    }

    #[test]
    fn a_looping_file_counts_each_name_once_and_one_failure_spoils_it() {
        let output = "[ok]: PSYNC2: Set #1 to replicate from #20 (1 ms)\n[err]: PSYNC2: Set #4 to replicate from #0 in tests/integration/psync2.tcl\nwhy\n\
                      [ok]: PSYNC2: Set #2 to replicate from #0 (1 ms)\n[ok]: PSYNC2: cluster is consistent after load (x = 4711) (1 ms)\n";
        let run = parse("integration/psync2", output);
        assert_eq!(run.results.len(), 2);
        assert_eq!(run.results["PSYNC2: Set #N to replicate from #N"], Outcome::Failed);
        assert_eq!(run.results["PSYNC2: cluster is consistent after load (x = N)"], Outcome::Passed);
    }
}
