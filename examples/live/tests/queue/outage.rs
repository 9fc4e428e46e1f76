//! What `live api` and `live node` do while their queue is away, and afterwards.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::live::Live;
use crate::published::Published;
use crate::rig::PATIENCE;

pub(crate) async fn an_outage_loses_and_halves_nothing<R: Published>() {
    let mut rig = R::start().await;
    let dir = tempfile::tempdir().unwrap();
    let api = Live::api(dir.path(), &rig.url(), 10_000);
    let node = Live::node(&api, &rig.url());
    let mut written = 0;
    until(async || write(&api, &mut written).await).await;
    for _ in 0..5 {
        assert!(write(&api, &mut written).await);
    }
    let mut heard = Vec::new();
    hear(&node, &mut heard, written).await;

    // What is written before anybody knows is published afterwards.
    rig.kill();
    until(async || !write(&api, &mut written).await).await;
    let before = room(&api).await;
    assert_eq!(before["seq"], written);
    let refused = [
        (Method::POST, "/api/rooms/lobby/comments", json!({ "user": "ann", "text": "no" })),
        (Method::PATCH, "/api/rooms/lobby/comments/1", json!({ "user": "ann", "text": "no" })),
        (Method::DELETE, "/api/rooms/lobby/comments/1?user=ann", Value::Null),
        (Method::PUT, "/api/rooms/lobby/comments/1/likes/bob", Value::Null),
    ];
    for (method, path, body) in refused {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, problem) = api.call(method, path, body).await;
        assert_eq!(
            (status, &problem["type"]),
            (StatusCode::SERVICE_UNAVAILABLE, &json!("urn:live:problem:queue-down")),
            "{path}"
        );
    }
    assert_eq!(room(&api).await, before, "queries are answered, and nothing was stored");
    until(async || queue_of(&node).await == "down").await;

    rig.restart();
    until(async || write(&api, &mut written).await).await;
    hear(&node, &mut heard, written).await;
    until(async || queue_of(&node).await == "up").await;
    let (_, log) = api.call(Method::GET, "/api/rooms/lobby/deltas?after=0", String::new()).await;
    assert_eq!(log["deltas"], json!(heard));
}

/// Whether a comment was taken. If not, it was for want of the queue.
async fn write(api: &Live, written: &mut usize) -> bool {
    let (status, answer) = api.comment("lobby", "yes").await;
    if status == StatusCode::CREATED {
        *written += 1;
        return true;
    }
    assert_eq!((status, &answer["type"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("urn:live:problem:queue-down")), "{answer}");
    false
}

async fn room(api: &Live) -> Value {
    let (status, room) = api.call(Method::GET, "/api/rooms/lobby", String::new()).await;
    assert_eq!(status, StatusCode::OK, "{room}");
    room
}

/// Polls on from what was heard until there are so many. That they are the log's is for the caller to see.
async fn hear(node: &Live, heard: &mut Vec<Value>, count: usize) {
    while heard.len() < count {
        let path = format!("/live/poll/lobby?after={}", heard.len());
        let (status, answer) = timeout(PATIENCE, node.call(Method::GET, &path, String::new())).await.expect("an answer");
        // Before the node knows the room, and that there are such deltas, it says so.
        if status == StatusCode::OK {
            heard.extend(answer["deltas"].as_array().unwrap().iter().cloned());
        }
    }
}

async fn queue_of(live: &Live) -> Value {
    live.call(Method::GET, "/heartbeat", String::new()).await.1["queue"].clone()
}

/// Asks until it is so: there is nothing to wait for but the next answer.
async fn until(mut so: impl AsyncFnMut() -> bool) {
    let asked = async {
        while !so().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, asked).await.expect("it is so in time");
}
