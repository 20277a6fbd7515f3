//! A certificate authority of one test: it signs what servers and clients show, and leaves everything as files.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

pub struct Authority {
    dir: PathBuf,
    name: String,
    certificate: Certificate,
    key: KeyPair,
}

/// The files of a certificate and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// What a certificate says that it is for.
#[derive(Debug, Clone, Copy)]
pub enum Use {
    Any,
    Server,
    Client,
}

impl Authority {
    /// Its files begin with its name.
    pub fn new(dir: &Path, name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let authority = Authority { dir: dir.to_owned(), name: name.to_owned(), certificate, key };
        fs::write(authority.file(), authority.certificate.pem()).expect("the authority's file");
        authority
    }

    pub fn file(&self) -> String {
        self.path("ca.crt")
    }

    /// A certificate for a host that nobody is called: names are not looked at.
    pub fn sign(&self, name: &str, usage: Use) -> Identity {
        let mut params = CertificateParams::new(vec!["nobody.example".to_owned()]).expect("a name of a host");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = match usage {
            Use::Any => vec![],
            Use::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Use::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.certificate, &self.key).expect("a certificate");
        let identity = Identity {
            certificate: self.path(&format!("{name}.crt")),
            key: self.path(&format!("{name}.key")),
        };
        fs::write(&identity.certificate, certificate.pem()).expect("a certificate's file");
        fs::write(&identity.key, key.serialize_pem()).expect("a key's file");
        identity
    }

    fn path(&self, file: &str) -> String {
        self.dir.join(format!("{}-{file}", self.name)).to_str().expect("a temporary path is text").to_owned()
    }
}
