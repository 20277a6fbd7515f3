//! The process among other processes: background, pid file, signals, limits, the service manager.
//!
//! Everything here happens once, at start, before the engine: [`daemonize`] first of all, because a fork keeps only the
//! thread that calls it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use signal_hook::consts::{SIGABRT, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals as SignalIterator;

use crate::listener::strerror;
use crate::logger::Level;
use crate::{crash, log_warning, process_title};

/// Descriptors kept for files, listening sockets and replication, beside those of `maxclients`.
pub const RESERVED_DESCRIPTORS: u64 = 32;

/// Where the pid goes when `daemonize` is on and `pidfile` is not set.
pub const DEFAULT_PID_FILE: &str = "/var/run/redis.pid";

/// Goes on in the background, in a session of its own, with standard input, output and error on /dev/null; the process
/// that was started exits with 0. Directory and umask stay. To be called before any thread is started.
pub fn daemonize() -> Result<(), String> {
    let directory = std::env::current_dir().map_err(|e| strerror(&e))?;
    let mask = current_umask();
    daemonize::Daemonize::new()
        .working_directory(directory)
        .umask(mask)
        .start()
        .map_err(|error| format!("Can't daemonize: {error}"))
}

/// The umask, which can be read only by setting it: to be called while no other thread creates files.
pub fn current_umask() -> u32 {
    let mask = umask(Mode::empty());
    umask(mask);
    mask.bits()
}

/// A file with this process's id in it, removed on drop.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Redis only tries: a server that cannot write its pid file runs without one. The error is for the log.
    pub fn create(path: &Path) -> io::Result<PidFile> {
        // `dir` may change the directory before the file is removed.
        let path = std::path::absolute(path)?;
        std::fs::write(&path, format!("{}\n", std::process::id()))?;
        Ok(PidFile { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The signals of a server, taken in by a thread of their own, so that they are logged and a second SIGINT ends the
/// process even while the event loop is busy.
///
/// SIGTERM and SIGINT ask for a shutdown: [`Signals::as_fd`] becomes readable, and the event loop calls
/// [`Signals::take`]. A SIGINT while a shutdown is under way exits at once with status 1. SIGHUP does nothing, as in
/// redis. SIGABRT writes a crash report and dies of it. SIGPIPE is ignored by Rust's runtime before `main`.
pub struct Signals {
    wake: UnixStream,
    shared: Arc<Shared>,
    handle: signal_hook::iterator::Handle,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// The last signal that asked for a shutdown and was not taken yet; 0 for none.
    requested: AtomicI32,
    shutting_down: AtomicBool,
    loading: AtomicBool,
    /// Called before the exit of a second SIGINT: to remove temporary files.
    on_forced_exit: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// A signal that asks for an orderly shutdown; each has its own `shutdown-on-…` parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownSignal {
    Interrupt,
    Terminate,
}

impl Signals {
    pub fn install() -> io::Result<Signals> {
        let mut signals = SignalIterator::new([SIGTERM, SIGINT, SIGHUP, SIGABRT])?;
        let handle = signals.handle();
        let (wake, mut waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                for signal in signals.forever() {
                    match signal {
                        SIGTERM | SIGINT => shared.shutdown(signal, &mut waker),
                        SIGABRT => {
                            crash::report_signal(signal, &crash::remembered());
                            let _ = signal_hook::low_level::emulate_default_handler(signal);
                        }
                        // SIGHUP: a closed terminal is no reason to stop.
                        _ => {}
                    }
                }
            }
        })?;
        Ok(Signals { wake, shared, handle, thread: Some(thread) })
    }

    /// What asked for a shutdown since the last call.
    pub fn take(&self) -> Option<ShutdownSignal> {
        let mut bytes = [0; 64];
        while matches!((&self.wake).read(&mut bytes), Ok(n) if n > 0) {}
        match self.shared.requested.swap(0, Ordering::SeqCst) {
            SIGINT => Some(ShutdownSignal::Interrupt),
            SIGTERM => Some(ShutdownSignal::Terminate),
            _ => None,
        }
    }

    /// Redis says so when a shutdown has to wait for the load at start.
    pub fn set_loading(&self, loading: bool) {
        self.shared.loading.store(loading, Ordering::SeqCst);
    }

    /// To be told of a shutdown that did not come by a signal (`true`: the next SIGINT is the second), and of one that was
    /// cancelled or failed (`false`).
    pub fn set_shutting_down(&self, shutting_down: bool) {
        self.shared.shutting_down.store(shutting_down, Ordering::SeqCst);
    }

    /// What to do before a second SIGINT ends the process. The first call counts.
    pub fn on_forced_exit(&self, action: impl Fn() + Send + Sync + 'static) {
        let _ = self.shared.on_forced_exit.set(Box::new(action));
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn shutdown(&self, signal: i32, waker: &mut UnixStream) {
        let under_way = self.shutting_down.swap(true, Ordering::SeqCst);
        if under_way && signal == SIGINT {
            log_warning!("You insist... exiting now.");
            if let Some(action) = self.on_forced_exit.get() {
                action();
            }
            std::process::exit(1);
        }
        log_warning!("{}", shutdown_message(signal, self.loading.load(Ordering::SeqCst)));
        self.requested.store(signal, Ordering::SeqCst);
        // A full pipe already wakes the event loop.
        let _ = waker.write(&[0]);
    }
}

fn shutdown_message(signal: i32, loading: bool) -> &'static str {
    match signal {
        _ if loading => "Received shutdown signal during loading, scheduling shutdown.",
        SIGINT => "Received SIGINT scheduling shutdown...",
        _ => "Received SIGTERM scheduling shutdown...",
    }
}

/// What became of the limit of open files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// How many clients there can be now: at most what was asked for.
    pub maxclients: u64,
    /// For the log.
    pub lines: Vec<(Level, String)>,
}

/// Raises the limit of open files so that `maxclients` clients have a descriptor each, or lowers `maxclients` to what
/// the system allows. The error is the line redis logs before it exits because not even one client fits.
pub fn raise_descriptor_limit(maxclients: u64) -> Result<DescriptorLimit, String> {
    let limit = getrlimit(Resource::Nofile);
    // An absent limit means unlimited.
    let current = limit.current.unwrap_or(u64::MAX);
    let mut refusal = String::new();
    let reached = settle_limit(current, maxclients.saturating_add(RESERVED_DESCRIPTORS), |wanted| {
        let maximum = limit.maximum.map(|m| m.max(wanted));
        match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
            Ok(()) => true,
            Err(errno) => {
                refusal = strerror(&errno.into());
                false
            }
        }
    });
    describe_limit(maxclients, current, reached, &refusal)
}

/// The highest limit up to `wanted` that `set` accepts, tried downwards as redis does; at least `current`.
fn settle_limit(current: u64, wanted: u64, mut set: impl FnMut(u64) -> bool) -> u64 {
    const STEP: u64 = 16;
    if wanted <= current || set(wanted) {
        return wanted.max(current);
    }
    // Redis tries each step downwards; what is refused at one is refused above it, so the steps can be halved.
    let (mut refused, mut accepted) = (0, (wanted - current).div_ceil(STEP));
    let mut reached = current;
    while accepted - refused > 1 {
        let steps = refused + (accepted - refused) / 2;
        let limit = wanted - steps * STEP;
        if set(limit) {
            (accepted, reached) = (steps, limit);
        } else {
            refused = steps;
        }
    }
    reached
}

fn describe_limit(
    maxclients: u64,
    current: u64,
    reached: u64,
    refusal: &str,
) -> Result<DescriptorLimit, String> {
    let wanted = maxclients.saturating_add(RESERVED_DESCRIPTORS);
    if current >= wanted {
        return Ok(DescriptorLimit { maxclients, lines: Vec::new() });
    }
    if reached >= wanted {
        let line = format!(
            "Increased maximum number of open files to {wanted} (it was originally set to {current})."
        );
        return Ok(DescriptorLimit { maxclients, lines: vec![(Level::Notice, line)] });
    }
    if reached <= RESERVED_DESCRIPTORS {
        return Err(format!(
            "Your current 'ulimit -n' of {current} is not enough for the server to start. Please increase your open file limit to at least {wanted}. Exiting."
        ));
    }
    let lowered = reached - RESERVED_DESCRIPTORS;
    let lines = [
        format!("You requested maxclients of {maxclients} requiring at least {wanted} max file descriptors."),
        format!("Server can't set maximum open files to {wanted} because of OS error: {refusal}."),
        format!(
            "Current maximum open files is {reached}. maxclients has been reduced to {lowered} to compensate for low ulimit. If you need higher maxclients increase 'ulimit -n'."
        ),
    ];
    Ok(DescriptorLimit { maxclients: lowered, lines: lines.map(|line| (Level::Warning, line)).to_vec() })
}

/// Tells systemd about this process (`READY=1`, `STATUS=…`, `STOPPING=1`); false when no service manager asked to be
/// told, which `supervised auto` takes for "not supervised". Protocol: sd_notify(3).
pub fn notify_systemd(state: &str) -> io::Result<bool> {
    match process_title::notify_socket() {
        Some(socket) => notify(socket, state).map(|()| true),
        None => Ok(false),
    }
}

fn notify(socket: &std::ffi::OsStr, state: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    /// Set in the processes that these tests start from their own binary.
    const ROLE: &str = "KINDRED_TEST_DAEMON";

    fn is_child() -> bool {
        std::env::var_os(ROLE).is_some()
    }

    fn again(test: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &format!("daemon::tests::{test}"), "--nocapture", "--test-threads=1"]);
        command.env(ROLE, "1");
        command
    }

    fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = check() {
                return value;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "no {what} after 10 s");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn the_pid_file_is_removed_even_after_a_change_of_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let file = PidFile::create(&path).unwrap();
        assert!(file.path().is_absolute());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
        assert!(PidFile::create(&dir.path().join("no/pid")).is_err());
    }

    #[test]
    fn a_signal_wakes_the_loop_and_a_second_interrupt_exits() {
        use rustix::process::{Pid, Signal, kill_process};
        if is_child() {
            let signals = Signals::install().unwrap();
            signals.on_forced_exit(|| println!("forced"));
            println!("installed");
            let mut pending = [rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN)];
            // The signal may be delivered to this very thread.
            while rustix::event::poll(&mut pending, None) == Err(rustix::io::Errno::INTR) {}
            println!("took {:?} then {:?}", signals.take().unwrap(), signals.take());
            // A stuck event loop.
            std::thread::sleep(Duration::from_secs(30));
            return;
        }
        let mut child = again("a_signal_wakes_the_loop_and_a_second_interrupt_exits")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let mut lines = io::BufRead::lines(io::BufReader::new(child.stdout.take().unwrap()));
        let mut until = |part: &str| lines.by_ref().map(Result::unwrap).find(|l| l.contains(part)).is_some();
        assert!(until("installed"));
        kill_process(pid, Signal::HUP).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert!(until("Received SIGTERM scheduling shutdown..."));
        assert!(until("took Terminate then None"));
        kill_process(pid, Signal::INT).unwrap();
        assert!(until("You insist... exiting now."));
        assert!(until("forced"));
        assert_eq!(child.wait().unwrap().code(), Some(1));
    }

    #[test]
    fn a_daemon_leaves_its_parent_and_keeps_directory_and_umask() {
        let dir = tempfile::tempdir().unwrap();
        if is_child() {
            umask(Mode::from_raw_mode(0o027));
            daemonize().unwrap();
            std::fs::write("daemon.tmp", format!("{:o} {}", current_umask(), session())).unwrap();
            std::fs::rename("daemon.tmp", "daemon").unwrap();
            std::process::exit(0);
        }
        let status = again("a_daemon_leaves_its_parent_and_keeps_directory_and_umask")
            .current_dir(dir.path())
            .status()
            .unwrap();
        assert!(status.success());
        let text = wait_for("file of the daemon", || std::fs::read_to_string(dir.path().join("daemon")).ok());
        let (mask, daemon_session) = text.split_once(' ').unwrap();
        assert_eq!(mask, "27");
        assert_ne!(daemon_session, session());
    }

    /// The session of this process. From /proc: a session whose leader lies outside of the pid namespace (a container's)
    /// has the id 0, which `rustix::process::getsid` takes for impossible. Source: proc(5), field 6 of `stat`.
    fn session() -> String {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let (_, after_name) = stat.rsplit_once(") ").unwrap();
        after_name.split(' ').nth(3).unwrap().to_owned()
    }

    #[test]
    fn the_limit_is_raised_as_far_as_the_system_allows() {
        assert_eq!(settle_limit(1024, 10032, |_| true), 10032);
        assert_eq!(settle_limit(1024, 10032, |wanted| wanted <= 4096), 4096);
        assert_eq!(settle_limit(1024, 10032, |_| false), 1024);
        assert_eq!(settle_limit(u64::MAX, 10032, |_| panic!("there is nothing to raise")), u64::MAX);
    }

    #[test]
    fn the_limit_is_described_in_redis_s_words() {
        let nothing = DescriptorLimit { maxclients: 100, lines: vec![] };
        assert_eq!(describe_limit(100, 1024, 1024, ""), Ok(nothing));
        let raised = describe_limit(10000, 1024, 10032, "").unwrap();
        assert_eq!(raised.maxclients, 10000);
        assert!(raised.lines[0].1.starts_with("Increased maximum number of open files to 10032 (it was"));
        let lowered = describe_limit(10000, 1024, 4096, "Operation not permitted").unwrap();
        assert_eq!((lowered.maxclients, lowered.lines.len()), (4064, 3));
        assert!(lowered.lines[1].1.contains("because of OS error: Operation not permitted."));
        assert!(describe_limit(10000, 16, 32, "").unwrap_err().contains("'ulimit -n' of 16 is not enough"));
    }

    #[test]
    fn the_real_limit_fits_what_is_said() {
        let limit = raise_descriptor_limit(100).unwrap();
        let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert!(now >= limit.maxclients + RESERVED_DESCRIPTORS);
    }

    #[test]
    fn systemd_is_told_by_path_and_by_abstract_name() {
        use std::os::linux::net::SocketAddrExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("kindred-test-{}", std::process::id());
        let sockets = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (
                format!("@{name}").into(),
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
            ),
        ];
        for (address, socket) in sockets {
            notify(&address, "READY=1\n").unwrap();
            let mut bytes = [0; 64];
            let length = socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], b"READY=1\n");
        }
    }
}
