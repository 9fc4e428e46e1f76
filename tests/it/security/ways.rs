//! A handshake that is the first thing said takes another way than one behind a plain request, which hyper reads. What comes of it must
//! not tell which.

use tokio::io::AsyncWriteExt;

use super::scripted::Reply;
use super::{Edge, HANDSHAKE, SWITCH, head, one_answer};

/// A request that leaves the connection with hyper for a second.
const FIRST: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn a_head_means_the_same_first_and_behind_another() {
    let edge = Edge::start(|request| {
        let request = request.to_ascii_lowercase();
        if request.contains("upgrade: websocket") {
            Reply::bytes(format!("{SWITCH}\r\n")).close()
        } else if request.contains("accept: text/event-stream\r\n") {
            Reply::bytes("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n").close()
        } else {
            Reply::ok()
        }
    })
    .await;
    let mut statuses = Vec::new();
    for request in requests() {
        let first = told(&edge, &request, false).await;
        let behind = told(&edge, &request, true).await;
        assert_eq!(first, behind, "{request:?}");
        statuses.push(first.0[9..12].to_owned());
    }
    // The list has something of everything.
    for status in ["101", "200", "400", "417", "426"] {
        assert!(statuses.iter().any(|s| s == status), "{status} is not in {statuses:?}");
    }
    edge.is_free().await;
}

fn requests() -> Vec<String> {
    let with = |more: &str| format!("{HANDSHAKE}{more}\r\n");
    let but = |from: &str, to: &str| {
        assert!(HANDSHAKE.contains(from), "{from}");
        format!("{}\r\n", HANDSHAKE.replacen(from, to, 1))
    };
    let stream = |more: &str| format!("GET /events HTTP/1.1\r\nHost: h\r\n{more}\r\n");
    vec![
        with(""),
        with("Cookie: a=b\r\nCookie: c=d\r\nX-A: 1\r\nx-a: \u{fc}\r\nX-B:\r\nX-C: \t d \t\r\n"),
        with("X-Forwarded-For: 6.6.6.6\r\nHoldline-Session: forged\r\nForwarded: for=6.6.6.6\r\n"),
        with("Content-Length: 0\r\n"),
        with("Expect: 100-continue\r\n"),
        with("Expect: tea\r\n"),
        with("Host: other\r\n"),
        with("Connection: x-secret\r\nX-Secret: 1\r\n"),
        format!("\r\n{}", with("")),
        but("/ws", "/ws?x=%20&y#z"),
        but("/ws", "http://h/ws?x"),
        but("/ws", "http://other/ws"),
        but("/ws", "/\u{e4}"),
        but("/ws", "*"),
        but("GET", "POST"),
        but("HTTP/1.1", "HTTP/1.0"),
        but("Host: h\r\n", ""),
        but("Host: h", "Host: h@i"),
        but("websocket", "h2c, WebSocket"),
        but("websocket", "h2c"),
        but("Version: 13", "Version: 8"),
        but("dGhlIHNhbXBsZSBub25jZQ==", "short"),
        stream("Accept: text/event-stream\r\n"),
        stream("accept: TEXT/Event-Stream;q=0\r\n"),
        stream("Accept: text/event-stream\r\nContent-Length: 0\r\n"),
        stream("Accept: text/event-stream\r\nExpect: tea\r\n"),
        stream("Accept: text/html\r\n"),
    ]
}

/// The head of the answer, and what the backend was sent.
async fn told(edge: &Edge, request: &str, is_behind: bool) -> (String, String) {
    let mut client = edge.connect().await;
    if is_behind {
        client.write_all(FIRST.as_bytes()).await.unwrap();
        assert!(one_answer(&mut client).await.starts_with("HTTP/1.1 200 "));
    }
    let before: Vec<usize> = edge.backend.received().iter().map(String::len).collect();
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = head(&mut client).await;
    let after = edge.backend.received();
    let new = after.iter().enumerate().map(|(i, all)| &all[before.get(i).copied().unwrap_or_default()..]);
    (masked(&answer), masked(&new.collect::<String>()))
}

/// Without what differs from one session to the next, and without the time.
fn masked(text: &str) -> String {
    let is_kept = |line: &&str| !["holdline-session: ", "date: "].iter().any(|name| line.to_ascii_lowercase().starts_with(name));
    text.split_inclusive("\r\n").filter(is_kept).collect()
}
