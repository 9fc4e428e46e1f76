//! Which backend takes a session, end to end: each way to balance, and affinity over a restart.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::TestDir;
use crate::support::backend::Backend;
use crate::support::client::{self, Socket};
use crate::support::holdline::Holdline;

async fn start(backends: &[Backend], rest: &str) -> Holdline {
    let list: Vec<_> = backends.iter().enumerate().map(|(i, b)| format!("{{ id: b{i}, address: \"{}\" }}", b.address)).collect();
    let config = format!("fleets:\n  chat:\n    backends: {{ static: [ {} ] }}\n    {rest}\n", list.join(", "));
    let holdline = Holdline::start(&config);
    holdline.until_ready().await;
    holdline
}

async fn backends(count: usize) -> Vec<Backend> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(Backend::start().await);
    }
    all
}

async fn sessions(holdline: &Holdline, count: usize) -> Vec<Socket> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(client::websocket(holdline.address, "/").await.unwrap());
    }
    all
}

fn counts(backends: &[Backend]) -> Vec<u32> {
    let mut counts: Vec<_> = backends.iter().map(Backend::sessions).collect();
    counts.sort_unstable();
    counts
}

#[tokio::test]
async fn packed_fills_one_backend_to_its_fill_before_the_next() {
    let backends = backends(3).await;
    let holdline = start(&backends, "capacity: 10\n    fill: 80%\n    balance: packed").await;
    let mut held = sessions(&holdline, 8).await;
    assert_eq!(counts(&backends), [0, 0, 8]);
    held.extend(sessions(&holdline, 9).await);
    assert_eq!(counts(&backends), [1, 8, 8]);
    // Above the fill of all of them, the emptiest: every seat is used in the end.
    held.extend(sessions(&holdline, 13).await);
    assert_eq!(counts(&backends), [10, 10, 10]);
}

#[tokio::test]
async fn random_of_two_spreads_sessions_and_finds_the_last_seat() {
    let backends = backends(4).await;
    let holdline = start(&backends, "capacity: 20\n    balance: random-of-two").await;
    let mut held = sessions(&holdline, 40).await;
    // The emptier of two: no backend gets far ahead, and none is forgotten.
    let spread = counts(&backends);
    assert!(spread[0] >= 5 && spread[3] <= 15, "{spread:?}");
    held.extend(sessions(&holdline, 40).await);
    assert_eq!(counts(&backends), [20, 20, 20, 20]);
}

#[tokio::test]
async fn a_hashed_user_finds_its_backend_again_after_a_restart() {
    let backends = backends(4).await;
    let mut homes: Vec<Value> = Vec::new();
    for _ in 0..2 {
        let holdline = start(&backends, "capacity: 100\n    affinity: { by: header, name: X-User }").await;
        let mut held = Vec::new();
        for user in ["ann", "bob", "cleo", "dan", "eve"] {
            held.push(client::websocket_with(holdline.address, "/", &[("x-user", user)]).await.unwrap());
        }
        let fleet = holdline.until("all are counted", |fleet| fleet["sessions"] == 5).await;
        let counts = fleet["backends"].as_array().unwrap().iter().map(|b| b["sessions"].clone()).collect();
        homes.push(Value::Array(counts));
    }
    assert_eq!(homes[0], homes[1]);
}

/// A WebSocket that brings `cookie`, and the cookie that its handshake sets.
async fn with_cookie(holdline: &Holdline, cookie: Option<&str>) -> (TcpStream, Option<String>) {
    let mut stream = TcpStream::connect(holdline.address).await.unwrap();
    let cookie = cookie.map_or(String::new(), |c| format!("Cookie: {c}\r\n"));
    let request = format!(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{cookie}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let set = head.lines().find_map(|l| l.to_ascii_lowercase().starts_with("set-cookie: ").then(|| &l["set-cookie: ".len()..]));
    (stream, set.map(|c| c.split(';').next().unwrap().to_owned()))
}

/// Where the only session is.
async fn home(holdline: &Holdline) -> usize {
    let fleet = holdline.until("one session", |fleet| fleet["sessions"] == 1).await;
    fleet["backends"].as_array().unwrap().iter().position(|b| b["sessions"] == 1).unwrap()
}

#[tokio::test]
async fn a_cookie_leads_back_after_a_restart_and_after_its_key_was_replaced() {
    let (backends, dir) = (backends(4).await, TestDir::new());
    let key_file = dir.path().join("affinity.key");
    let (old, new) = ("a".repeat(64), "b".repeat(64));
    let rest = format!("capacity: 10\n    affinity: {{ by: cookie, key_file: \"{}\" }}", key_file.display());
    std::fs::write(&key_file, &old).unwrap();

    let holdline = start(&backends, &rest).await;
    let (stream, cookie) = with_cookie(&holdline, None).await;
    let (first, cookie) = (home(&holdline).await, cookie.unwrap());
    drop((stream, holdline));
    for keys in [old.clone(), format!("{new}\n{old}\n")] {
        std::fs::write(&key_file, keys).unwrap();
        // Again and again: one in four would find it by chance.
        for _ in 0..4 {
            let holdline = start(&backends, &rest).await;
            let (_stream, _) = with_cookie(&holdline, Some(&cookie)).await;
            assert_eq!(home(&holdline).await, first);
        }
    }
}
