//! Certificates and keys as files, in PEM. Errors are lines for the log, in Redis's words where it has any.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::listener::strerror;

/// What a server shows of itself: the certificate with those that lead from it to the authority, and its key.
pub fn read_identity(
    certificate_file: &str,
    key_file: &str,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let unusable = |why: String| format!("Failed to load certificate: {certificate_file}: {why}");
    let chain = read_certificates(Path::new(certificate_file)).map_err(unusable)?;
    let leaf = chain.first().ok_or_else(|| unusable("it has no certificate".to_owned()))?;

    let unusable = |why: String| format!("Failed to load private key: {key_file}: {why}");
    let key = read_key(Path::new(key_file)).map_err(unusable)?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| unusable(error.to_string()))?;
    // A certificate holds the public key as it is, also one of version 1, which the library cannot take apart.
    if let Some(public) = key.public_key()
        && !leaf.windows(public.len()).any(|window| window == &*public)
    {
        return Err(unusable(format!("it is not the key of {certificate_file}")));
    }
    Ok(CertifiedKey::new(chain, key))
}

/// The authorities of `tls-ca-cert-file` and `tls-ca-cert-dir`.
pub fn read_authorities(file: &str, dir: &str) -> Result<Arc<RootCertStore>, String> {
    let unusable = |path: &Path, why: String| {
        format!("Failed to configure CA certificate(s) file/directory: {}: {why}", path.display())
    };
    let mut authorities = RootCertStore::empty();
    let mut add = |path: &Path, certificates: Vec<CertificateDer<'static>>| {
        for certificate in certificates {
            authorities.add(certificate).map_err(|error| unusable(path, error.to_string()))?;
        }
        Ok::<(), String>(())
    };
    if !file.is_empty() {
        let path = Path::new(file);
        let certificates = read_certificates(path).map_err(|why| unusable(path, why))?;
        if certificates.is_empty() {
            return Err(unusable(path, "it has no certificate".to_owned()));
        }
        add(path, certificates)?;
    }
    if !dir.is_empty() {
        let path = Path::new(dir);
        let entries = fs::read_dir(path).map_err(|error| unusable(path, strerror(&error)))?;
        for entry in entries {
            let path = entry.map_err(|error| unusable(path, strerror(&error)))?.path();
            // Directories, keys and notes may lie beside the certificates.
            if path.is_file() {
                add(&path, read_certificates(&path).unwrap_or_default())?;
            }
        }
        if authorities.is_empty() {
            return Err(unusable(path, "no file in it has a certificate".to_owned()));
        }
    }
    Ok(Arc::new(authorities))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = fs::read(path).map_err(|error| strerror(&error))?;
    CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = fs::read(path).map_err(|error| strerror(&error))?;
    let contains = |words: &[u8]| text.windows(words.len()).any(|window| window == words);
    if contains(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || contains(b"Proc-Type: 4,ENCRYPTED") {
        return Err("encrypted keys are not supported: decrypt it and protect the file".to_owned());
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => "it has no private key".to_owned(),
        other => other.to_string(),
    })
}
