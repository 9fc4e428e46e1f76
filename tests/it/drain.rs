//! A drain on real sockets: everybody is told to go, at a frame boundary, in time, and nobody new comes.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::support::backend::Backend;
use crate::support::client::{self, PATIENCE, Socket};
use crate::support::holdline::Holdline;

const SESSIONS: usize = 1000;

/// Two backends, so that there is somewhere to go.
async fn fleet(rest: &str) -> (Backend, Backend, Holdline) {
    let (a, b) = (Backend::start().await, Backend::start().await);
    let holdline = Holdline::start(&format!(
        "fleets:\n  chat:\n    backends:\n      static: [ {{ id: a, address: \"{}\" }}, {{ id: b, address: \"{}\" }} ]\n    {rest}\n",
        a.address, b.address
    ));
    holdline.until_ready().await;
    (a, b, holdline)
}

async fn sockets(holdline: &Holdline, count: usize) -> Vec<Socket> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(client::websocket(holdline.address, "/").await.unwrap());
    }
    all
}

#[tokio::test]
async fn a_thousand_sessions_leave_over_ten_seconds() {
    let (a, _b, holdline) = fleet("capacity: 2000\n    balance: packed\n    fill: 100%").await;
    let mut clients = JoinSet::new();
    for socket in sockets(&holdline, SESSIONS).await {
        clients.spawn(talk_until_closed(socket));
    }
    let status = holdline.fleet().await;
    let from = status["backends"].as_array().unwrap().iter().max_by_key(|b| b["sessions"].as_u64()).unwrap();
    assert_eq!(from["sessions"], SESSIONS, "`packed` puts them all on one: {status:#}");
    let id = from["id"].as_str().unwrap().to_owned();

    let path = format!("/v1/fleets/chat/backends/{id}/drain");
    let (status, plan) = client::http("POST", holdline.admin, &path, Some(json!({ "over": "10s" }))).await;
    assert!(status < 300, "{plan}");
    assert_eq!(plan["sessions"], SESSIONS);

    let mut last = u64::MAX;
    holdline
        .until("drained", |fleet| {
            let backend = fleet["backends"].as_array().unwrap().iter().find(|b| b["id"] == id.as_str()).unwrap();
            let now = backend["sessions"].as_u64().unwrap();
            assert!(now <= last, "a draining backend's count rose from {last} to {now}");
            last = now;
            backend["phase"] == "drained"
        })
        .await;

    while let Some(code) = clients.join_next().await {
        assert_eq!(code.unwrap(), Some(1012));
    }
    assert_eq!(a.sessions_total().min(SESSIONS as u32), a.sessions_total());
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "cause=\"drained\"").await, SESSIONS as f64);
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "cause=\"cut\"").await, 0.0);
}

/// Keeps messages of uneven sizes in flight. tungstenite reads frames: a Close inside of one would be an error, not a Close.
async fn talk_until_closed(mut socket: Socket) -> Option<u16> {
    let mut size = 1;
    loop {
        if socket.send(Message::binary(vec![7; size])).await.is_err() {
            return client::close_code(&mut socket).await;
        }
        match tokio::time::timeout(PATIENCE, socket.next()).await.expect("an echo or a Close")? {
            Ok(Message::Close(frame)) => {
                let code = frame.map(|f| f.code.into());
                while let Some(Ok(_)) = socket.next().await {}
                return code;
            }
            Ok(Message::Binary(data)) => assert_eq!(data.len(), size),
            other => panic!("{other:?}"),
        }
        size = (size * 7 + 11) % 3000;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn undrain_restores_the_backend_at_once() {
    let (_a, _b, holdline) = fleet("capacity: 100").await;
    let held = sockets(&holdline, 20).await;
    let drained = holdline.cli(&["drain", "a", "--over", "60s"]).await;
    assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
    let fleet = holdline.fleet().await;
    assert_eq!(fleet["backends"][0]["phase"], "draining", "{fleet:#}");
    let undrained = holdline.cli(&["undrain", "a"]).await;
    assert!(undrained.status.success(), "{}", String::from_utf8_lossy(&undrained.stderr));
    let fleet = holdline.fleet().await;
    assert_eq!(fleet["backends"][0]["phase"], "ready", "{fleet:#}");
    drop(held);
}

#[tokio::test]
async fn a_dry_run_shows_the_plan_and_moves_nobody() {
    let (_a, _b, holdline) = fleet("capacity: 100").await;
    let _held = sockets(&holdline, 20).await;
    let (status, plan) =
        client::http("POST", holdline.admin, "/v1/fleets/chat/backends/a/drain", Some(json!({ "over": "10s", "dry_run": true })))
            .await;
    assert_eq!(status, 200, "{plan}");
    assert_eq!((plan["sessions"].as_u64(), plan["dry_run"].as_bool()), (Some(10), Some(true)), "{plan:#}");
    assert_eq!(holdline.fleet().await["backends"][0]["phase"], "ready");
}

#[tokio::test]
async fn a_rebalance_evens_out_a_fleet() {
    let (_a, _b, holdline) = fleet("capacity: 100").await;
    let drained = holdline.cli(&["drain", "a"]).await;
    assert!(drained.status.success());
    let mut clients = JoinSet::new();
    for mut socket in sockets(&holdline, 40).await {
        clients.spawn(async move { client::close_code(&mut socket).await });
    }
    holdline.cli(&["undrain", "a"]).await;
    let done = holdline.cli(&["rebalance", "chat", "--over", "1s", "--wait"]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for _ in 0..20 {
        assert_eq!(clients.join_next().await.unwrap().unwrap(), Some(1012));
    }
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "cause=\"rebalanced\"").await, 20.0);
    clients.abort_all();
}

#[tokio::test]
async fn what_the_deadline_cut_is_counted_alike_everywhere() {
    let (_a, _b, holdline) = fleet("capacity: 4\n    drain: { deadline: 3s }").await;
    assert!(holdline.cli(&["drain", "b", "--wait"]).await.status.success());
    let mut on_a = sockets(&holdline, 4).await;
    assert!(holdline.cli(&["undrain", "b"]).await.status.success());
    let _on_b = sockets(&holdline, 4).await;

    // There is no seat to move anybody to, and one leaves by itself.
    let args = ["drain", "a", "--over", "1s", "--wait"];
    let (drained, ()) = tokio::join!(holdline.cli(&args), async {
        holdline.until("draining", |fleet| fleet["backends"][0]["phase"] == "draining").await;
        client::leave(on_a.pop().unwrap()).await;
    });
    let told = String::from_utf8_lossy(&drained.stderr).into_owned();
    assert_eq!(drained.status.code(), Some(1), "{told}");
    assert!(told.contains("the deadline passed with 3 sessions left, which were cut"), "{told}");
    let a = holdline.fleet().await["backends"][0].clone();
    assert_eq!((&a["phase"], &a["drained"]["cut"], &a["draining"]), (&json!("drained"), &json!(3), &json!(null)), "{a:#}");
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "cause=\"cut\"").await, 3.0);
    let line = holdline.log_line("its 4 sessions left");
    assert!(line.to_string().contains("0 were moved, 1 left by themselves, 3 were cut"), "{line}");
    assert!(line.to_string().contains(r#""drain_ended""#), "the kind as the API writes it: {line}");
}
