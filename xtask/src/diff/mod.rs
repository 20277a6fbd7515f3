//! `cargo xtask diff`: random commands, the same to Kindred and to a real server, and every reply compared.
//!
//! The run is cut into episodes of some hundred commands, each on empty databases and with a seed of its own. An episode with
//! a difference is cut down to the few commands that show it, and printed as a script for redis-cli.

mod compare;
mod generate;
mod known;
mod pair;
mod random;
mod shrink;
mod table;
mod wire;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::workspace;
use generate::{Generator, words};
use pair::{Difference, Pair};
use random::Random;

#[derive(clap::Args, Clone)]
pub struct Options {
    /// The same seed gives the same commands, as long as no command joins the table
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// About how many commands to run against each peer
    #[arg(long, default_value_t = 200_000)]
    pub commands: u64,
    /// Peers: redis70, redis82, valkey91
    #[arg(long, value_delimiter = ',', default_value = "redis70,redis82,valkey91")]
    pub against: Vec<String>,
    /// Commands between two FLUSHALLs
    #[arg(long, default_value_t = 1000)]
    pub episode: usize,
    /// Only this episode of the seed's
    #[arg(long)]
    pub only_episode: Option<u64>,
    /// Only commands whose names begin so
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Stop after this many different differences
    #[arg(long, default_value_t = 5)]
    pub differences: usize,
    /// Server to test; default: this workspace's kindred-server
    #[arg(long)]
    pub server: Option<PathBuf>,
}

impl Options {
    /// What `cargo xtask test` runs: about 20 seconds.
    pub fn short() -> Options {
        Options {
            seed: 1,
            commands: 400_000,
            against: ["redis70", "redis82", "valkey91"].map(str::to_owned).to_vec(),
            episode: 1000,
            only_episode: None,
            only: Vec::new(),
            differences: 5,
            server: None,
        }
    }
}

/// Episodes that showed no difference, and differences.
#[derive(Default)]
pub struct Counts {
    pub passed: usize,
    pub failed: usize,
}

pub fn run(options: &Options) -> Result<Counts> {
    let server = match &options.server {
        Some(server) => std::path::absolute(server)?,
        None => workspace::build_server()?.context("the workspace has no kindred-server")?,
    };
    let mut counts = Counts::default();
    for against in &options.against {
        campaign(options, against, server.clone(), &mut counts).with_context(|| against.clone())?;
    }
    Ok(counts)
}

fn campaign(options: &Options, against: &str, server: PathBuf, counts: &mut Counts) -> Result<()> {
    let mut pair = Pair::start(against, server)?;
    let (mut table, missing) = table::common(&mut pair.kindred.wire, &mut pair.peer.wire)?;
    if !options.only.is_empty() {
        table.retain(|command| {
            options.only.iter().any(|only| command.words.join(" ").starts_with(only.as_str()))
        });
    }
    ensure!(!table.is_empty(), "no command to generate");
    let payloads = payloads(&mut pair)?;
    println!("against {against}: {} commands of the table, seed {}", table.len(), options.seed);
    if !missing.is_empty() {
        println!("  not there yet: {}", missing.into_iter().collect::<Vec<_>>().join(", "));
    }
    let started = Instant::now();
    let mut seen = BTreeSet::new();
    let mut episodes = 0;
    for episode in 0.. {
        if pair.commands >= options.commands || seen.len() >= options.differences {
            break;
        }
        let number = options.only_episode.unwrap_or(episode);
        if options.only_episode.is_some() && episode > 0 {
            break;
        }
        let seed = Random::new(options.seed ^ number.wrapping_mul(0xd134_2543_de82_ef95)).next();
        let mut generator = Generator::new(&table, &payloads, against, seed);
        let steps = generator.episode(options.episode);
        episodes += 1;
        let Some(difference) = pair.run(&steps)? else {
            counts.passed += 1;
            continue;
        };
        if seen.insert(difference.signature.clone()) {
            counts.failed += 1;
            let before = pair.commands;
            report(&mut pair, against, number, steps, difference)?;
            pair.commands = before;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "against {against}: {} commands in {episodes} episodes, {seconds:.1} s, {} differences",
        pair.commands,
        seen.len()
    );
    let idle: Vec<&str> = table
        .iter()
        .map(|command| command.words[0].as_str())
        .filter(|name| !pair.succeeded.contains(name.to_uppercase().as_bytes()))
        .collect();
    if !idle.is_empty() {
        println!("  never without an error: {}", idle.join(", "));
    }
    for (compat, times) in &pair.known {
        println!("  known, {times} times: {compat}");
    }
    Ok(())
}

fn report(
    pair: &mut Pair,
    against: &str,
    episode: u64,
    mut steps: Vec<generate::Argv>,
    difference: Difference,
) -> Result<()> {
    steps.truncate(difference.at + 1);
    let mut last = difference.clone();
    let shrunk = shrink::shrink(steps, |steps| match pair.run(steps) {
        Ok(Some(found)) if found.signature == difference.signature => {
            last = found;
            true
        }
        _ => false,
    });
    println!("\n--- difference in episode {episode}: {}", difference.signature);
    print!("{}", shrink::script(&shrunk));
    println!("# kindred: {}\n# {against}: {}", cut(&last.kindred), cut(&last.peer));
    if last.signature.starts_with("debug") && pair.run(&shrunk)?.is_some() {
        for line in pair.differing_keys()? {
            println!("# {}", cut(&line));
        }
    }
    Ok(())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(600) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Payloads of each type as the peer dumps them, for RESTORE.
fn payloads(pair: &mut Pair) -> Result<Vec<Vec<u8>>> {
    const MAKE: &[&[&str]] = &[
        &["SET", "k", "hello"],
        &["SET", "k", "12345"],
        &["RPUSH", "k", "a", "1", "bb", "-200", "ccc"],
        &["SADD", "k", "1", "2", "70000"],
        &["SADD", "k", "a", "b", "3"],
        &["HSET", "k", "f1", "v1", "f2", "2"],
        &["ZADD", "k", "1", "m1", "2.5", "m2", "-3", "7"],
        &[
            "ZADD", "k", "1", "1", "2", "2", "3", "3", "4", "4", "5", "5", "6", "6", "7", "7", "8", "8", "9",
            "9", "1", "a", "1", "b", "1", "c", "1", "d", "1", "e", "1", "f", "1", "g", "1", "h",
        ],
        &["XADD", "k", "1-1", "f", "v"],
        &["PFADD", "k", "a", "b", "c"],
        &["GEOADD", "k", "13.361389", "38.115556", "Palermo"],
    ];
    pair.fresh()?;
    let mut payloads = Vec::new();
    for make in MAKE {
        // Both sides must be able to hold it.
        pair.peer.wire.call(&["DEL", "k"])?;
        pair.peer.wire.call(make)?;
        let dumped = pair.peer.wire.call(&["DUMP", "k"])?;
        if let Some(payload) = dumped.text() {
            let mut restore = words(&["RESTORE", "k", "0"]);
            restore.extend([payload.to_vec(), b"REPLACE".to_vec()]);
            if !pair.kindred.wire.call(&restore)?.is_error() {
                payloads.push(payload.to_vec());
            }
        }
    }
    Ok(payloads)
}
