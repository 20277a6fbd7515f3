//! The real world as the engine sees it: clocks, entropy, the process.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::Config;
use engine::env::{CpuTimes, Env, ProcessFacts};
use engine::oom_score::OomScore;
use engine::params::{self, Rewrite};

use crate::accept::Listeners;
use crate::allocator;
use crate::config_file::{self, Current, CurrentLine};
use crate::files::{self, put_in_place};
use crate::listener::strerror;
use crate::oom_score::OomScoreFile;
use crate::tls::Tls;

/// Files are written and read in pieces of about this size.
const PIECE_BYTES: usize = 256 * 1024;

/// The monotonic clock is read once per command. It reads the processor's time stamp counter where that is invariant:
/// about 16 ns where the system's clock takes 45, in commands of 250 ns.
pub struct ProcessEnv {
    clock: quanta::Clock,
    /// What the counter said at the start.
    origin: u64,
    rng: Xoshiro,
    /// Allocated when the process had just started.
    startup_bytes: u64,
    listeners: Listeners,
    tls: Tls,
    oom_score: OomScoreFile,
}

impl ProcessEnv {
    /// Takes its seed from the system.
    pub fn new(listeners: Listeners, tls: Tls) -> std::io::Result<ProcessEnv> {
        let mut seed = [0; 32];
        let mut filled = 0;
        while filled < seed.len() {
            filled += rustix::rand::getrandom(&mut seed[filled..], rustix::rand::GetRandomFlags::empty())?;
        }
        let word = |index: usize| u64::from_le_bytes(seed[index * 8..][..8].try_into().expect("eight bytes"));
        let rng = Xoshiro { state: [word(0) | 1, word(1), word(2), word(3)] };
        let clock = quanta::Clock::new();
        let origin = clock.raw();
        Ok(ProcessEnv {
            clock,
            origin,
            rng,
            startup_bytes: allocator::used_bytes(),
            listeners,
            tls,
            oom_score: OomScoreFile::default(),
        })
    }
}

impl Env for ProcessEnv {
    fn unix_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or_else(|before| -(before.duration().as_millis() as i64), |since| since.as_millis() as i64)
    }

    #[inline]
    fn monotonic_us(&self) -> u64 {
        // By way of `Duration` it would be three divisions more.
        self.clock.delta_as_nanos(self.origin, self.clock.raw()) / 1000
    }

    fn random(&mut self) -> u64 {
        self.rng.next()
    }

    fn process_id(&self) -> u32 {
        std::process::id()
    }

    fn allow_clients(&mut self, clients: u64) -> Result<(), u64> {
        // Not even one, where that fails.
        let allowed = crate::daemon::raise_descriptor_limit(clients).map_or(0, |limit| limit.maxclients);
        if allowed < clients {
            return Err(allowed);
        }
        self.tls.allow_clients(clients);
        Ok(())
    }

    fn sleep(&mut self, micros: u64) {
        std::thread::sleep(std::time::Duration::from_micros(micros));
    }

    fn directory(&mut self, path: &str) -> Result<String, String> {
        let full = std::fs::canonicalize(path).map_err(|error| strerror(&error))?;
        if !full.is_dir() {
            return Err(strerror(&io::Error::from_raw_os_error(rustix::io::Errno::NOTDIR.raw_os_error())));
        }
        Ok(full.to_string_lossy().into_owned())
    }

    fn listen(&mut self, old: &Config, new: &Config) -> Result<(), String> {
        self.listeners.change(old, new)
    }

    fn configure_tls(&mut self, config: &Config) -> Result<(), String> {
        self.tls.configure(config)
    }

    fn adjust_oom_score(&mut self, wanted: Option<OomScore>) -> Result<(), String> {
        self.oom_score.set(wanted)
    }

    fn rewrite_config(&mut self, path: &Path, rows: &[Rewrite]) -> Result<(), String> {
        let old = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(strerror(&error)),
        };
        let line = |line: &params::RewriteLine| CurrentLine {
            text: line.text.clone().into_bytes(),
            is_default: line.is_default,
        };
        let current: Vec<Current> = rows
            .iter()
            .map(|row| Current { name: row.name.to_owned(), lines: row.lines.iter().map(line).collect() })
            .collect();
        let text = config_file::rewrite(&old, params::canonical_name, &current);
        files::replace(path, &text).map_err(|error| strerror(&error))
    }

    fn process(&self) -> ProcessFacts {
        let uname = rustix::system::uname();
        let pages = |field: usize| {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
            statm.split(' ').nth(field).and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        ProcessFacts {
            os: format!(
                "{} {} {}",
                uname.sysname().to_string_lossy(),
                uname.release().to_string_lossy(),
                uname.machine().to_string_lossy()
            ),
            executable: std::env::current_exe()
                .map_or_else(|_| String::new(), |path| path.display().to_string()),
            allocator: allocator::NAME.to_owned(),
            multiplexer: "epoll".to_owned(),
            monotonic_clock: "time stamp counter or the system's".to_owned(),
            rss_bytes: pages(1) * rustix::param::page_size() as u64,
            system_memory_bytes: system_memory_bytes(),
            allocator_active_bytes: allocator::used_bytes() + allocator::slack_bytes(),
            startup_bytes: self.startup_bytes,
            cpu: cpu_times(),
        }
    }

    fn allocator_report(&self) -> Option<String> {
        Some(allocator::report())
    }

    fn purge_allocator(&mut self) -> bool {
        allocator::purge()
    }

    fn used_memory(&self) -> u64 {
        allocator::used_bytes()
    }

    fn write_file_atomically(
        &mut self,
        temp: &Path,
        path: &Path,
        produce: &mut dyn FnMut(&mut Vec<u8>) -> io::Result<bool>,
    ) -> io::Result<u64> {
        let result = write_file(temp, path, produce);
        if result.is_err() {
            // What is left of it is of no use; that it cannot be removed changes nothing.
            let _ = std::fs::remove_file(temp);
        }
        result
    }

    fn read_file(&mut self, path: &Path, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut file = File::open(path)?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(()),
                count => take(&piece[..count])?,
            }
        }
    }
}

fn system_memory_bytes() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    kib.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Of the process and of its main thread, from what the kernel counts in ticks.
fn cpu_times() -> CpuTimes {
    let (user_us, system_us, user_children_us, system_children_us) = stat_us("/proc/self/stat");
    let main = format!("/proc/self/task/{}/stat", std::process::id());
    let (user_main_thread_us, system_main_thread_us, ..) = stat_us(&main);
    CpuTimes {
        system_us,
        user_us,
        system_children_us,
        user_children_us,
        system_main_thread_us,
        user_main_thread_us,
    }
}

/// `utime`, `stime`, `cutime` and `cstime` of a `stat` file in microseconds.
fn stat_us(path: &str) -> (u64, u64, u64, u64) {
    let stat = std::fs::read_to_string(path).unwrap_or_default();
    // The second field is the command in parentheses, which may hold blanks: fields are counted from behind it.
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let field = |index: usize| {
        let value = rest.split(' ').nth(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        value * 1_000_000 / ticks
    };
    (field(11), field(12), field(13), field(14))
}

fn write_file(
    temp: &Path,
    path: &Path,
    produce: &mut dyn FnMut(&mut Vec<u8>) -> io::Result<bool>,
) -> io::Result<u64> {
    let mut file = File::create(temp)?;
    let (mut piece, mut written) = (Vec::new(), 0);
    loop {
        let more = produce(&mut piece)?;
        if piece.len() >= PIECE_BYTES || !more {
            file.write_all(&piece)?;
            written += piece.len() as u64;
            piece.clear();
        }
        if !more {
            break;
        }
    }
    put_in_place(&file, temp, path)?;
    Ok(written)
}

/// xoshiro256++ by Blackman and Vigna.
struct Xoshiro {
    state: [u64; 4],
}

impl Xoshiro {
    fn next(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_xoshiro256pp() {
        // The first outputs for the state 1, 2, 3, 4, from the reference implementation.
        let mut rng = Xoshiro { state: [1, 2, 3, 4] };
        assert_eq!([rng.next(), rng.next(), rng.next()], [41_943_041, 58_720_359, 3_588_806_011_781_223]);
    }

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (temp, path) = (dir.path().join("temp"), dir.path().join("file"));
        let mut env = ProcessEnv::new(Listeners::default(), Tls::default()).unwrap();
        let mut left = 3;
        let length = env.write_file_atomically(&temp, &path, &mut |out| {
            out.resize(out.len() + PIECE_BYTES, left);
            left -= 1;
            Ok(left > 0)
        });
        assert_eq!(length.unwrap(), 3 * PIECE_BYTES as u64);
        let failed = env.write_file_atomically(&temp, &path, &mut |out| {
            out.resize(2 * PIECE_BYTES, 9);
            if out[0] == 9 { Err(io::Error::other("no more")) } else { Ok(true) }
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert!(!temp.exists());
        let mut read = Vec::new();
        env.read_file(&path, &mut |bytes| {
            read.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        assert_eq!(
            (read.len(), read[0], read[PIECE_BYTES], read[2 * PIECE_BYTES]),
            (3 * PIECE_BYTES, 3, 2, 1)
        );
    }

    #[test]
    fn clocks_run_forward() {
        let mut env = ProcessEnv::new(Listeners::default(), Tls::default()).unwrap();
        let (wall, monotonic) = (env.unix_ms(), env.monotonic_us());
        std::thread::sleep(std::time::Duration::from_millis(3));
        assert!(wall > 1_600_000_000_000 && env.unix_ms() >= wall);
        assert!(env.monotonic_us() - monotonic >= 3000);
        assert_ne!(env.random(), env.random());
    }
}
