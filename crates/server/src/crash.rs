//! What is left behind when the process dies of a bug: a report in the log, in the shape of redis's, then an abort.
//!
//! A panic anywhere means that an invariant is broken, and no thread can know which data is still right; so the process
//! ends (rather crash than corrupt) and leaves a core dump where the system makes them.
//!
//! Not covered: SIGSEGV, SIGBUS, SIGILL and SIGFPE raised by a fault. A handler for them must run on the faulting thread
//! with an alternate stack and only async-signal-safe calls, which safe Rust cannot express; the process then dies by the
//! signal with the system's core dump and without a report. SIGABRT sent from outside is reported by
//! [`crate::daemon::Signals`].

use std::backtrace::Backtrace;
use std::fmt::Write;
use std::panic::PanicHookInfo;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::{GIT_SHA, KINDRED_VERSION, REDIS_VERSION};
use crate::logger::LOG;

/// Opens a report. Tools that collect redis's reports look for "BUG REPORT START".
pub const REPORT_START: &str = "=== KINDRED BUG REPORT START: Cut & paste starting from here ===";
/// Closes a report.
pub const REPORT_END: &str = "=== KINDRED BUG REPORT END. Make sure to include from START to END. ===";

/// Text about the server's state for the report. It is called on the thread that panicked, with whatever locks that
/// holds: it must not wait for any.
pub type State = dyn Fn() -> String + Send + Sync;

/// The server's state as of some seconds ago: what a report can show without asking the threads that may be broken.
static REMEMBERED: Mutex<String> = Mutex::new(String::new());

/// Keeps the text of `INFO` for a report.
pub fn remember(info: String) {
    if let Ok(mut remembered) = REMEMBERED.lock() {
        *remembered = info;
    }
}

/// The text that was kept last; empty if there is none, or it is being replaced just now.
pub fn remembered() -> String {
    REMEMBERED.try_lock().map_or_else(|_| String::new(), |text| text.clone())
}

/// `crash-log-enabled` and `use-exit-on-panic`.
static REPORTS: AtomicBool = AtomicBool::new(true);
static EXITS: AtomicBool = AtomicBool::new(false);

/// Whether a report has more than the cause, and whether the process exits with 1 instead of leaving a core dump.
pub fn configure(reports: bool, exits: bool) {
    REPORTS.store(reports, Ordering::Relaxed);
    EXITS.store(exits, Ordering::Relaxed);
}

/// From now on a panic on any thread writes a report to the log and aborts the process.
pub fn install(state: Box<State>) {
    static REPORTING: AtomicBool = AtomicBool::new(false);
    std::panic::set_hook(Box::new(move |info| {
        // A second panic, in `state` or on another thread meanwhile, must not start a second report.
        if !REPORTING.swap(true, Ordering::SeqCst) {
            let cause = cause(info);
            // First what is certain, so that it is there even if the rest fails.
            emit(&format!("\n\n{REPORT_START}\n{cause}"));
            if REPORTS.load(Ordering::Relaxed) {
                emit(&details(&Backtrace::force_capture(), ""));
                let state = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&state));
                if let Ok(state) = state {
                    emit(&format!("\n------ INFO OUTPUT ------\n{state}\n"));
                }
            }
            emit(&format!("\n{REPORT_END}\n\n"));
        }
        if EXITS.load(Ordering::Relaxed) {
            std::process::exit(1);
        }
        std::process::abort();
    }));
}

/// The report of a fatal signal that reached us from outside; `extra` is more text for it.
pub fn report_signal(number: i32, extra: &str) {
    let mut text = format!("\n\n{REPORT_START}\n");
    let _ = writeln!(text, "Kindred {KINDRED_VERSION} (Redis {REDIS_VERSION}) crashed by signal: {number}");
    if REPORTS.load(Ordering::Relaxed) {
        text.push_str(&details(&Backtrace::disabled(), extra));
    }
    let _ = write!(text, "\n{REPORT_END}\n\n");
    emit(&text);
}

/// The panic in words: where, on which thread, why.
fn cause(info: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed").to_owned();
    let place = info.location().map_or("unknown".to_owned(), |l| format!("{}:{}", l.file(), l.line()));
    format!(
        "Kindred {KINDRED_VERSION} (Redis {REDIS_VERSION}) crashed by a panic on thread '{name}'\n\
         === ASSERTION FAILED ===\n==> {place} '{}' is not true\n",
        message(info)
    )
}

fn message<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

fn details(backtrace: &Backtrace, extra: &str) -> String {
    let arch = std::env::consts::ARCH;
    let pid = std::process::id();
    let mut text = format!("commit: {GIT_SHA}, arch: {arch}, pid: {pid}\n{extra}");
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        let _ = write!(text, "\n------ STACK TRACE ------\n{backtrace}");
    }
    text
}

/// To the log, or, when the log is held by the very thread that panicked, to standard error.
fn emit(text: &str) {
    if !LOG.try_raw(text) {
        eprint!("{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Set in the process that this test starts from its own binary, in order to crash there.
    const VICTIM: &str = "KINDRED_TEST_CRASH";

    #[test]
    fn a_panic_is_reported_and_aborts() {
        if std::env::var_os(VICTIM).is_some() {
            install(Box::new(|| "redis_version:x".to_owned()));
            let thread = std::thread::Builder::new().name("writer".to_owned());
            let _ = thread.spawn(|| panic!("offset {} went back", 7)).unwrap().join();
            unreachable!("the process is aborted by then");
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::tests::a_panic_is_reported_and_aborts", "--nocapture"])
            .env(VICTIM, "1")
            .output()
            .unwrap();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(output.status.signal(), Some(signal_hook::consts::SIGABRT), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        let mut rest = &*text;
        for expected in [
            REPORT_START,
            "crashed by a panic on thread 'writer'",
            "==> crates/server/src/crash.rs:",
            "'offset 7 went back' is not true",
            "------ STACK TRACE ------",
            "a_panic_is_reported_and_aborts",
            "redis_version:x",
            REPORT_END,
        ] {
            let at = rest
                .find(expected)
                .unwrap_or_else(|| panic!("{expected:?} is missing or out of order: {text}"));
            rest = &rest[at..];
        }
    }
}
