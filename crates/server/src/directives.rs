//! Directives of the configuration, by name. Stands in for the engine's table until that lands.

use engine::Config;
use engine::config::SavePoint;

use crate::config_file::{BAD_DIRECTIVE, Directive};

pub fn apply(config: &mut Config, directive: &Directive) -> Result<(), String> {
    let words: Vec<String> =
        directive.args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let yes = |word: &str| word == "yes";
    match (directive.name.as_str(), &words[..]) {
        ("port", [port]) => {
            config.port = port.parse().map_err(|_| "argument couldn't be parsed into an integer")?
        }
        ("bind", hosts) => config.bind = hosts.iter().map(|host| (*host).to_owned()).collect(),
        ("dir", [dir]) => config.dir = (*dir).to_owned(),
        ("dbfilename", [name]) => config.dbfilename = (*name).to_owned(),
        ("unixsocket", [path]) => config.unixsocket = (*path).to_owned(),
        ("logfile", [path]) => config.logfile = (*path).to_owned(),
        ("pidfile", [path]) => config.pidfile = (*path).to_owned(),
        ("daemonize", [word]) => config.daemonize = yes(word),
        ("maxclients", [n]) => config.maxclients = n.parse().map_err(|_| BAD_DIRECTIVE)?,
        ("protected-mode", [word]) => config.protected_mode = yes(word),
        ("requirepass", [word]) => config.requirepass = (*word).to_owned(),
        ("masterauth", [word]) => config.masterauth = (*word).to_owned(),
        ("rdb-key-save-delay", [n]) => config.rdb_key_save_delay_us = n.parse().map_err(|_| BAD_DIRECTIVE)?,
        ("repl-diskless-sync", [word]) => config.repl_diskless_sync = yes(word),
        ("replicaof", [host, port]) => {
            config.replicaof = Some(((*host).to_owned(), port.parse().map_err(|_| BAD_DIRECTIVE)?));
        }
        ("save", [""]) => config.save.clear(),
        ("save", points) => {
            config.save = points
                .chunks(2)
                .map(|point| SavePoint {
                    seconds: point[0].parse().unwrap_or(0),
                    changes: point[1].parse().unwrap_or(0),
                })
                .collect();
        }
        ("loglevel" | "enable-debug-command" | "appendonly" | "repl-diskless-sync-delay", _) => {}
        _ => return Err(BAD_DIRECTIVE.to_owned()),
    }
    Ok(())
}
