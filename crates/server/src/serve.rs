//! From a command line to a server that serves, in redis's order and words, and back to an exit code.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use engine::params;
use engine::{Config, Node};

use crate::accept::{self, Listener, Listeners};
use crate::cli::{self, Arguments, Invocation};
use crate::config_file::{self, ConfigError};
use crate::env::ProcessEnv;
use crate::event_loop::{EventLoop, Parts, Title};
use crate::listener::strerror;
use crate::logger::{LOG, Level};
use crate::reclaim::Reclaimer;
use crate::tls::Tls;
use crate::{affinity, allocator, crash, daemon, listener, log_notice, log_warning, process_title, report};

/// Runs the program that the command line asks for; its exit code. The program's name comes first.
pub fn main_with_args(args: Vec<OsString>) -> i32 {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    match cli::parse(&args, &here) {
        Invocation::Serve(arguments) if arguments.sentinel => {
            eprintln!("This version of Kindred does not act as a Sentinel; real ones may watch it.");
            1
        }
        Invocation::Serve(arguments) => {
            let program = args.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            serve(&arguments, &program)
        }
        Invocation::Version => {
            println!("{}", cli::version_line(allocator::NAME));
            0
        }
        Invocation::Help => {
            eprint!("{}", cli::usage());
            1
        }
        Invocation::TestMemory => {
            eprintln!("{}", cli::TEST_MEMORY_REFUSAL);
            1
        }
        Invocation::CheckSystem => {
            println!("[overcommit] Kindred never forks: vm.overcommit_memory does not matter to it.");
            0
        }
        Invocation::CheckRdb(_) | Invocation::CheckAof(_) => {
            eprintln!(
                "This version of Kindred does not check files; redis-check-rdb and redis-check-aof can."
            );
            1
        }
    }
}

fn serve(arguments: &Arguments, program: &str) -> i32 {
    // Before any file is made or any thread started.
    crash::install(Box::new(crash::remembered));
    let mut config = Config::default();
    let loaded = config_file::load(&arguments.sources, &config_file::Disk, |directive| {
        let args: Vec<&[u8]> = directive.args.iter().map(Vec::as_slice).collect();
        params::apply_directive(&mut config, directive.name.as_bytes(), &args)
    });
    if let Err(error) = loaded {
        match error {
            ConfigError::Unreadable { .. } => log_warning!("{error}"),
            _ => eprint!("{error}"),
        }
        return 1;
    }
    match start(arguments, config, program) {
        Ok((mut event_loop, pid_file)) => {
            let code = event_loop.run();
            if code == 0 {
                if pid_file.is_some() {
                    log_notice!("Removing the pid file.");
                }
                drop(pid_file);
                event_loop.wind_up();
                log_warning!("Redis is now ready to exit, bye bye...");
            }
            code
        }
        Err(lines) => {
            for line in lines {
                log_warning!("{line}");
            }
            1
        }
    }
}

/// Everything up to the first turn of the loop. The error is what is to be logged before the exit.
fn start(
    arguments: &Arguments,
    mut config: Config,
    program: &str,
) -> Result<(EventLoop, Option<daemon::PidFile>), Vec<String>> {
    LOG.set_level(Level::ALL[config.loglevel.min(Level::ALL.len() - 1)]);
    LOG.set_file(&config.logfile).map_err(|reason| vec![reason])?;
    if config.syslog_enabled {
        // Without a daemon lines go where they went, as with Redis.
        let _ = LOG.set_syslog(&config.syslog_ident, config.syslog_facility as u8);
    }
    if config.daemonize {
        daemon::daemonize().map_err(|reason| vec![reason])?;
    }
    log_warning!("oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo");
    log_warning!(
        "Redis version={}, bits={}, commit={}, modified=0, pid={}, just started",
        cli::REDIS_VERSION,
        usize::BITS,
        cli::GIT_SHA,
        std::process::id()
    );
    if arguments.any() {
        log_warning!("Configuration loaded");
    } else {
        log_warning!(
            "Warning: no config file specified, using the default config. In order to specify a config file use {program} /path/to/redis.conf"
        );
    }
    // A relative directory is entered once; from there on it is known by its full name.
    std::env::set_current_dir(&config.dir)
        .map_err(|error| vec![format!("Can't chdir to '{}': {}", config.dir, strerror(&error))])?;
    if let Ok(full) = std::env::current_dir() {
        config.dir = full.to_string_lossy().into_owned();
    }

    let limit = daemon::raise_descriptor_limit(config.maxclients.max(1) as u64).map_err(|line| vec![line])?;
    for (level, line) in &limit.lines {
        LOG.write(*level, format_args!("{line}"));
    }
    config.maxclients = limit.maxclients as i64;
    let signals = daemon::Signals::install().map_err(failed("signals"))?;
    let tls = Tls::default();
    tls.configure(&config)
        .map_err(|line| vec![line, "Failed to configure TLS. Check logs for more info.".to_owned()])?;
    let listeners = accept::listen(&config).map_err(|error| error.lines)?;
    let pid_file = pid_file(&config);
    if let Some(warning) = listener::backlog_warning(config.tcp_backlog as i32) {
        log_warning!("{warning}");
    }
    banner(&config);
    log_warning!("Server initialized");
    let event_loop = build(config, arguments, program, signals, listeners, tls)?;
    Ok((event_loop, pid_file))
}

/// The logo, or one line in its place where nobody looks. Scripts that start a server wait for its `PID: `.
fn banner(config: &Config) {
    let (port, pid) = (config.main_port(), std::process::id());
    let watched = !config.syslog_enabled && config.logfile.is_empty() && std::io::stdout().is_terminal();
    if !config.always_show_logo && !watched {
        log_notice!("Running mode=standalone, port={port}.");
        return;
    }
    LOG.raw(&format!(
        "\n        o---->o      Kindred {} (speaks Redis {}) {} bit\n       /            \n      O---->o          \x20     Running in standalone mode\n       \\            Port: {port}\n        o---->o          \x20    PID: {pid}\n\n",
        cli::KINDRED_VERSION,
        cli::REDIS_VERSION,
        usize::BITS,
    ));
}

fn build(
    config: Config,
    arguments: &Arguments,
    program: &str,
    signals: daemon::Signals,
    listeners: Vec<Listener>,
    tls: Tls,
) -> Result<EventLoop, Vec<String>> {
    let (bio_cpulist, server_cpulist) = (config.bio_cpulist.clone(), config.server_cpulist.clone());
    let place = config.set_proc_title.then(|| {
        process_title::remember_environment();
        process_title::ProcessTitle::find()
    });
    // Where the title cannot be written it stays, as with Redis.
    let title = Title { program: program.to_owned(), place: place.and_then(Result::ok) };
    let dump = Path::new(&config.dir).join(&config.dbfilename);
    let listeners = Listeners::new(listeners);
    let env = ProcessEnv::new(listeners.clone(), tls.clone()).map_err(failed("random numbers"))?;
    let mut node = Node::new(config, Box::new(env));
    node.core.config_file = arguments.sources.file.clone();
    let (reporter, inbox) = report::reports().map_err(failed("the event loop"))?;
    let mut event_loop = affinity::bound_to(&bio_cpulist, || {
        node.store.reclaim = Box::new(Reclaimer::start().map_err(failed("the freeing thread"))?);
        EventLoop::new(Parts { node, listeners, tls, signals, reporter, inbox, title })
            .map_err(failed("the event loop"))
    })?;
    affinity::bind_thread(&server_cpulist);
    event_loop.node.core.adjust_oom_score();
    event_loop
        .load_at_start(&dump)
        .map_err(|error| vec![format!("Fatal error loading the DB: {}. Exiting.", strerror(&error))])?;
    Ok(event_loop)
}

fn pid_file(config: &Config) -> Option<daemon::PidFile> {
    let path = match config.pidfile.as_str() {
        "" if config.daemonize => daemon::DEFAULT_PID_FILE,
        "" => return None,
        path => path,
    };
    match daemon::PidFile::create(Path::new(path)) {
        Ok(file) => Some(file),
        Err(error) => {
            log_warning!("Failed to write PID file: {}", strerror(&error));
            None
        }
    }
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> Vec<String> {
    move |error| vec![format!("Can't set up {what}: {}", strerror(&error))]
}
