//! What the process is called in the lists of `ps` and `top`: `proc-title-template`.
//!
//! Text with variables in braces; `{{` is a brace. The server writes the result where the kernel looks for it.

use std::path::Path;

use crate::config::Config;

/// What a new server's title is made of.
pub const DEFAULT_TEMPLATE: &str = "{title} {listen-addr} {server-mode}";

/// The title, or none if the template is broken. `program` is the name that the server was started by.
pub fn expand(config: &Config, template: &str, program: &str, config_file: Option<&Path>) -> Option<String> {
    let mut title = String::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once('{') {
        title.push_str(text);
        if let Some(after) = after.strip_prefix('{') {
            title.push('{');
            rest = after;
            continue;
        }
        let (name, after) = after.split_once('}')?;
        title.push_str(&variable(config, name, program, config_file)?);
        rest = after;
    }
    title.push_str(rest);
    Some(title.trim_matches(' ').to_owned())
}

/// The template names no unknown variable, and is not empty where the program has no name.
pub fn is_valid(config: &Config, template: &str) -> bool {
    expand(config, template, "", None).is_some_and(|title| !title.is_empty())
}

fn variable(config: &Config, name: &str, program: &str, config_file: Option<&Path>) -> Option<String> {
    Some(match name {
        "title" => program.to_owned(),
        "listen-addr" if config.main_port() != 0 => {
            format!("{}:{}", config.bind.first().map_or("*", String::as_str), config.main_port())
        }
        "listen-addr" => format!("unixsocket:{}", config.unixsocket),
        // Neither a cluster's node nor a Sentinel.
        "server-mode" => String::new(),
        "config-file" => config_file.map_or_else(|| "-".to_owned(), |path| path.display().to_string()),
        "port" => config.port.to_string(),
        "tls-port" => config.tls.port.to_string(),
        "unixsocket" => config.unixsocket.clone(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Harness;
    use crate::tls::TlsConfig;

    #[test]
    fn variables_are_replaced() {
        let config = Config { unixsocket: "/run/k".into(), ..Config::default() };
        let title = |template: &str| expand(&config, template, "prog", Some(Path::new("/etc/k.conf")));
        for (template, expected) in [
            (DEFAULT_TEMPLATE, Some("prog *:6379")),
            (" {config-file} {{title} {port}}", Some("/etc/k.conf {title} 6379}")),
            ("T {tls-port} {unixsocket} ", Some("T 0 /run/k")),
            ("", Some("")),
            ("{title", None),
            ("x {", None),
            ("{Title}", None),
            ("{}", None),
        ] {
            assert_eq!(title(template).as_deref(), expected, "{template}");
        }
        let tls = TlsConfig { port: 7, ..TlsConfig::default() };
        let encrypted = Config { port: 0, tls, ..config.clone() };
        assert_eq!(expand(&encrypted, "{listen-addr} {tls-port}", "", None).unwrap(), "*:7 7");
        let config = Config { port: 0, bind: vec![], ..config };
        assert_eq!(expand(&config, "{listen-addr} {config-file}", "", None).unwrap(), "unixsocket:/run/k -");
    }

    #[test]
    fn a_broken_template_is_refused() {
        let mut h = Harness::new();
        // A title alone could be empty.
        for template in ["{invalid-var}", "{title", "{title}", "\"\"", "\"  \""] {
            assert_eq!(
                h.run(&format!("CONFIG SET proc-title-template {template}")),
                r"-ERR CONFIG SET failed (possibly related to argument \'proc-title-template\') - template format is invalid or contains unknown variables\r\n"
            );
        }
        assert_eq!(h.run("CONFIG SET proc-title-template \"a {port}\""), r"+OK\r\n");
        assert_eq!(
            h.run("CONFIG GET proc-title-template"),
            r"*2\r\n$19\r\nproc-title-template\r\n$8\r\na {port}\r\n"
        );
        assert!(h.run("CONFIG SET set-proc-title no").contains("can\\'t set immutable config"));
    }
}
