//! Waiting for what a server does in its own time.

use std::thread;
use std::time::{Duration, Instant};

/// How often it is looked.
const INTERVAL: Duration = Duration::from_millis(5);

/// Returns when it is so; fails the test if that takes longer than `limit`.
pub fn wait_for(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < limit, "not within {} s: {what}", limit.as_secs());
        thread::sleep(INTERVAL);
    }
}
