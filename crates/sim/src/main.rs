//! `kindred-sim`: plays seeds, the kept ones first, and says what was broken.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use sim::{Counts, Mutation, Outcome};

/// Seeds that have found something once: one a line, and what it was.
const KEPT: &str = include_str!("../seeds.txt");

/// Traces of this many failing seeds are shown.
const SHOWN: usize = 3;
/// Events of a trace that are shown without --verbose.
const TAIL: usize = 40;

#[derive(Debug, Parser)]
#[command(about = "Plays clusters of whole nodes through faults, one seed after another.")]
struct Options {
    /// How many seeds to play, after the kept ones.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Play only this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Show everything that happens; with --seed.
    #[arg(long)]
    verbose: bool,
    /// Break a rule on purpose; succeeds if that is found.
    #[arg(long)]
    mutate: Option<Mutation>,
    /// Threads to play on.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    sim::prepare();
    if let Some(seed) = options.seed {
        return replay(seed, &options);
    }
    let began = Instant::now();
    let mut seeds: Vec<u64> = if options.mutate.is_none() { kept() } else { Vec::new() };
    let kept = seeds.len() as u64;
    seeds.extend(options.from..options.from + options.seeds);
    let (mut counts, broken) = play(&seeds, &options);
    let seconds = began.elapsed().as_secs_f64();
    println!("{} seeds ({kept} of them kept) in {seconds:.1} s", seeds.len());
    for (name, value) in counts.rows() {
        println!("{value:>12} {name}");
    }
    if let Some(mutation) = options.mutate {
        let found = broken.len();
        println!("{mutation:?} was found by {found} of {} seeds", seeds.len());
        if let Some((seed, text)) = broken.iter().next() {
            println!("first by seed {seed}: {text}");
        }
        return if found > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    for (seed, text) in broken.iter().take(SHOWN) {
        println!("\nseed {seed}: {text}");
        let Outcome { trace, .. } = sim::run(*seed, None, true);
        trace[trace.len().saturating_sub(TAIL)..].iter().for_each(|line| println!("    {line}"));
        println!("  replay with: kindred-sim --seed {seed} --verbose");
    }
    if !broken.is_empty() {
        println!("\nlines for crates/sim/seeds.txt:");
        for (seed, text) in &broken {
            println!("{seed} {}", text.lines().next().unwrap_or_default());
        }
    }
    println!("{} passed, {} failed", seeds.len() - broken.len(), broken.len());
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn kept() -> Vec<u64> {
    let lines = KEPT.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let seed = line.split_whitespace().next().and_then(|word| word.parse().ok());
            seed.expect("a line of seeds.txt begins with a seed")
        })
        .collect()
}

/// Plays all seeds; what happened in all of them, and which of them broke what.
fn play(seeds: &[u64], options: &Options) -> (Counts, BTreeMap<u64, String>) {
    let next = AtomicU64::new(0);
    let results = Mutex::new((Counts::default(), BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let outcome = sim::run(*seed, options.mutate, false);
                    let mut results = results.lock().expect("no thread panics with the results");
                    results.0.add(&outcome.counts);
                    if let Some(text) = outcome.broken {
                        results.1.insert(*seed, text);
                    }
                }
            });
        }
    });
    results.into_inner().expect("no thread panics with the results")
}

fn replay(seed: u64, options: &Options) -> ExitCode {
    let Outcome { broken, trace, mut counts } = sim::run(seed, options.mutate, true);
    let from = if options.verbose { 0 } else { trace.len().saturating_sub(TAIL) };
    trace[from..].iter().for_each(|line| println!("{line}"));
    for (name, value) in counts.rows() {
        println!("{value:>12} {name}");
    }
    match broken {
        Some(text) => {
            println!("seed {seed}: {text}\n0 passed, 1 failed");
            ExitCode::FAILURE
        }
        None => {
            println!("1 passed, 0 failed");
            ExitCode::SUCCESS
        }
    }
}
