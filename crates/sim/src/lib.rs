//! Nodes, whole and unchanged, in a world that is made up: one seed decides the clock, the network, the disks, the
//! clients and everything that goes wrong, and replays it exactly.
//!
//! | module | is |
//! |---|---|
//! | [`world`] | the servers and what happens to them, one event after another |
//! | [`settings`] | what they are set to |
//! | [`net`] | connections: bytes that are late, come in pieces, and end at any moment |
//! | [`disk`] | files that forget in a crash what was not flushed |
//! | [`spill`] | temporary files, on a disk that is slow and fails |
//! | [`clients`] | random commands out of what the registry has |
//! | [`truth`] | what must hold: equal positions mean equal data and equal bytes |
//! | [`mutation`] | faults of the *program*, to show that the checks would find them |
//!
//! A run is a time of faults, in which only safety is asked for, and a time without, at whose end all servers must
//! be the same. A broken invariant panics; [`run`] catches that and names it.

pub mod clients;
pub mod digest;
pub mod disk;
pub mod makes;
pub mod mutation;
pub mod net;
pub mod random;
pub mod settings;
pub mod spill;
pub mod truth;
pub mod world;

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};

pub use mutation::Mutation;
pub use world::Counts;

/// How one seed went.
pub struct Outcome {
    pub counts: Counts,
    /// The invariant that was broken, if one was, and where.
    pub broken: Option<String>,
    /// What happened, oldest first: kept only when asked for.
    pub trace: Vec<String>,
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
    static TRACE: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Notes an event if the run is traced.
pub(crate) fn trace(event: impl FnOnce() -> String) {
    TRACE.with_borrow_mut(|trace| {
        if let Some(trace) = trace {
            trace.push(event());
        }
    });
}

/// Whether words are wanted that cost time.
pub(crate) fn is_traced() -> bool {
    TRACE.with_borrow(Option::is_some)
}

/// Makes panics silent in this process: they are results here; and hashes repeatable. To be called once, before the
/// first run.
pub fn prepare() {
    structures::hash::set_seed(1);
    panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("a panic without words");
        let at = info.location().map_or_else(String::new, |at| format!(" ({}:{})", at.file(), at.line()));
        PANIC.with_borrow_mut(|panic| *panic = format!("{text}{at}"));
    }));
}

/// Plays one seed.
pub fn run(seed: u64, mutation: Option<Mutation>, traced: bool) -> Outcome {
    TRACE.set(traced.then(Vec::new));
    let mut counts = Counts::default();
    let result =
        panic::catch_unwind(AssertUnwindSafe(|| world::World::new(seed, mutation).play(&mut counts)));
    let broken = result.err().map(|_| PANIC.take());
    Outcome { counts, broken, trace: TRACE.take().unwrap_or_default() }
}
