//! How connections are encrypted: the `tls-*` settings as they were given. The server makes contexts of them, the engine
//! only knows what it announces: the port.

use std::fmt;

/// The `tls-*` settings. Paths are as they were given; empty is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Clients are served on it; 0 is none.
    pub port: u16,
    /// The connection to the primary is encrypted.
    pub replication: bool,
    pub auth_clients: AuthClients,
    pub prefer_server_ciphers: bool,
    pub session_caching: bool,
    /// Sessions that can be resumed; 0 is no limit.
    pub session_cache_size: i64,
    pub session_cache_timeout_s: i64,
    pub cert_file: String,
    pub key_file: String,
    /// What this server shows of itself to a primary, if that is not `cert_file`.
    pub client_cert_file: String,
    pub client_key_file: String,
    pub ca_cert_file: String,
    pub ca_cert_dir: String,
    /// Empty is all.
    pub protocols: Vec<Protocol>,
    /// Of version 1.2, in OpenSSL's names, separated by colons; empty is all.
    pub ciphers: String,
    /// Of version 1.3.
    pub ciphersuites: String,
}

/// Whether clients have to show a certificate: `tls-auth-clients`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthClients {
    No,
    Yes,
    /// One that is shown must be right.
    Optional,
}

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Tls12,
    Tls13,
}

impl TlsConfig {
    /// Something is to be encrypted, so that everything it takes must be there.
    pub fn is_wanted(&self) -> bool {
        self.port != 0 || self.replication
    }

    pub fn allows(&self, protocol: Protocol) -> bool {
        self.protocols.is_empty() || self.protocols.contains(&protocol)
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        TlsConfig {
            port: 0,
            replication: false,
            auth_clients: AuthClients::Yes,
            prefer_server_ciphers: false,
            session_caching: true,
            session_cache_size: 20 * 1024,
            session_cache_timeout_s: 300,
            cert_file: String::new(),
            key_file: String::new(),
            client_cert_file: String::new(),
            client_key_file: String::new(),
            ca_cert_file: String::new(),
            ca_cert_dir: String::new(),
            protocols: Vec::new(),
            ciphers: String::new(),
            ciphersuites: String::new(),
        }
    }
}

impl Protocol {
    /// `TLSv1.2` and `TLSv1.3`; the error is why it is none of them.
    pub fn parse(word: &str) -> Result<Protocol, String> {
        match word.to_ascii_lowercase().as_str() {
            "tlsv1.2" => Ok(Protocol::Tls12),
            "tlsv1.3" => Ok(Protocol::Tls13),
            "tlsv1" | "tlsv1.1" => Err(format!("{word} is not supported, only TLSv1.2 and TLSv1.3 are")),
            _ => Err("Invalid tls-protocols specified. Use a combination of 'TLSv1.2' and 'TLSv1.3'.".into()),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tls12 => "TLSv1.2",
            Protocol::Tls13 => "TLSv1.3",
        })
    }
}
