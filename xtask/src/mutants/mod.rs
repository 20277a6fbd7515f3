//! `cargo xtask mutants`: puts one fault after another into a copy of the code and asks the simulator whether it finds it. A
//! checker that finds none of them proves nothing; what it does not find shows what it does not look at.

mod list;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{self, Ended};
use crate::workspace;
use list::{MUTANTS, Mutant};

/// Most faults are found by a few seeds, so that the rest need not be played.
const FIRST_SEEDS: u64 = 40;
const LIMIT: Duration = Duration::from_secs(900);

#[derive(clap::Args)]
pub struct Options {
    /// Only mutants whose names contain one of these
    names: Vec<String>,
    /// How many seeds are played to find a mutant
    #[arg(long, default_value_t = 300)]
    seeds: u64,
}

enum Verdict {
    Found {
        by: u64,
        of: u64,
        how: String,
    },
    /// The simulator did not come to an end.
    Hung,
    Survived,
}

pub fn run(options: &Options) -> Result<()> {
    let chosen: Vec<&Mutant> = MUTANTS
        .iter()
        .filter(|mutant| {
            options.names.is_empty() || options.names.iter().any(|name| mutant.name.contains(name))
        })
        .collect();
    ensure!(!chosen.is_empty(), "no mutant has such a name");
    let tree = Tree::copy()?;
    ensure!(matches!(tree.play(options.seeds)?, Verdict::Survived), "the simulator fails without any fault");
    let mut survivors = Vec::new();
    for mutant in &chosen {
        let began = Instant::now();
        tree.mutate(mutant)?;
        let verdict = tree.play(options.seeds).with_context(|| mutant.name)?;
        tree.restore(mutant)?;
        let text = match verdict {
            Verdict::Found { by, of, how } => format!("found by {by} of {of} seeds: {how}"),
            Verdict::Hung => format!("found: no end within {} s", LIMIT.as_secs()),
            Verdict::Survived => {
                survivors.push(mutant.name);
                "SURVIVED".to_owned()
            }
        };
        println!("{:45} {:4.0} s  {text}", mutant.name, began.elapsed().as_secs_f64());
    }
    println!("{} of {} found", chosen.len() - survivors.len(), chosen.len());
    Ok(())
}

/// A copy of the work tree, with a target directory of its own.
struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    fn copy() -> Result<Tree> {
        let dir = workspace::target().join("mutants");
        let tree = Tree { root: dir.join("tree"), target: dir.join("target") };
        if tree.root.exists() {
            fs::remove_dir_all(&tree.root)?;
        }
        let mut git = Command::new("git");
        git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(workspace::root());
        for file in process::output(&mut git)?.lines() {
            let (from, to) = (workspace::root().join(file), tree.root.join(file));
            // One that is deleted and not yet committed.
            if from.is_file() {
                fs::create_dir_all(to.parent().expect("a file lies in a directory"))?;
                fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
            }
        }
        Ok(tree)
    }

    fn mutate(&self, mutant: &Mutant) -> Result<()> {
        let path = self.root.join(mutant.file);
        fs::write(&path, mutated(&fs::read_to_string(&path)?, mutant)?)?;
        Ok(())
    }

    fn restore(&self, mutant: &Mutant) -> Result<()> {
        fs::write(self.root.join(mutant.file), fs::read(workspace::root().join(mutant.file))?)?;
        Ok(())
    }

    fn play(&self, seeds: u64) -> Result<Verdict> {
        // As it is shipped: without the assertions that are there for debugging, but quicker to build.
        let mut cargo = Command::new("cargo");
        cargo
            .args(["build", "--quiet", "--package", "kindred-sim"])
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_PROFILE_DEV_DEBUG_ASSERTIONS", "false")
            .env("CARGO_PROFILE_DEV_OVERFLOW_CHECKS", "false")
            .env("RUSTFLAGS", "-Awarnings");
        process::run(&mut cargo)?;
        let sim = self.target.join("debug/kindred-sim");
        let log = self.target.join("sim.log");
        let mut from = 0;
        while from < seeds {
            let count = if from == 0 { FIRST_SEEDS.min(seeds) } else { seeds - from };
            let args = ["--from".to_owned(), from.to_string(), "--seeds".to_owned(), count.to_string()];
            if process::run_limited(path_text(&sim)?, &args, &self.root, LIMIT, &log)? == Ended::TimedOut {
                return Ok(Verdict::Hung);
            }
            let text = fs::read_to_string(&log)?;
            let (of, by) = counted(&text).with_context(|| format!("the simulator says:\n{text}"))?;
            if by > 0 {
                let how = text.lines().find_map(|line| line.strip_prefix("seed ")).unwrap_or_default();
                return Ok(Verdict::Found { by, of, how: how.chars().take(100).collect() });
            }
            from += count;
        }
        Ok(Verdict::Survived)
    }
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().context("the workspace's path is not text")
}

/// Seeds played, and those that failed, from `N passed, N failed`.
fn counted(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().rev().find(|line| line.ends_with(" failed"))?;
    let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
    let (passed, failed): (u64, u64) = (passed.parse().ok()?, failed.parse().ok()?);
    Some((passed + failed, failed))
}

fn mutated(text: &str, mutant: &Mutant) -> Result<String> {
    match text.matches(mutant.before).count() {
        1 => Ok(text.replacen(mutant.before, mutant.after, 1)),
        count => bail!("{}: its text stands {count} times in {}", mutant.name, mutant.file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mutant_changes_one_place() {
        for mutant in MUTANTS {
            let text = fs::read_to_string(workspace::root().join(mutant.file)).unwrap();
            let changed = mutated(&text, mutant).unwrap();
            assert_ne!(changed, text, "{}", mutant.name);
        }
    }

    #[test]
    fn no_mutant_is_named_twice() {
        let mut names: Vec<&str> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), MUTANTS.len());
    }

    #[test]
    fn the_simulators_last_line_is_read() {
        assert_eq!(counted("1 seeds\n3 passed, 2 failed\n"), Some((5, 2)));
        assert_eq!(counted("panicked"), None);
    }
}
