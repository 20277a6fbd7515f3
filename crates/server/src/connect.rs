//! Connecting to a primary: names are resolved and connections made on a thread of their own, since both may block.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::listener::{set_keepalive, strerror};
use crate::report::{Report, Reporter};

/// How long one address may take to answer.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Starts the attempt; its end is a [`Report::Connected`].
pub fn connect(attempt: u64, host: String, port: u16, timeout: Duration, keepalive: u64, reporter: Reporter) {
    let report = reporter.clone();
    let spawned = std::thread::Builder::new().name("connect".into()).spawn(move || {
        let result = try_connect(&host, port, timeout.min(TIMEOUT_MAX), keepalive);
        reporter.send(Report::Connected { attempt, result });
    });
    if let Err(error) = spawned {
        report.send(Report::Connected { attempt, result: Err(strerror(&error)) });
    }
}

fn try_connect(host: &str, port: u16, timeout: Duration, keepalive: u64) -> Result<TcpStream, String> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| strerror(&error))?;
    let mut reason = String::from("no address");
    for address in addresses {
        let stream = TcpStream::connect_timeout(&address, timeout).and_then(|stream| {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            set_keepalive(&stream, keepalive)?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => return Ok(stream),
            Err(error) => reason = strerror(&error),
        }
    }
    Err(reason)
}
