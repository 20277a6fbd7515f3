//! Tells when the event loop stands still: `watchdog-period`.
//!
//! The loop says when a turn begins and when it waits again; a thread of its own looks whether a turn lasts longer than
//! the period, and writes to the log what that turn was doing, once a turn. Redis lets a signal interrupt the loop and
//! shows its stack; that takes a signal handler, which safe Rust cannot express. Here it is the command that ran last,
//! and what the kernel says of the thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use engine::commands::registry;

use crate::log_warning;

/// The watch over one event loop. Off until it has a period.
pub struct Watchdog {
    watched: Arc<Watched>,
    /// Looks while there is a period; parked otherwise. Started with the first period.
    thread: Option<Thread>,
    on: bool,
}

/// What the two threads share. All times are milliseconds after `origin`, from 1 on.
struct Watched {
    origin: Instant,
    /// 0 is off.
    period_ms: AtomicU64,
    /// When the turn that lasts began; 0 while the loop waits.
    turn_since_ms: AtomicU64,
    /// The command that ran last in this turn, plus one; 0 if none did.
    command: Arc<AtomicU32>,
}

impl Watchdog {
    pub fn new() -> Watchdog {
        let watched = Watched {
            origin: Instant::now(),
            period_ms: AtomicU64::new(0),
            turn_since_ms: AtomicU64::new(0),
            command: Arc::default(),
        };
        Watchdog { watched: Arc::new(watched), thread: None, on: false }
    }

    /// Where the engine is to write which command runs: none while nobody watches.
    pub fn command(&self) -> Option<Arc<AtomicU32>> {
        self.on.then(|| Arc::clone(&self.watched.command))
    }

    /// Looks for turns of more than `period_ms`; 0 is off.
    pub fn set_period(&mut self, period_ms: u64) -> std::io::Result<()> {
        if period_ms > 0 && self.thread.is_none() {
            let watched = Arc::clone(&self.watched);
            let spawned = thread::Builder::new().name("watchdog".into()).spawn(move || watched.watch());
            self.thread = Some(spawned?.thread().clone());
        }
        self.on = period_ms > 0;
        self.watched.period_ms.store(period_ms, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
        Ok(())
    }

    /// The loop has something to do.
    #[inline]
    pub fn turn_begins(&self) {
        if self.on {
            self.watched.command.store(0, Ordering::Relaxed);
            self.watched.turn_since_ms.store(self.watched.now_ms(), Ordering::Relaxed);
        }
    }

    /// The loop waits.
    #[inline]
    pub fn turn_ends(&self) {
        if self.on {
            self.watched.turn_since_ms.store(0, Ordering::Relaxed);
        }
    }
}

impl Default for Watchdog {
    fn default() -> Self {
        Watchdog::new()
    }
}

impl Watched {
    fn now_ms(&self) -> u64 {
        self.origin.elapsed().as_millis() as u64 + 1
    }

    fn watch(&self) {
        let mut reported = 0;
        loop {
            let period_ms = self.period_ms.load(Ordering::Relaxed);
            if period_ms == 0 {
                thread::park();
                continue;
            }
            let (since, now) = (self.turn_since_ms.load(Ordering::Relaxed), self.now_ms());
            let lasted = if since == 0 { 0 } else { now.saturating_sub(since) };
            if lasted >= period_ms && since != reported {
                reported = since;
                log_warning!("\n--- WATCHDOG TIMER EXPIRED ---");
                log_warning!("{}", self.report(lasted));
                log_warning!("--------\n");
            }
            // A turn that begins while this sleeps is noticed a quarter of a period late at most.
            let left = if lasted < period_ms { period_ms - lasted } else { period_ms };
            thread::park_timeout(Duration::from_millis(left.min(period_ms / 4).max(1)));
        }
    }

    fn report(&self, lasted_ms: u64) -> String {
        let command = match self.command.load(Ordering::Relaxed) {
            0 => "no command ran in it".to_owned(),
            id => {
                format!("the command that ran last is '{}'", registry().entries()[id as usize - 1].full_name)
            }
        };
        format!("The event loop has not turned for {lasted_ms} ms; {command}. Its thread: {}", thread_state())
    }
}

/// What the kernel says of the main thread, which runs the event loop: proc(5).
fn thread_state() -> String {
    let read = |file: &str| {
        let path = format!("/proc/self/task/{}/{file}", std::process::id());
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let status = read("status");
    let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or("unknown").trim();
    match read("wchan").trim() {
        "" | "0" => state.to_owned(),
        place => format!("{state}, in {place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_watched_turn_is_noted() {
        let mut watchdog = Watchdog::new();
        watchdog.turn_begins();
        assert_eq!(watchdog.watched.turn_since_ms.load(Ordering::Relaxed), 0, "nobody watches");
        assert!(watchdog.command().is_none());
        watchdog.set_period(60_000).unwrap();
        let command = watchdog.command().unwrap();
        command.store(9, Ordering::Relaxed);
        watchdog.turn_begins();
        assert_ne!(watchdog.watched.turn_since_ms.load(Ordering::Relaxed), 0);
        assert!(
            watchdog.watched.report(5).starts_with("The event loop has not turned for 5 ms; no command ran")
        );
        let get = registry().lookup(b"config").unwrap();
        let get = registry().subcommands(get).iter().find(|entry| &*entry.full_name == "config|get").unwrap();
        command.store(u32::from(get.id.0) + 1, Ordering::Relaxed);
        let report = watchdog.watched.report(5);
        assert!(report.contains("the command that ran last is 'config|get'. Its thread: "), "{report}");
        watchdog.turn_ends();
        assert_eq!(watchdog.watched.turn_since_ms.load(Ordering::Relaxed), 0);
        watchdog.set_period(0).unwrap();
        assert!(watchdog.command().is_none());
    }
}
