//! `live api` from the outside: every call, every problem, and what is there after a crash.

mod program;
mod storage;

use hyper::Method;
use serde_json::{Value, json};

use program::{Api, command};

fn scratch() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("live.db");
    (dir, db)
}

/// A delta without its time.
fn timeless(delta: &Value) -> Value {
    let mut delta = delta.clone();
    assert!(delta.as_object_mut().unwrap().remove("at").unwrap().as_u64() > Some(1_700_000_000));
    delta
}

#[tokio::test]
async fn what_is_done_to_a_comment_is_in_the_room_and_in_the_log() {
    let (_dir, db) = scratch();
    let api = Api::start(&db, &[]);
    let written = api.write("ann", "hello").await;
    assert_eq!((written.status, written.headers["location"].to_str().unwrap()), (201, "/api/rooms/r/comments/1"));
    assert_eq!(timeless(&written.body), json!({"seq": 1, "action": "create", "comment": 1, "user": "ann", "text": "hello"}));

    let liked = api.ask(Method::PUT, "/api/rooms/r/comments/1/likes/bob", &[], "").await;
    assert_eq!((liked.status, timeless(&liked.body)), (200, json!({"seq": 2, "action": "like", "comment": 1, "user": "bob"})));
    let again = api.ask(Method::PUT, "/api/rooms/r/comments/1/likes/bob", &[], "").await;
    assert_eq!((again.status, again.body), (204, Value::Null), "it was so already");
    let edited = api.ask(Method::PATCH, "/api/rooms/r/comments/1", &[], r#"{"user":"ann","text":"hi"}"#).await;
    assert_eq!(timeless(&edited.body), json!({"seq": 3, "action": "edit", "comment": 1, "user": "ann", "text": "hi"}));

    let comment = api.get("/api/rooms/r/comments/1").await.body;
    assert_eq!(timeless(&comment), json!({"comment": 1, "user": "ann", "text": "hi", "edited": true, "likes": 1}));
    let room = api.get("/api/rooms/r").await.body;
    assert_eq!(room["comments"], json!([comment]));
    assert_eq!(
        (&room["recovery"], &room["seq"], &room["oldest"], &room["more"]),
        (&json!("strong"), &json!(3), &json!(1), &json!(false))
    );

    // Who says who they are hears what they like.
    for (user, liked) in [("bob", true), ("ann", false)] {
        let comment = api.get(&format!("/api/rooms/r/comments/1?user={user}")).await.body;
        assert_eq!(comment["liked"], liked, "{user}");
        assert_eq!(api.get(&format!("/api/rooms/r?user={user}")).await.body["comments"], json!([comment]));
    }
    assert_eq!(api.get("/api/rooms/r?user=b%20b").await.problem(), (400, "invalid"));
    assert_eq!(api.get("/api/rooms/r/comments/1?user=").await.problem(), (400, "invalid"));

    let unliked = api.ask(Method::DELETE, "/api/rooms/r/comments/1/likes/bob", &[], "").await;
    assert_eq!(timeless(&unliked.body)["action"], "unlike");
    assert_eq!(api.ask(Method::DELETE, "/api/rooms/r/comments/1/likes/bob", &[], "").await.status, 204);
    let deleted = api.ask(Method::DELETE, "/api/rooms/r/comments/1?user=ann", &[], "").await;
    assert_eq!(timeless(&deleted.body), json!({"seq": 5, "action": "delete", "comment": 1, "user": "ann"}));
    assert_eq!(api.get("/api/rooms/r/comments/1").await.problem(), (404, "unknown-comment"));

    let log = api.get("/api/rooms/r/deltas?after=0").await.body;
    let all: Vec<_> =
        log["deltas"].as_array().unwrap().iter().map(|delta| (delta["seq"].as_u64(), delta["action"].clone())).collect();
    let expected = ["create", "like", "edit", "unlike", "delete"];
    assert_eq!(all, (1..).zip(expected).map(|(seq, action)| (Some(seq), json!(action))).collect::<Vec<_>>());
    let rest = api.get("/api/rooms/r/deltas?after=3&limit=1").await.body;
    assert_eq!((&rest["deltas"][0]["seq"], &rest["more"]), (&json!(4), &json!(true)));
    let since = log["deltas"][0]["at"].as_u64().unwrap();
    assert_eq!(api.get(&format!("/api/rooms/r/deltas?since={since}")).await.body["deltas"], log["deltas"]);
    assert_eq!(api.get(&format!("/api/rooms/r/deltas?since={}", since + 1000)).await.body["deltas"], json!([]));
}

#[tokio::test]
async fn a_room_is_made_once_and_listed_and_read_in_pages() {
    let (_dir, db) = scratch();
    let api = Api::start(&db, &[]);
    let make = async |name: &str, body: &'static str| api.ask(Method::PUT, &format!("/api/rooms/{name}"), &[], body).await;
    let eventual = r#"{"recovery":"eventual","refetch_s":30}"#;
    assert_eq!((make("e", eventual).await.status, make("e", eventual).await.status), (201, 200));
    let differs = make("e", r#"{"recovery":"strong"}"#).await;
    assert_eq!((differs.problem(), &differs.body["refetch_s"]), ((409, "room-differs"), &json!(30)));
    for bad in [r#"{"recovery":"eventual"}"#, r#"{"recovery":"eventual","refetch_s":0}"#, r#"{"recovery":"x"}"#, "{", "[]", ""] {
        assert_eq!(make("f", bad).await.problem(), (400, "invalid"), "{bad}");
    }
    assert_eq!(make("no%20name", eventual).await.problem(), (400, "invalid"));
    let rooms = api.get("/api/rooms").await.body;
    assert_eq!(
        rooms["rooms"],
        json!([{"room": "e", "recovery": "eventual", "refetch_s": 30, "seq": 0}, {"room": "r", "recovery": "strong", "seq": 0}])
    );
    for n in 1..=5 {
        api.write("ann", &n.to_string()).await;
    }
    let texts =
        |room: &Value| room["comments"].as_array().unwrap().iter().map(|c| c["text"].as_str().unwrap()).collect::<String>();
    let newest = api.get("/api/rooms/r?limit=2").await.body;
    let older = api.get("/api/rooms/r?limit=3&before=4").await.body;
    assert_eq!(
        (texts(&newest), &newest["more"], texts(&older), &older["more"]),
        ("45".into(), &json!(true), "123".into(), &json!(false))
    );
}

#[tokio::test]
async fn every_mistake_is_told() {
    let (_dir, db) = scratch();
    let api = Api::start(&db, &["--comment-max", "10", "--window", "3"]);
    api.write("ann", "one").await;
    let post = async |body: &'static str| api.ask(Method::POST, "/api/rooms/r/comments", &[], body).await;
    for bad in [
        "",
        "{",
        "[]",
        r#"{"user":"ann"}"#,
        r#"{"user":"ann","text":""}"#,
        r#"{"user":"ann","text":7}"#,
        r#"{"user":"a b","text":"x"}"#,
        r#"{"user":"ann","text":"x","more":1}"#,
    ] {
        assert_eq!(post(bad).await.problem(), (400, "invalid"), "{bad}");
    }
    let long = post(r#"{"user":"ann","text":"12345678901"}"#).await;
    assert_eq!((long.problem(), &long.body["limit"], &long.body["size"]), ((413, "too-large"), &json!(10), &json!(11)));
    let huge = api.ask(Method::POST, "/api/rooms/r/comments", &[], vec![b' '; 300_000]).await;
    assert_eq!(huge.problem(), (413, "too-large"));
    let form = api.ask(Method::POST, "/api/rooms/r/comments", &[("content-type", "text/plain")], "x").await;
    assert_eq!(form.problem(), (400, "invalid"));

    for path in ["/api/rooms/x", "/api/rooms/x/comments/1", "/api/rooms/x/deltas?after=0"] {
        assert_eq!(api.get(path).await.problem(), (404, "unknown-room"), "{path}");
    }
    let edit = async |id: u64, user: &str| {
        let body = json!({"user": user, "text": "x"}).to_string();
        api.ask(Method::PATCH, &format!("/api/rooms/r/comments/{id}"), &[], body).await
    };
    assert_eq!(edit(9, "ann").await.problem(), (404, "unknown-comment"));
    assert_eq!(edit(1, "bob").await.problem(), (403, "not-the-author"));
    assert_eq!(api.ask(Method::DELETE, "/api/rooms/r/comments/1?user=bob", &[], "").await.problem(), (403, "not-the-author"));
    assert_eq!(api.ask(Method::PUT, "/api/rooms/r/comments/9/likes/bob", &[], "").await.problem(), (404, "unknown-comment"));
    for path in [
        "/api/rooms/r/deltas",
        "/api/rooms/r/deltas?after=0&since=0",
        "/api/rooms/r/deltas?after=-1",
        "/api/rooms/r?limit=0",
        "/api/rooms/r?limit=1001",
        "/api/rooms/r?page=1",
        "/api/rooms/r/comments/one",
    ] {
        assert_eq!(api.get(path).await.problem(), (400, "invalid"), "{path}");
    }
    assert_eq!(api.get("/api/nothing").await.problem(), (404, "invalid"));
    assert_eq!(api.ask(Method::DELETE, "/api/rooms/r", &[], "").await.problem(), (405, "invalid"));
    assert_eq!(api.get("/internal/newest").await.problem(), (404, "invalid"), "that is for nodes");

    let future = api.get("/api/rooms/r/deltas?after=2").await;
    assert_eq!((future.problem(), &future.body["seq"]), ((400, "from-the-future"), &json!(1)));
    for _ in 0..4 {
        api.write("ann", "more").await;
    }
    let passed = api.get("/api/rooms/r/deltas?after=1").await;
    assert_eq!(
        (passed.problem(), &passed.body["oldest"], &passed.body["refetch"]),
        ((410, "window-passed"), &json!(3), &json!("/api/rooms/r"))
    );
    assert_eq!(api.get("/api/rooms/r/deltas?after=2").await.body["deltas"].as_array().unwrap().len(), 3);
    assert_eq!(api.get("/api/rooms/r/deltas?since=1").await.problem(), (410, "window-passed"));
}

#[tokio::test]
async fn a_key_is_answered_once() {
    let (_dir, db) = scratch();
    let api = Api::start(&db, &[]);
    let post = async |key: &'static str, text: &'static str| {
        let body = json!({"user": "ann", "text": text}).to_string();
        api.ask(Method::POST, "/api/rooms/r/comments", &[("idempotency-key", key)], body).await
    };
    // All at once: one of them is the first, whichever.
    let answers = futures_util::future::join_all((0..20).map(|_| post("k", "hello"))).await;
    assert!(answers.iter().all(|answer| answer.status == 201 && answer.body == answers[0].body));
    assert_eq!(answers.iter().filter(|answer| answer.headers.get("idempotency-replayed").is_none()).count(), 1);
    assert_eq!(api.get("/api/rooms/r").await.body["seq"], 1);
    assert_eq!(post("k", "another").await.problem(), (422, "idempotency-key-reused"));
    assert_eq!(post("a b", "x").await.problem(), (400, "invalid"));
    let like = async || api.ask(Method::PUT, "/api/rooms/r/comments/1/likes/bob", &[("idempotency-key", "l")], "").await;
    assert_eq!((like().await.status, like().await.status), (200, 200), "the first answer, not 204");
}

#[tokio::test]
async fn a_likes_size_is_not_the_comments() {
    let (_dir, db) = scratch();
    let api = Api::start(&db, &[]);
    api.write("ann", "x").await;
    api.write("ann", &"x".repeat(2_000)).await;
    for comment in [1, 2] {
        let liked = api.ask(Method::PUT, &format!("/api/rooms/r/comments/{comment}/likes/bob"), &[], "").await;
        assert_eq!(liked.headers["content-length"], "66");
    }
}

#[tokio::test]
async fn presence_is_summed_for_nodes_and_shown_to_clients() {
    let (_dir, db) = scratch();
    let api = Api::start(&db, &[]);
    let report = async |node: &str, body: &str| api.internal(Method::PUT, &format!("/internal/presence/{node}"), body).await;
    assert_eq!(report("n-1", r#"{"rooms":{"r":2}}"#).await.body, json!({"rooms": {"r": 2}}));
    assert_eq!(report("n-2", r#"{"rooms":{"r":3,"x":1}}"#).await.body, json!({"rooms": {"r": 5, "x": 1}}));
    assert_eq!(api.get("/api/rooms/r").await.body["presence"], 5);
    assert_eq!(report("n-1", r#"{"rooms":{"r":-1}}"#).await.problem(), (400, "invalid"));
}

#[test]
fn what_cannot_be_used_is_told_at_the_start() {
    let (_dir, db) = scratch();
    let db = db.to_str().unwrap();
    let fails = |args: &[&str]| {
        let output = command(args).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let ports = ["--port", "0", "--internal", "0"];
    assert!(fails(&[&ports[..], &["--db", "/nowhere/live.db"]].concat()).contains("cannot use /nowhere/live.db"));
    assert!(fails(&[&ports[..], &["--db", db, "--queue", "rabbit://x"]].concat()).contains("--queue: it is embedded"));
    assert!(fails(&[&ports[..], &["--db", db, "--room", "r:weak"]].concat()).contains("NAME:strong or NAME:eventual:SECONDS"));
    assert!(fails(&[&ports[..], &["--db", db, "--window", "0"]].concat()).contains("--window"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    assert!(fails(&["--port", &port, "--internal", "0", "--db", db]).contains(&format!("cannot listen on 127.0.0.1:{port}")));
    let _one = Api::start(std::path::Path::new(db), &["--room", "r:eventual:9"]);
    assert!(fails(&[&ports[..], &["--db", db]].concat()).contains("another live api uses"));
}
