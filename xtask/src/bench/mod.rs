//! Measurements against the peers, in one run on one machine, since only ratios within a run count. docs/BENCHMARKS.md tells
//! what each one measures and how to read it.

mod commands;
mod failover;
mod fullsync;
mod lag;
mod memory;
mod rdb_load;
mod replicated;
mod saturate;
pub mod server;
mod table;
mod throughput;
mod traffic;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

use crate::{packages, peers, process, workspace};
use server::Kind;
use table::Table;

/// Where the server runs, and where what loads it does.
const SERVER_CORE: usize = 0;
const LOAD_CORE: usize = 1;

#[derive(clap::Args)]
pub struct Options {
    /// What to measure
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
    /// Server under test; default: this workspace's kindred-server
    #[arg(long)]
    server: Option<PathBuf>,
    /// Another build of the server under test, as a further column: a comparison with before
    #[arg(long, value_name = "PATH")]
    also: Option<PathBuf>,
    /// Servers to compare with
    #[arg(long, value_delimiter = ',', default_value = "redis70,redis82,valkey91")]
    peers: Vec<String>,
    /// Measurements per figure; the median counts [default: 3, with --quick 1]
    #[arg(long)]
    runs: Option<u32>,
    /// A tenth of the requests and keys: shows that the harness works, not how fast anything is
    #[arg(long)]
    quick: bool,
    /// With throughput, commands, fullsync and large: only the cases whose names contain this
    #[arg(long, value_name = "SUBSTRING")]
    only: Option<String>,
    /// With fullsync: measure BGSAVE instead
    #[arg(long)]
    bgsave: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    Throughput,
    Commands,
    Failover,
    Fullsync,
    Lag,
    Large,
    Memory,
    Load,
    Replicated,
    All,
}

impl Options {
    fn runs(&self) -> u32 {
        self.runs.unwrap_or(if self.quick { 1 } else { 3 }).max(1)
    }

    fn scaled(&self, count: u64) -> u64 {
        if self.quick { (count / 10).max(1) } else { count }
    }

    /// Whether `--only` leaves this case in.
    fn wants(&self, case: &str) -> bool {
        self.only.as_ref().is_none_or(|only| case.to_lowercase().contains(&only.to_lowercase()))
    }
}

type Measurement = fn(&Options, &[Kind]) -> Result<Vec<Table>>;

pub fn run(options: &Options) -> Result<()> {
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("the server and its load need a core each");
    }
    packages::ensure_debian(&["util-linux"])?;
    peers::fetch_one("redis70")?;
    let kinds = server::kinds(options.server.clone(), options.also.clone(), &options.peers)?;
    let measurements: &[(What, Measurement)] = &[
        (What::Throughput, throughput::run),
        (What::Commands, commands::run),
        (What::Replicated, replicated::run),
        (What::Lag, lag::run),
        (What::Failover, failover::run),
        (What::Memory, memory::run),
        (What::Load, rdb_load::run),
        (What::Large, fullsync::run_large),
    ];
    let started = Instant::now();
    let mut tables = Vec::new();
    for (what, measurement) in measurements {
        if options.what == What::All || options.what == *what {
            tables.extend(measurement(options, &kinds)?);
        }
    }
    if options.what == What::All || (options.what == What::Fullsync && !options.bgsave) {
        tables.extend(fullsync::run(options, &kinds)?);
    }
    if options.what == What::All || (options.what == What::Fullsync && options.bgsave) {
        tables.extend(fullsync::run_bgsave(options, &kinds)?);
    }

    let date = date(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    let mut text = format!("## Measured {date}\n\n{}\n", machine());
    text.push_str(&format!(
        "Medians of {} runs; {:.0} s in all.",
        options.runs(),
        started.elapsed().as_secs_f64()
    ));
    text.push_str(if options.quick {
        " `--quick`: figures only show that the harness works.\n"
    } else {
        "\n"
    });
    for table in &tables {
        text.push('\n');
        text.push_str(&table.markdown());
    }
    println!("{text}");
    let dir = workspace::target().join("bench");
    fs::create_dir_all(&dir)?;
    let what = format!("{:?}", options.what).to_lowercase();
    let file = dir.join(format!(
        "{}-{what}{}.md",
        date.replace([' ', ':'], "-"),
        if options.bgsave { "-bgsave" } else { "" }
    ));
    fs::write(&file, &text)?;
    println!("written to {}", file.display());
    Ok(())
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, model)| model);
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let meminfo = read("/proc/meminfo");
    let memory_kib: u64 = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.trim().parse().ok())
        .unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let huge_pages = read("/sys/kernel/mm/transparent_hugepage/enabled");
    let rustc = process::output(Command::new("rustc").arg("--version")).unwrap_or_default();
    format!(
        "{model}, {cores} cores, {} GB, Linux {}, transparent huge pages {}, {}; load average {} at the end. \
         Server on core {SERVER_CORE}, load on core {LOAD_CORE} (full sync, BGSAVE, lag and failover: nothing pinned).\n",
        memory_kib / 1_000_000,
        kernel.trim(),
        huge_pages.trim(),
        rustc.trim(),
        load.split_whitespace().next().unwrap_or("?"),
    )
}

/// `YYYY-MM-DD hh:mm` in UTC. The civil date from days since 1970 by Howard Hinnant's `civil_from_days`.
fn date(unix_seconds: u64) -> String {
    let days = unix_seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months counted from March, so that the leap day comes last.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (unix_seconds % 86_400 / 3600, unix_seconds % 3600 / 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00");
        assert_eq!(date(951_782_399), "2000-02-28 23:59");
        assert_eq!(date(951_782_400), "2000-02-29 00:00");
        assert_eq!(date(1_767_225_599), "2025-12-31 23:59");
    }
}
