//! TLS of listeners and to backends: are the files there, and are they what they should be?

use rustls::pki_types::ServerName;

use super::super::Programs;
use super::super::located::At;
use super::super::model::{BackendTls, CertificateFiles, ListenerTls, TlsVersion};
use super::super::raw;
use super::super::raw_fleet;
use super::super::tls::{self, Expiry, Part};
use super::check::Check;

pub(super) fn listener(check: &mut Check<'_>, raw: &raw::ListenerTls) -> ListenerTls {
    if raw.certificates.value.is_empty() {
        check.wrong(
            raw.certificates.line,
            "listeners.tls.certificates is empty",
            "add one: [ { cert: tls.crt, key: tls.key } ]; without tls, clients speak plain text",
        );
    }
    ListenerTls {
        certificates: raw.certificates.value.iter().map(|raw| certificate(check, raw)).collect(),
        min_version: match raw.min_version {
            raw::TlsVersion::V12 => TlsVersion::V12,
            raw::TlsVersion::V13 => TlsVersion::V13,
        },
    }
}

fn certificate(check: &mut Check<'_>, raw: &raw::CertificateFiles) -> CertificateFiles {
    let files = CertificateFiles { cert: check.path(&raw.cert.value), key: check.path(&raw.key.value) };
    if check.programs == Programs::Trust {
        return files;
    }
    match tls::certificate(&files, &tls::provider()) {
        Ok(certificate) => {
            let how = match certificate.expiry {
                Expiry::Valid => return files,
                Expiry::Expired => "has expired",
                Expiry::Early => "is not valid yet",
            };
            let what = format!("listeners.tls.certificates: the certificate in {} {how}", files.cert.display());
            check.odd(raw.cert.line, what, "renew it, or set this machine's clock: most clients will refuse it");
        }
        Err(error) => {
            let line = if error.part == Part::Key { raw.key.line } else { raw.cert.line };
            check.wrong(line, format!("listeners.tls.certificates: {}", error.what), error.remedy);
        }
    }
    files
}

pub(super) fn backends(check: &mut Check<'_>, fleet: &str, raw: &raw_fleet::BackendTls, line: u64) -> BackendTls {
    let at = format!("fleets.{fleet}.backends.tls");
    if let Some(At { value, line }) = &raw.name
        && !matches!(ServerName::try_from(value.as_str()), Ok(ServerName::DnsName(_)))
    {
        let what = format!("{at}.name is `{value}`, and not a DNS name");
        check.wrong(*line, what, "write one such as backend.internal; leave it out to have each backend's IP address checked");
    }
    let ca = raw.ca.as_ref().map(|ca| check.path(&ca.value));
    if check.programs == Programs::LookUp
        && let Err(error) = tls::roots(ca.as_deref())
    {
        let line = raw.ca.as_ref().map_or(line, |ca| ca.line);
        check.wrong(line, format!("{at}.ca: {}", error.what), error.remedy);
    }
    BackendTls { ca, name: raw.name.as_ref().map(|name| name.value.clone()) }
}
