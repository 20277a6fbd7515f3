//! Writes the process's title where the kernel looks for it: over the arguments that the process was started with.
//!
//! `/proc/PID/cmdline` shows the memory between two addresses that the kernel has noted. If its last byte is not zero,
//! the kernel takes the text for a title that goes on, into the environment that lies behind, up to the next zero
//! (`get_mm_proctitle` in `fs/proc/base.c`). There is no safe call for writing there, so it is written through
//! `/proc/self/mem`, at the addresses that `/proc/self/stat` tells (proc(5), fields 48 to 51).
//!
//! Arguments and environment must have been read by then. Who starts the server reads its arguments once; of the
//! environment a title takes 255 bytes less those of the arguments at most, and what needs it later reads it with
//! [`remember_environment`] before.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// The longest title in bytes, as with Redis.
const TITLE_MAX: usize = 255;

/// Variables that are read while the server runs.
static NOTIFY_SOCKET: OnceLock<Option<OsString>> = OnceLock::new();

/// Reads what is wanted of the environment later. Before the first title.
pub fn remember_environment() {
    NOTIFY_SOCKET.get_or_init(|| std::env::var_os("NOTIFY_SOCKET"));
    crate::logger::time_zone();
}

/// Where the service manager wants to be told of this process, if there is one.
pub fn notify_socket() -> Option<&'static OsString> {
    NOTIFY_SOCKET.get_or_init(|| std::env::var_os("NOTIFY_SOCKET")).as_ref()
}

/// The place of the title in this process's memory.
pub struct ProcessTitle {
    memory: File,
    start: u64,
    /// Of the arguments alone.
    arguments_bytes: usize,
    /// With the environment, if that lies right behind.
    bytes_max: usize,
}

impl ProcessTitle {
    pub fn find() -> io::Result<ProcessTitle> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let unknown = || io::Error::other("the kernel does not tell where the arguments lie");
        let area = Area::parse(&stat).ok_or_else(unknown)?;
        let memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
        let (arguments_bytes, bytes_max) = area.bytes().ok_or_else(unknown)?;
        Ok(ProcessTitle { memory, start: area.start, arguments_bytes, bytes_max })
    }

    pub fn set(&self, title: &str) -> io::Result<()> {
        self.memory.write_all_at(&self.image(title), self.start)
    }

    /// What is to be in memory: the title, zeros for the rest of the arguments, and one zero at least.
    fn image(&self, title: &str) -> Vec<u8> {
        let length = title.len().min(TITLE_MAX).min(self.bytes_max - 1);
        let mut image = title.as_bytes()[..length].to_vec();
        image.resize(self.arguments_bytes.max(length + 1), 0);
        image
    }
}

/// Addresses of arguments and environment.
#[derive(Debug, PartialEq, Eq)]
struct Area {
    start: u64,
    end: u64,
    environment_start: u64,
    environment_end: u64,
}

impl Area {
    fn parse(stat: &str) -> Option<Area> {
        // The second field is the command in parentheses, which may hold blanks: fields are counted from behind it.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split_ascii_whitespace().skip(45).map(str::parse::<u64>);
        let mut next = || fields.next()?.ok();
        Some(Area { start: next()?, end: next()?, environment_start: next()?, environment_end: next()? })
    }

    /// Bytes of the arguments, and of what a title may take.
    fn bytes(&self) -> Option<(usize, usize)> {
        let arguments = self.end.checked_sub(self.start).filter(|bytes| *bytes > 0 && self.start > 0)?;
        let follows = self.environment_start == self.end && self.environment_end > self.end;
        let end = if follows { self.environment_end } else { self.end };
        Some((usize::try_from(arguments).ok()?, usize::try_from(end - self.start).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_counted_behind_the_name() {
        let numbers: Vec<String> = (4..=52).map(|field| (field * 10).to_string()).collect();
        let stat = format!("7 (a b) c) S {}\n", numbers.join(" "));
        let area = Area { start: 480, end: 490, environment_start: 500, environment_end: 510 };
        assert_eq!(Area::parse(&stat), Some(area));
        assert_eq!(Area::parse("7 (a) S 1 2"), None);
    }

    #[test]
    fn the_environment_is_taken_only_where_it_lies_behind() {
        let area = |start, end, environment_start, environment_end| {
            Area { start, end, environment_start, environment_end }.bytes()
        };
        assert_eq!(area(100, 110, 110, 200), Some((10, 100)));
        assert_eq!(area(100, 110, 111, 200), Some((10, 10)));
        assert_eq!(area(100, 110, 110, 110), Some((10, 10)));
        assert_eq!(area(100, 100, 100, 110), None);
        assert_eq!(area(0, 0, 0, 0), None, "a kernel that hides them");
    }

    #[test]
    fn a_title_ends_with_a_zero() {
        let title = |arguments_bytes, bytes_max, title: &str| {
            let memory = File::open("/proc/self/stat").unwrap();
            let image = ProcessTitle { memory, start: 1, arguments_bytes, bytes_max }.image(title);
            String::from_utf8(image).unwrap()
        };
        assert_eq!(title(6, 20, "abc"), "abc\0\0\0");
        assert_eq!(title(6, 20, "abcdef"), "abcdef\0");
        assert_eq!(title(6, 10, "abcdefghijklm"), "abcdefghi\0");
        assert_eq!(title(6, 6, "abcdefg"), "abcde\0");
        assert_eq!(title(6, 1000, &"a".repeat(300)).len(), TITLE_MAX + 1);
    }
}
