//! Files of TLS: exactly what is said about each that is not what it should be.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::files::Scratch;
use super::{error_of, model_of};
use crate::config::load;
use crate::config::model::{BackendTls, CertificateFiles, ListenerTls, TlsVersion};

const TEXT: &str = r#"
listeners:
  - address: "127.0.0.1:0"
    tls:
      certificates:
        - cert: tls.crt
          key: keys/../tls.key
fleets:
  chat:
    backends:
      static: [ { address: "127.0.0.1:9001" } ]
      tls: { ca: ca.crt, name: backend.internal }
    capacity: 10
"#;

/// A certificate and its key in PEM.
fn signed(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::new(vec!["x.test".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn what_is_written_is_meant() {
    let config = model_of(TEXT);
    let certificates =
        vec![CertificateFiles { cert: "/srv/holdline/tls.crt".into(), key: "/srv/holdline/keys/../tls.key".into() }];
    let mut expected = ListenerTls { certificates, min_version: TlsVersion::V12 };
    assert_eq!(config.listeners[0].tls.as_ref(), Some(&expected));
    let ca = Some("/srv/holdline/ca.crt".into());
    assert_eq!(config.fleets[0].tls, Some(BackendTls { ca, name: Some("backend.internal".to_owned()) }));
    expected.min_version = TlsVersion::V13;
    let newer = TEXT.replace("      certificates:", "      min_version: \"1.3\"\n      certificates:");
    assert_eq!(model_of(&newer).listeners[0].tls.as_ref(), Some(&expected));
    let unquoted = newer.replace("\"1.3\"", "1.3");
    assert_eq!(model_of(&unquoted).listeners[0].tls.as_ref(), Some(&expected));
}

#[test]
fn values_that_cannot_be_meant() {
    let old = TEXT.replace("      certificates:", "      min_version: \"1.1\"\n      certificates:");
    assert!(
        error_of(&old).starts_with("holdline.yaml:5:20: unknown value `1.1`, expected one of 1.2, 1.3"),
        "{}",
        error_of(&old)
    );
    let none = "listeners: [ { address: \"127.0.0.1:0\", tls: { certificates: [] } } ]\nfleets: {}\n";
    assert!(error_of(none).contains("listeners.tls.certificates is empty; add one: [ { cert: tls.crt, key: tls.key } ]"));
    let address = TEXT.replace("backend.internal", "10.0.0.7");
    assert!(error_of(&address).contains("holdline.yaml:12: fleets.chat.backends.tls.name is `10.0.0.7`, and not a DNS name; "));
}

#[test]
fn each_file_is_named_with_its_line_and_what_to_do() {
    let dir = Scratch::new("tls");
    let file = dir.write("holdline.yaml", TEXT.replace("keys/../", "").as_bytes());
    let at = |name: &str| dir.path(name).display().to_string();
    let error = || load(&file).unwrap_err().to_string();

    let missing = error();
    for (line, name) in [(6, "tls.crt"), (12, "ca.crt")] {
        let expected = format!("{}:{line}: ", file.display());
        let named = missing.lines().find(|l| l.starts_with(&expected)).unwrap_or_else(|| panic!("{missing}"));
        assert!(
            named.contains(&at(name)) && named.contains("cannot be read: No such file") && named.contains("; correct"),
            "{named}"
        );
    }

    let (cert, key) = signed(|_| ());
    dir.write("ca.crt", cert.as_bytes());
    dir.write("tls.key", key.as_bytes());
    for (content, expected) in [
        ("nothing".to_owned(), "contains no certificate; write it as PEM: it begins with -----BEGIN CERTIFICATE-----"),
        ("0\u{1}".to_owned(), "contains no certificate; write it as PEM: openssl x509 -inform der"),
        (cert[..200].to_owned(), "is not PEM: "),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), "cannot be used: "),
    ] {
        dir.write("tls.crt", content.as_bytes());
        let error = error();
        assert!(error.starts_with(&format!("{}:6: ", file.display())) && error.contains(expected), "{error}");
    }

    dir.write("tls.crt", cert.as_bytes());
    assert_eq!(load(&file).unwrap().warnings, Vec::<String>::new());
    for (content, expected) in [
        (signed(|_| ()).1, "does not match the first certificate of "),
        (cert.clone(), "contains no private key; write it as PEM"),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n".into(),
            "contains an encrypted key",
        ),
    ] {
        dir.write("tls.key", content.as_bytes());
        let error = error();
        assert!(error.starts_with(&format!("{}:7: ", file.display())) && error.contains(expected), "{error}");
    }
}

#[test]
fn a_certificate_out_of_its_time_is_a_warning() {
    let dir = Scratch::new("tls-time");
    let file = dir.write("holdline.yaml", TEXT.replace("keys/../", "").as_bytes());
    dir.write("ca.crt", signed(|_| ()).0.as_bytes());
    for (from, to, expected) in [(1990, 1991, "has expired"), (4000, 4001, "is not valid yet")] {
        let (cert, key) = signed(|params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        });
        dir.write("tls.crt", cert.as_bytes());
        dir.write("tls.key", key.as_bytes());
        let warnings = load(&file).unwrap().warnings;
        let expected = format!(
            "{}:6: listeners.tls.certificates: the certificate in {} {expected}; renew it, or set this machine's clock: most clients will refuse it",
            file.display(),
            dir.path("tls.crt").display()
        );
        assert_eq!(warnings, [expected]);
    }
}
