//! The same deltas in three ways.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;

use crate::double::Double;
use crate::support::{Node, PATIENCE, hear, seqs};

const DELTA: &str = r#"{"seq":3,"at":1764000000,"action":"create","comment":3,"user":"ann","text":"three"}"#;

/// An api with three deltas in `r`, and a node.
async fn three_deltas() -> (Double, Node) {
    let api = Double::start(&["r", "elsewhere"]);
    for text in ["one", "two", "three"] {
        api.write("r", text);
    }
    api.set_presence("r", 12);
    let node = Node::ready(&api.url(), &["--name", "n-1"]).await;
    (api, node)
}

#[tokio::test]
async fn a_websocket_hears_hello_what_it_missed_and_what_comes() {
    let (api, node) = three_deltas().await;
    let (mut resumed, hello) = node.joined("r?after=1").await;
    assert_eq!(hello, json!({ "node": "n-1", "room": "r", "seq": 3, "presence": 12 }));
    let (mut new, _) = node.joined("r").await;
    assert_eq!(seqs(&mut resumed, 1).await, [2]);
    let message = tokio::time::timeout(PATIENCE, resumed.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(message, Message::text(DELTA), "as it is in the readme, to the byte");
    api.write("elsewhere", "not for them");
    assert_eq!(api.write("r", "four"), 4);
    assert_eq!((seqs(&mut resumed, 1).await, seqs(&mut new, 1).await), (vec![4], vec![4]));
}

#[tokio::test]
async fn a_websocket_is_ponged_and_told_that_mutations_go_elsewhere() {
    let (api, node) = three_deltas().await;
    let (mut socket, _) = node.joined("r").await;
    socket.send(Message::text(r#"{"ping":7}"#)).await.unwrap();
    assert_eq!(hear(&mut socket).await, json!({ "pong": 7 }));
    for n in 0..10 {
        let mutation = [r#"{"action":"like","comment":1}"#, "no JSON", r#"{"ping":-1}"#, r#"{"ping":1,"more":2}"#][n % 4];
        socket.send(if n == 5 { Message::binary(mutation) } else { Message::text(mutation) }).await.unwrap();
        let error = hear(&mut socket).await["error"].clone();
        assert_eq!(error["type"], "urn:live:problem:not-over-websocket");
        assert!(error["detail"].as_str().unwrap().contains("POST /api/rooms/"), "{error}");
    }
    assert_eq!(close_code(&mut socket).await, Some(1008));
    assert_eq!(api.asked(), 2, "nothing of it went to the api");
}

#[tokio::test]
async fn a_message_that_is_too_long_is_closed_with_1009() {
    let (_api, node) = three_deltas().await;
    let (mut socket, _) = node.joined("r").await;
    socket.send(Message::text("x".repeat(4_097))).await.unwrap();
    assert_eq!(close_code(&mut socket).await, Some(1009));
    // One that says that it is 1 MiB long, and of which nothing follows.
    let (mut socket, _) = node.joined("r").await;
    socket.get_mut().write_all(&[0x81, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 1, 2, 3, 4]).await.unwrap();
    assert_eq!(close_code(&mut socket).await, Some(1009));
    node.counts(0).await;
}

#[tokio::test]
async fn an_event_stream_has_ids_and_goes_on_after_the_last_one() {
    let (api, node) = three_deltas().await;
    let mut events = node.events("r?after=0", "Last-Event-ID: 2\r\n").await;
    assert_eq!(events.line().await, "HTTP/1.1 200 OK");
    while !events.line().await.starts_with("retry: 1000") {}
    let [name, data] = events.event().await;
    let hello: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&*name, hello), ("event: hello", json!({ "node": "n-1", "room": "r", "seq": 3, "presence": 12 })));
    assert_eq!(events.event().await, ["id: 3".to_owned(), format!("data: {DELTA}")]);
    api.write("r", "four\nlines\r\nof it");
    let [id, data] = events.event().await;
    assert!(id == "id: 4" && data.contains(r#""text":"four\nlines\r\nof it""#), "{id} {data}");
    api.set_presence("r", 13);
    assert_eq!(events.event().await, ["event: presence", "data: 13"]);
}

#[tokio::test]
async fn a_poll_is_answered_at_once_with_what_is_missing_or_when_it_comes() {
    let (api, node) = three_deltas().await;
    let first = node.get("/live/poll/r").await;
    assert_eq!(first, (200, json!({ "node": "n-1", "seq": 3, "presence": 12, "deltas": [] })));
    let (status, missed) = node.get("/live/poll/r?after=2").await;
    let three: Value = serde_json::from_str(DELTA).unwrap();
    assert_eq!((status, missed), (200, json!({ "node": "n-1", "seq": 3, "presence": 12, "deltas": [three] })));
    let waits = node.get("/live/poll/r?after=3");
    let write = async {
        node.counts(1).await;
        api.write("r", "four");
    };
    let ((status, news), ()) = tokio::join!(waits, write);
    assert_eq!((status, &news["seq"], &news["deltas"][0]["text"]), (200, &json!(4), &json!("four")));
}

#[tokio::test]
async fn who_cannot_have_a_session_is_told_before_it_begins() {
    let (api, node) = three_deltas().await;
    for (path, status, kind) in [
        ("unknown", 404, "unknown-room"),
        ("r?after=4", 400, "from-the-future"),
        ("r?after=-1", 400, "invalid"),
        ("r%20r", 400, "invalid"),
    ] {
        let answers = [
            node.refused(path).await,
            node.get(&format!("/live/events/{path}")).await,
            node.get(&format!("/live/poll/{path}")).await,
        ];
        for (got, problem) in answers {
            assert_eq!((got, &problem["type"]), (status, &json!(format!("urn:live:problem:{kind}"))), "{path}");
            assert!(kind != "from-the-future" || problem["seq"] == 3, "{problem}");
        }
    }
    assert_eq!(node.get("/live/ws/r").await.0, 400, "no WebSocket");
    let stats = node.get("/stats").await.1;
    assert_eq!((&stats["sessions_total"], &stats["pos"]), (&json!(0), &json!(3)), "nobody was a session");
    api.make("unknown");
    node.joined("unknown").await;
}

async fn close_code(socket: &mut crate::support::Socket) -> Option<u16> {
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.expect("an end") {
            Some(Ok(Message::Close(frame))) => return frame.map(|f| f.code.into()),
            Some(Ok(_)) => {}
            _ => return None,
        }
    }
}
