//! Heartbeats from the outside: pushed ones, replays, and a backend that asks to be drained.

use serde_json::json;

use crate::support::backend::Backend;
use crate::support::client;
use crate::support::holdline::Holdline;

fn phase(fleet: &serde_json::Value) -> &str {
    fleet["backends"][0]["phase"].as_str().unwrap()
}

#[tokio::test]
async fn a_pushed_heartbeat_makes_ready_lowers_capacity_and_drains() {
    let backend = Backend::start().await;
    let holdline = Holdline::start(&format!(
        "fleets:\n  chat:\n    backends:\n      static: [ {{ id: a, address: \"{}\" }} ]\n    capacity: 10\n    \
         queue: {{ length: 0, timeout: 1s }}\n    heartbeat: {{ probe: push, suspect_after: 30s, dead_after: 60s }}\n",
        backend.address
    ));
    let push =
        async |body: serde_json::Value| client::http("POST", holdline.admin, "/v1/fleets/chat/heartbeats", Some(body)).await.0;

    // Nobody is placed on a backend that was never heard of.
    assert_eq!(phase(&holdline.fleet().await), "starting");
    let error = client::websocket(holdline.address, "/").await.unwrap_err();
    assert_eq!(client::refusal(&error), (503, "no_backend".to_owned()));

    assert_eq!(push(json!({ "id": "a", "seq": 5, "sessions": 0, "capacity": 2, "state": "ready" })).await, 204);
    let fleet = holdline.until("ready", |fleet| phase(fleet) == "ready").await;
    assert_eq!(fleet["backends"][0]["capacity"], 2, "the lower of configured and reported");
    let mut first = client::websocket(holdline.address, "/").await.unwrap();
    let mut second = client::websocket(holdline.address, "/").await.unwrap();
    let error = client::websocket(holdline.address, "/").await.unwrap_err();
    assert_eq!(client::refusal(&error), (503, "capacity".to_owned()));

    // A replay says nothing, a wrong id says so, and rubbish is refused.
    push(json!({ "id": "a", "seq": 5, "sessions": 0, "capacity": 9, "state": "ready" })).await;
    assert_eq!(holdline.fleet().await["backends"][0]["capacity"], 2);
    assert_eq!(push(json!({ "id": "nobody", "seq": 1, "state": "ready" })).await, 202);
    assert!((400..500).contains(&push(json!({ "id": "a", "seq": -1 })).await));

    // It asks to be drained: its sessions are told to go, though there is nowhere else, when it alone is left and the deadline comes;
    // meanwhile they are kept and nobody joins them.
    assert_eq!(push(json!({ "id": "a", "seq": 6, "sessions": 2, "state": "draining" })).await, 204);
    holdline.until("draining", |fleet| phase(fleet) == "draining").await;
    client::echo(&mut first, "still here").await;
    client::echo(&mut second, "me too").await;
    assert!(client::websocket(holdline.address, "/").await.is_err());
    client::leave(first).await;
    client::leave(second).await;
    holdline.until("drained", |fleet| phase(fleet) == "drained").await;
    assert_eq!(push(json!({ "id": "a", "seq": 7, "sessions": 0, "state": "ready" })).await, 204);
    holdline.until("ready again", |fleet| phase(fleet) == "ready").await;
}

#[tokio::test]
async fn a_pushed_heartbeat_needs_the_fleets_token_when_there_is_one() {
    let backend = Backend::start().await;
    let dir = crate::support::TestDir::new();
    let token = dir.path().join("token");
    std::fs::write(&token, "hush-hush-hush-hush-hush-hush-hush-hush\n").unwrap();
    let holdline = Holdline::start(&format!(
        "fleets:\n  chat:\n    backends:\n      static: [ {{ id: a, address: \"{}\" }} ]\n    capacity: 10\n    \
         heartbeat: {{ probe: push, token_file: {token:?} }}\n",
        backend.address
    ));
    let push = async |authorization: &str| {
        let url = format!("http://{}/v1/fleets/chat/heartbeats", holdline.admin);
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Content-Type: application/json"]);
        curl.args(["-H", authorization, "-d", r#"{"id":"a","seq":1,"state":"ready"}"#, &url]);
        String::from_utf8(curl.output().await.unwrap().stdout).unwrap()
    };
    assert_eq!(push("X-Nothing: x").await, "401");
    assert_eq!(push("Authorization: Bearer hush").await, "401");
    assert_eq!(phase(&holdline.fleet().await), "starting");
    assert_eq!(push("Authorization: Bearer hush-hush-hush-hush-hush-hush-hush-hush").await, "204");
    holdline.until("ready", |fleet| phase(fleet) == "ready").await;
}
