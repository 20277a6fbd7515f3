//! The ratchet: which of upstream's tests must pass, and which need not yet, and why.
//!
//! Three lists in `tests/upstream/`, sorted, one test per line, fields parted by tabs:
//!
//! | file | line | meaning |
//! |---|---|---|
//! | `passing.txt` | `FILE name` | must pass: a failure or an absence is a regression |
//! | `known-failing.txt` | `FILE name reason` | passes on the real server, not on Kindred, for the reason given |
//! | `reference.txt` | `FILE name` | passes on the real redis 7.0.15: must stand in one of the other two |

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::runtest::FileRun;

/// A test: its file (`unit/auth`) and its name.
pub type Test = (String, String);

/// What `--update` writes where a person has to say why; it does not count as a reason.
pub const NO_REASON: &str = "UNEXPLAINED";

#[derive(Debug, Default)]
pub struct Ratchet {
    pub passing: BTreeSet<Test>,
    /// With the reason.
    pub known_failing: BTreeMap<Test, String>,
    pub reference: BTreeSet<Test>,
}

/// What a run says about the files that it covered.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Listed as passing, but failed or absent.
    pub regressed: Vec<Test>,
    /// Passed, but not listed as passing.
    pub newly_passing: Vec<Test>,
    /// Passes on the real server and stands in neither list, or in `known-failing.txt` without a reason.
    pub unexplained: Vec<Test>,
}

/// `not-run.txt`, lines `FILE NAME-OR-/REGEXP`: tests that need a command which is not there yet and stop in the middle
/// of a transaction or a wait, so that the tests after them would fail for no reason of their own.
pub fn read_not_run(dir: &Path) -> Result<Vec<(String, String)>> {
    Ok(read_tests(&dir.join("not-run.txt"))?.into_iter().collect())
}

impl Ratchet {
    pub fn load(dir: &Path) -> Result<Ratchet> {
        let known_failing = read_lines(&dir.join("known-failing.txt"))?
            .into_iter()
            .map(|line| match line.splitn(3, '\t').collect::<Vec<_>>()[..] {
                [file, name, reason] if !reason.trim().is_empty() => {
                    Ok(((file.to_owned(), name.to_owned()), reason.to_owned()))
                }
                _ => bail!("known-failing.txt: not FILE<TAB>NAME<TAB>REASON: {line}"),
            })
            .collect::<Result<BTreeMap<Test, String>>>()?;
        let ratchet = Ratchet {
            passing: read_tests(&dir.join("passing.txt"))?,
            known_failing,
            reference: read_tests(&dir.join("reference.txt"))?,
        };
        if let Some((file, name)) =
            ratchet.passing.iter().find(|test| ratchet.known_failing.contains_key(*test))
        {
            bail!("{file}: {name}: stands in both passing.txt and known-failing.txt");
        }
        Ok(ratchet)
    }

    pub fn save(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        write_lines(
            &dir.join("passing.txt"),
            self.passing.iter().map(|(file, name)| format!("{file}\t{name}")),
        )?;
        let known_failing = self.known_failing.iter();
        write_lines(
            &dir.join("known-failing.txt"),
            known_failing.map(|((file, name), why)| format!("{file}\t{name}\t{why}")),
        )?;
        write_lines(
            &dir.join("reference.txt"),
            self.reference.iter().map(|(file, name)| format!("{file}\t{name}")),
        )
    }

    pub fn judge(&self, runs: &BTreeMap<String, FileRun>) -> Verdict {
        let passed = |(file, name): &Test| runs.get(file).is_some_and(|run| run.passed(name));
        let covered = |(file, _): &&Test| runs.contains_key(file.as_str());
        let all_passed = runs.iter().flat_map(|(file, run)| {
            run.results.keys().filter(|name| run.passed(name)).map(move |name| (file.clone(), name.clone()))
        });
        let is_explained = |test: &Test| {
            self.passing.contains(test)
                || self.known_failing.get(test).is_some_and(|reason| reason != NO_REASON)
        };
        Verdict {
            regressed: self.passing.iter().filter(covered).filter(|test| !passed(test)).cloned().collect(),
            newly_passing: all_passed.filter(|test| !self.passing.contains(test)).collect(),
            unexplained: self
                .reference
                .iter()
                .filter(covered)
                .filter(|test| !is_explained(test) && !passed(test))
                .cloned()
                .collect(),
        }
    }

    /// Tightens the lists: what passes now must pass from here on, and what has no explanation gets a line to write one in.
    /// Nothing is ever taken from `passing`.
    pub fn tighten(&mut self, verdict: &Verdict) {
        for test in &verdict.newly_passing {
            self.known_failing.remove(test);
            self.passing.insert(test.clone());
        }
        for test in &verdict.unexplained {
            self.known_failing.entry(test.clone()).or_insert_with(|| NO_REASON.to_owned());
        }
    }

    /// Takes `runs` of the real server as the new reference for the files that they cover.
    pub fn refer_to(&mut self, runs: &BTreeMap<String, FileRun>) {
        self.reference.retain(|(file, _)| !runs.contains_key(file));
        for (file, run) in runs {
            let passed = run.results.keys().filter(|name| run.passed(name));
            self.reference.extend(passed.map(|name| (file.clone(), name.clone())));
        }
    }
}

fn read_tests(path: &Path) -> Result<BTreeSet<Test>> {
    let parse = |line: String| {
        let (file, name) =
            line.split_once('\t').with_context(|| format!("{}: no tab in {line}", path.display()))?;
        Ok((file.to_owned(), name.to_owned()))
    };
    read_lines(path)?.into_iter().map(parse).collect()
}

/// A list that does not exist yet is empty.
fn read_lines(path: &Path) -> Result<Vec<String>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn write_lines(path: &Path, lines: impl Iterator<Item = String>) -> Result<()> {
    let text: String = lines.map(|line| line + "\n").collect();
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::runtest::parse;
    use super::*;

    fn test(file: &str, name: &str) -> Test {
        (file.to_owned(), name.to_owned())
    }

    fn runs(file: &str, output: &str) -> BTreeMap<String, FileRun> {
        BTreeMap::from([(file.to_owned(), parse(file, output))])
    }

    #[test]
    fn failing_and_missing_tests_regress_only_in_files_that_ran() {
        let ratchet = Ratchet {
            passing: BTreeSet::from([
                test("a", "one"),
                test("a", "two"),
                test("a", "gone"),
                test("b", "one"),
            ]),
            ..Ratchet::default()
        };
        let verdict = ratchet
            .judge(&runs("a", "[ok]: one (1 ms)\n[err]: two in tests/a.tcl\nwhy\n[ok]: three (1 ms)\n"));
        assert_eq!(verdict.regressed, [test("a", "gone"), test("a", "two")]);
        assert_eq!(verdict.newly_passing, [test("a", "three")]);
        assert_eq!(verdict.unexplained, []);
    }

    #[test]
    fn what_the_real_server_passes_needs_an_explanation() {
        let mut ratchet = Ratchet {
            known_failing: BTreeMap::from([
                (test("a", "two"), "no scripts yet".to_owned()),
                (test("a", "five"), "x".to_owned()),
            ]),
            ..Ratchet::default()
        };
        ratchet.refer_to(&runs(
            "a",
            "[ok]: two (1 ms)\n[ok]: three (1 ms)\n[ok]: four (1 ms)\n[ok]: five (1 ms)\n",
        ));
        let output =
            "[err]: two in tests/a.tcl\n[err]: three in tests/a.tcl\n[ok]: four (1 ms)\n[ok]: five (1 ms)\n";
        let verdict = ratchet.judge(&runs("a", output));
        assert_eq!(verdict.unexplained, [test("a", "three")]);
        assert_eq!(verdict.newly_passing, [test("a", "five"), test("a", "four")]);

        ratchet.tighten(&verdict);
        assert_eq!(ratchet.passing, BTreeSet::from([test("a", "five"), test("a", "four")]));
        assert_eq!(ratchet.known_failing[&test("a", "three")], NO_REASON);
        // A line without a reason still counts as unexplained.
        assert_eq!(ratchet.judge(&runs("a", output)).unexplained, [test("a", "three")]);
    }

    #[test]
    fn lists_survive_a_round_trip_and_contradictions_are_refused() {
        let dir = crate::workspace::TempDir::new("ratchet-test").unwrap();
        let mut ratchet = Ratchet {
            passing: BTreeSet::from([test("unit/a", "tab-free name (2)")]),
            known_failing: BTreeMap::from([(test("unit/a", "other"), "no streams".to_owned())]),
            reference: BTreeSet::from([test("unit/a", "other")]),
        };
        ratchet.save(dir.path()).unwrap();
        let loaded = Ratchet::load(dir.path()).unwrap();
        assert_eq!(loaded.passing, ratchet.passing);
        assert_eq!(loaded.known_failing, ratchet.known_failing);
        assert_eq!(loaded.reference, ratchet.reference);

        ratchet.passing.insert(test("unit/a", "other"));
        ratchet.save(dir.path()).unwrap();
        assert!(Ratchet::load(dir.path()).is_err());
        fs::write(dir.path().join("known-failing.txt"), "unit/a\tother\t \n").unwrap();
        assert!(Ratchet::load(dir.path()).is_err());
    }
}
