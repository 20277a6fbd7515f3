//! One process for all: the hash seed is set once.

use clap::ValueEnum;
use sim::Mutation;

#[test]
fn a_seed_replays_exactly_and_every_mutation_is_found() {
    sim::prepare();
    let (first, second) = (sim::run(7, None, true), sim::run(7, None, true));
    assert_eq!(first.broken, None);
    assert!(first.trace.len() > 100, "{} events", first.trace.len());
    assert_eq!(first.trace, second.trace);

    for mutation in Mutation::value_variants() {
        let found = (0..200).any(|seed| sim::run(seed, Some(*mutation), false).broken.is_some());
        assert!(found, "{mutation:?} was not found");
    }
}
