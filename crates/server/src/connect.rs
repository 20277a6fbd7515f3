//! Connecting to a primary: names are resolved and connections made on a thread of their own, since both may block.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::accept::tcp_peer;
use crate::listener::{set_keepalive, strerror};
use crate::report::{Link, Report, Reporter};
use crate::tls::Tls;

/// How long one address may take to answer.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Where to connect to, and how.
pub struct Target {
    pub host: String,
    pub port: u16,
    /// The address to come from; empty is any. If that cannot be done, it is done without.
    pub source: String,
    pub timeout: Duration,
    pub keepalive_s: u64,
    /// With which it is encrypted; none if it is not.
    pub tls: Option<Tls>,
}

/// Starts the attempt; its end is a [`Report::Connected`].
pub fn connect(attempt: u64, target: Target, reporter: Reporter) {
    let report = reporter.clone();
    let spawned = std::thread::Builder::new().name("connect".into()).spawn(move || {
        let result = target.try_connect();
        reporter.send(Report::Connected { attempt, result });
    });
    if let Err(error) = spawned {
        report.send(Report::Connected { attempt, result: Err(strerror(&error)) });
    }
}

impl Target {
    fn try_connect(&self) -> Result<Link, String> {
        let addresses = (&*self.host, self.port).to_socket_addrs().map_err(|error| strerror(&error))?;
        let mut reason = String::from("no address");
        for address in addresses {
            let stream = self.open(address).and_then(|stream| {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                set_keepalive(&stream, self.keepalive_s)?;
                self.link(stream)
            });
            match stream {
                Ok(link) => return Ok(link),
                Err(error) => reason = strerror(&error),
            }
        }
        Err(reason)
    }

    fn link(&self, stream: TcpStream) -> io::Result<Link> {
        let peer = tcp_peer(&stream);
        let Some(tls) = &self.tls else {
            return Ok(Link { fd: stream.into(), peer, relayed: None });
        };
        let plain = tls.connect(stream, self.timeout.min(TIMEOUT_MAX))?;
        Ok(Link { fd: plain.fd, peer, relayed: Some(plain.number) })
    }

    fn open(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let timeout = self.timeout.min(TIMEOUT_MAX);
        if !self.source.is_empty()
            && let Ok(stream) = self.open_from_source(address, timeout)
        {
            return Ok(stream);
        }
        TcpStream::connect_timeout(&address, timeout)
    }

    fn open_from_source(&self, address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        let mut sources = (&*self.source, 0).to_socket_addrs()?;
        let source = sources.find(|source| source.is_ipv4() == address.is_ipv4());
        let source = source.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&source.into())?;
        socket.connect_timeout(&address.into(), timeout)?;
        Ok(socket.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn source_of(source: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target {
            host: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
            source: source.into(),
            timeout: Duration::from_secs(5),
            keepalive_s: 0,
            tls: None,
        };
        let _link = target.try_connect().unwrap();
        listener.accept().unwrap().1.ip().to_string()
    }

    #[test]
    fn the_source_is_a_wish() {
        assert_eq!(source_of("127.0.0.3"), "127.0.0.3");
        assert_eq!(source_of(""), "127.0.0.1");
        // Of no interface here, of another family.
        assert_eq!(source_of("192.0.2.1"), "127.0.0.1");
        assert_eq!(source_of("::1"), "127.0.0.1");
    }
}
