//! The command line of `kindred-server`, which is redis-server's.
//!
//! The first argument may be a configuration file, `-` as the first or last argument means a configuration on standard
//! input, and everything else is turned into lines of configuration (`--port 6380` into `port "6380"`) that are read
//! after the file. What each line means is [`crate::config_file`]'s business and its caller's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::config_file::{Sources, quote};

/// The Redis version whose wire, files and texts this server keeps to. Clients decide by it what they may send.
pub const REDIS_VERSION: &str = "7.2.4";
/// This product's own version.
pub const KINDRED_VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit this was built from, given by the build's environment; zeros when it was not.
pub const GIT_SHA: &str = match option_env!("KINDRED_GIT_SHA") {
    Some(sha) => sha,
    None => "00000000",
};

/// What redis-server says to `--test-memory` without a size; Kindred leaves that test to memtest86 and says so.
pub const TEST_MEMORY_REFUSAL: &str =
    "Kindred has no memory test. Use memtest86 or memtester, which can test the whole memory.";

/// What the process was asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Run a server.
    Serve(Arguments),
    /// Print [`version_line`] on standard output, exit 0.
    Version,
    /// Print [`usage`] on standard error, exit 1, as redis does.
    Help,
    /// Print [`TEST_MEMORY_REFUSAL`] on standard error, exit 1.
    TestMemory,
    /// Check the system's settings.
    CheckSystem,
    /// Act as redis-check-rdb (by the program's name), with these arguments.
    CheckRdb(Vec<OsString>),
    /// Act as redis-check-aof (by the program's name), with these arguments.
    CheckAof(Vec<OsString>),
}

/// How to run a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// The path is absolute, because redis changes its directory later and must find the file again (CONFIG REWRITE).
    pub sources: Sources,
    /// `--sentinel`, or a program name with `redis-sentinel` in it.
    pub sentinel: bool,
}

impl Arguments {
    /// Whether anything at all was given; if not, redis warns that it uses the default configuration.
    pub fn any(&self) -> bool {
        self.sources.options.is_some()
    }
}

/// Reads a command line, the program's name first. `directory` is what a relative configuration file is relative to.
pub fn parse(argv: &[OsString], directory: &Path) -> Invocation {
    let program = argv.first().map(|a| base_name(a)).unwrap_or_default();
    let args = argv.get(1..).unwrap_or_default();
    if contains(program, b"check-rdb") {
        return Invocation::CheckRdb(args.to_vec());
    }
    if contains(program, b"check-aof") {
        return Invocation::CheckAof(args.to_vec());
    }
    let sentinel = contains(program, b"redis-sentinel")
        || contains(program, b"kindred-sentinel")
        || args.iter().any(|a| a == "--sentinel");
    let Some(first) = args.first() else {
        return Invocation::Serve(Arguments { sources: Sources::default(), sentinel });
    };
    match first.as_bytes() {
        b"-v" | b"--version" => return Invocation::Version,
        b"-h" | b"--help" => return Invocation::Help,
        b"--test-memory" => return Invocation::TestMemory,
        b"--check-system" => return Invocation::CheckSystem,
        _ => {}
    }

    let mut sources = Sources::default();
    let mut rest = args;
    if !first.as_bytes().starts_with(b"-") {
        sources.file = Some(directory.join(PathBuf::from(first)));
        rest = &args[1..];
    }
    let options;
    (options, sources.standard_input) = option_lines(rest, sources.file.is_none());
    sources.options = Some(options);
    Invocation::Serve(Arguments { sources, sentinel })
}

/// The options as configuration lines, and whether `-` was among them.
///
/// An argument that starts with `--` is a name only when the one before it has a value already: so
/// `--proc-title-template --x` gives the template `--x`. Two names stand alone, because scripts were written so before
/// redis 7: `--save` without a value means `save ""`, and `--sentinel` has none.
fn option_lines(args: &[OsString], may_start_with_dash: bool) -> (Vec<u8>, bool) {
    let mut text = Vec::new();
    let mut standard_input = false;
    let mut has_value = true;
    for (index, arg) in args.iter().map(|a| a.as_bytes()).enumerate() {
        let is_last = index + 1 == args.len();
        if arg == b"-" && (is_last || (index == 0 && may_start_with_dash)) {
            standard_input = true;
            continue;
        }
        if !(has_value && arg.starts_with(b"--")) {
            text.extend(quote(arg));
            text.push(b' ');
            has_value = true;
            continue;
        }
        if !text.is_empty() {
            text.push(b'\n');
        }
        text.extend(&arg[2..]);
        text.push(b' ');
        // "--port 6380" in one argument carries its value.
        has_value = !resp::split_words(arg).is_ok_and(|words| words.len() == 1);
        if has_value {
            continue;
        }
        let next_is_name = args.get(index + 1).is_some_and(|next| next.as_bytes().starts_with(b"--"));
        if arg.eq_ignore_ascii_case(b"--save") && (next_is_name || is_last) {
            text.extend(b"\"\"");
            has_value = true;
        } else if arg.eq_ignore_ascii_case(b"--sentinel") && next_is_name {
            has_value = true;
        }
    }
    (text, standard_input)
}

/// What `--version` prints: the line of redis-server, which tools read for `v=`, so that it names the Redis version
/// this server stands in for, as INFO's `redis_version` does. `malloc` is the allocator's name.
pub fn version_line(malloc: &str) -> String {
    let (build, bits) = (build_id(malloc), usize::BITS);
    format!(
        "Kindred server v={REDIS_VERSION} sha={GIT_SHA}:0 malloc={malloc} bits={bits} build={build:x} kindred={KINDRED_VERSION}"
    )
}

/// A number that differs between builds of different versions, commits and allocators; INFO's `redis_build_id`.
pub fn build_id(malloc: &str) -> u64 {
    // FNV-1a: any stable mixing does, and it needs no table.
    [KINDRED_VERSION, REDIS_VERSION, GIT_SHA, malloc, std::env::consts::ARCH]
        .iter()
        .flat_map(|part| part.bytes().chain([0]))
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What `--help` prints.
pub fn usage() -> &'static str {
    "\
Usage: kindred-server [/path/to/redis.conf] [options] [-]
       kindred-server - (read config from stdin)
       kindred-server -v or --version
       kindred-server -h or --help
       kindred-server --check-system

Options are the directives of redis.conf with two dashes before the name.

Examples:
       kindred-server (run the server with default conf)
       echo 'maxmemory 128mb' | kindred-server -
       kindred-server /etc/redis/6379.conf
       kindred-server --port 7777
       kindred-server --port 7777 --replicaof 127.0.0.1 8888
       kindred-server /etc/myredis.conf --loglevel verbose -
       kindred-server /etc/myredis.conf --loglevel verbose
"
}

fn base_name(program: &OsStr) -> &[u8] {
    Path::new(program).file_name().unwrap_or(program).as_bytes()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invoke(argv: &[&str]) -> Invocation {
        let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
        parse(&argv, Path::new("/here"))
    }

    fn serve(args: &[&str]) -> Arguments {
        let argv = [&["kindred-server"], args].concat();
        match invoke(&argv) {
            Invocation::Serve(arguments) => arguments,
            other => panic!("{args:?} is taken for {other:?}"),
        }
    }

    #[track_caller]
    fn check_options(args: &[&str], expected: &str) {
        let options = serve(args).sources.options.unwrap();
        assert_eq!(String::from_utf8(options).unwrap(), expected, "{args:?}");
    }

    #[test]
    fn options_become_lines() {
        check_options(&["--port", "6380", "--save", ""], "port \"6380\" \nsave \"\" ");
        check_options(&["--replicaof", "127.0.0.1", "8888"], "replicaof \"127.0.0.1\" \"8888\" ");
        check_options(
            &["--maxmemory 700mb", "--maxmemory-policy volatile-lru"],
            "maxmemory 700mb \nmaxmemory-policy volatile-lru ",
        );
        check_options(&["a.conf", "loglevel", "verbose"], "\"loglevel\" \"verbose\" ");
    }

    #[test]
    fn a_value_may_start_with_dashes_when_the_option_has_none_yet() {
        check_options(
            &["--proc-title-template", "--my--title", "--loglevel", "verbose"],
            "proc-title-template \"--my--title\" \nloglevel \"verbose\" ",
        );
        check_options(
            &["--proc-title-template", "--save", "--save", "", "--loglevel", "verbose"],
            "proc-title-template \"--save\" \nsave \"\" \nloglevel \"verbose\" ",
        );
        check_options(
            &["--shutdown-on-sigint", "nosave", "force", "now", "--shutdown-on-sigterm", "nosave force"],
            "shutdown-on-sigint \"nosave\" \"force\" \"now\" \nshutdown-on-sigterm \"nosave force\" ",
        );
    }

    #[test]
    fn save_and_sentinel_may_stand_alone() {
        check_options(&["--save", "--loglevel", "verbose"], "save \"\"\nloglevel \"verbose\" ");
        check_options(&["--loglevel", "verbose", "--save"], "loglevel \"verbose\" \nsave \"\"");
        check_options(&["--sentinel", "--port", "1"], "sentinel \nport \"1\" ");
        assert!(serve(&["--sentinel"]).sentinel);
        let Invocation::Serve(by_name) = invoke(&["/usr/bin/redis-sentinel", "s.conf"]) else { panic!() };
        assert!(by_name.sentinel);
    }

    #[test]
    fn a_dash_means_standard_input_only_at_either_end() {
        assert!(serve(&["-"]).sources.standard_input);
        assert!(serve(&["-", "--port", "1"]).sources.standard_input);
        assert!(serve(&["a.conf", "--port", "1", "-"]).sources.standard_input);
        let middle = serve(&["a.conf", "-", "--port", "1"]);
        assert!(!middle.sources.standard_input);
        assert_eq!(middle.sources.options.unwrap(), b"\"-\" \nport \"1\" ");
    }

    #[test]
    fn the_file_is_made_absolute() {
        assert_eq!(serve(&["a.conf"]).sources.file.unwrap(), Path::new("/here/a.conf"));
        assert_eq!(serve(&["/etc/a.conf"]).sources.file.unwrap(), Path::new("/etc/a.conf"));
        assert!(serve(&["a.conf"]).any());
        assert!(!serve(&[]).any());
    }

    #[test]
    fn other_invocations_are_told_apart() {
        assert_eq!(invoke(&["x", "-v"]), Invocation::Version);
        assert_eq!(invoke(&["x", "--version"]), Invocation::Version);
        assert_eq!(invoke(&["x", "--help"]), Invocation::Help);
        assert_eq!(invoke(&["x", "--test-memory", "10"]), Invocation::TestMemory);
        assert_eq!(invoke(&["x", "--check-system"]), Invocation::CheckSystem);
        assert_eq!(invoke(&["/a/redis-check-rdb", "f"]), Invocation::CheckRdb(vec!["f".into()]));
        assert_eq!(invoke(&["kindred-check-aof"]), Invocation::CheckAof(vec![]));
    }

    #[test]
    fn the_version_line_keeps_redis_s_fields() {
        let line = version_line("system");
        let fields: Vec<_> = line.split(' ').filter_map(|w| w.split_once('=')).map(|(k, _)| k).collect();
        assert_eq!(fields, ["v", "sha", "malloc", "bits", "build", "kindred"]);
        assert!(line.starts_with("Kindred server v=7.2.4 "), "{line}");
    }
}
