//! Upgrades that are none, or only half: rows 4 to 10.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::scripted::Reply;
use super::{Edge, GET, HANDSHAKE, SWITCH, head, one_answer, to_end};
use crate::support::client::PATIENCE;

#[tokio::test]
async fn row_04_bytes_behind_an_upgrade_that_is_not_spoken_are_http() {
    let edge = Edge::start(|_| Reply::ok()).await;
    let asked = "GET /first HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n";
    let answer = edge.exchange([asked, GET].concat()).await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{answer}");
    let answer = edge.exchange([asked, "\x01\x02\x03 no HTTP\n"].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("HTTP/1.1 400 "), "{answer}");
    let received = edge.backend.received().concat();
    assert!(!received.contains("pgrade") && !received.contains("no HTTP"), "{received}");
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_04_bytes_behind_a_handshake_that_fails_reach_nobody() {
    let edge = Edge::start(|request| match request.contains("/ws ") {
        true => Reply::ok().wait(),
        false => Reply::ok(),
    })
    .await;
    let answer = edge.exchange(format!("{HANDSHAKE}\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
    edge.backend.until_over(1, 0).await;
    assert!(!edge.backend.received().concat().contains("smuggled"));
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_05_a_handshake_with_a_body() {
    let edge = Edge::start(|_| Reply::ok()).await;
    for body in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Content-Length: 50\r\n\r\nhalf",
    ] {
        edge.refused(format!("{HANDSHAKE}{body}"), 400).await;
    }
    assert_eq!(edge.bad_input("handshake").await, 3.0);
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_06_an_ordinary_answer_with_an_upgrade_field() {
    let edge = Edge::start(|request| match request.contains("GET / ") {
        true => Reply::ok(),
        false => Reply::bytes(
            "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             Content-Length: 2\r\n\r\nno",
        ),
    })
    .await;
    for request in [format!("{HANDSHAKE}\r\n"), "GET /plain HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".to_owned()] {
        let answer = edge.exchange(&request).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nno"), "{answer}");
        assert!(!answer.contains("pgrade"), "{answer}");
    }
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_07_a_101_that_does_not_answer_the_handshake() {
    const SWITCHES: [&str; 9] = [
        "Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        "Connection: close\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        "Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        "Connection: Upgrade\r\nUpgrade: foo\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, foo\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: bm90IGl0\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Extensions: x\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: y\r\n",
    ];
    let edge = Edge::start(|request| {
        let number = request.split("X-Case: ").nth(1).or_else(|| request.split("x-case: ").nth(1));
        let case = number.and_then(|n| n.split('\r').next()?.parse::<usize>().ok());
        case.map_or_else(Reply::ok, |n| Reply::bytes(format!("HTTP/1.1 101 Switching Protocols\r\n{}\r\n", SWITCHES[n])).wait())
    })
    .await;
    for case in 0..SWITCHES.len() {
        let answer = edge.exchange(format!("{HANDSHAKE}X-Case: {case}\r\n\r\nearly abcd")).await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("holdline-cause: backend_invalid"), "{case}: {answer}");
        edge.backend.until_over(case + 1, 0).await;
    }
    let seen = edge.backend.received().concat();
    assert!(!seen.contains("abcd"), "early bytes went to a backend that was not believed");
    let event_stream = "GET / HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\nX-Case: 0\r\n\r\n";
    assert!(edge.exchange(event_stream).await.starts_with("HTTP/1.1 502 "));
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_08_a_wrong_version_stays_http() {
    let edge = Edge::start(|_| Reply::ok()).await;
    let wrong = format!("{}\r\n", HANDSHAKE.replace("Version: 13", "Version: 8"));
    let mut client = edge.connect().await;
    client.write_all(wrong.as_bytes()).await.unwrap();
    let answer = one_answer(&mut client).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 426 ") && answer.contains("sec-websocket-version: 13\r\n"), "{answer}");
    client.write_all(GET.as_bytes()).await.unwrap();
    assert!(to_end(&mut client).await.starts_with("HTTP/1.1 200 "));
    let answer = edge.exchange([wrong.as_bytes(), b"\x81\x85abcdefghi"].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 426 ") && answer.contains("HTTP/1.1 400 "), "raw bytes are no HTTP: {answer}");
    assert_eq!(edge.backend.received().len(), 1);
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_09_handshakes_that_break_the_rules() {
    let edge = Edge::start(|_| Reply::ok()).await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (from, to) in [
        (key, ""),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        (key, "Sec-WebSocket-Key: c2hvcnQ=\r\n"),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSBhbmQgbW9yZQ==\r\n"),
        (key, "Sec-WebSocket-Key: ????????????????????????\r\n"),
        (key, "Sec-WebSocket-Key:\r\n"),
        ("GET", "POST"),
    ] {
        edge.refused(format!("{}\r\n", HANDSHAKE.replace(from, to)), 400).await;
    }
    // Without the version or the token it is no handshake, but a request like any other.
    for (from, to) in [("HTTP/1.1", "HTTP/1.0"), ("Connection: Upgrade", "Connection: close")] {
        let answer = edge.exchange(format!("{}\r\n", HANDSHAKE.replace(from, to))).await;
        assert!(answer.contains(" 200 OK\r\n"), "{answer}");
    }
    let received = edge.backend.received().concat().to_ascii_lowercase();
    assert!(!received.contains("upgrade"), "{received}");
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_10_other_protocols_are_not_offered_to_backends() {
    let edge = Edge::start(|_| Reply::ok()).await;
    for upgrade in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: Upgrade\r\nUpgrade: foo\r\n",
    ] {
        let mut client = edge.connect().await;
        client.write_all(format!("GET / HTTP/1.1\r\nHost: h\r\n{upgrade}\r\n").as_bytes()).await.unwrap();
        assert!(one_answer(&mut client).await.starts_with("HTTP/1.1 200 "));
        // The preface of HTTP/2 is no request either.
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        assert!(to_end(&mut client).await.starts_with("HTTP/1.1 400 "));
    }
    let received = edge.backend.received().concat().to_ascii_lowercase();
    for gone in ["upgrade", "http2-settings", "h2c", "pri *"] {
        assert!(!received.contains(gone), "{gone}: {received}");
    }
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_10_a_session_keeps_the_bytes_behind_its_head() {
    let edge = Edge::start(|request| match request.contains("/ws ") {
        true => Reply::bytes(format!("{SWITCH}\r\n")).wait(),
        false => Reply::ok(),
    })
    .await;
    // No HTTP could begin so, and a request before it has its answer first.
    let before = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let frame = "\x01\x02early";
    let mut client = edge.connect().await;
    let masked: Vec<u8> = [0x82, 0x80 | frame.len() as u8, 0, 0, 0, 0].into_iter().chain(frame.bytes()).collect();
    client.write_all(&[before.as_bytes(), HANDSHAKE.as_bytes(), b"\r\n", &masked].concat()).await.unwrap();
    assert!(one_answer(&mut client).await.ends_with("ok"));
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
    edge.backend.until_received(frame).await;
    drop(client);
    edge.is_free().await;
    let mut again = edge.connect().await;
    again.write_all(format!("{HANDSHAKE}\r\n").as_bytes()).await.unwrap();
    assert!(head(&mut again).await.starts_with("HTTP/1.1 101 "));
    again.shutdown().await.unwrap();
    let _ = tokio::time::timeout(PATIENCE, again.read_to_end(&mut Vec::new())).await.expect("an end");
    edge.is_unharmed().await;
}
