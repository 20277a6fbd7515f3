//! Listening sockets and the options of the sockets they accept.
//!
//! Called at start and when `bind`, `port` or `tls-port` change; the sockets are handed to the event loop, which
//! accepts and calls [`tune_client`]. Error texts are redis's, because deployment tools look for them in the log.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

/// The most addresses `bind` takes.
pub const BIND_ADDRESSES_MAX: usize = 16;

/// Redis's reason for more.
pub const TOO_MANY_ADDRESSES: &str = "Too many bind addresses specified.";

/// What redis logs before it exits when neither a port nor a socket is configured.
pub const NOWHERE_TO_LISTEN: &str = "Configured to not listen anywhere, exiting.";

/// The longest path of a unix socket, the terminating zero not counted.
const UNIX_PATH_MAX: usize = 107;

/// One word of `bind`: a name or an address, or `*` or `::*` for all of a family; an address with a colon is IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindAddress {
    pub host: String,
    /// Written with a `-` in front: no error if this machine does not have the address.
    pub optional: bool,
}

impl BindAddress {
    pub fn is_v6(&self) -> bool {
        self.host.contains(':')
    }

    fn resolve(&self, port: u16) -> io::Result<SocketAddr> {
        let host = match self.host.as_str() {
            "*" => "0.0.0.0",
            "::*" => "::",
            named => named,
        };
        let is_v6 = self.is_v6();
        (host, port)
            .to_socket_addrs()?
            .find(|address| address.is_ipv6() == is_v6)
            .ok_or_else(|| io::Error::other("Address family for hostname not supported"))
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.optional { "-" } else { "" }, self.host)
    }
}

/// `* -::*`: every interface, IPv6 where there is one.
pub fn default_bind() -> Vec<BindAddress> {
    vec![
        BindAddress { host: "*".to_owned(), optional: false },
        BindAddress { host: "::*".to_owned(), optional: true },
    ]
}

/// The words of a `bind` directive. A single empty word means no TCP at all. The error is redis's reason.
pub fn parse_bind(words: &[Vec<u8>]) -> Result<Vec<BindAddress>, String> {
    if words.len() > BIND_ADDRESSES_MAX {
        return Err(TOO_MANY_ADDRESSES.to_owned());
    }
    if let [word] = words
        && word.is_empty()
    {
        return Ok(Vec::new());
    }
    Ok(words
        .iter()
        .map(|word| {
            let word = String::from_utf8_lossy(word);
            match word.strip_prefix('-') {
                Some(host) => BindAddress { host: host.to_owned(), optional: true },
                None => BindAddress { host: word.into_owned(), optional: false },
            }
        })
        .collect())
}

/// The sockets of one port, nonblocking, and what is to be logged at warning level about addresses left out.
#[derive(Debug, Default)]
pub struct Listening {
    pub sockets: Vec<TcpListener>,
    pub warnings: Vec<String>,
}

/// Why a port is not listened on. Every line is to be logged at warning level, the last of them being the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenError {
    pub lines: Vec<String>,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.lines.join("\n"))
    }
}

impl std::error::Error for ListenError {}

/// Listens on `port` of each address; on all that must be there, or on none. `kind` is redis's word for the
/// listener: `tcp` or `tls`.
pub fn listen_tcp(
    kind: &str,
    port: u16,
    bind: &[BindAddress],
    backlog: i32,
) -> Result<Listening, ListenError> {
    let mut listening = Listening::default();
    for address in bind {
        match open_tcp(address, port, backlog) {
            Ok(socket) => listening.sockets.push(socket),
            Err((step, error)) => {
                let host = &address.host;
                listening.warnings.push(format!(
                    "Warning: Could not create server TCP listening socket {host}:{port}: {step}{}",
                    strerror(&error)
                ));
                let absent = address.optional && error.kind() == io::ErrorKind::AddrNotAvailable;
                if !absent && !is_unsupported(&error) {
                    listening.warnings.push(format!("Failed listening on port {port} ({kind}), aborting."));
                    return Err(ListenError { lines: listening.warnings });
                }
            }
        }
    }
    Ok(listening)
}

/// Listens on a unix socket, nonblocking; whatever was at `path` is removed first, as redis does. `mode` of 0 leaves the
/// permissions to the umask.
pub fn listen_unix(path: &Path, mode: u32, backlog: i32) -> Result<UnixListener, ListenError> {
    let failed = |what: String| ListenError { lines: vec![format!("Failed opening Unix socket: {what}")] };
    let length = path.as_os_str().as_bytes().len();
    if length > UNIX_PATH_MAX {
        let limit = UNIX_PATH_MAX + 1;
        return Err(failed(format!("unix socket path too long ({length}), must be under {limit}")));
    }
    let _ = std::fs::remove_file(path);
    let open = || {
        let address = SockAddr::unix(path).map_err(|e| ("bind: ", e))?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(|e| ("creating socket: ", e))?;
        socket.bind(&address).map_err(|e| ("bind: ", e))?;
        if mode != 0 {
            use std::os::unix::fs::PermissionsExt;
            // Before listening, so that nobody connects under the wider mode.
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(|e| ("chmod: ", e))?;
        }
        socket.listen(backlog).map_err(|e| ("listen: ", e))?;
        socket.set_nonblocking(true).map_err(|e| ("fcntl: ", e))?;
        Ok(socket.into())
    };
    open().map_err(|(step, error): (&str, io::Error)| failed(format!("{step}{}", strerror(&error))))
}

/// Makes an accepted connection nonblocking, without delay for small replies, and probed every `keepalive` seconds of
/// silence (0: never), given up after three probes a third of that apart.
pub fn tune_client(stream: &TcpStream, keepalive_seconds: u64) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    set_keepalive(stream, keepalive_seconds)
}

/// See [`tune_client`]; also used for connections to a primary.
pub fn set_keepalive(stream: &TcpStream, seconds: u64) -> io::Result<()> {
    if seconds == 0 {
        return Ok(());
    }
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(seconds))
        .with_interval(Duration::from_secs((seconds / 3).max(1)))
        .with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// The warning redis logs at start when the kernel caps the backlog below `tcp-backlog`.
pub fn backlog_warning(backlog: i32) -> Option<String> {
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    backlog_capped(backlog, somaxconn.trim().parse().ok()?)
}

fn backlog_capped(backlog: i32, somaxconn: i32) -> Option<String> {
    (somaxconn > 0 && somaxconn < backlog).then(|| {
        format!(
            "WARNING: The TCP backlog setting of {backlog} cannot be enforced because /proc/sys/net/core/somaxconn is set to the lower value of {somaxconn}."
        )
    })
}

/// The system's words for an error, without Rust's "(os error N)".
pub fn strerror(error: &io::Error) -> String {
    let text = error.to_string();
    match (error.raw_os_error(), text.rfind(" (os error ")) {
        (Some(_), Some(end)) => text[..end].to_owned(),
        _ => text,
    }
}

/// A socket, or the step that failed in redis's words.
fn open_tcp(
    address: &BindAddress,
    port: u16,
    backlog: i32,
) -> Result<TcpListener, (&'static str, io::Error)> {
    let target = address.resolve(port).map_err(|e| ("", resolver_words(e)))?;
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None).map_err(|e| ("socket: ", e))?;
    if target.is_ipv6() {
        // IPv4 is the business of the IPv4 addresses of `bind`.
        socket.set_only_v6(true).map_err(|e| ("setsockopt: ", e))?;
    }
    socket.set_reuse_address(true).map_err(|e| ("setsockopt SO_REUSEADDR: ", e))?;
    socket.bind(&target.into()).map_err(|e| ("bind: ", e))?;
    socket.listen(backlog).map_err(|e| ("listen: ", e))?;
    socket.set_nonblocking(true).map_err(|e| ("fcntl: ", e))?;
    Ok(socket.into())
}

/// Rust wraps getaddrinfo's words; operators know them bare.
fn resolver_words(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.strip_prefix("failed to lookup address information: ") {
        Some(words) => io::Error::other(words.to_owned()),
        None => error,
    }
}

/// Errors that mean this machine lacks the whole family (IPv6 disabled), which redis passes over.
fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.raw_os_error().is_some_and(|code| {
        [
            Errno::NOPROTOOPT,
            Errno::PROTONOSUPPORT,
            Errno::SOCKTNOSUPPORT,
            Errno::PFNOSUPPORT,
            Errno::AFNOSUPPORT,
        ]
        .iter()
        .any(|errno| errno.raw_os_error() == code)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    fn words(text: &str) -> Vec<Vec<u8>> {
        text.split(' ').map(|w| w.as_bytes().to_vec()).collect()
    }

    fn bind(text: &str) -> Vec<BindAddress> {
        parse_bind(&words(text)).unwrap()
    }

    #[test]
    fn bind_words_are_read_and_shown_alike() {
        assert_eq!(bind("* -::*"), default_bind());
        assert_eq!(bind(""), []);
        let shown: Vec<_> = bind("127.0.0.1 -::1 localhost").iter().map(|a| a.to_string()).collect();
        assert_eq!(shown, ["127.0.0.1", "-::1", "localhost"]);
        assert_eq!(bind("127.0.0.1 -::1").iter().map(BindAddress::is_v6).collect::<Vec<_>>(), [false, true]);
        assert_eq!(parse_bind(&vec![b"*".to_vec(); 17]).unwrap_err(), TOO_MANY_ADDRESSES);
    }

    #[test]
    fn a_port_taken_is_reported_in_redis_s_words() {
        let first = listen_tcp("tcp", 0, &bind("127.0.0.1"), 511).unwrap();
        let port = first.sockets[0].local_addr().unwrap().port();
        let error = listen_tcp("tcp", port, &bind("127.0.0.1"), 511).unwrap_err();
        assert_eq!(
            error.lines,
            [
                format!(
                    "Warning: Could not create server TCP listening socket 127.0.0.1:{port}: bind: Address already in use"
                ),
                format!("Failed listening on port {port} (tcp), aborting."),
            ]
        );
        drop(first);
        assert!(listen_tcp("tcp", port, &bind("127.0.0.1"), 511).is_ok(), "SO_REUSEADDR");
    }

    #[test]
    fn an_address_that_is_not_here_fails_unless_optional() {
        // TEST-NET-1 is on no machine.
        let error = listen_tcp("tcp", 0, &bind("192.0.2.1"), 511).unwrap_err();
        assert!(error.lines[0].ends_with("192.0.2.1:0: bind: Cannot assign requested address"), "{error}");
        let listening = listen_tcp("tcp", 0, &bind("-192.0.2.1 127.0.0.1"), 511).unwrap();
        assert_eq!((listening.sockets.len(), listening.warnings.len()), (1, 1));
    }

    #[test]
    fn every_interface_serves_both_families_on_one_port() {
        let listening = listen_tcp("tcp", 0, &bind("*"), 511).unwrap();
        let port = listening.sockets[0].local_addr().unwrap().port();
        // IPv6 beside IPv4 on the same port works only with IPV6_V6ONLY; machines without IPv6 pass it over.
        let six = listen_tcp("tcp", port, &bind("-::*"), 511).unwrap();
        assert_eq!(six.sockets.len() + six.warnings.len(), 1);
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        tune_client(&stream, 300).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(300));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(100));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    }

    #[test]
    fn a_unix_socket_replaces_a_leftover_and_has_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(listen_unix(&path, 0, 511).unwrap());
        let listener = listen_unix(&path, 0o700, 511).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"x").unwrap();
        let mut byte = [0];
        listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");

        let error = listen_unix(&dir.path().join("no/s"), 0, 511).unwrap_err();
        assert_eq!(error.to_string(), "Failed opening Unix socket: bind: No such file or directory");
        let error = listen_unix(Path::new(&"x".repeat(108)), 0, 511).unwrap_err();
        assert!(error.to_string().ends_with("unix socket path too long (108), must be under 108"));
    }

    #[test]
    fn a_capped_backlog_is_warned_of() {
        assert!(backlog_capped(511, 128).unwrap().contains("setting of 511 cannot"));
        assert_eq!(backlog_capped(511, 4096), None);
    }

    #[test]
    fn system_errors_lose_rust_s_suffix_only() {
        assert_eq!(strerror(&io::Error::from_raw_os_error(2)), "No such file or directory");
        assert_eq!(strerror(&io::Error::other("mine (os error 2)")), "mine (os error 2)");
    }
}
