//! Servers with a TLS port beside their plain one, which stays for looking into them, and a client that encrypts.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use server::tls::chain_verifier::ChainVerifier;

use super::authority::{Authority, Identity, Use};
use super::bed::{Bed, Kind, Server, tool};

/// Who everybody of a test trusts.
pub struct Trust {
    pub authority: Authority,
    pub server: Identity,
    pub client: Identity,
}

impl Trust {
    pub fn new(bed: &mut Bed, name: &str) -> Trust {
        let authority = Authority::new(&bed.new_dir(name), name);
        let (server, client) = (authority.sign("server", Use::Server), authority.sign("client", Use::Client));
        Trust { authority, server, client }
    }

    /// The options of a server that listens on `port` and encrypts the link to its primary.
    pub fn options(&self, port: u16) -> Vec<(String, String)> {
        [
            ("tls-port", port.to_string()),
            ("tls-replication", "yes".to_owned()),
            ("tls-cert-file", self.server.certificate.clone()),
            ("tls-key-file", self.server.key.clone()),
            ("tls-client-cert-file", self.client.certificate.clone()),
            ("tls-client-key-file", self.client.key.clone()),
            ("tls-ca-cert-file", self.authority.file()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// A server and its TLS port.
    pub fn start(&self, bed: &mut Bed, kind: Kind, more: &[(&str, &str)]) -> (Server, u16) {
        let port = bed.free_port();
        let options = self.options(port);
        let mut options: Vec<(&str, &str)> =
            options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        options.retain(|(name, _)| !more.iter().any(|(given, _)| given == name));
        options.extend(more);
        (bed.start(kind, &options), port)
    }

    /// `redis-cli --tls` with these words, and with a certificate if there is one to show. None without redis-cli.
    pub fn redis_cli(&self, port: u16, shown: Option<&Identity>, words: &[&str]) -> Option<Output> {
        let mut command = Command::new(tool("KINDRED_PEER_CLI")?);
        command.args(["-p", &port.to_string(), "--tls", "--cacert", &self.authority.file()]);
        if let Some(shown) = shown {
            command.args(["--cert", &shown.certificate, "--key", &shown.key]);
        }
        Some(command.args(words).output().expect("redis-cli runs"))
    }

    pub fn client(&self, port: u16) -> TlsClient {
        TlsClient::connect(port, &self.authority.file(), Some(&self.client)).expect("a TLS connection")
    }
}

/// Bytes over TLS.
pub struct TlsClient {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
}

impl TlsClient {
    /// The handshake included; with version 1.3 the server may still refuse what was shown.
    pub fn connect(port: u16, authorities: &str, shown: Option<&Identity>) -> io::Result<TlsClient> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        socket.set_write_timeout(Some(Duration::from_secs(60)))?;
        let mut session = client_session(authorities, shown);
        let mut raw = &socket;
        while session.is_handshaking() {
            session.complete_io(&mut raw)?;
        }
        Ok(TlsClient { stream: StreamOwned::new(session, socket) })
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes it");
        self.stream.flush().expect("the server takes it");
    }

    pub fn expect(&mut self, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        self.stream.read_exact(&mut bytes).expect("the server answers");
        assert!(bytes == expected, "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)]));
    }

    /// Everything up to the end; whether it was a notice of the end or a bare one.
    pub fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => (bytes, true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => (bytes, false),
            Err(error) => panic!("after {} bytes: {error}", bytes.len()),
        }
    }

    pub fn close_writing(&mut self) {
        self.stream.conn.send_close_notify();
        self.stream.flush().expect("the server takes it");
        self.stream.sock.shutdown(Shutdown::Write).expect("the socket is open");
    }
}

fn client_session(authorities: &str, shown: Option<&Identity>) -> ClientConnection {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authorities).expect("the authority's file") {
        roots.add(certificate.expect("a certificate")).expect("an authority");
    }
    let verifier = ChainVerifier { authorities: Arc::new(roots), provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the default suites")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_file_iter(&identity.certificate).expect("the certificate's file");
            let chain = chain.collect::<Result<_, _>>().expect("a certificate");
            let key = PrivateKeyDer::from_pem_file(&identity.key).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("the key of the certificate")
        }
    };
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a session")
}
