//! STYLE and DESIGN as a test: what a reviewer would otherwise have to look for by eye, in every tracked file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{process, workspace};

/// Layers, top to bottom: a crate uses only crates above it (DESIGN §3).
const LAYERS: &[&str] = &[
    "kindred-structures",
    "kindred-resp",
    "kindred-command",
    "kindred-keyspace",
    "kindred-rdb",
    "kindred-log",
    "kindred-replication",
    "kindred-script",
    "kindred-engine",
    "kindred-server",
    "kindred",
    "kindred-sim",
    "kindred-fuzz",
    "xtask",
];

/// Crates that take values in and give values out: the simulator brings their clock, network and disk.
const WITHOUT_IO: &[&str] = &[
    "crates/structures/",
    "crates/resp/",
    "crates/command/",
    "crates/keyspace/",
    "crates/rdb/",
    "crates/log/",
    "crates/replication/",
];

/// Where unsafe code may be allowed.
const UNSAFE_HOMES: &[&str] =
    &["crates/structures/src/", "crates/structures/examples/", "crates/server/src/allocator"];

const LINES_MAX: usize = 1500;

/// `cargo xtask tidy`: prints what is wrong and gives how many things are.
pub fn run() -> Result<usize> {
    let root = workspace::root();
    let mut wrong = Vec::new();
    for file in tracked_files(&root)? {
        // Test data may be binary; only text is judged.
        let Ok(text) = fs::read_to_string(root.join(&file)) else { continue };
        wrong.extend(check_any_file(&file, &text));
        if file.ends_with(".rs") {
            wrong.extend(check_rust(&file, &text));
        }
        if file.ends_with("Cargo.toml")
            && file.starts_with("crates/")
            && !text.contains("[lints]\nworkspace = true")
        {
            wrong.push(format!("{file}: the workspace's lints are not switched on"));
        }
    }
    let metadata = metadata(&root)?;
    wrong.extend(check_layers(&metadata));
    let deny = fs::read_to_string(root.join("deny.toml")).context("deny.toml")?;
    wrong.extend(check_licences(&metadata, &allowed_licences(&deny)));
    let known_failing = fs::read_to_string(root.join("tests/upstream/known-failing.txt")).unwrap_or_default();
    let compat = fs::read_to_string(root.join("docs/COMPAT.md")).unwrap_or_default();
    wrong.extend(check_compat(&known_failing, &compat));
    for complaint in &wrong {
        println!("{complaint}");
    }
    println!("tidy: {} complaints", wrong.len());
    Ok(wrong.len())
}

/// Paths from the root; new files that nothing ignores count too.
fn tracked_files(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    let listed = process::output(
        git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root),
    )?;
    Ok(listed.lines().filter(|file| root.join(file).is_file()).map(str::to_owned).collect())
}

/// What may stand in no file. The needles are put together here, so that this file does not hold them.
fn check_any_file(file: &str, text: &str) -> Vec<String> {
    // Cargo writes its registry's name into the lock file itself.
    if file == "Cargo.lock" {
        return Vec::new();
    }
    let hosts = ["deb.debian", "security.debian", "pypi", "files.pythonhosted", "registry.npmjs"]
        .map(|host| format!("{host}.org"));
    let crates = ["index", "static"].map(|host| format!("{host}.crates.{}", "io"));
    let homes = ["work", "root", "home"].map(|dir| format!("/{dir}/"));
    let mut wrong = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let found = hosts.iter().chain(&crates).find(|host| line.contains(*host));
        if let Some(host) = found {
            wrong.push(format!("{file}:{}: names a registry's host: {host}", number + 1));
        }
        if let Some(home) = homes.iter().find(|home| names_path(line, home)) {
            wrong.push(format!("{file}:{}: a path of one machine: {home}", number + 1));
        }
    }
    wrong
}

/// Whether `dir` stands at the beginning of a path, not inside of one.
fn names_path(line: &str, dir: &str) -> bool {
    line.match_indices(dir).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| {
            c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '~' | '}' | ')' | '*' | '/')
        })
    })
}

fn check_rust(file: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        wrong.push(format!("{file}: {lines} lines: split what holds two nouns (at most {LINES_MAX})"));
    }
    let macros = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("db", "g!(")];
    let allows_unsafe = [concat!("allow(uns", "afe_code)"), concat!("expect(uns", "afe_code)")];
    for (number, line) in text.lines().enumerate() {
        if let Some(found) = macros.iter().find(|found| line.contains(*found)) {
            wrong.push(format!("{file}:{}: {found}…)", number + 1));
        }
        let allowed = UNSAFE_HOMES.iter().any(|home| file.starts_with(home));
        if !allowed && allows_unsafe.iter().any(|allow| line.contains(allow)) {
            wrong.push(format!(
                "{file}:{}: unsafe code lives in structures and the allocator only",
                number + 1
            ));
        }
    }
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    if file.contains("/src/") && !first.is_some_and(|line| line.starts_with("//!")) {
        wrong.push(format!("{file}: a module opens with its story (//!)"));
    }
    // Tests stand last and may use what the core may not.
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    if WITHOUT_IO.iter().any(|home| file.starts_with(home) && file.contains("/src/")) {
        let io = ["std::net", "std::fs", "std::thread", "std::env", "Instant::now", "SystemTime::now"];
        for (number, line) in
            code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            if let Some(found) = io.iter().find(|found| line.contains(*found)) {
                wrong.push(format!("{file}:{}: {found} in a crate without I/O", number + 1));
            }
        }
    }
    wrong
}

fn metadata(root: &Path) -> Result<Value> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--format-version", "1", "--quiet"]).current_dir(root);
    Ok(serde_json::from_str(&process::output(&mut cargo)?)?)
}

fn packages(metadata: &Value) -> &[Value] {
    metadata["packages"].as_array().map_or(&[], Vec::as_slice)
}

/// Ours are those without a registry as their source.
fn is_ours(package: &Value) -> bool {
    package["source"].is_null()
}

fn check_layers(metadata: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let layer_of = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    for package in packages(metadata).iter().filter(|package| is_ours(package)) {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(layer) = layer_of(name) else {
            wrong.push(format!("{name}: is not in the list of layers"));
            continue;
        };
        // What only tests use is no layering: a codec may be tested against the engine.
        let dependencies =
            package["dependencies"].as_array().into_iter().flatten().filter(|used| used["kind"] != "dev");
        for used in
            dependencies.filter(|used| used["source"].is_null()).filter_map(|used| used["name"].as_str())
        {
            if layer_of(used).is_none_or(|used| used >= layer) {
                wrong.push(format!("{name}: uses {used}, which is not above it"));
            }
        }
    }
    wrong
}

fn check_licences(metadata: &Value, allowed: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in packages(metadata).iter().filter(|package| !is_ours(package)) {
        let (name, version) =
            (package["name"].as_str().unwrap_or_default(), package["version"].as_str().unwrap_or_default());
        match package["license"].as_str() {
            Some(expression) if is_allowed(expression, allowed) => {}
            Some(expression) => {
                wrong.push(format!("{name} {version}: licence {expression} is not allowed by deny.toml"))
            }
            None => wrong.push(format!("{name} {version}: states no licence")),
        }
    }
    wrong
}

/// The strings of `allow = […]` below `[licenses]`.
fn allowed_licences(deny: &str) -> BTreeSet<String> {
    let list = deny
        .split_once("[licenses]")
        .and_then(|(_, rest)| rest.split_once("allow = ["))
        .and_then(|(_, rest)| rest.split_once(']'));
    list.map(|(list, _)| list.split('"').skip(1).step_by(2).map(str::to_owned).collect()).unwrap_or_default()
}

/// An SPDX expression: OR binds weaker than AND, `A/B` is old for `A OR B`, `A WITH B` is one licence.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced =
        expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ").replace(" WITH ", "+WITH+");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let holds = any_of(&tokens, &mut at, allowed);
    holds && at == tokens.len()
}

fn any_of(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut holds = all_of(tokens, at, allowed);
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        // Both sides must be read, whatever the first one says.
        let other = all_of(tokens, at, allowed);
        holds |= other;
    }
    holds
}

fn all_of(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut holds = one(tokens, at, allowed);
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        let other = one(tokens, at, allowed);
        holds &= other;
    }
    holds
}

fn one(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let Some(token) = tokens.get(*at) else { return false };
    *at += 1;
    if *token != "(" {
        return allowed.contains(&token.replace("+WITH+", " WITH "));
    }
    let holds = any_of(tokens, at, allowed);
    *at += 1;
    holds
}

/// A reason in known-failing.txt reads `CATEGORY` or `CATEGORY: detail`; COMPAT.md must tell of each category.
fn check_compat(known_failing: &str, compat: &str) -> Vec<String> {
    let mut tests: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in known_failing.lines().filter_map(|line| line.splitn(3, '\t').nth(2)) {
        *tests.entry(reason.split_once(':').map_or(reason, |(category, _)| category).trim()).or_default() +=
            1;
    }
    let compat = compat.to_lowercase();
    let unknown = tests.into_iter().filter(|(category, _)| !compat.contains(&category.to_lowercase()));
    unknown.map(|(category, tests)| format!("docs/COMPAT.md says nothing of \"{category}\", for which {tests} of upstream's tests may fail")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_path_is_found_where_it_begins() {
        let home = format!("/{}/", "root");
        assert!(names_path(&format!("see {home}x"), &home));
        assert!(names_path(&format!("\"{home}x\""), &home));
        assert!(!names_path(&format!("crates{home}x"), &home));
        assert_eq!(
            check_any_file("a.md", &format!("x\ncd {home}x\n")),
            [format!("a.md:2: a path of one machine: {home}")]
        );
        assert_eq!(check_any_file("a.md", &format!("from pypi.{}\n", "org")).len(), 1);
    }

    #[test]
    fn rust_files_are_judged_by_their_place() {
        let story = "//! Story.\n";
        assert_eq!(check_rust("crates/log/src/lib.rs", story), [] as [String; 0]);
        assert_eq!(check_rust("crates/log/src/lib.rs", "fn main() {}\n").len(), 1);
        assert_eq!(check_rust("crates/log/tests/a.rs", "fn main() {}\n"), [] as [String; 0]);
        let clock = format!("{story}fn f() {{ std::time::Instant::now(); }}\n");
        assert_eq!(check_rust("crates/log/src/lib.rs", &clock).len(), 1);
        assert_eq!(check_rust("crates/server/src/lib.rs", &clock), [] as [String; 0]);
        let tested = format!("{story}#[cfg(test)]\nmod tests {{ use std::fs; }}\n");
        assert_eq!(check_rust("crates/log/src/lib.rs", &tested), [] as [String; 0]);
        let unsafe_code = format!("#![{}]\n{story}", concat!("allow(uns", "afe_code)"));
        assert_eq!(check_rust("crates/structures/src/a.rs", &unsafe_code), [] as [String; 0]);
        assert_eq!(check_rust("crates/resp/src/a.rs", &unsafe_code).len(), 1);
        assert_eq!(check_rust("xtask/src/a.rs", &format!("{story}{}\n", concat!("to", "do!()"))).len(), 1);
        assert_eq!(check_rust("xtask/src/a.rs", &format!("{story}{}", "\n".repeat(LINES_MAX))).len(), 1);
    }

    #[test]
    fn layers() {
        let ours = |name: &str, uses: &str, kind: Value| serde_json::json!({"name": name, "source": null, "dependencies": [{"name": uses, "source": null, "kind": kind}]});
        let check = |package: Value| check_layers(&serde_json::json!({"packages": [package]}));
        assert_eq!(check(ours("kindred-rdb", "kindred-keyspace", Value::Null)), [] as [String; 0]);
        assert_eq!(check(ours("kindred-keyspace", "kindred-rdb", Value::Null)).len(), 1);
        assert_eq!(check(ours("kindred-keyspace", "kindred-rdb", "dev".into())), [] as [String; 0]);
        assert_eq!(check(ours("kindred-novel", "kindred-rdb", Value::Null)).len(), 1);
    }

    #[test]
    fn licence_expressions() {
        let allowed = allowed_licences(
            "# x\n[licenses]\nallow = [\n  \"MIT\",\n  \"Unicode-3.0\",\n  \"Apache-2.0 WITH LLVM-exception\",\n]\n",
        );
        assert_eq!(allowed.len(), 3);
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0/MIT",
            "(GPL-3.0 OR MIT) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(is_allowed(good, &allowed), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR GPL-3.0) AND GPL-3.0", "", "MIT MIT", "Apache-2.0"]
        {
            assert!(!is_allowed(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn reasons_must_stand_in_compat() {
        let known = "unit/a\tone\tScripts: EVAL\nunit/a\ttwo\tStreams\n";
        assert_eq!(check_compat(known, "No scripts yet. No streams."), [] as [String; 0]);
        assert_eq!(check_compat(known, "No scripts yet.").len(), 1);
    }
}
