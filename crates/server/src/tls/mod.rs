//! TLS, with its cost off the writer: a thread of its own ([`relay`]) ends the encryption of all connections.
//!
//! ```text
//! client or replica ── TCP, encrypted ── relay thread ── socket pair, plain ── event loop
//! primary           ── TCP, encrypted ──      "       ──         "          ──     "
//! ```
//! The event loop accepts, asks the engine, and gives the TCP socket away; it goes on with its end of a socket pair as
//! with any connection. The handshake with a primary is waited for on the thread that connects, so that its failure is
//! the failure to connect; what follows is the relay's.
//!
//! [`Tls`] is held by the event loop, by the engine's environment, which must say at once whether new settings can be
//! used, and by the connecting threads. What is set anew holds from the next connection on.

pub mod chain_verifier;
pub mod connection;
pub mod contexts;
pub mod identity;
pub mod relay;
pub mod session_cache;

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use engine::Config;
use rustls::{ClientConnection, Connection as Session, ServerConnection};

use crate::listener::strerror;
use crate::{affinity, daemon, log_warning};
use contexts::Contexts;
use relay::Relay;

/// A connection takes the descriptors of the TCP socket and of both ends of the pair.
const DESCRIPTORS: u64 = 3;

/// The encryption of this server; clones are the same.
#[derive(Clone, Default)]
pub struct Tls {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    contexts: Contexts,
    /// From the first configuration on that wants it.
    relay: Option<Relay>,
}

/// The event loop's end of an encrypted connection.
#[derive(Debug)]
pub struct PlainEnd {
    pub fd: OwnedFd,
    /// By which the relay knows it.
    pub number: u64,
}

impl Tls {
    /// Reads the files and uses them from the next connection on. After an error, a line for the log, all is as before.
    pub fn configure(&self, config: &Config) -> Result<(), String> {
        let contexts =
            if config.tls.is_wanted() { Contexts::read(&config.tls)? } else { Contexts::default() };
        let mut state = self.state();
        if state.relay.is_none() && config.tls.is_wanted() {
            let relay = affinity::bound_to(&config.server_cpulist, Relay::start);
            state.relay = Some(relay.map_err(|error| format!("Can't start TLS: {}", strerror(&error)))?);
        }
        let was_on = std::mem::replace(&mut state.contexts, contexts).server.is_some();
        drop(state);
        if !was_on {
            self.allow_clients(config.maxclients.max(1) as u64);
        }
        Ok(())
    }

    /// Makes room for the descriptors of so many clients, as far as the system allows: not all of them will use TLS.
    pub fn allow_clients(&self, clients: u64) {
        if self.state().contexts.server.is_none() {
            return;
        }
        let wanted = clients.saturating_mul(DESCRIPTORS);
        let allowed = daemon::raise_descriptor_limit(wanted).map_or(0, |limit| limit.maxclients);
        if allowed < wanted {
            log_warning!(
                "A TLS connection takes {DESCRIPTORS} file descriptors: the limit of open files is enough for {} of {clients} clients. Increase 'ulimit -n'.",
                allowed / DESCRIPTORS
            );
        }
    }

    /// The plain end of a connection that was accepted; the handshake has not begun. `names` of its ends are for the log.
    pub fn accept(&self, socket: TcpStream, names: &str) -> io::Result<PlainEnd> {
        let mut state = self.state();
        let context = state.contexts.server.clone().ok_or(io::ErrorKind::NotConnected)?;
        let session = ServerConnection::new(context).map_err(io::Error::other)?;
        state.relay()?.take(socket, Session::Server(session), names.to_owned())
    }

    /// Does the handshake with a primary, which blocks up to `limit`, and gives the plain end.
    pub fn connect(&self, socket: TcpStream, limit: Duration) -> io::Result<PlainEnd> {
        let context = self.state().contexts.client.clone().ok_or(io::ErrorKind::NotConnected)?;
        let peer = socket.peer_addr()?;
        // It is not compared with the names in the certificate, as with Redis, and addresses are not sent.
        let name = rustls::pki_types::ServerName::IpAddress(peer.ip().into());
        let mut session = ClientConnection::new(context, name).map_err(io::Error::other)?;
        shake_hands(&mut session, &socket, limit)?;
        socket.set_nonblocking(true)?;
        self.state().relay()?.take(socket, Session::Client(session), format!("addr={peer}"))
    }

    /// See `Action::GatherPackets`.
    pub fn gather_packets(&self, number: u64) {
        if let Ok(relay) = self.state().relay() {
            relay.gather_packets(number);
        }
    }

    /// Waits, not for long, until what was written to the plain ends, which must be closed, has been sent.
    pub fn end(&self) {
        let relay = self.state().relay.take();
        if let Some(relay) = relay {
            relay.end();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the state of TLS")
    }
}

impl State {
    fn relay(&mut self) -> io::Result<&mut Relay> {
        self.relay.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

fn shake_hands(session: &mut ClientConnection, mut socket: &TcpStream, limit: Duration) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    socket.set_nonblocking(false)?;
    while session.is_handshaking() || session.wants_write() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if session.wants_write() {
            socket.set_write_timeout(Some(left))?;
            session.write_tls(&mut socket).map_err(timed_out)?;
            continue;
        }
        socket.set_read_timeout(Some(left))?;
        if session.read_tls(&mut socket).map_err(timed_out)? == 0 {
            return Err(io::Error::other("the connection was closed during the TLS handshake"));
        }
        if let Err(error) = session.process_new_packets() {
            // The alert that says why; the other side may be gone.
            let _ = session.write_tls(&mut socket);
            return Err(io::Error::other(error));
        }
    }
    Ok(())
}

/// A blocking socket whose time is up says that it would block.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

#[cfg(test)]
mod tests;
