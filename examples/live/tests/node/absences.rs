//! What is away for a while: the api, the queue, a client's attention.

use std::time::Duration;

use futures_util::SinkExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::double::Double;
use crate::support::{Node, PATIENCE, hear, seqs};

#[tokio::test]
async fn without_api_and_queue_it_takes_sessions_which_hear_hello_later() {
    let mut api = Double::stopped(&["r"]);
    let node = Node::start(&api.url(), &[]);
    assert_eq!(node.heartbeat().await, json!({ "sessions": 0, "state": "ready", "queue": "down" }));
    let mut known = node.websocket("r?after=1").await.unwrap();
    let mut unknown = node.websocket("nowhere").await.unwrap();
    let mut future = node.websocket("r?after=9").await.unwrap();
    node.counts(3).await;
    known.send(Message::text(r#"{"ping":1}"#)).await.unwrap();
    assert_eq!(hear(&mut known).await, json!({ "pong": 1 }));

    for text in ["one", "two", "three"] {
        api.write("r", text);
    }
    api.up();
    node.until_queue("up").await;
    assert_eq!(hear(&mut known).await["hello"]["seq"], 3);
    assert_eq!(seqs(&mut known, 2).await, [2, 3]);
    assert_eq!(hear(&mut unknown).await["error"]["type"], "urn:live:problem:unknown-room");
    assert_eq!(hear(&mut future).await["error"]["type"], "urn:live:problem:from-the-future");
    api.write("r", "four");
    assert_eq!(seqs(&mut known, 1).await, [4]);
}

#[tokio::test]
async fn sessions_outlive_an_absence_and_hear_all_that_was_written_meanwhile() {
    let mut api = Double::start(&["r"]);
    let node = Node::ready(&api.url(), &[]).await;
    let (mut socket, _) = node.joined("r").await;
    let mut events = node.events("r", "").await;
    events.event().await;
    for round in 0..3 {
        api.down().await;
        node.until_queue("down").await;
        // Some were stored before the queue went; the rest comes after.
        for n in 0..200 {
            api.write("r", &format!("{round} {n}"));
        }
        api.up();
        node.until_queue("up").await;
        let expected: Vec<u64> = (round * 200 + 1..=round * 200 + 200).collect();
        assert_eq!(seqs(&mut socket, 200).await, expected);
        for seq in expected {
            assert_eq!(events.event().await[0], format!("id: {seq}"));
        }
    }
    assert_eq!(node.heartbeat().await["sessions"], 2);
    assert_eq!(api.asked(), 1, "the queue had it all");
}

#[tokio::test]
async fn a_gap_in_the_queue_is_filled_from_the_api() {
    let api = Double::start(&["r"]);
    let node = Node::ready(&api.url(), &[]).await;
    let (mut socket, _) = node.joined("r").await;
    api.write("r", "one");
    for text in ["two", "three"] {
        api.write_unpublished("r", text);
    }
    for text in ["four", "five"] {
        api.write("r", text);
    }
    assert_eq!(seqs(&mut socket, 5).await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn who_lacks_more_than_is_kept_is_told_to_resync() {
    let api = Double::start(&["r"]);
    for n in 0..2_000 {
        api.write("r", &n.to_string());
    }
    api.keep_from(500);
    let node = Node::ready(&api.url(), &[]).await;
    let (mut all, hello) = node.joined("r?after=976").await;
    assert_eq!(hello["seq"], 2_000);
    assert_eq!(seqs(&mut all, 1_024).await, (977..=2_000).collect::<Vec<_>>());
    let (mut too_old, _) = node.joined("r?after=975").await;
    assert_eq!(hear(&mut too_old).await, json!({ "resync": { "seq": 2_000 } }));
    let (status, problem) = node.get("/live/poll/r?after=975").await;
    assert_eq!((status, &problem["type"], &problem["seq"]), (410, &json!("urn:live:problem:resync"), &json!(2_000)));
    let mut events = node.events("r?after=975", "").await;
    events.event().await;
    assert_eq!(events.event().await, ["event: resync".to_owned(), r#"data: {"seq":2000}"#.to_owned()]);
    api.write("r", "the next");
    assert_eq!((seqs(&mut too_old, 1).await, &*events.event().await[0]), (vec![2_001], "id: 2001"));
}

#[tokio::test]
async fn who_was_elsewhere_may_be_ahead_of_this_node_and_is_not_from_the_future() {
    let api = Double::start(&["r"]);
    let node = Node::ready(&api.url(), &[]).await;
    let _first = node.joined("r").await;
    // Another node had it from the queue before this one has.
    api.write_unpublished("r", "one");
    let (mut ahead, hello) = node.joined("r?after=1").await;
    assert_eq!(hello["seq"], 1);
    api.write("r", "two");
    assert_eq!(seqs(&mut ahead, 1).await, [2]);
}

#[tokio::test]
async fn who_does_not_read_costs_nothing_and_is_told_to_resync() {
    let api = Double::start(&["r"]);
    let node = Node::ready(&api.url(), &[]).await;
    let (mut reads, _) = node.joined("r").await;
    let mut sleepers = Vec::new();
    for _ in 0..20 {
        sleepers.push(node.joined("r").await.0);
    }
    let before = node.resident_kib();
    let text = "x".repeat(2_000);
    let writes = async {
        for _ in 0..100 {
            for _ in 0..100 {
                api.write("r", &text);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (heard, ()) = tokio::join!(seqs(&mut reads, 10_000), writes);
    assert_eq!(heard, (1..=10_000).collect::<Vec<_>>());
    // 10,000 deltas of 2 KB to each of 20 clients are 400 MB; the kernel takes the first few MB of each.
    let grown = node.resident_kib() - before;
    assert!(grown < 20_000, "{grown} KiB");
    for socket in &mut sleepers {
        let mut last = 0;
        let seq = loop {
            let message = hear(socket).await;
            match message["seq"].as_u64() {
                Some(seq) => {
                    assert_eq!(seq, last + 1);
                    last = seq;
                }
                None => break message["resync"]["seq"].as_u64().unwrap(),
            }
        };
        assert!(last < 9_000 && seq > last + 1_024, "{last} {seq}");
        socket.send(Message::text(r#"{"ping":1}"#)).await.unwrap();
        tokio::time::timeout(PATIENCE, async {
            let mut at = seq;
            loop {
                let message = hear(socket).await;
                if message == json!({ "pong": 1 }) {
                    break;
                }
                at += 1;
                assert_eq!(message["seq"], at);
            }
        })
        .await
        .expect("the pong");
    }
}
