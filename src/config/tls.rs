//! TLS certificate and key files: read and checked by `holdline config check`, at startup, and when they change.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use webpki::{EndEntityCert, KeyUsage};

use super::model::CertificateFiles;
use crate::files;

/// A certificate chain with its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The chain and the key.
    pub key: Arc<CertifiedKey>,
    /// Its DNS names in lower case; wildcards begin with `*.`.
    pub names: Vec<String>,
    /// An expired certificate is still used: most clients report it more clearly than a closed port.
    pub expiry: Expiry,
}

/// Whether a certificate is valid at this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Now is within its time.
    Valid,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    Early,
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct TlsFileError {
    /// Which of the files.
    pub part: Part,
    /// The file and what is wrong with it.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// The key of the configuration that names a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `cert`
    Cert,
    /// `key`
    Key,
    /// `ca`, or the system's roots in its place.
    Ca,
}

/// The cryptography provider.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Reads a certificate chain and its key.
///
/// # Errors
/// A file is missing or invalid, or the key does not match the certificate.
pub fn certificate(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Certificate, TlsFileError> {
    let chain = certificates(&files.cert, Part::Cert)?;
    let key = private_key(&files.key)?;
    let (cert_path, key_path) = (files.cert.display(), files.key.display());
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsFileError {
            part: Part::Key,
            what: format!("the key {key_path} does not match the first certificate of {cert_path}"),
            remedy: "use the key of that certificate; the server's own certificate must be the first in its file".into(),
        },
        Error::InvalidCertificate(error) => unreadable(&files.cert, &error.to_string()),
        error => TlsFileError {
            part: Part::Key,
            what: format!("the key {key_path} cannot be used: {error}"),
            remedy: "use an RSA key of 2048 bits or more, an ECDSA key on P-256, P-384 or P-521, or an Ed25519 key".into(),
        },
    })?;
    let leaf = EndEntityCert::try_from(&key.cert[0]).map_err(|error| unreadable(&files.cert, &error.to_string()))?;
    let names = leaf.valid_dns_names().map(str::to_ascii_lowercase).collect();
    let expiry = expiry(&leaf);
    Ok(Certificate { key: Arc::new(key), names, expiry })
}

/// The trusted root certificates for backends: those of `ca`, or the system's.
///
/// # Errors
/// There is none.
pub fn roots(ca: Option<&Path>) -> Result<RootCertStore, TlsFileError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return if roots.is_empty() {
            Err(TlsFileError {
                part: Part::Ca,
                what: "this system has no root certificates".into(),
                remedy: "install ca-certificates, or set the CA of the backends: ca: ca.crt".into(),
            })
        } else {
            Ok(roots)
        };
    };
    for certificate in certificates(path, Part::Ca)? {
        roots.add(certificate).map_err(|error| TlsFileError { part: Part::Ca, ..unreadable(path, &error.to_string()) })?;
    }
    Ok(roots)
}

fn certificates(path: &Path, part: Part) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let bytes = read(path, part)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| broken_pem(path, part, &error))?;
    if found.is_empty() {
        let what = format!("{} contains no certificate", path.display());
        let remedy = match bytes.first() {
            // A DER sequence.
            Some(0x30) => format!("write it as PEM: openssl x509 -inform der -in {0} -out {0}.pem", path.display()),
            _ => "write it as PEM: it begins with -----BEGIN CERTIFICATE-----".to_owned(),
        };
        return Err(TlsFileError { part, what, remedy });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    let bytes = read(path, Part::Key)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            let is_encrypted = String::from_utf8_lossy(&bytes).contains("ENCRYPTED PRIVATE KEY-----");
            let (what, remedy) = match is_encrypted {
                true => ("an encrypted key", "decrypt it: openssl pkey -in KEY -out KEY.plain"),
                false => ("no private key", "write it as PEM: it begins with -----BEGIN PRIVATE KEY-----"),
            };
            TlsFileError { part: Part::Key, what: format!("{} contains {what}", path.display()), remedy: remedy.into() }
        }
        error => broken_pem(path, Part::Key, &error),
    })
}

fn read(path: &Path, part: Part) -> Result<Vec<u8>, TlsFileError> {
    files::read(path, files::PEM_MAX).map_err(|error| TlsFileError {
        part,
        what: format!("{} cannot be read: {error}", path.display()),
        remedy: "correct the path (a relative one starts at the directory of the configuration) or its permissions".into(),
    })
}

fn broken_pem(path: &Path, part: Part, error: &pem::Error) -> TlsFileError {
    let what = format!("{} is not PEM: {error:?}", path.display());
    TlsFileError { part, what, remedy: "replace the file; it may be truncated".into() }
}

fn unreadable(path: &Path, error: &str) -> TlsFileError {
    TlsFileError {
        part: Part::Cert,
        what: format!("the certificate in {} cannot be used: {error}", path.display()),
        remedy: "have it reissued as X.509 version 3 with its names in subjectAltName".into(),
    }
}

/// webpki checks the validity period before anything that needs an issuer, so none is needed here.
fn expiry(leaf: &EndEntityCert<'_>) -> Expiry {
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    match leaf.verify_for_usage(algorithms, &[], &[], UnixTime::now(), KeyUsage::server_auth(), None, None).err() {
        Some(webpki::Error::CertExpired { .. }) => Expiry::Expired,
        Some(webpki::Error::CertNotValidYet { .. }) => Expiry::Early,
        _ => Expiry::Valid,
    }
}
