//! Who is counted, and how a node ends.

use std::process::Command;

use futures_util::StreamExt;
use serde_json::json;

use crate::double::Double;
use crate::support::{Node, until};

#[tokio::test]
async fn heartbeat_and_statistics_count_every_session_once() {
    let api = Double::start(&["a", "b"]);
    let node = Node::ready(&api.url(), &["--capacity", "7"]).await;
    assert_eq!(node.heartbeat().await, json!({ "sessions": 0, "capacity": 7, "state": "ready", "queue": "up" }));
    let (mut polite, _) = node.joined("a").await;
    let (rude, _) = node.joined("a").await;
    let mut events = node.events("b", "").await;
    events.event().await;
    node.counts(3).await;
    assert_eq!(node.heartbeat().await["sessions"], 3);
    let here = json!({ "rooms": { "a": 2, "b": 1 } });
    let name = format!("node-{}", node.address.port());
    until("the report", async || api.report().filter(|report| *report == (name.clone(), here.clone()))).await;

    polite.close(None).await.unwrap();
    while let Some(Ok(_)) = polite.next().await {}
    assert_eq!(node.get("/stats").await.1["sessions"], 2, "counted out before its end was to be seen");
    drop((rude, events));
    let stats = node.counts(0).await;
    assert_eq!(stats, json!({ "sessions": 0, "sessions_max": 3, "sessions_total": 3, "pos": 0, "rooms": 2 }));
    until("the report", async || api.report().filter(|(_, here)| *here == json!({ "rooms": { "a": 0, "b": 0 } }))).await;
}

#[tokio::test]
async fn who_polls_keeps_its_seat_between_two_polls_if_holdline_says_who_it_is() {
    let api = Double::start(&["a"]);
    let node = Node::ready(&api.url(), &[]).await;
    for _ in 0..3 {
        node.get_with("/live/poll/a", "Holdline-Session: 000000000000000a\r\n").await;
        node.get_with("/live/poll/a", "Holdline-Session: 000000000000000b\r\n").await;
        node.get("/live/poll/a").await;
    }
    let stats = node.counts(2).await;
    assert_eq!(stats["sessions_total"], 5, "two of Holdline's, and three polls of nobody");
    let here = json!({ "rooms": { "a": 2 } });
    until("the report", async || api.report().filter(|(_, is)| *is == here)).await;
    node.counts(0).await;
    until("the report", async || api.report().filter(|(_, is)| *is == json!({ "rooms": { "a": 0 } }))).await;
}

#[tokio::test]
async fn sigterm_says_draining_and_ends_with_the_last_session() {
    let api = Double::start(&["a"]);
    let node = Node::ready(&api.url(), &["--stop-wait-ms", "600000"]).await;
    let (mut socket, _) = node.joined("a").await;
    node.terminate();
    until("draining", async || (node.heartbeat().await["state"] == "draining").then_some(())).await;
    api.write("a", "still here");
    assert_eq!(crate::support::seqs(&mut socket, 1).await, [1]);
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    assert!(node.exit().await.success());
}

#[tokio::test]
async fn its_patience_ends() {
    let api = Double::start(&["a"]);
    let node = Node::start(&api.url(), &["--stop-wait-ms", "50"]);
    let _socket = node.joined("a").await;
    node.terminate();
    assert!(node.exit().await.success());
}

#[test]
fn what_cannot_be_used_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (args, words) in [
        (["--port", &port], [&*port, "another --port"]),
        (["--name", "two words"], ["two words", "a-z"]),
        (["--api", "ftp://x"], ["ftp://x", "http://127.0.0.1:9101"]),
        (["--queue", "kafka://x"], ["--queue", "redis://HOST:PORT"]),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_live"));
        let output = command.arg("node").args(args).env("PORT", "0").output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && words.iter().all(|word| stderr.contains(word)), "{args:?}: {stderr}");
    }
}
