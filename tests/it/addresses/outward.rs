//! What backends are told of a client: the PROXY header that Holdline sends.

use std::net::SocketAddr;

use holdline_core::wire::proxy::Source;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Heard, Listening, PROXY, STRANGER, config, connect_from, get, served, session};
use crate::support::holdline::Holdline;
use crate::support::soon;
use crate::tls::Certificates;

/// A fleet whose backends are told whose each connection is.
fn introduced(backend: SocketAddr, backends: &str, more: &str) -> String {
    format!(
        "trusted: [ 127.0.0.1 ]\nfleets:\n  chat:\n    backends: {{ static: [ {{ id: a, address: \"{backend}\" }} ], proxy_protocol: v2{backends} }}\n    \
         capacity: 10\n{more}"
    )
}

fn from(heard: &Heard) -> String {
    match heard.introduction {
        Some(Source::Client { from, .. }) => from.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_backend_is_introduced_to_each_client_and_to_no_two_at_once() {
    let mut backend = Listening::start_with(true, None).await;
    let holdline = Holdline::start(&introduced(backend.address, "", ""));
    holdline.until_ready().await;
    // Two clients over one connection of a proxy, then one without a proxy.
    let mut stream = connect_from(PROXY, holdline.address).await;
    for client in ["203.0.113.9", "2001:db8::7"] {
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {client}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok") {
            answer.push(soon("an answer", stream.read_u8()).await.unwrap());
        }
        let heard = backend.next().await;
        assert_eq!(from(&heard), SocketAddr::new(client.parse().unwrap(), 0).to_string());
        assert_eq!(heard.field("connection"), ["close"]);
    }
    let mut stream = connect_from(STRANGER, holdline.address).await;
    let (own, to) = (stream.local_addr().unwrap(), holdline.address);
    stream.write_all(&get("")).await.unwrap();
    assert_eq!(backend.next().await.introduction, Some(Source::Client { from: own, to }));
    let held = session(STRANGER, holdline.address, b"", "").await;
    assert_eq!(from(&backend.next().await), held.local_addr().unwrap().to_string());
}

#[tokio::test]
async fn the_introduction_comes_before_tls_and_probes_speak_for_themselves() {
    let certificates = Certificates::new();
    certificates.write("backend", &["backend.internal"]);
    let tls = format!(", tls: {{ ca: {}, name: backend.internal }}", certificates.path("ca.crt").display());
    let mut backend = Listening::start_with(true, Some(certificates.acceptor("backend"))).await;
    let holdline = Holdline::start(&introduced(backend.address, &tls, "    heartbeat: { probe: http, path: /heartbeat }\n"));
    holdline.until_ready().await;
    let probe = soon("a probe", backend.heard.recv()).await.unwrap();
    assert!(probe.head.starts_with("GET /heartbeat ") && probe.introduction == Some(Source::Proxy), "{probe:?}");
    let held = session(STRANGER, holdline.address, b"", "").await;
    assert_eq!(from(&backend.next().await), held.local_addr().unwrap().to_string());
}

#[tokio::test]
async fn a_reload_changes_who_is_trusted_and_what_backends_are_told() {
    let (plain, mut backend) = (Listening::start().await, Listening::start_with(true, None).await);
    let holdline = Holdline::start(&config(plain.address, "[]", ""));
    holdline.until_ready().await;
    // Probes of kind tcp bring an introduction, too: the backend is ready only by connects, but tells what they said.
    holdline.configure(&introduced(backend.address, "", ""));
    let probe = soon("a probe", backend.heard.recv()).await.unwrap();
    assert!(probe.head.is_empty() && probe.introduction == Some(Source::Proxy), "{probe:?}");
    holdline.until_ready().await;
    served(PROXY, holdline.address, &[&get("X-Forwarded-For: 203.0.113.9\r\n")]).await;
    let heard = backend.next().await;
    assert_eq!((from(&heard).as_str(), heard.x_forwarded_for().as_str()), ("203.0.113.9:0", "203.0.113.9, 127.0.0.1"));
}
