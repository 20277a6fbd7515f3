//! Loading an RDB file at start. Each server loads the file that it wrote itself, as it does after a restart.

use std::time::Instant;

use anyhow::{Context, Result};

use super::server::{Kind, Server};
use super::table::{Better, Table};
use super::{LOAD_CORE, Options, SERVER_CORE, traffic};

const KEYS: u64 = 2_000_000;
const VALUE_BYTES: usize = 100;

pub fn run(options: &Options, kinds: &[Kind]) -> Result<Vec<Table>> {
    let keys = options.scaled(KEYS);
    let mut table =
        Table::new(&format!("Loading an RDB of {keys} keys × {VALUE_BYTES} B"), Better::Less, 2, kinds);
    for (column, kind) in kinds.iter().enumerate().filter(|(_, kind)| kind.replicates()) {
        if let Err(error) = measure(options, &mut table, column, kind, keys) {
            eprintln!("load: {}: {error:#}", kind.title);
        }
        eprintln!("measured: load: {}", kind.title);
    }
    Ok(vec![table])
}

fn measure(options: &Options, table: &mut Table, column: usize, kind: &Kind, keys: u64) -> Result<()> {
    let server = Server::start(kind, Some(LOAD_CORE), &[])?;
    traffic::fill_strings(server.port, keys, VALUE_BYTES, traffic::key)?;
    server.client()?.text(&["SAVE"])?;
    let mut dir = server.into_dir()?;
    let bytes = dir.path().join("dump.rdb").metadata().context("SAVE left no dump.rdb")?.len();
    table.add("file, MB", column, bytes as f64 / 1e6);
    for _ in 0..options.runs() {
        let started = Instant::now();
        drop(Server::start(kind, Some(SERVER_CORE), &[])?);
        let empty = started.elapsed().as_secs_f64();
        let started = Instant::now();
        let server = Server::start_in(kind, Some(SERVER_CORE), &[], dir)?;
        let full = started.elapsed().as_secs_f64();
        let loaded = server.client()?.text(&["DBSIZE"])?;
        anyhow::ensure!(loaded == keys.to_string(), "{loaded} of {keys} keys are there");
        table.add("seconds, start of an empty server deducted", column, full - empty);
        table.add("µs per key", column, (full - empty) * 1e6 / keys as f64);
        dir = server.into_dir()?;
    }
    Ok(())
}
