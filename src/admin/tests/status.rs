//! What is there: status, sessions, metrics, probes.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

#[tokio::test]
async fn status_has_the_fields_of_the_contract() {
    let (status, body) = Api::new().get("/v1/status").await;
    assert_eq!(status, 200);
    let chat = &body["fleets"][0];
    assert_eq!(chat["name"], "chat");
    assert_eq!((&chat["sessions"], &chat["capacity"], &chat["free"]), (&json!(62), &json!(50), &json!(0)));
    assert_eq!((&chat["queued"], &chat["desired"]), (&json!(4), &json!(3)));
    let [full, draining, starting] = [0, 1, 2].map(|n| &chat["backends"][n]);
    assert_eq!(full["id"], "b-1");
    assert_eq!(full["address"], "127.0.0.1:9001");
    assert_eq!(full["phase"], "ready");
    assert_eq!((&full["sessions"], &full["reported"], &full["capacity"]), (&json!(50), &json!(50), &json!(50)));
    assert_eq!(full["heartbeat_age_ms"], 250);
    assert!(full.get("draining").is_none());
    assert_eq!(draining["draining"]["remaining"], 12);
    assert_eq!(draining["draining"]["deadline_in_ms"], 30_000);
    assert_eq!(starting["heartbeat_age_ms"], Value::Null);
    assert_eq!(starting["address"], Value::Null);
    let gateway = &body["gateways"][0];
    assert_eq!(gateway["sessions"], 62);
    assert!(gateway["id"].is_string() && gateway["sync_age_ms"].is_u64());
}

#[tokio::test]
async fn status_reads_back_into_its_own_types() {
    let (_, body) = Api::new().get("/v1/status").await;
    let typed: api::StatusBody = serde_json::from_value(body.clone()).expect("the CLI reads it");
    assert_eq!(serde_json::to_value(typed).expect("JSON"), body);
}

/// Each object of the status with its keys, by the words of the page.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = include_str!("../../../docs/interface.md").split("\n## ").find(|part| part.starts_with("Status")).expect("a part");
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| of ")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let names = cells[2].split('`').skip(1).step_by(2).map(str::to_owned);
        found.entry(cells[1].to_owned()).or_default().extend(names);
    }
    found
}

#[test]
fn every_field_of_the_status_is_documented_and_every_documented_field_is_there() {
    let mut view = chat();
    view.rebalance = Some(moving(1, 2));
    view.backends[0].drain = view.backends[1].drain.clone();
    view.backends[0].phase = holdline_core::cause::Phase::Drained;
    let body =
        serde_json::to_value(status_body(&snapshot(vec![view]), "local", holdline_core::time::Moment::START)).expect("JSON");
    let fleet = &body["fleets"][0];
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    for (of, value) in [
        ("Holdline", &body),
        ("gateway", &body["gateways"][0]),
        ("fleet", fleet),
        ("backend", &fleet["backends"][0]),
        ("backend", &fleet["backends"][1]),
        ("move", &fleet["rebalance"]),
    ] {
        found.entry(of.to_owned()).or_default().extend(value.as_object().expect("an object").keys().cloned());
    }
    assert_eq!(documented(), found);
}

#[tokio::test]
async fn a_done_drain_is_not_shown_as_draining() {
    let mut fleet = chat();
    fleet.backends[1].phase = holdline_core::cause::Phase::Drained;
    let body = status_body(&snapshot(vec![fleet]), "local", holdline_core::time::Moment::START);
    assert!(body.fleets[0].backends[1].draining.is_none());
}

#[tokio::test]
async fn the_status_tells_what_passes_through_a_fleet() {
    let (_, body) = Api::new().get("/v1/status").await;
    let chat = &body["fleets"][0];
    assert_eq!((&chat["arrivals_per_s"], &chat["ended_per_s"], &chat["refused_per_s"]), (&json!(3.3), &json!(1.5), &json!(0.5)));
    assert_eq!(
        (&chat["opened_total"], &chat["ended_total"]["drained"], &chat["ended_total"]["cut"]),
        (&json!(90), &json!(28), &json!(0))
    );
    assert_eq!(chat["refused_total"]["queue_full"], 9);
    assert_eq!(chat["backends"][1]["draining"]["elapsed_ms"], 5_000);
    assert_eq!(body["uptime_ms"], 100_000);
}

#[tokio::test]
async fn a_watcher_sees_the_newest_status_and_the_end() {
    let api = Api::new();
    let answer = api.send(request("GET", "/v1/status?follow=1", None)).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    let mut next = async || {
        let frame = body.frame().await?.expect("no error").into_data().expect("data");
        Some(String::from_utf8(frame.into()).expect("text"))
    };
    assert!(next().await.expect("a retry").starts_with("retry: "));
    let status = |frame: String| -> Value { serde_json::from_str(frame.trim().trim_start_matches("data: ")).expect("JSON") };
    assert_eq!(status(next().await.expect("a status"))["fleets"][0]["sessions"], 62);
    for (version, sessions) in [(2, 1), (3, 2)] {
        let mut view = chat();
        view.backends[0].sessions = sessions;
        let at = holdline_core::time::Moment::from_millis(100_000 + version * 1_000);
        api.plane.publish(holdline_core::snapshot::Snapshot { version, at, ..snapshot(vec![view]) });
    }
    assert_eq!(status(next().await.expect("the newest"))["fleets"][0]["backends"][0]["sessions"], 2);
    api.plane.stop();
    assert_eq!(next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_sees_ages_go_on_and_the_last_change_though_nothing_more_is_published() {
    let snapshot = |version, ms: u64, sessions| {
        let mut view = chat();
        view.backends[0].sessions = sessions;
        holdline_core::snapshot::Snapshot {
            version,
            at: holdline_core::time::Moment::from_millis(100_000 + ms),
            ..snapshot(vec![view])
        }
    };
    let api = Api::new();
    let mut body = api.send(request("GET", "/v1/status?follow=1", None)).await.into_body();
    let mut next = async || {
        let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await.expect("a frame in time");
        String::from_utf8(frame.expect("no end").expect("no error").into_data().expect("data").into()).expect("text")
    };
    let status = |frame: String| -> Value { serde_json::from_str(frame.trim().trim_start_matches("data: ")).expect("JSON") };
    assert!(next().await.starts_with("retry: "));
    assert_eq!(status(next().await)["uptime_ms"], 100_000);
    api.plane.then(snapshot(1, 1_000, 62));
    assert_eq!(status(next().await)["uptime_ms"], 101_000);
    // Too soon after that for a frame of its own, and the last one for long.
    api.plane.publish(snapshot(2, 1_100, 7));
    api.plane.then(snapshot(2, 1_350, 7));
    let changed = status(next().await);
    assert_eq!((&changed["uptime_ms"], &changed["fleets"][0]["backends"][0]["sessions"]), (&101_350.into(), &7.into()));
}

#[tokio::test]
async fn sessions_are_filtered_and_limited() {
    let api = Api::new();
    let (status, all) = api.get("/v1/sessions").await;
    assert_eq!((status, all["sessions"].as_array().map(Vec::len)), (StatusCode::OK, Some(5)));
    assert_eq!(all["truncated"], false);
    let (_, some) = api.get("/v1/sessions?fleet=chat&backend=b-1&limit=2").await;
    assert_eq!((some["sessions"].as_array().map(Vec::len), &some["truncated"]), (Some(2), &json!(true)));
    assert_eq!(api.get("/v1/sessions?fleet=nope").await.0, 404);
    assert_eq!(api.get("/v1/sessions?limit=0").await.0, 422);
    assert_eq!(api.get("/v1/sessions?limit=-1").await.0, 400);
    assert_eq!(api.get("/v1/sessions?flet=chat").await.0, 400);
}

#[tokio::test]
async fn probes_are_open_and_readiness_follows_the_listeners() {
    let api = Api::new();
    let probe = |path: &str| Request::builder().uri(path).header("host", "10.0.0.1").body(Body::empty()).expect("a request");
    assert_eq!(api.send(probe("/healthz")).await.status(), 200);
    assert_eq!(api.send(probe("/readyz")).await.status(), 503);
    api.state.set_ready(true);
    assert_eq!(api.send(probe("/readyz")).await.status(), 200);
    let mut stopping = snapshot(vec![]);
    stopping.shutting_down = true;
    api.plane.then(stopping);
    let _ = api.plane.fresh().await;
    assert_eq!(api.send(probe("/readyz")).await.status(), 503);
}

#[tokio::test]
async fn metrics_are_text_and_survive_the_end_of_the_state_task() {
    let api = Api::new();
    let response = api.send(request("GET", "/metrics", None)).await;
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(text(response).await.contains("holdline_sessions{backend=\"b-1\",fleet=\"chat\"} 50\n"));
    api.plane.stop();
    assert_eq!(api.send(request("GET", "/metrics", None)).await.status(), 200);
    assert_eq!(api.get("/v1/status").await.0, 503);
}
