//! What is stored, whatever happens: many writers, a crash, a full disk; and the stream that nodes read.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use holdline_live::queue::{QueueError, open_subscriber};
use hyper::Method;
use hyper::body::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::program::{Api, PATIENCE};
use super::scratch;

/// The comments with their likes that the deltas make, and that the room shows.
async fn replayed_and_shown(api: &Api) -> (BTreeMap<u64, (String, i64)>, BTreeMap<u64, (String, i64)>) {
    let mut replayed: BTreeMap<u64, (String, i64)> = BTreeMap::new();
    let mut seq = 0;
    loop {
        let page = api.get(&format!("/api/rooms/r/deltas?after={seq}")).await.body;
        for delta in page["deltas"].as_array().unwrap() {
            seq += 1;
            assert_eq!(delta["seq"], seq, "no gap");
            let comment = delta["comment"].as_u64().unwrap();
            match delta["action"].as_str().unwrap() {
                "create" => assert!(replayed.insert(comment, (delta["text"].as_str().unwrap().into(), 0)).is_none()),
                "like" => replayed.get_mut(&comment).unwrap().1 += 1,
                other => panic!("{other}"),
            }
        }
        if page["more"] == json!(false) {
            break;
        }
    }
    let mut shown = BTreeMap::new();
    let mut before = seq + 1;
    while before > 1 {
        let page = api.get(&format!("/api/rooms/r?limit=1000&before={before}")).await.body;
        assert_eq!(page["seq"], seq);
        for comment in page["comments"].as_array().unwrap() {
            let (text, likes) = (comment["text"].as_str().unwrap().to_owned(), comment["likes"].as_i64().unwrap());
            shown.insert(comment["comment"].as_u64().unwrap(), (text, likes));
        }
        before = if page["more"] == json!(true) { page["comments"][0]["comment"].as_u64().unwrap() } else { 1 };
    }
    (replayed, shown)
}

/// Writes and likes until the api does not answer any more, or `most` of each; the comments that were confirmed.
async fn busy(api: Arc<Api>, user: String, most: usize) -> Vec<u64> {
    let mut confirmed = Vec::new();
    for n in 0..most {
        let body = Bytes::from(json!({"user": user, "text": format!("{user} {n}")}).to_string());
        let written = api.try_ask(api.public, Method::POST, "/api/rooms/r/comments", &[], body).await;
        let Some(comment) = written.and_then(|answer| answer.body["comment"].as_u64()) else { break };
        confirmed.push(comment);
        let path = format!("/api/rooms/r/comments/{comment}/likes/{user}");
        if api.try_ask(api.public, Method::PUT, &path, &[], Bytes::new()).await.is_none() {
            break;
        }
    }
    confirmed
}

#[tokio::test]
async fn fifty_writers_leave_no_gap() {
    let (_dir, db) = scratch();
    let api = Arc::new(Api::start(&db, &[]));
    let writers = (0..50).map(|n| tokio::spawn(busy(Arc::clone(&api), format!("u{n}"), 10)));
    let confirmed: Vec<_> = futures_util::future::join_all(writers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(confirmed.len(), 500);
    let (replayed, shown) = replayed_and_shown(&api).await;
    assert_eq!(replayed, shown);
    assert!(confirmed.iter().all(|comment| shown[comment].1 == 1));
}

#[tokio::test]
async fn a_crash_leaves_no_half_of_anything_and_loses_nothing_that_was_confirmed() {
    let (_dir, db) = scratch();
    let mut api = Arc::new(Api::start(&db, &[]));
    let mut confirmed = Vec::new();
    for round in 0..3 {
        let writers: Vec<_> =
            (0..20).map(|n| tokio::spawn(busy(Arc::clone(&api), format!("u{round}-{n}"), usize::MAX))).collect();
        // It is in the middle of it once so many are stored.
        let pos = async || api.internal(Method::GET, "/internal/newest", "").await.body["pos"].as_u64().unwrap();
        let start = pos().await;
        while pos().await < start + 300 {}
        kill(&api);
        for writer in writers {
            confirmed.extend(writer.await.unwrap());
        }
        drop(api);
        api = Arc::new(Api::start(&db, &[]));
        let (replayed, shown) = replayed_and_shown(&api).await;
        assert_eq!(replayed, shown, "round {round}");
        assert!(confirmed.iter().all(|comment| shown.contains_key(comment)), "round {round}");
    }
}

fn kill(api: &Api) {
    rustix::process::kill_process(api.pid(), rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_and_what_was_stored_stays() {
    let (_dir, db) = scratch();
    let api = Api::start(&db, &["--db-max", "1", "--comment-max", "60000"]);
    let text = "x".repeat(60_000);
    let mut stored = 0;
    let full = loop {
        let answer = api.write("ann", &text).await;
        if answer.status != 201 {
            break answer;
        }
        stored += 1;
    };
    assert_eq!((full.problem(), &full.headers["retry-after"]), ((503, "disk-full"), &"1".parse().unwrap()));
    let room = api.get("/api/rooms/r?limit=1000").await.body;
    assert_eq!((room["seq"].as_u64(), room["comments"].as_array().unwrap().len()), (Some(stored), stored as usize));
    // What needs less place is stored still, or refused, whole: the log goes on without a gap.
    assert!(matches!(api.write("ann", "small").await.status, 201 | 503));
    let deltas = api.get(&format!("/api/rooms/r/deltas?after={}", stored - 1)).await.body;
    assert_eq!(deltas["deltas"][0]["seq"], stored);
}

#[tokio::test]
async fn a_node_reads_the_stream_from_where_it_was() {
    let (_dir, db) = scratch();
    let api = Api::start(&db, &["--window", "100"]);
    for n in 0..40 {
        api.write("ann", &n.to_string()).await;
    }
    let queue = open_subscriber("embedded", &format!("http://{}", api.internal)).unwrap();
    assert_eq!(queue.newest().await.unwrap(), 40);
    let mut entries = queue.subscribe(30).await.unwrap();
    for pos in 31..=40 {
        assert_eq!(entries.next().await.unwrap().unwrap().pos, pos);
    }
    let written = api.write("ann", "live").await;
    let entry = tokio::time::timeout(PATIENCE, entries.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((entry.pos, entry.room.as_str(), serde_json::to_value(&entry.delta).unwrap()), (41, "r", written.body));
    drop(entries);
    for n in 0..100 {
        api.write("ann", &n.to_string()).await;
    }
    match queue.subscribe(30).await.err() {
        Some(QueueError::Passed { oldest }) => assert_eq!(oldest, 42),
        other => panic!("{other:?}"),
    }
    let future = queue.subscribe(1_000).await.err();
    assert!(matches!(future, Some(QueueError::Passed { oldest: 142 })), "another log's position: {future:?}");
    api.kill();
    assert!(matches!(queue.newest().await, Err(QueueError::Down { .. })));
}

#[tokio::test]
async fn a_slow_reader_of_the_stream_holds_up_nobody() {
    let (_dir, db) = scratch();
    let api = Api::start(&db, &["--comment-max", "20000"]);
    let queue = open_subscriber("embedded", &format!("http://{}", api.internal)).unwrap();
    let (mut slow, mut quick) = (queue.subscribe(0).await.unwrap(), queue.subscribe(0).await.unwrap());
    let text = "x".repeat(20_000);
    // More than all buffers between hold.
    for pos in 1..=1_000 {
        assert_eq!(api.write("ann", &text).await.status, 201);
        assert_eq!(quick.next().await.unwrap().unwrap().pos, pos);
    }
    for pos in 1..=1_000 {
        assert_eq!(slow.next().await.unwrap().unwrap().pos, pos);
    }
}

#[tokio::test]
async fn the_heartbeat_says_that_the_queue_is_there() {
    let (_dir, db) = scratch();
    let api = Api::start(&db, &[]);
    // The first mutation waits for nothing: the embedded queue is reached at once.
    assert_eq!(api.write("ann", "x").await.status, 201);
    assert_eq!(api.get("/heartbeat").await.body, json!({"state": "ready", "queue": "up"}));
    assert_eq!(api.internal(Method::GET, "/heartbeat", "").await.body, json!({"state": "ready", "queue": "up"}));
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_told_and_nothing_is_stored() {
    let (_dir, db) = scratch();
    let api = Api::start(&db, &[]);
    api.write("ann", "one").await;
    let other = rusqlite::Connection::open(&db).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let down = api.write("ann", "two").await;
    assert_eq!((down.problem(), &down.headers["retry-after"]), ((503, "database-down"), &"1".parse().unwrap()));
    assert_eq!(api.get("/api/rooms/r").await.body["seq"], 1, "it is read all the same");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(api.write("ann", "three").await.body["seq"], 2);
}

#[tokio::test]
async fn what_is_under_way_at_the_end_is_answered() {
    let (_dir, db) = scratch();
    let api = Api::start(&db, &[]);
    let queue = open_subscriber("embedded", &format!("http://{}", api.internal)).unwrap();
    let mut entries = queue.subscribe(0).await.unwrap();
    let body = r#"{"user":"ann","text":"last"}"#;
    let head = format!(
        "POST /api/rooms/r/comments HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    let mut socket = TcpStream::connect(api.public).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    socket.read_exact(&mut go_on).await.unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100 "), "it waits for the body now");
    rustix::process::kill_process(api.pid(), rustix::process::Signal::TERM).unwrap();
    // The stream, which would not end by itself, tells that the signal came.
    let ended = tokio::time::timeout(PATIENCE, entries.next()).await.unwrap().unwrap();
    assert!(ended.unwrap_err().to_string().contains("the stream ended"));
    socket.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(api.exit().success());
    let api = Api::start(&db, &[]);
    assert_eq!(api.get("/api/rooms/r/comments/1").await.body["text"], "last");
}
