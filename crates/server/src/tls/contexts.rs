//! What connections are encrypted with, made of the settings: one context for those that arrive, one for the link to a
//! primary. Either all of it can be used or the reason is told.

use std::sync::Arc;
use std::time::Duration;

use engine::tls::{AuthClients, Protocol, TlsConfig};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, cipher_suite};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::chain_verifier::ChainVerifier;
use super::identity::{read_authorities, read_identity};
use super::session_cache::SessionCache;

/// By OpenSSL's names, the library's favourites first.
const CIPHERS: &[(&str, SupportedCipherSuite)] = &[
    ("ECDHE-ECDSA-AES256-GCM-SHA384", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

const CIPHERSUITES: &[(&str, SupportedCipherSuite)] = &[
    ("TLS_AES_256_GCM_SHA384", cipher_suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_AES_128_GCM_SHA256", cipher_suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_CHACHA20_POLY1305_SHA256", cipher_suite::TLS13_CHACHA20_POLY1305_SHA256),
];

/// Neither where TLS is not wanted; no client where no authority is named that could vouch for a primary.
#[derive(Default)]
pub struct Contexts {
    pub server: Option<Arc<ServerConfig>>,
    pub client: Option<Arc<ClientConfig>>,
}

impl Contexts {
    /// Reads what the settings name. The error is a line for the log.
    pub fn read(config: &TlsConfig) -> Result<Contexts, String> {
        if config.cert_file.is_empty() {
            return Err("No tls-cert-file configured!".to_owned());
        }
        if config.key_file.is_empty() {
            return Err("No tls-key-file configured!".to_owned());
        }
        if config.client_cert_file.is_empty() != config.client_key_file.is_empty() {
            return Err("tls-client-cert-file and tls-client-key-file must be set together!".to_owned());
        }
        let has_authorities = !config.ca_cert_file.is_empty() || !config.ca_cert_dir.is_empty();
        if !has_authorities && (config.auth_clients != AuthClients::No || config.replication) {
            return Err(
                "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-replication or tls-auth-clients are enabled!"
                    .to_owned(),
            );
        }
        let provider = Arc::new(provider(config)?);
        let authorities = read_authorities(&config.ca_cert_file, &config.ca_cert_dir)?;
        let identity = Arc::new(read_identity(&config.cert_file, &config.key_file, &provider)?);
        let shown = match config.client_cert_file.is_empty() {
            true => Arc::clone(&identity),
            false => Arc::new(read_identity(&config.client_cert_file, &config.client_key_file, &provider)?),
        };
        let server = server(config, identity, &authorities, &provider)?;
        let client = match has_authorities {
            true => Some(Arc::new(client(config, shown, authorities, &provider)?)),
            false => None,
        };
        Ok(Contexts { server: Some(Arc::new(server)), client })
    }
}

fn server(
    config: &TlsConfig,
    identity: Arc<CertifiedKey>,
    authorities: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, String> {
    let builder =
        || WebPkiClientVerifier::builder_with_provider(Arc::clone(authorities), Arc::clone(provider));
    let verifier: Arc<dyn ClientCertVerifier> = match config.auth_clients {
        AuthClients::No => Arc::new(NoClientAuth),
        AuthClients::Yes => builder().build().map_err(|error| error.to_string())?,
        AuthClients::Optional => {
            builder().allow_unauthenticated().build().map_err(|error| error.to_string())?
        }
    };
    let mut server = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&versions(config))
        .map_err(no_suite)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    server.ignore_client_order = config.prefer_server_ciphers;
    if config.session_caching {
        let lifetime = Duration::from_secs(config.session_cache_timeout_s.max(0) as u64);
        let size = config.session_cache_size.max(0) as usize;
        server.session_storage = Arc::new(SessionCache::new(size, lifetime));
    } else {
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
    }
    Ok(server)
}

fn client(
    config: &TlsConfig,
    identity: Arc<CertifiedKey>,
    authorities: Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientConfig, String> {
    let verifier = ChainVerifier { authorities, provider: Arc::clone(provider) };
    let mut client = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&versions(config))
        .map_err(no_suite)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    client.resumption = Resumption::disabled();
    Ok(client)
}

fn no_suite(error: rustls::Error) -> String {
    format!("tls-protocols, tls-ciphers and tls-ciphersuites leave nothing to encrypt with: {error}")
}

fn versions(config: &TlsConfig) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(Protocol::Tls13, &rustls::version::TLS13), (Protocol::Tls12, &rustls::version::TLS12)];
    all.into_iter().filter(|(protocol, _)| config.allows(*protocol)).map(|(_, version)| version).collect()
}

/// The library's means, with the ciphers that are wanted in the order in which they are named.
fn provider(config: &TlsConfig) -> Result<CryptoProvider, String> {
    let mut cipher_suites = Vec::new();
    if config.allows(Protocol::Tls13) {
        cipher_suites.extend(named("tls-ciphersuites", &config.ciphersuites, CIPHERSUITES)?);
    }
    if config.allows(Protocol::Tls12) {
        cipher_suites.extend(named("tls-ciphers", &config.ciphers, CIPHERS)?);
    }
    Ok(CryptoProvider { cipher_suites, ..ring::default_provider() })
}

/// OpenSSL's lists can do more (`HIGH:!aNULL`): of that only `DEFAULT` is understood, and nothing is passed over.
fn named(
    setting: &str,
    list: &str,
    known: &[(&str, SupportedCipherSuite)],
) -> Result<Vec<SupportedCipherSuite>, String> {
    if list.is_empty() || list == "DEFAULT" {
        return Ok(known.iter().map(|(_, suite)| *suite).collect());
    }
    let one = |name: &str| {
        let row = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        row.map(|(_, suite)| *suite).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            format!("{setting}: '{name}' is not supported. Use DEFAULT or some of {}.", names.join(":"))
        })
    };
    list.split(':').map(one).collect()
}
