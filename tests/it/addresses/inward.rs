//! What Holdline believes of a client: PROXY headers and X-Forwarded-* of those it trusts.

use std::collections::HashSet;
use std::net::SocketAddr;

use holdline_core::wire::proxy;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Listening, PROXY, STRANGER, V1, config, connect_from, exchange, get, proxied, served, session, v2};
use crate::support::holdline::Holdline;
use crate::support::soon;
use crate::tls::Certificates;

#[tokio::test]
async fn a_client_behind_a_proxy_is_itself() {
    let (holdline, mut backend) = proxied().await;
    for (header, client) in [
        (V1.to_vec(), "203.0.113.9:4711"),
        (v2("198.51.100.7:80"), "198.51.100.7:80"),
        (v2("[2001:db8::7]:9"), "[2001:db8::7]:9"),
    ] {
        let request = get("X-Forwarded-For: 6.6.6.6\r\n");
        let ip = client.parse::<SocketAddr>().unwrap().ip().to_string();
        let whole = [header.as_slice(), &request].concat();
        let in_two: Vec<_> = vec![header.as_slice(), &request];
        for pieces in [in_two, whole.chunks(1).collect()] {
            served(PROXY, holdline.address, &pieces).await;
            assert_eq!(backend.next().await.x_forwarded_for(), ip, "{} pieces", pieces.len());
            assert_eq!(holdline.log_line("\"message\":\"request\"")["client"], client);
        }
        let held = session(PROXY, holdline.address, &header, "").await;
        assert_eq!(backend.next().await.x_forwarded_for(), ip);
        assert_eq!(holdline.get("/v1/sessions").await["sessions"][0]["client"], client);
        drop(held);
        holdline.until("it left", |fleet| fleet["sessions"] == 0).await;
    }
    assert_eq!(bad(&holdline).await, 0.0);
}

#[tokio::test]
async fn a_proxy_that_speaks_for_itself_or_for_nobody_known_has_its_own_address() {
    let (holdline, mut backend) = proxied().await;
    let request = get("X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n");
    served(PROXY, holdline.address, &[&proxy::LOCAL, &request]).await;
    let heard = backend.next().await;
    assert_eq!(
        (heard.x_forwarded_for().as_str(), heard.field("x-forwarded-proto").concat().as_str()),
        ("203.0.113.9, 127.0.0.1", "https")
    );
    // Whoever it is that speaks through the proxy, it is not the proxy.
    served(PROXY, holdline.address, &[b"PROXY UNKNOWN\r\n", &request]).await;
    let heard = backend.next().await;
    assert_eq!((heard.x_forwarded_for().as_str(), heard.field("x-forwarded-proto").concat().as_str()), ("127.0.0.1", "http"));
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let (certificates, mut backend) = (Certificates::new(), Listening::start().await);
    let tls = certificates.listeners();
    let tls = &tls[tls.find(", tls:").unwrap()..tls.rfind(" } ]").unwrap()];
    let holdline = Holdline::start(&config(backend.address, "[ 127.0.0.1 ]", &format!("{tls}, proxy_protocol: true")));
    holdline.until_ready().await;
    for header in [V1, &v2("203.0.113.9:4711")] {
        let mut stream = connect_from(PROXY, holdline.address).await;
        stream.write_all(header).await.unwrap();
        let mut stream = certificates.connect_over(stream).await;
        stream.write_all(&get("")).await.unwrap();
        let mut answer = String::new();
        soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.ends_with("ok"), "{answer}");
        let heard = backend.next().await;
        assert_eq!(
            (heard.x_forwarded_for().as_str(), heard.field("x-forwarded-proto").concat().as_str()),
            ("203.0.113.9", "https")
        );
    }
}

async fn bad(holdline: &Holdline) -> f64 {
    holdline.metric("holdline_bad_input_total", "reason=\"proxy_protocol\"").await
}

/// Who knocks is no bad input; whoever comes after must be counted alone.
async fn knock(to: SocketAddr) {
    for host in [PROXY, STRANGER] {
        let mut stream = connect_from(host, to).await;
        stream.shutdown().await.unwrap();
        assert_eq!(soon("an end", stream.read(&mut [0; 1])).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn row_27_a_connection_that_does_not_begin_with_a_proxy_header() {
    let (holdline, mut backend) = proxied().await;
    let signature = &proxy::LOCAL[..12];
    let too_long = [signature, &[0x21, 0x11, 0xff, 0xff], &[0; 9_000]].concat();
    let bad_ones: &[&[u8]] = &[
        &get(""),
        b"\x16\x03\x01\x02\0\x01",
        b"PROXY TCP4 203.0.113.9 198.51.100.1 +4711 443\r\nGET / HTTP/1.1\r\n",
        b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\nGET / HTTP/1.1\r\n",
        &[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200], b"\r\n"].concat(),
        &[signature, &[0x31, 0x11, 0, 12], &[0; 12]].concat(),
        &too_long,
    ];
    knock(holdline.address).await;
    for (n, bytes) in bad_ones.iter().enumerate() {
        assert_eq!(exchange(PROXY, holdline.address, &[bytes]).await, "", "{:?}", String::from_utf8_lossy(bytes));
        assert_eq!(bad(&holdline).await, (n + 1) as f64, "{:?}", String::from_utf8_lossy(bytes));
    }
    // One that breaks off.
    let mut torn = connect_from(PROXY, holdline.address).await;
    torn.write_all(b"PROXY TCP4 ").await.unwrap();
    torn.shutdown().await.unwrap();
    let mut rest = Vec::new();
    assert_eq!(soon("the end", torn.read_to_end(&mut rest)).await.unwrap(), 0);
    assert_eq!(bad(&holdline).await, bad_ones.len() as f64 + 1.0);
    // The next is served, and none of the others was.
    served(PROXY, holdline.address, &[V1, &get("X-Last: 1\r\n")]).await;
    assert!(!backend.next().await.field("x-last").is_empty());
}

#[tokio::test]
async fn row_27_a_proxy_header_from_somebody_who_is_not_trusted() {
    let (holdline, mut backend) = proxied().await;
    knock(holdline.address).await;
    assert_eq!(exchange(STRANGER, holdline.address, &[V1, &get("")]).await, "");
    assert_eq!(exchange(STRANGER, holdline.address, &[&proxy::LOCAL, &get("")]).await, "");
    assert_eq!(bad(&holdline).await, 2.0);
    served(PROXY, holdline.address, &[V1, &get("X-Last: 1\r\n")]).await;
    assert!(!backend.next().await.field("x-last").is_empty());
}

#[tokio::test]
async fn row_27_a_proxy_header_that_does_not_come_in_time() {
    let backend = Listening::start().await;
    let text = config(backend.address, "[ 127.0.0.1 ]", ", proxy_protocol: true") + "limits: { head_timeout: 200ms }\n";
    let holdline = Holdline::start(&text);
    for sent in [&b""[..], b"PROXY TCP4 ", &proxy::LOCAL[..15]] {
        assert_eq!(exchange(PROXY, holdline.address, &[sent]).await, "");
    }
    assert_eq!(bad(&holdline).await, 3.0);
}

#[tokio::test]
async fn row_23_forwarded_fields_are_believed_of_trusted_proxies_alone() {
    let mut backend = Listening::start().await;
    let holdline = Holdline::start(&config(backend.address, "[ 127.0.0.1, \"10.0.0.0/8\" ]", ""));
    holdline.until_ready().await;
    let fields = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.9, 10.0.0.2\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: outside.example\r\nX-Forwarded-User: root\r\nX_Forwarded_For: 7.7.7.7\r\nForwarded: for=8.8.8.8\r\n\
        Holdline-Session: forged\r\n";
    for host in [PROXY, STRANGER] {
        let is_proxy = host == PROXY;
        let mut last = Value::Null;
        served(host, holdline.address, &[&get(fields)]).await;
        let plain = backend.next().await;
        last["request"] = holdline.log_line("\"message\":\"request\"")["client"].clone();
        let held = session(host, holdline.address, b"", fields).await;
        let upgraded = backend.next().await;
        last["session"] = holdline.get("/v1/sessions").await["sessions"][0]["client"].clone();
        drop(held);
        holdline.until("it left", |fleet| fleet["sessions"] == 0).await;
        for heard in [plain, upgraded] {
            let told = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-user"]
                .map(|f| heard.field(f).join(" | "));
            match is_proxy {
                true => assert_eq!(
                    told,
                    ["6.6.6.6, 203.0.113.9, 10.0.0.2, 127.0.0.1", "https", "outside.example", "root"],
                    "{heard:?}"
                ),
                false => assert_eq!(told, [STRANGER, "http", "h", ""], "{heard:?}"),
            }
            assert!(
                !heard.head.contains("7.7.7.7") && !heard.head.contains("8.8.8.8") && !heard.head.contains("forged"),
                "{heard:?}"
            );
        }
        for (what, client) in last.as_object().unwrap() {
            let client = client.as_str().unwrap();
            assert!(if is_proxy { client == "203.0.113.9:0" } else { client.starts_with("127.0.0.2:") }, "{what}: {client}");
        }
    }
}

#[tokio::test]
async fn affinity_by_address_is_by_that_of_the_client_behind_the_proxy() {
    let (mut a, mut b) = (Listening::start().await, Listening::start().await);
    let fleet = format!(
        "trusted: [ 127.0.0.1 ]\nfleets:\n  chat:\n    backends:\n      static: [ {{ id: a, address: \"{}\" }}, {{ id: b, address: \"{}\" }} ]\n    \
         capacity: 100\n    affinity: {{ by: address }}\n",
        a.address, b.address
    );
    let holdline = Holdline::start(&fleet);
    holdline.until_ready().await;
    let mut chosen = HashSet::new();
    for client in 1..=12 {
        let mut own = HashSet::new();
        // What a client says of itself stands further left, and changes nothing.
        for lie in ["", "6.6.6.6, ", "203.0.113.200, 127.0.0.1, "] {
            let fields = format!("X-Forwarded-For: {lie}203.0.113.{client}\r\n");
            let held = session(PROXY, holdline.address, b"", &fields).await;
            own.insert(tokio::select! { _ = a.next() => "a", _ = b.next() => "b" });
            drop(held);
        }
        assert_eq!(own.len(), 1, "client {client}");
        chosen.extend(own);
    }
    assert_eq!(chosen.len(), 2, "all clients are one");
}
