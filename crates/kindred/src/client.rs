//! A minimal blocking client: AUTH and INFO, with a time limit on everything.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// The longest INFO text believed; what is longer is not INFO.
const REPLY_BYTES_MAX: usize = 1 << 24;

/// How to log in.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub user: Option<String>,
    pub password: Option<String>,
}

pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects to `HOST:PORT` and logs in if there is a password. `timeout` holds for each step and each reply.
    pub fn connect(address: &str, credentials: &Credentials, timeout: Duration) -> io::Result<Client> {
        let mut failure = io::Error::other("the name has no address");
        for target in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&target, timeout) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(timeout))?;
                    stream.set_write_timeout(Some(timeout))?;
                    stream.set_nodelay(true)?;
                    let mut client = Client { stream: BufReader::new(stream) };
                    match (&credentials.user, &credentials.password) {
                        (Some(user), Some(password)) => client.call(&["AUTH", user, password])?,
                        (None, Some(password)) => client.call(&["AUTH", password])?,
                        (_, None) => String::new(),
                    };
                    return Ok(client);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Sends one command and returns its simple, bulk or integer reply; an error reply is an error.
    pub fn call(&mut self, args: &[&str]) -> io::Result<String> {
        let mut request = format!("*{}\r\n", args.len());
        for arg in args {
            request.push_str(&format!("${}\r\n{arg}\r\n", arg.len()));
        }
        self.stream.get_mut().write_all(request.as_bytes())?;

        let line = self.line()?;
        let Some((kind, rest)) = line.split_at_checked(1) else {
            return Err(io::Error::other("an empty reply"));
        };
        match kind {
            "+" | ":" => Ok(rest.to_owned()),
            "-" => Err(io::Error::other(rest.to_owned())),
            "$" => self.bulk(rest.parse().ok().filter(|length| *length <= REPLY_BYTES_MAX)),
            _ => Err(io::Error::other(format!("an unexpected reply: {line}"))),
        }
    }

    fn bulk(&mut self, length: Option<usize>) -> io::Result<String> {
        let length = length.ok_or_else(|| io::Error::other("a bulk reply of an unexpected length"))?;
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        String::from_utf8(bytes).map_err(io::Error::other)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.by_ref().take(REPLY_BYTES_MAX as u64).read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers each connection's first bytes with `reply` and returns what came in.
    fn exchange(reply: &'static str, credentials: &Credentials) -> (io::Result<String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(reply.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut seen = String::new();
            stream.read_to_string(&mut seen).unwrap();
            seen
        });
        let timeout = Duration::from_secs(5);
        let result = Client::connect(&address, credentials, timeout).and_then(|mut c| c.call(&["INFO"]));
        (result, server.join().unwrap())
    }

    #[test]
    fn bulk_replies_are_returned_and_errors_are_errors() {
        let (result, seen) = exchange("$7\r\na:1\r\nb\r\n\r\n", &Credentials::default());
        assert_eq!(result.unwrap(), "a:1\r\nb\r\n"[..7]);
        assert_eq!(seen, "*1\r\n$4\r\nINFO\r\n");
        let (result, _) = exchange("-NOAUTH Authentication required.\r\n", &Credentials::default());
        assert_eq!(result.unwrap_err().to_string(), "NOAUTH Authentication required.");
        for broken in ["", "$", "$9\r\nabc\r\n", "$-1\r\n", "$99999999999\r\n", "*1\r\n", "+no end"] {
            assert!(exchange(broken, &Credentials::default()).0.is_err(), "{broken:?}");
        }
    }

    #[test]
    fn the_password_goes_first() {
        let credentials = Credentials { user: Some("u".into()), password: Some("p w".into()) };
        let (result, seen) = exchange("+OK\r\n+fine\r\n", &credentials);
        assert_eq!(result.unwrap(), "fine");
        assert!(seen.starts_with("*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$3\r\np w\r\n*1"));
    }
}
