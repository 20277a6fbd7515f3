//! `kindred up`: start a primary with replicas, watch them, stop them.
//!
//! Threads only fetch: one per node asks for INFO, one per output pipe reads lines; all send [`Seen`] to the loop in
//! [`run`], which alone owns the processes, the view and the terminal.

use std::fs::{File, TryLockError};
use std::io::{self, IsTerminal, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use server::config_file::quote;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::client::{Client, Credentials};
use crate::info::Info;
use crate::node::{self, Node, Program, Spec};
use crate::screen;
use crate::view::{Observation, View};

/// How often each node is asked for INFO.
const ASK_INTERVAL: Duration = Duration::from_millis(250);
/// How long a node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1000);
/// How often the terminal is drawn and keys and processes are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often a plain line is printed.
const PLAIN_INTERVAL: Duration = Duration::from_secs(1);

/// Start a primary and its replicas, and watch them
///
/// Starts a primary on port 6379 and two replicas on the ports after it, skipping ports that are taken, and shows how
/// the replicas keep up: a live view in a terminal, one line a second otherwise. Ctrl-C stops everything that was
/// started. Data is kept in --dir and is there again at the next start.
#[derive(Args, Debug)]
pub struct Options {
    /// How many replicas to start
    #[arg(long, value_name = "N", default_value_t = 2)]
    replicas: usize,

    /// First port to try; each server takes the next one that is free
    #[arg(long, default_value_t = 6379, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,

    /// Where the data is kept, one subdirectory per server; created if it does not exist
    #[arg(long, default_value = "kindred-data")]
    dir: PathBuf,

    /// Replicate this existing Redis, Valkey or Kindred server instead of starting a primary
    #[arg(long, value_name = "HOST:PORT")]
    primary: Option<String>,

    /// User to log in to --primary with
    #[arg(long, value_name = "USER", requires_all = ["primary", "primary_auth"])]
    primary_user: Option<String>,

    /// Password to log in to --primary with; better given in the environment than on the command line
    #[arg(long, value_name = "PASSWORD", env = "KINDRED_PRIMARY_AUTH", hide_env_values = true)]
    primary_auth: Option<String>,

    /// Print plain lines even if this is a terminal
    #[arg(long)]
    plain: bool,

    /// Server program to start instead of kindred-server
    #[arg(long, value_name = "PATH", hide = true)]
    server: Option<PathBuf>,

    /// More options for every server that is started, as for kindred-server: -- --maxmemory 100mb
    #[arg(last = true, value_name = "SERVER OPTIONS")]
    server_options: Vec<String>,
}

/// What a thread has to tell the loop.
struct Seen {
    at: Instant,
    node: usize,
    observation: Observation,
}

/// Runs until the user stops it; all that was started is stopped by then.
pub fn run(options: &Options) -> Result<ExitCode> {
    // Before the first process is started: a signal must never leave one behind.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot handle signals")?;
    let program = find_program(options.server.as_deref())?;
    std::fs::create_dir_all(&options.dir)
        .with_context(|| format!("cannot create {}", options.dir.display()))?;
    let directory = std::path::absolute(&options.dir)?;
    let _lock = lock(&directory)?;
    let plan = Plan::make(options, &directory, is_free)?;
    let (sender, seen) = mpsc::channel();
    let mut fleet = Fleet::new(program, plan, sender);
    // Whatever goes wrong from here on, dropping the fleet leaves no process behind.
    fleet.start_all()?;

    let is_terminal = !options.plain && io::stdout().is_terminal() && io::stdin().is_terminal();
    if is_terminal {
        let mut terminal = ratatui::try_init().context("cannot use the terminal")?;
        let watched = watch_terminal(&mut fleet, &seen, &mut signals, &mut terminal);
        ratatui::restore();
        watched?;
    } else {
        watch_plain(&mut fleet, &seen, &mut signals)?;
    }
    let is_clean = fleet.stop_all(&mut signals);
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Who is to be started where.
#[derive(Debug)]
struct Plan {
    /// Name, address and login of every node, the primary first.
    targets: Vec<Target>,
    /// What to start for each; none for a primary that runs already.
    specs: Vec<Option<Spec>>,
    notes: Vec<String>,
}

#[derive(Clone, Debug)]
struct Target {
    name: String,
    address: String,
    credentials: Credentials,
}

impl std::fmt::Debug for Credentials {
    /// Never shows the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Credentials {{ user: {:?}, password: {} }}",
            self.user,
            if self.password.is_some() { "…" } else { "none" }
        )
    }
}

impl Plan {
    fn make(options: &Options, directory: &Path, mut is_free: impl FnMut(u16) -> bool) -> Result<Plan> {
        let mut plan = Plan { targets: Vec::new(), specs: Vec::new(), notes: Vec::new() };
        let mut next = options.port;
        let mut next_free = |notes: &mut Vec<String>| -> Result<u16> {
            loop {
                let port = next;
                // Port 0 stands for "past the last one".
                next = next.checked_add(1).unwrap_or(0);
                if port == 0 {
                    bail!("no free port from {} on", options.port);
                }
                if is_free(port) {
                    return Ok(port);
                }
                notes.push(format!("port {port} is taken"));
            }
        };

        let (host, port, secrets) = match &options.primary {
            Some(primary) => {
                let (host, port) = host_and_port(primary)?;
                let credentials = Credentials {
                    user: options.primary_user.clone(),
                    password: options.primary_auth.clone(),
                };
                let secrets = login_lines(&credentials);
                plan.targets.push(Target {
                    name: "primary".to_owned(),
                    address: primary.clone(),
                    credentials,
                });
                plan.specs.push(None);
                (host.to_owned(), port, secrets)
            }
            None => {
                let port = next_free(&mut plan.notes)?;
                // The delay is there to serve several replicas by one fork, and would only make the start slow.
                let role = ["--repl-diskless-sync-delay", "0"].map(str::to_owned).to_vec();
                plan.add("primary", port, directory, role, Vec::new(), &options.server_options);
                ("127.0.0.1".to_owned(), port, Vec::new())
            }
        };
        for number in 1..=options.replicas {
            let own_port = next_free(&mut plan.notes)?;
            let replicaof = ["--replicaof".to_owned(), host.clone(), port.to_string()].to_vec();
            let name = format!("replica-{number}");
            plan.add(&name, own_port, directory, replicaof, secrets.clone(), &options.server_options);
        }
        Ok(plan)
    }

    fn add(
        &mut self,
        name: &str,
        port: u16,
        directory: &Path,
        role: Vec<String>,
        secrets: Vec<u8>,
        more: &[String],
    ) {
        let directory = directory.join(name);
        let mut args: Vec<String> =
            ["--port", &port.to_string(), "--bind", "127.0.0.1", "-::1"].map(str::to_owned).to_vec();
        args.extend(["--dir".to_owned(), directory.to_string_lossy().into_owned()]);
        args.extend(role);
        args.extend_from_slice(more);
        let address = format!("127.0.0.1:{port}");
        self.targets.push(Target { name: name.to_owned(), address, credentials: Credentials::default() });
        self.specs.push(Some(Spec { name: name.to_owned(), port, directory, args, secrets }));
    }
}

/// The processes, those who ask them, and the picture of it all.
struct Fleet {
    program: Program,
    plan: Plan,
    /// Beside `plan.specs`; none for what is not ours or has ended.
    nodes: Vec<Option<Node>>,
    view: View,
    sender: Sender<Seen>,
    is_stopping: Arc<AtomicBool>,
    started: Instant,
}

impl Fleet {
    fn new(program: Program, plan: Plan, sender: Sender<Seen>) -> Fleet {
        let names = plan.targets.iter().map(|t| (t.name.clone(), t.address.clone()));
        let is_primary_ours = plan.specs.first().is_some_and(Option::is_some);
        let view = View::new(names, is_primary_ours);
        let nodes = plan.specs.iter().map(|_| None).collect();
        Fleet { program, plan, nodes, view, sender, is_stopping: Arc::default(), started: Instant::now() }
    }

    fn now(&self) -> u64 {
        self.ms_at(Instant::now())
    }

    fn ms_at(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_millis() as u64
    }

    fn start_all(&mut self) -> Result<()> {
        let now = self.now();
        for note in std::mem::take(&mut self.plan.notes) {
            self.view.note(now, note);
        }
        for index in 0..self.nodes.len() {
            self.start(index)?;
            self.ask(index)?;
        }
        Ok(())
    }

    fn start(&mut self, index: usize) -> Result<()> {
        let Some(spec) = &self.plan.specs[index] else { return Ok(()) };
        let sender = self.sender.clone();
        let node = Node::start(&self.program, spec, move |line| {
            // The loop may be gone at the very end.
            let _ =
                sender.send(Seen { at: Instant::now(), node: index, observation: Observation::Log(line) });
        })?;
        let text = format!("{} started on port {}, pid {}", spec.name, spec.port, node.pid());
        let pid = node.pid();
        self.nodes[index] = Some(node);
        let now = self.now();
        self.view.observe(now, index, Observation::Started { pid });
        self.view.note(now, text);
        Ok(())
    }

    /// Starts the thread that asks a node for INFO.
    fn ask(&self, index: usize) -> Result<()> {
        let target = self.plan.targets[index].clone();
        let primary = (index != 0).then(|| self.plan.targets[0].clone());
        let (sender, is_stopping) = (self.sender.clone(), Arc::clone(&self.is_stopping));
        let thread = std::thread::Builder::new().name(format!("ask {}", target.name));
        thread.spawn(move || {
            let mut asker = Asker { target, primary, connection: None, primary_connection: None };
            while !is_stopping.load(Ordering::Relaxed) {
                let observation = asker.ask();
                if sender.send(Seen { at: Instant::now(), node: index, observation }).is_err() {
                    return;
                }
                std::thread::sleep(ASK_INTERVAL);
            }
        })?;
        Ok(())
    }

    fn take_in(&mut self, seen: Seen) {
        let at = self.ms_at(seen.at);
        self.view.observe(at, seen.node, seen.observation);
    }

    /// Notices processes that ended by themselves.
    fn reap(&mut self) {
        for index in 0..self.nodes.len() {
            if let Some(status) = self.nodes[index].as_mut().and_then(Node::ended) {
                self.nodes[index] = None;
                let now = self.now();
                self.view.observe(now, index, Observation::Exited(node::describe(status)));
            }
        }
    }

    fn restart_dead(&mut self) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].is_none()
                && let Err(error) = self.start(index)
            {
                let now = self.now();
                self.view.note(now, format!("{error:#}"));
            }
        }
    }

    /// Stops the primary first, which waits until its replicas have everything, then the replicas, and reports each.
    /// A further signal kills what is left. Whether all ended with status 0.
    fn stop_all(&mut self, signals: &mut Signals) -> bool {
        self.is_stopping.store(true, Ordering::Relaxed);
        let (first, rest) = (0..1, 1..self.nodes.len());
        let is_primary_clean = self.stop(first, signals);
        self.stop(rest, signals) && is_primary_clean
    }

    fn stop(&mut self, range: std::ops::Range<usize>, signals: &mut Signals) -> bool {
        let mut is_clean = true;
        for node in self.nodes[range.clone()].iter_mut().flatten() {
            node.terminate();
        }
        loop {
            let mut are_left = false;
            for index in range.clone() {
                let Some(node) = &mut self.nodes[index] else { continue };
                match node.ended() {
                    Some(status) => {
                        is_clean &= status.success();
                        report_stop(&self.plan.targets[index].name, status);
                        self.nodes[index] = None;
                    }
                    None => are_left = true,
                }
            }
            if !are_left {
                return is_clean;
            }
            if signals.pending().next().is_some() {
                print_line("asked again: killing what is left");
                self.nodes.iter_mut().flatten().for_each(Node::kill);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Fleet {
    /// Only after an error: an orderly stop leaves nothing here.
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        for node in self.nodes.iter_mut().flatten() {
            node.terminate();
        }
        for node in self.nodes.iter_mut().flatten() {
            while node.ended().is_none() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Asks one node, and right before it the primary for its offset, so that the two can be compared.
struct Asker {
    target: Target,
    primary: Option<Target>,
    connection: Option<Client>,
    primary_connection: Option<Client>,
}

impl Asker {
    fn ask(&mut self) -> Observation {
        let primary_offset = self.primary.as_ref().and_then(|primary| {
            let text = ask_info(&mut self.primary_connection, primary, &["INFO", "replication"]).ok()?;
            let info = Info::parse(&text);
            // A replica's own master_repl_offset is its primary's, too.
            info.number("master_repl_offset")
        });
        match ask_info(&mut self.connection, &self.target, &["INFO"]) {
            Ok(text) => Observation::Info { info: Info::parse(&text), primary_offset },
            Err(error) => Observation::Unreachable(server::listener::strerror(&error)),
        }
    }
}

/// Asks over the connection that is there, or a new one; after an error there is none.
fn ask_info(connection: &mut Option<Client>, target: &Target, command: &[&str]) -> io::Result<String> {
    let mut client = match connection.take() {
        Some(client) => client,
        None => Client::connect(&target.address, &target.credentials, ANSWER_TIMEOUT)?,
    };
    let text = client.call(command)?;
    *connection = Some(client);
    Ok(text)
}

fn watch_terminal(
    fleet: &mut Fleet,
    seen: &Receiver<Seen>,
    signals: &mut Signals,
    terminal: &mut DefaultTerminal,
) -> Result<()> {
    loop {
        seen.try_iter().for_each(|seen| fleet.take_in(seen));
        fleet.reap();
        terminal.draw(|frame| screen::draw(frame, &fleet.view, screen::KEYS))?;
        if signals.pending().next().is_some() {
            return Ok(());
        }
        if event::poll(TICK)?
            && let Event::Key(key) = event::read()?
        {
            match key_action(key) {
                Some(Action::Stop) => return Ok(()),
                Some(Action::Restart) => fleet.restart_dead(),
                None => {}
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Stop,
    Restart,
}

fn key_action(key: KeyEvent) -> Option<Action> {
    if key.kind != KeyEventKind::Press {
        return None;
    }
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Action::Stop),
        KeyCode::Char('q') => Some(Action::Stop),
        KeyCode::Char('r') => Some(Action::Restart),
        _ => None,
    }
}

fn watch_plain(fleet: &mut Fleet, seen: &Receiver<Seen>, signals: &mut Signals) -> Result<()> {
    let mut events_printed = 0;
    let mut next_line = Instant::now() + PLAIN_INTERVAL;
    loop {
        if let Ok(first) = seen.recv_timeout(TICK) {
            fleet.take_in(first);
        }
        seen.try_iter().for_each(|seen| fleet.take_in(seen));
        fleet.reap();

        let mut out = io::stdout().lock();
        let view = &fleet.view;
        let new = (view.events_total - events_printed).min(view.events.len());
        let mut text = String::new();
        for event in view.events.iter().skip(view.events.len() - new) {
            text.push_str(&format!("{} * {}\n", screen::clock(event.at), event.text));
        }
        events_printed = view.events_total;
        if Instant::now() >= next_line {
            next_line += PLAIN_INTERVAL;
            text.push_str(&screen::plain_line(fleet.now(), view));
            text.push('\n');
        }
        // Nobody reads any more: stop, as a program in a pipe does, but in order.
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        if signals.pending().next().is_some() {
            return Ok(());
        }
    }
}

fn report_stop(name: &str, status: ExitStatus) {
    print_line(&format!("{name} stopped, {}", node::describe(status)));
}

/// Like println!, but the reader may be gone already.
fn print_line(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// The server that was asked for, or this program itself.
fn find_program(asked: Option<&Path>) -> Result<Program> {
    if let Some(path) = asked {
        // Nodes are started in their own directories.
        return Ok(Program { path: std::path::absolute(path)?, leading: Vec::new() });
    }
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    Ok(Program { path: own, leading: vec![crate::SERVER_VERB.into()] })
}

/// Keeps a second `kindred up` from writing to the same data.
fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("kindred.lock");
    let file = File::create(&path).with_context(|| format!("cannot write to {}", directory.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("{} is in use by another kindred up", directory.display()),
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock the data directory"),
    }
}

/// Whether nobody listens on the port, on any address that we would listen on.
fn is_free(port: u16) -> bool {
    let is_taken = |host: &str| {
        TcpListener::bind((host, port)).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    };
    !is_taken("127.0.0.1") && !is_taken("::1")
}

fn host_and_port(address: &str) -> Result<(&str, u16)> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let Some((host, port)) = parts.filter(|(host, port)| !host.is_empty() && *port != 0) else {
        bail!("--primary takes HOST:PORT, not {address:?}");
    };
    Ok((host.trim_start_matches('[').trim_end_matches(']'), port))
}

/// Configuration lines by which replicas log in to the primary.
fn login_lines(credentials: &Credentials) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in [("masteruser", &credentials.user), ("masterauth", &credentials.password)] {
        if let Some(value) = value {
            lines.extend([name.as_bytes(), b" ", &quote(value.as_bytes()), b"\n"].concat());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn plan(args: &[&str], taken: &[u16]) -> Result<Plan> {
        let cli = Cli::try_parse_from([&["up"], args].concat())?;
        Plan::make(&cli.options, Path::new("/data"), |port| !taken.contains(&port))
    }

    fn args_of(plan: &Plan, index: usize) -> String {
        plan.specs[index].as_ref().unwrap().args.join(" ")
    }

    #[test]
    fn a_primary_and_two_replicas_are_planned() {
        let plan = plan(&[], &[]).unwrap();
        let addresses: Vec<_> = plan.targets.iter().map(|t| (t.name.as_str(), t.address.as_str())).collect();
        let expected =
            [("primary", "127.0.0.1:6379"), ("replica-1", "127.0.0.1:6380"), ("replica-2", "127.0.0.1:6381")];
        assert_eq!(addresses, expected);
        assert_eq!(
            args_of(&plan, 0),
            "--port 6379 --bind 127.0.0.1 -::1 --dir /data/primary --repl-diskless-sync-delay 0"
        );
        assert!(args_of(&plan, 2).ends_with("--dir /data/replica-2 --replicaof 127.0.0.1 6379"));
    }

    #[test]
    fn taken_ports_are_skipped_and_told() {
        let made = plan(&["--port", "7000", "--replicas", "1", "--", "--save", ""], &[7000, 7002]).unwrap();
        let ports: Vec<_> = made.specs.iter().flatten().map(|s| s.port).collect();
        assert_eq!(ports, [7001, 7003]);
        assert_eq!(made.notes, ["port 7000 is taken", "port 7002 is taken"]);
        assert!(args_of(&made, 1).ends_with("--replicaof 127.0.0.1 7001 --save "));
        assert!(plan(&["--port", "65535"], &[]).unwrap_err().to_string().contains("no free port from 65535"));
    }

    #[test]
    fn an_existing_primary_is_replicated_and_its_password_is_not_in_the_arguments() {
        let args =
            ["--primary", "[::1]:7000", "--primary-user", "u", "--primary-auth", "p\"w", "--replicas", "1"];
        let made = plan(&args, &[]).unwrap();
        assert!(made.specs[0].is_none());
        let replica = made.specs[1].as_ref().unwrap();
        assert_eq!(replica.port, 6379);
        assert!(args_of(&made, 1).ends_with("--replicaof ::1 7000"));
        assert_eq!(replica.secrets, b"masteruser \"u\"\nmasterauth \"p\\\"w\"\n");
        assert!(!format!("{:?}", made.targets[0]).contains("p\\\"w"));
        for bad in ["host", ":1", "host:0", "host:x", "host:99999"] {
            assert!(plan(&["--primary", bad], &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_with_a_listener_is_not_free() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(port));
        drop(listener);
        assert!(is_free(port));
    }

    #[test]
    fn one_directory_serves_one_fleet() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        assert!(lock(dir.path()).unwrap_err().to_string().contains("in use"));
        drop(first);
        assert!(lock(dir.path()).is_ok());
    }

    #[test]
    fn keys_are_few() {
        let press = |code, modifiers| key_action(KeyEvent::new(code, modifiers));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Action::Stop));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(press(KeyCode::Char('q'), KeyModifiers::NONE), Some(Action::Stop));
        assert_eq!(press(KeyCode::Char('r'), KeyModifiers::NONE), Some(Action::Restart));
    }
}
