//! Where connections come from: the listening sockets of a configuration, and the two ends of what they accept.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use engine::{Config, Peer};
use rustix::net::SocketFlags;
use socket2::SockRef;

use crate::listener::{self, ListenError};
use crate::log_warning;

/// A socket that listens.
pub enum Listener {
    Tcp { socket: TcpListener, port: Port },
    Unix { socket: UnixListener, path: PathBuf },
}

/// Which of the configured ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    Plain,
    Tls,
}

impl Port {
    const BOTH: [Port; 2] = [Port::Plain, Port::Tls];

    /// 0 is none.
    fn number(self, config: &Config) -> u16 {
        match self {
            Port::Plain => config.port,
            Port::Tls => config.tls.port,
        }
    }

    /// Redis's word for it.
    fn name(self) -> &'static str {
        match self {
            Port::Plain => "tcp",
            Port::Tls => "tls",
        }
    }
}

/// A connection, non-blocking, and who it is from.
pub struct Accepted {
    pub fd: OwnedFd,
    pub peer: Peer,
    /// What comes is to be decrypted.
    pub tls: bool,
}

/// Why an attempt to accept gave no connection, though one was there.
pub enum Refused {
    /// It broke before it was accepted; the next one may be fine.
    Broken,
    /// The system refuses more: descriptors or memory.
    Failed(io::Error),
}

/// The sockets that listen, unix sockets first. The event loop accepts from them, and `CONFIG SET`, which must know
/// whether it succeeds, changes them by way of the engine's environment: both on one thread.
#[derive(Clone, Default)]
pub struct Listeners {
    sockets: Arc<Mutex<Vec<Listener>>>,
}

impl Listeners {
    pub fn new(sockets: Vec<Listener>) -> Listeners {
        Listeners { sockets: Arc::new(Mutex::new(sockets)) }
    }

    pub fn sockets(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.sockets.lock().expect("no thread panics while it holds the listeners")
    }

    /// Listens where `new` says instead of where `old` says, or goes on as before and says why. What is the same in both
    /// is left alone, with the connections that wait there.
    pub fn change(&self, old: &Config, new: &Config) -> Result<(), String> {
        let mut sockets = self.sockets();
        let changed: Vec<Port> = Port::BOTH
            .into_iter()
            .filter(|port| old.bind != new.bind || port.number(old) != port.number(new))
            .collect();
        let stays = |listener: &Listener| match listener {
            Listener::Unix { .. } => true,
            Listener::Tcp { port, .. } => !changed.contains(port),
        };
        let wanted: Vec<u16> = changed.iter().map(|port| port.number(new)).collect();
        let in_the_way =
            changed.iter().any(|port| port.number(old) != 0 && wanted.contains(&port.number(old)));
        let mut listened = listen_tcp(new, &changed);
        if listened.is_err() && in_the_way {
            // An address that was listened on already is free once nobody listens on it.
            sockets.retain(stays);
            listened = listen_tcp(new, &changed);
        }
        match listened {
            Ok(tcp) => {
                sockets.retain(stays);
                sockets.extend(tcp);
                Ok(())
            }
            Err(error) => {
                if in_the_way {
                    match listen_tcp(old, &changed) {
                        Ok(tcp) => sockets.extend(tcp),
                        Err(error) => log_warning!("{error}"),
                    }
                }
                Err(error.to_string())
            }
        }
    }
}

/// Listens wherever the configuration says.
pub fn listen(config: &Config) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::new();
    let tcp = listen_tcp(config, &Port::BOTH)?;
    if !config.unixsocket.is_empty() {
        // The process may change its directory before it removes the socket.
        let path = Path::new(&config.unixsocket);
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let socket = listener::listen_unix(&path, config.unixsocketperm, config.tcp_backlog as i32)?;
        listeners.push(Listener::Unix { socket, path });
    }
    listeners.extend(tcp);
    if listeners.is_empty() {
        return Err(ListenError { lines: vec![listener::NOWHERE_TO_LISTEN.to_owned()] });
    }
    Ok(listeners)
}

/// Listens on those of the ports that are not 0.
fn listen_tcp(config: &Config, ports: &[Port]) -> Result<Vec<Listener>, ListenError> {
    let backlog = config.tcp_backlog as i32;
    let words: Vec<Vec<u8>> = config.bind.iter().map(|word| word.clone().into_bytes()).collect();
    let bind = listener::parse_bind(&words).map_err(|reason| ListenError { lines: vec![reason] })?;
    let mut listeners = Vec::new();
    for &port in ports.iter().filter(|port| port.number(config) != 0) {
        let listening = listener::listen_tcp(port.name(), port.number(config), &bind, backlog)?;
        for warning in &listening.warnings {
            log_warning!("{warning}");
        }
        if config.socket_mark_id != 0 {
            // It takes a privilege, and is a wish without it.
            let mark = |socket| drop(SockRef::from(socket).set_mark(config.socket_mark_id));
            listening.sockets.iter().for_each(mark);
        }
        listeners.extend(listening.sockets.into_iter().map(|socket| Listener::Tcp { socket, port }));
    }
    Ok(listeners)
}

impl Listener {
    /// The next connection, nonblocking; `None` if none waits.
    pub fn accept(&self, keepalive: u64) -> Result<Option<Accepted>, Refused> {
        let fd = match rustix::net::accept_with(self, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(fd) => fd,
            Err(error) if error == rustix::io::Errno::AGAIN => return Ok(None),
            Err(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => return Err(Refused::Broken),
            Err(error) => return Err(Refused::Failed(error.into())),
        };
        match self {
            Listener::Tcp { port, .. } => {
                let stream = TcpStream::from(fd);
                let peer = tcp_peer(&stream);
                let tuned =
                    stream.set_nodelay(true).and_then(|()| listener::set_keepalive(&stream, keepalive));
                tuned.map_err(|_| Refused::Broken)?;
                Ok(Some(Accepted { fd: stream.into(), peer, tls: *port == Port::Tls }))
            }
            Listener::Unix { path, .. } => {
                let name = format!("{}:0", path.display());
                let peer = Peer { addr: name.clone(), laddr: name, unix_socket: true, local: true };
                Ok(Some(Accepted { fd, peer, tls: false }))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp { socket, .. } => socket.as_fd(),
            Listener::Unix { socket, .. } => socket.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix { path, .. } = self {
            // Somebody may have removed it already, and that is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The two ends of a TCP connection as `CLIENT LIST` prints them.
pub fn tcp_peer(stream: &TcpStream) -> Peer {
    let text = |address: io::Result<SocketAddr>| match address {
        Ok(address) => address.to_string(),
        Err(_) => String::from("?:0"),
    };
    let peer = stream.peer_addr();
    let local = peer.as_ref().is_ok_and(|address| match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    });
    Peer { addr: text(peer), laddr: text(stream.local_addr()), unix_socket: false, local }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    fn config(port: u16, tls: u16) -> Config {
        let mut config = Config { port, bind: vec!["127.0.0.1".into()], ..Config::default() };
        config.tls.port = tls;
        config
    }

    #[test]
    fn a_port_that_stays_keeps_its_connections_and_ports_may_change_places() {
        let (one, two) = (free_port(), free_port());
        let before = config(one, 0);
        let listeners = Listeners::new(listen(&before).unwrap());
        let _waits = TcpStream::connect(("127.0.0.1", one)).unwrap();
        let after = config(one, two);
        listeners.change(&before, &after).unwrap();
        let accepted = listeners.sockets()[0].accept(0).ok().flatten();
        assert!(accepted.is_some_and(|accepted| !accepted.tls), "the connection that waited");

        listeners.change(&after, &config(two, one)).unwrap();
        let _encrypted = TcpStream::connect(("127.0.0.1", one)).unwrap();
        let tls =
            |listener: &Listener| listener.accept(0).ok().flatten().is_some_and(|accepted| accepted.tls);
        assert_eq!(listeners.sockets().iter().filter(|listener| tls(listener)).count(), 1);

        let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let holder = TcpListener::bind(("127.0.0.1", taken)).unwrap();
        assert!(listeners.change(&config(two, one), &config(one, taken)).is_err());
        drop(holder);
        for port in [one, two] {
            TcpStream::connect(("127.0.0.1", port)).expect("all is as before");
        }
    }
}
