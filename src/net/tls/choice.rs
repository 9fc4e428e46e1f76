//! Selects the certificate for a client.

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

use crate::config::tls::Certificate;

/// A listener's certificates, replaceable at any time.
#[derive(Debug)]
pub(super) struct Choice {
    certificates: ArcSwap<Vec<Certificate>>,
}

impl Choice {
    /// `certificates` in the order of the configuration, at least one.
    pub(super) fn new(certificates: Vec<Certificate>) -> Self {
        Choice { certificates: ArcSwap::from_pointee(certificates) }
    }

    /// The certificates in use.
    pub(super) fn certificates(&self) -> Arc<Vec<Certificate>> {
        self.certificates.load_full()
    }

    /// Replaces the certificates for new connections.
    pub(super) fn replace(&self, certificates: Vec<Certificate>) {
        self.certificates.store(Arc::new(certificates));
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        choose(&self.certificates.load(), hello.server_name(), hello.signature_schemes())
    }
}

/// The first that is for exactly `name`, else the first whose wildcard covers it, else the first; among those that fit equally well, one
/// whose key the client understands (an RSA and an ECDSA certificate may stand side by side).
fn choose(certificates: &[Certificate], name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
    let fit = |certificate: &Certificate| name.map_or(Fit::None, |name| fit(&certificate.names, name));
    let best = certificates.iter().map(fit).max()?;
    let as_fit = || certificates.iter().filter(|c| fit(c) == best);
    let understood = as_fit().find(|c| c.key.key.choose_scheme(schemes).is_some());
    understood.or_else(|| as_fit().next()).map(|c| Arc::clone(&c.key))
}

/// How well a certificate matches a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    None,
    Wildcard,
    Exact,
}

/// A wildcard stands for one label (RFC 6125 section 6.4.3).
fn fit(names: &[String], asked: &str) -> Fit {
    let covers = |name: &String| {
        let below = name.strip_prefix('*');
        below.zip(asked.find('.')).is_some_and(|(below, dot)| asked[dot..].eq_ignore_ascii_case(below))
    };
    if names.iter().any(|name| name.eq_ignore_ascii_case(asked)) {
        Fit::Exact
    } else if names.iter().any(covers) {
        Fit::Wildcard
    } else {
        Fit::None
    }
}
