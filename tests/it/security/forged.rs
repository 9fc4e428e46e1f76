//! What peers claim to be or to have: row 23. Tokens of affinity, heartbeats that were pushed and that were asked for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::scripted::Reply;
use super::{Edge, HANDSHAKE, fleet, head};
use crate::support::backend::Backend;
use crate::support::client;
use crate::support::holdline::Holdline;

/// A session that presents this cookie, and the token that it was given.
async fn session(address: SocketAddr, path: &str, cookie: Option<&str>) -> (TcpStream, Option<String>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let cookie = cookie.map_or(String::new(), |value| format!("Cookie: other=1; holdline={value}\r\n"));
    stream.write_all(format!("{}{cookie}\r\n", HANDSHAKE.replace("/ws", path)).as_bytes()).await.unwrap();
    let head = head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let set = head.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie: "));
    (stream, set.map(|line| line.split(['=', ';']).nth(1).unwrap().to_owned()))
}

fn on(fleet: &Value, id: &str) -> u64 {
    fleet["backends"].as_array().unwrap().iter().find(|b| b["id"] == id).unwrap()["sessions"].as_u64().unwrap()
}

#[tokio::test]
async fn row_23_a_forged_affinity_token_leads_nowhere() {
    let (a, b) = (Backend::start().await, Backend::start().await);
    // The same ids as in the first fleet.
    let (other_a, other_b) = (Backend::start().await, Backend::start().await);
    let fleet = |name: &str, cookie: &str, a: &Backend, b: &Backend| {
        let (a, b) = (a.address, b.address);
        let backends = format!("{{ static: [ {{ id: a, address: \"{a}\" }}, {{ id: b, address: \"{b}\" }} ] }}");
        format!("  {name}:\n    backends: {backends}\n    capacity: 100\n    affinity: {{ by: cookie, name: {cookie} }}\n")
    };
    let holdline = Holdline::start(&format!(
        "routes: [ {{ path: /, fleet: chat }}, {{ path: /other, fleet: other }} ]\nfleets:\n{}{}",
        fleet("chat", "holdline", &a, &b),
        fleet("other", "other", &other_a, &other_b)
    ));
    let is_ready = |f: &Value| f["backends"].as_array().unwrap().iter().all(|b| b["phase"] == "ready");
    holdline.until_status("both are ready", |s| s["fleets"].as_array().unwrap().iter().all(is_ready)).await;
    let (first, token) = session(holdline.address, "/ws", None).await;
    let token = token.expect("a new client is given a token");
    let home = if on(&holdline.fleet().await, "a") == 1 { "a" } else { "b" };
    let away = if home == "a" { "b" } else { "a" };
    let mut held = vec![first];
    for _ in 0..9 {
        let (stream, set) = session(holdline.address, "/ws", Some(&token)).await;
        assert_eq!(set, None, "it has the right one");
        held.push(stream);
    }
    assert_eq!((on(&holdline.fleet().await, home), on(&holdline.fleet().await, away)), (10, 0));

    // Each could only be somebody's guess, or another fleet's word for a backend with the same id. All are placed as anybody: on the emptier one.
    let (foreign, of_other) = session(holdline.address, "/other", None).await;
    held.push(foreign);
    let flipped = |at: usize| {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let forged = [
        of_other.unwrap(),
        flipped(0),
        flipped(10),
        token[..21].to_owned(),
        format!("{token}A"),
        String::new(),
        home.to_owned(),
        "A".repeat(4_000),
    ];
    for (n, forged) in forged.iter().enumerate() {
        let (stream, set) = session(holdline.address, "/ws", Some(forged)).await;
        assert!(set.as_ref().is_some_and(|set| set != forged && set.len() == token.len()), "{forged:?}: {set:?}");
        held.push(stream);
        assert_eq!((on(&holdline.fleet().await, home), on(&holdline.fleet().await, away)), (10, n as u64 + 1), "{forged:?}");
    }
}

#[tokio::test]
async fn row_23_a_pushed_heartbeat_that_is_replayed_or_cannot_be() {
    let backend = Backend::start().await;
    let probe = "queue: { length: 0, timeout: 1s }\n    heartbeat: { probe: push, suspect_after: 60s, dead_after: 120s }";
    let holdline = Holdline::start(&fleet(backend.address, probe));
    let push = async |body: Value| client::http("POST", holdline.admin, "/v1/fleets/chat/heartbeats", Some(body)).await.0;
    let seats = async || {
        let fleet = holdline.fleet().await;
        (
            fleet["backends"][0]["phase"].clone(),
            fleet["backends"][0]["capacity"].clone(),
            fleet["backends"][0]["reported"].clone(),
        )
    };
    assert_eq!(push(json!({ "id": "a", "seq": 100, "sessions": 1, "capacity": 5 })).await, 204);
    holdline.until("ready", |fleet| fleet["backends"][0]["phase"] == "ready").await;
    let before = seats().await;
    assert_eq!(before, (json!("ready"), json!(5), json!(1)));

    // What cannot be is refused and counted.
    let impossible = [
        json!({ "id": "a", "seq": 101, "sessions": -1 }),
        json!({ "id": "a", "seq": 101, "capacity": -1 }),
        json!({ "id": "a", "seq": 101, "sessions": 4_294_967_296_u64 }),
        json!({ "id": "a", "seq": 101, "sessions": 1e300 }),
        json!({ "id": "a", "seq": 101, "sessions": 0.5 }),
        json!({ "id": "a", "seq": -1 }),
        json!({ "id": "a", "seq": 1e300 }),
        json!({ "id": "a" }),
        json!({ "id": ["a"], "seq": 101 }),
        json!({ "id": "a", "seq": 101, "state": "dead" }),
        json!([]),
    ];
    for body in &impossible {
        let status = push(body.clone()).await;
        assert!((400..500).contains(&status), "{body}: {status}");
    }
    assert_eq!(holdline.metric("holdline_bad_input_total", "reason=\"heartbeat\"").await, impossible.len() as f64);
    // What was heard before, or earlier, changes nothing, and what is about nobody is nobody's.
    for (id, seq) in [("a", 100), ("a", 99), ("a", 0)] {
        push(json!({ "id": id, "seq": seq, "sessions": 9, "capacity": 9, "state": "draining" })).await;
    }
    assert_eq!(push(json!({ "id": "b".repeat(300), "seq": 101, "capacity": 9 })).await, 202);
    assert_eq!(seats().await, before);

    // The largest counts there are: all its seats are taken by others, by its own word, and nobody is hurt by that.
    let mut held = client::websocket(holdline.address, "/").await.unwrap();
    let most = u32::MAX;
    assert_eq!(push(json!({ "id": "a", "seq": 101, "sessions": most, "capacity": most })).await, 204);
    for seq in 102..105 {
        push(json!({ "id": "a", "seq": seq, "sessions": most, "capacity": most })).await;
    }
    holdline.until("heard", |fleet| fleet["backends"][0]["reported"] == most).await;
    assert_eq!(seats().await.1, 10, "of the configured and the reported capacity the lower holds");
    let refused = client::websocket(holdline.address, "/").await.unwrap_err();
    assert_eq!(client::refusal(&refused), (503, "capacity".to_owned()), "it has no seat that Holdline could fill");
    client::echo(&mut held, "still here").await;
    // A number out of all proportion is ignored, and the next one of the backend is not.
    push(json!({ "id": "a", "seq": u64::MAX, "state": "draining" })).await;
    assert_eq!(push(json!({ "id": "a", "seq": 105, "sessions": 1, "capacity": 10 })).await, 204);
    holdline.until("there is room again", |fleet| fleet["backends"][0]["reported"] == 1).await;
    let mut next = client::websocket(holdline.address, "/").await.unwrap();
    client::echo(&mut next, "unharmed").await;
}

#[tokio::test]
async fn row_23_an_answer_to_a_probe_that_cannot_be() {
    let reports = [
        r#"{"sessions": -1, "capacity": 0}"#.to_owned(),
        r#"{"sessions": 18446744073709551616, "capacity": 0}"#.to_owned(),
        r#"{"sessions": 1e300, "capacity": 0}"#.to_owned(),
        r#"{"capacity": -10}"#.to_owned(),
        r#"{"capacity": 0, "state": "dead"}"#.to_owned(),
        r#"{"capacity": 0"#.to_owned(),
        format!("{{\"x\": {}", "[".repeat(60_000)),
        format!("{{\"capacity\": 0, \"x\": \"{}\"}}", "x".repeat(100_000)),
    ];
    let (asked, count) = (Arc::new(AtomicUsize::new(0)), reports.len());
    let answers = Arc::clone(&asked);
    let edge =
        Edge::start_with("heartbeat: { probe: http, interval: 50ms, suspect_after: 60s, dead_after: 120s }", move |request| {
            if !request.starts_with("GET /heartbeat ") {
                return Reply::ok();
            }
            // The first is good; then each of them in turn, for as long as it is asked.
            let n = answers.fetch_add(1, Ordering::SeqCst);
            let report = if n == 0 { r#"{"sessions": 0, "capacity": 7}"# } else { &reports[(n - 1) % reports.len()] };
            Reply::bytes(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{report}", report.len()))
        })
        .await;
    edge.holdline
        .until("each was told twice", |fleet| {
            let backend = &fleet["backends"][0];
            assert_eq!(
                (&backend["phase"], &backend["capacity"]),
                (&json!("ready"), &json!(7)),
                "what cannot be read says nothing"
            );
            asked.load(Ordering::SeqCst) > 2 * count + 1
        })
        .await;
    assert!(edge.bad_input("heartbeat").await >= count as f64, "{} are counted", edge.bad_input("heartbeat").await);
    edge.is_unharmed().await;
}
