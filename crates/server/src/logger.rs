//! The server's log, in redis's format: `PID:ROLE DD Mon YYYY HH:MM:SS.mmm LEVEL message`.
//!
//! One per process, in [`LOG`], because panics, signals and every thread write to it. The macros [`log_debug!`],
//! [`log_verbose!`], [`log_notice!`] and [`log_warning!`] cost one relaxed load when their level is off: the message is
//! not formatted. The file is kept open, and reopened when its name leads elsewhere, so that log rotation by renaming
//! works as with redis, which opens it for every line.
//!
//! [`log_debug!`]: crate::log_debug
//! [`log_verbose!`]: crate::log_verbose
//! [`log_notice!`]: crate::log_notice
//! [`log_warning!`]: crate::log_warning

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// The process's log.
pub static LOG: Logger = Logger::new();

/// Levels of `loglevel`, rising.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    Debug,
    Verbose,
    Notice,
    Warning,
    /// As `loglevel` only: no line is of this level.
    Nothing,
}

impl Level {
    pub const ALL: [Level; 5] = [Level::Debug, Level::Verbose, Level::Notice, Level::Warning, Level::Nothing];

    /// The word of `loglevel`.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Verbose => "verbose",
            Level::Notice => "notice",
            Level::Warning => "warning",
            Level::Nothing => "nothing",
        }
    }

    pub fn from_name(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name))
    }

    fn mark(self) -> char {
        match self {
            Level::Debug => '.',
            Level::Verbose => '-',
            Level::Notice => '*',
            Level::Warning | Level::Nothing => '#',
        }
    }

    /// The severity of RFC 5424.
    fn severity(self) -> u8 {
        match self {
            Level::Debug => 7,
            Level::Verbose => 6,
            Level::Notice => 5,
            Level::Warning | Level::Nothing => 4,
        }
    }
}

/// Who writes, as one letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    Primary = b'M',
    Replica = b'S',
    /// A task that redis would do in a child process.
    Child = b'C',
    Sentinel = b'X',
}

pub struct Logger {
    level: AtomicU8,
    role: AtomicU8,
    sinks: Mutex<Sinks>,
}

/// Where lines go.
struct Sinks {
    /// None: standard output.
    path: Option<PathBuf>,
    file: Option<File>,
    syslog: Option<Syslog>,
    /// Reused, so that a line is one write and mostly no allocation.
    line: String,
}

struct Syslog {
    socket: UnixDatagram,
    ident: String,
    facility: u8,
}

impl Default for Logger {
    fn default() -> Self {
        Logger::new()
    }
}

impl Logger {
    /// Notice level, primary's role, standard output.
    pub const fn new() -> Logger {
        let sinks = Sinks { path: None, file: None, syslog: None, line: String::new() };
        Logger {
            level: AtomicU8::new(Level::Notice as u8),
            role: AtomicU8::new(Role::Primary as u8),
            sinks: Mutex::new(sinks),
        }
    }

    #[inline]
    pub fn is_on(&self, level: Level) -> bool {
        level as u8 >= self.level.load(Ordering::Relaxed)
    }

    pub fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    pub fn set_role(&self, role: Role) {
        self.role.store(role as u8, Ordering::Relaxed);
    }

    /// `logfile`: a path, or the empty one for standard output. The error is redis's reason to refuse the
    /// configuration; the log then stays where it was.
    pub fn set_file(&self, path: impl Into<PathBuf>) -> Result<(), String> {
        let path = path.into();
        let mut sinks = self.sinks();
        if path.as_os_str().is_empty() {
            (sinks.path, sinks.file) = (None, None);
            return Ok(());
        }
        let file = append_to(&path)
            .map_err(|e| format!("Can't open the log file: {}", crate::listener::strerror(&e)))?;
        (sinks.path, sinks.file) = (Some(path), Some(file));
        Ok(())
    }

    /// Also send every line to the system's log daemon; `facility` is a number of RFC 5424.
    pub fn set_syslog(&self, ident: &str, facility: u8) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.connect("/dev/log")?;
        // A stuck daemon must not stop the server; its lines are lost instead.
        socket.set_nonblocking(true)?;
        self.sinks().syslog = Some(Syslog { socket, ident: ident.to_owned(), facility });
        Ok(())
    }

    pub fn unset_syslog(&self) {
        self.sinks().syslog = None;
    }

    /// One line in the process's role. The macros call it when the level is on.
    pub fn write(&self, level: Level, message: fmt::Arguments<'_>) {
        self.write_as(char::from(self.role.load(Ordering::Relaxed)), level, message);
    }

    /// One line of a task that redis would do in a child process (role C).
    pub fn write_as_child(&self, level: Level, message: fmt::Arguments<'_>) {
        self.write_as(char::from(Role::Child as u8), level, message);
    }

    fn write_as(&self, role: char, level: Level, message: fmt::Arguments<'_>) {
        if !self.is_on(level) {
            return;
        }
        let now = Timestamp::now().to_zoned(time_zone().clone());
        let pid = std::process::id();
        let mut sinks = self.sinks();
        let mut line = std::mem::take(&mut sinks.line);
        line.clear();
        // Writing to a String fails only if a Display does, and then the line says what it can.
        let _ = write!(line, "{pid}:{role} {} {} ", now.strftime("%d %b %Y %H:%M:%S.%3f"), level.mark());
        let message_start = line.len();
        let _ = line.write_fmt(message);
        line.push('\n');
        sinks.append(line.as_bytes());
        if let Some(syslog) = &sinks.syslog {
            syslog.send(level, &now, pid, line[message_start..].trim_end());
        }
        sinks.line = line;
    }

    /// Text without a prefix: the logo, crash reports. Written at every level but `nothing`.
    pub fn raw(&self, text: &str) {
        if self.is_on(Level::Warning) {
            self.sinks().append(text.as_bytes());
        }
    }

    /// A panic while the lock was held leaves nothing half-done that matters.
    fn sinks(&self) -> MutexGuard<'_, Sinks> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the crash report: text without a prefix, given up when another thread (or this one) holds the log.
    pub fn try_raw(&self, text: &str) -> bool {
        match self.sinks.try_lock() {
            Ok(mut sinks) => sinks.append(text.as_bytes()),
            Err(std::sync::TryLockError::Poisoned(sinks)) => sinks.into_inner().append(text.as_bytes()),
            Err(std::sync::TryLockError::WouldBlock) => return false,
        }
        true
    }
}

impl Sinks {
    /// A log that cannot be written must not stop the server: errors are dropped, as in redis.
    fn append(&mut self, bytes: &[u8]) {
        let Some(path) = &self.path else {
            let mut out = io::stdout().lock();
            let _ = out.write_all(bytes).and_then(|()| out.flush());
            return;
        };
        let is_same = |file: &File| {
            let (here, there) = (file.metadata().ok()?, std::fs::metadata(path).ok()?);
            Some((here.dev(), here.ino()) == (there.dev(), there.ino()))
        };
        if !self.file.as_ref().and_then(is_same).unwrap_or(false) {
            self.file = append_to(path).ok();
        }
        if let Some(file) = &mut self.file {
            let _ = file.write_all(bytes);
        }
    }
}

impl Syslog {
    /// The form that glibc's syslog(3) sends to the local daemon.
    fn send(&self, level: Level, now: &Zoned, pid: u32, message: &str) {
        let priority = self.facility * 8 + level.severity();
        let text = format!("<{priority}>{} {}[{pid}]: {message}", now.strftime("%b %e %H:%M:%S"), self.ident);
        let _ = self.socket.send(text.as_bytes());
    }
}

/// The system's, as it was at the first line: the environment may be overwritten by a title later.
pub(crate) fn time_zone() -> &'static TimeZone {
    static TIME_ZONE: OnceLock<TimeZone> = OnceLock::new();
    TIME_ZONE.get_or_init(TimeZone::system)
}

fn append_to(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// A line in [`LOG`] at debug level; arguments as for `format!`.
#[macro_export]
macro_rules! log_debug {
    ($($arg:tt)*) => { $crate::log_at!($crate::logger::Level::Debug, $($arg)*) };
}

/// A line in [`LOG`] at verbose level; arguments as for `format!`.
#[macro_export]
macro_rules! log_verbose {
    ($($arg:tt)*) => { $crate::log_at!($crate::logger::Level::Verbose, $($arg)*) };
}

/// A line in [`LOG`] at notice level; arguments as for `format!`.
#[macro_export]
macro_rules! log_notice {
    ($($arg:tt)*) => { $crate::log_at!($crate::logger::Level::Notice, $($arg)*) };
}

/// A line in [`LOG`] at warning level; arguments as for `format!`.
#[macro_export]
macro_rules! log_warning {
    ($($arg:tt)*) => { $crate::log_at!($crate::logger::Level::Warning, $($arg)*) };
}

/// A line in [`LOG`] at a level; the message is formatted only when the level is on.
#[macro_export]
macro_rules! log_at {
    ($level:expr, $($arg:tt)*) => {
        if $crate::logger::LOG.is_on($level) {
            $crate::logger::LOG.write($level, format_args!($($arg)*));
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logger() -> (Logger, tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let logger = Logger::new();
        logger.set_file(&path).unwrap();
        (logger, dir, path)
    }

    /// The fields of a line before its message, and the message.
    fn parts(line: &str) -> (Vec<&str>, &str) {
        let mut words = line.splitn(7, ' ');
        let prefix = words.by_ref().take(6).collect();
        (prefix, words.next().unwrap())
    }

    #[test]
    fn a_line_has_redis_s_fields() {
        let (logger, _dir, path) = logger();
        logger.write(Level::Warning, format_args!("Server {}", "initialized"));
        logger.set_role(Role::Replica);
        logger.write(Level::Notice, format_args!("second"));
        logger.write_as_child(Level::Notice, format_args!("third"));
        logger.raw("\nraw\n");
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<_> = text.split('\n').collect();
        let (prefix, message) = parts(lines[0]);
        assert_eq!(message, "Server initialized");
        assert_eq!(prefix[0], format!("{}:M", std::process::id()));
        assert_eq!(prefix[5], "#");
        let time = format!("{} {} {} {}", prefix[1], prefix[2], prefix[3], prefix[4]);
        let parsed = jiff::civil::DateTime::strptime("%d %b %Y %H:%M:%S.%f", &time).unwrap();
        assert!((Zoned::now().datetime() - parsed).get_hours().abs() < 1, "{time} is local time");
        assert_eq!(prefix[4].len(), "12:34:56.789".len());
        assert!(parts(lines[1]).0[0].ends_with(":S") && parts(lines[1]).0[5] == "*");
        assert!(parts(lines[2]).0[0].ends_with(":C"));
        assert_eq!(lines[3..], ["", "raw", ""]);
    }

    #[test]
    fn what_is_below_the_level_is_not_even_formatted() {
        struct Loud;
        impl fmt::Display for Loud {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("formatted although the level is off")
            }
        }
        log_debug!("{Loud}");
        log_verbose!("{Loud}");
        let (logger, _dir, path) = logger();
        logger.set_level(Level::Nothing);
        logger.write(Level::Warning, format_args!("{Loud}"));
        logger.raw("raw");
        assert_eq!(std::fs::read(path).unwrap(), b"");
    }

    #[test]
    fn a_rotated_file_is_left_alone() {
        let (logger, dir, path) = logger();
        logger.raw("1");
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        logger.raw("2");
        logger.raw("3");
        assert_eq!(std::fs::read(&path).unwrap(), b"23");
        assert_eq!(std::fs::read(dir.path().join("old")).unwrap(), b"1");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_refused_and_changes_nothing() {
        let (logger, dir, path) = logger();
        let reason = logger.set_file(dir.path().join("no/log")).unwrap_err();
        assert_eq!(reason, "Can't open the log file: No such file or directory");
        logger.raw("still");
        assert_eq!(std::fs::read(path).unwrap(), b"still");
    }

    #[test]
    fn lines_of_many_threads_stay_whole() {
        let (logger, _dir, path) = logger();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let logger = &logger;
                scope.spawn(move || {
                    for i in 0..200 {
                        logger.write(Level::Notice, format_args!("{thread}-{i}"));
                    }
                });
            }
        });
        let text = std::fs::read_to_string(path).unwrap();
        let mut messages: Vec<_> = text.lines().map(|l| parts(l).1.to_owned()).collect();
        messages.sort();
        messages.dedup();
        assert_eq!(messages.len(), 800);
    }

    #[test]
    fn level_names_are_those_of_loglevel() {
        for level in Level::ALL {
            assert_eq!(Level::from_name(&level.name().to_uppercase()), Some(level));
        }
        assert_eq!(Level::from_name("loud"), None);
    }
}
