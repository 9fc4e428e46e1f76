//! Certificates and trust that change while connections live.

use holdline_core::policy::ProviderPolicy;
use holdline_core::snapshot::Snapshot;
use rustls::server::UnbufferedServerConnection;

use super::*;
use crate::config::model::{BackendTls, Config};
use crate::config::{Programs, parse_with};
use crate::net::tls::*;
use crate::telemetry::Metrics;

/// A configuration with these listeners, its files in `dir`.
fn config(dir: &Dir, listeners: &str) -> Config {
    let text = format!(
        "listeners: {listeners}\nfleets: {{ chat: {{ backends: {{ static: [ {{ address: \"127.0.0.1:1\" }} ] }}, capacity: 1 }} }}\n"
    );
    parse_with(&text, "test", dir.path(), Programs::LookUp).unwrap_or_else(|e| panic!("{e}"))
}

/// The connector of a fleet with these settings.
pub(super) fn connector(settings: BackendTls) -> Arc<Connector> {
    let policy = Arc::new(crate::test_policy::fleet("chat", ProviderPolicy::Static(Vec::new())));
    let mut config = config(&Dir::new("none"), "[ { address: \"127.0.0.1:0\" } ]");
    config.fleets[0].tls = Some(settings);
    Arc::clone(Store::load(&config).unwrap().connector(&policy.name).unwrap())
}

/// The certificate that a client that asks for `asked` is shown.
fn shown(authority: &Authority, config: Arc<ServerConfig>, asked: &str) -> Option<Vec<u8>> {
    let mut client = ClientConnection::new(Arc::new(authority.client(&TLS12)), name(asked)).unwrap();
    let mut records = Records::new(Engine::Server(UnbufferedServerConnection::new(config).unwrap()));
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut buffer = vec![0; OUTPUT_MAX];
    let mut out = Output::new(&mut buffer);
    records.receive(&mut hello, None, &mut out).ok()?;
    client.read_tls(&mut &out.pieces().concat()[..]).unwrap();
    // Whether the client likes it is not the question; it is among what it read.
    let _ = client.process_new_packets();
    Some(out.pieces().concat())
}

fn der(pem: &Pem) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.cert.as_bytes()).unwrap().to_vec()
}

fn holds(answer: &[u8], pem: &Pem) -> bool {
    let der = der(pem);
    answer.windows(der.len()).any(|w| w == der)
}

#[test]
fn an_exact_name_comes_before_a_wildcard_and_that_before_the_first() {
    let (dir, authority) = (Dir::new("sni"), Authority::new());
    let pems = [&["first.test"][..], &["*.chat.test"], &["a.chat.test", "other.test"]].map(|names| authority.sign(names));
    pems.iter().enumerate().for_each(|(n, pem)| dir.write_pem(&n.to_string(), pem));
    let certificates = "[ { cert: 0.crt, key: 0.key }, { cert: 1.crt, key: 1.key }, { cert: 2.crt, key: 2.key } ]";
    let config = config(&dir, &format!("[ {{ address: \"127.0.0.1:0\", tls: {{ certificates: {certificates} }} }} ]"));
    let store = Store::load(&config).unwrap();
    for (asked, expected) in [
        ("first.test", 0),
        ("a.chat.test", 2),
        ("A.Chat.Test", 2),
        ("b.chat.test", 1),
        ("chat.test", 0),
        ("x.b.chat.test", 0),
        ("other.test", 2),
        ("unknown.test", 0),
        ("127.0.0.1", 0),
    ] {
        let answer = shown(&authority, store.server(&config.listeners[0]).unwrap(), asked).unwrap();
        let found: Vec<usize> = (0..3).filter(|n| holds(&answer, &pems[*n])).collect();
        assert_eq!(found, [expected], "{asked}");
    }
}

#[test]
fn an_old_version_is_refused_where_it_is_not_wanted() {
    let (dir, authority) = (Dir::new("versions"), Authority::new());
    dir.write_pem("tls", &authority.sign(&["x.test"]));
    let tls = |min: &str| format!("{{ certificates: [ {{ cert: tls.crt, key: tls.key }} ], min_version: \"{min}\" }}");
    let listeners =
        format!("[ {{ address: \"127.0.0.1:0\", tls: {} }}, {{ address: \"127.0.0.1:0\", tls: {} }} ]", tls("1.2"), tls("1.3"));
    let config = config(&dir, &listeners);
    let store = Store::load(&config).unwrap();
    let answers = [0, 1].map(|n| shown(&authority, store.server(&config.listeners[n]).unwrap(), "x.test").is_some());
    assert_eq!(answers, [true, false]);
}

#[tokio::test(start_paused = true)]
async fn new_files_are_shown_and_broken_ones_change_nothing() {
    let (dir, authority) = (Dir::new("reload"), Authority::new());
    let (old, new, last) = (authority.sign(&["x.test"]), authority.sign(&["x.test"]), authority.sign(&["x.test"]));
    dir.write_pem("tls", &old);
    let config = config(&dir, "[ { address: \"127.0.0.1:0\", tls: { certificates: [ { cert: tls.crt, key: tls.key } ] } } ]");
    let store = Store::load(&config).unwrap();
    let metrics = Metrics::new();
    // Between the reading and the watch.
    dir.write_pem("tls", &new);
    let following = tokio::spawn(Arc::clone(&store).follow(Arc::clone(&metrics)));
    let shows = |pem: &Pem| holds(&shown(&authority, store.server(&config.listeners[0]).unwrap(), "x.test").unwrap(), pem);
    let count = |result: &str| {
        let snapshot = Snapshot { version: 1, at: Default::default(), fleets: Vec::new(), shutting_down: false };
        let line = format!("holdline_tls_reloads_total{{result=\"{result}\"}} ");
        let text = metrics.render(&snapshot, Default::default());
        text.lines().find_map(|l| l.strip_prefix(&line)?.parse::<u32>().ok()).unwrap_or(0)
    };
    until(|| shows(&new)).await;
    // A key alone does not fit.
    dir.write("tls.key", &last.key);
    until(|| count("failed") == 1).await;
    assert!(shows(&new));
    // By a rename, as certificate managers do it.
    std::fs::rename(dir.write("tls.crt.new", &last.cert), dir.path().join("tls.crt")).unwrap();
    until(|| shows(&last)).await;
    assert_eq!((count("ok"), count("failed")), (2, 1));
    following.abort();
}

async fn until(is_so: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("it never came");
}
