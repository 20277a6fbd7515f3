//! Every command of every peer is accounted for: Kindred has it, or `docs/COMPAT.md` says why not.

mod peers;

use std::collections::BTreeSet;
use std::time::Duration;

use peers::{Bed, Kind, Server};

const COMPAT: &str = include_str!("../../../docs/COMPAT.md");

/// Where the table of missing commands stands.
const HEADING: &str = "### Commands of Redis and Valkey that are missing";

/// Names in lower case, as `COMMAND LIST` gives them: `client|tracking`.
fn commands(server: &Server) -> BTreeSet<String> {
    server.client().ok("COMMAND LIST").array().iter().map(|name| name.text().to_lowercase()).collect()
}

/// Those that the first column of the table names, in backquotes: `CLIENT TRACKING`.
fn declared_missing() -> BTreeSet<String> {
    let (_, section) = COMPAT.split_once(HEADING).expect("the table has its heading");
    let rows =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let named = rows.filter_map(|row| row.split('|').nth(1));
    named
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(|name| name.to_lowercase().replace(' ', "|"))
        .collect()
}

/// A container is missing with all its subcommands.
fn accounts_for(missing: &BTreeSet<String>, command: &str) -> bool {
    missing.contains(command)
        || command.split_once('|').is_some_and(|(container, _)| missing.contains(container))
}

#[test]
fn every_command_of_the_peers_is_there_or_in_compat() {
    let real = [Kind::Redis70, Kind::Redis82, Kind::Valkey91];
    let Some(mut bed) = Bed::new(Duration::from_secs(60), &real) else { return };
    let ours = commands(&bed.start(Kind::Kindred, &[]));
    let theirs: BTreeSet<String> = real.iter().flat_map(|kind| commands(&bed.start(*kind, &[]))).collect();
    let missing = declared_missing();

    let unaccounted: Vec<&String> =
        theirs.difference(&ours).filter(|command| !accounts_for(&missing, command)).collect();
    assert!(unaccounted.is_empty(), "neither there nor in docs/COMPAT.md: {unaccounted:?}");
    let unfounded: Vec<&String> =
        missing.iter().filter(|command| ours.contains(*command) || !theirs.contains(*command)).collect();
    assert!(unfounded.is_empty(), "in docs/COMPAT.md as missing, but there, or of no peer: {unfounded:?}");
}
