//! The router without sockets: a request in, a response out.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use holdline_core::event::{Answer, Command, CommandError, MoveRequest};
use holdline_core::policy::DrainMode;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};

use super::doubles::*;
use super::*;

struct Api {
    plane: Arc<FakePlane>,
    state: Arc<AdminState>,
}

impl Api {
    fn new() -> Self {
        let plane = FakePlane::new(snapshot(vec![chat(), fleet("feed", vec![])]));
        let sessions = (0..5).map(|n| session(n, "chat", if n < 3 { "b-1" } else { "b-2" })).collect();
        let address = ([127, 0, 0, 1], 9900).into();
        let state = AdminState::new(plane.clone(), Arc::new(FakeSessions(sessions)), Metrics::new(), Clock::start(), address);
        Api { plane, state: Arc::new(state) }
    }

    async fn send(&self, request: Request<Body>) -> Response {
        TowerToHyperService::new(router(self.state.clone())).call(request).await.expect("the router is infallible")
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        read(self.send(request("GET", path, None)).await).await
    }

    async fn order(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        read(self.send(request(method, path, Some(&body.to_string()))).await).await
    }
}

fn request(method: &str, path: &str, json: Option<&str>) -> Request<Body> {
    let builder = Request::builder().method(method).uri(path).header("host", "localhost:9900");
    match json {
        None => builder.body(Body::empty()),
        Some(text) => builder.header("content-type", "application/json").body(Body::from(text.to_owned())),
    }
    .expect("a request")
}

async fn text(response: Response) -> String {
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(bytes.into()).expect("text")
}

async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let is_problem = response.headers().get("content-type").is_some_and(|v| v == "application/problem+json");
    assert_eq!(is_problem, status.is_client_error() || status.is_server_error());
    let text = text(response).await;
    let value = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") };
    if is_problem {
        assert_eq!(value["status"], status.as_u16());
        assert!(value["type"].is_string() && value["title"].is_string() && value["detail"].is_string(), "{value}");
    }
    (status, value)
}

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

#[tokio::test]
async fn a_done_drain_is_not_shown_as_draining() {
    let mut fleet = chat();
    fleet.backends[1].phase = holdline_core::cause::Phase::Drained;
    let body = status_body(&snapshot(vec![fleet]), "local", holdline_core::time::Moment::START);
    assert!(body.fleets[0].backends[1].draining.is_none());
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
async fn drain_takes_units_and_answers_with_the_plan() {
    let api = Api::new();
    let order = json!({"over": "10s", "rate": "100/s", "mode": "cut", "dry_run": true});
    let (status, plan) = api.order("POST", "/v1/fleets/chat/backends/b-2/drain", order).await;
    assert_eq!((status, &plan["sessions"]), (StatusCode::OK, &json!(40)));
    let request =
        MoveRequest { over: Some(Duration::from_secs(10)), rate_max: Some(100.0), mode: Some(DrainMode::Cut), dry_run: true };
    let expected = Command::Drain { fleet: "chat".into(), backend: "b-2".into(), request };
    assert_eq!(*api.plane.commands.lock(), [expected]);
}

#[tokio::test]
async fn a_drain_without_a_body_is_the_default_drain() {
    let api = Api::new();
    let response = api.send(request("POST", "/v1/fleets/chat/backends/10.0.0.7%3A9001/drain", None)).await;
    assert_eq!(response.status(), 200);
    let expected = Command::Drain { fleet: "chat".into(), backend: "10.0.0.7:9001".into(), request: MoveRequest::default() };
    assert_eq!(*api.plane.commands.lock(), [expected]);
}

#[tokio::test]
async fn undrain_rebalance_and_scale_become_commands() {
    let api = Api::new();
    *api.plane.answer.lock() = Ok(Answer::Done { message: "done".into() });
    assert_eq!(api.order("DELETE", "/v1/fleets/chat/backends/b-2/drain", json!({})).await.1["message"], "done");
    api.order("POST", "/v1/fleets/chat/rebalance", json!({})).await;
    api.order("PUT", "/v1/fleets/chat/scale", json!({"to": 4})).await;
    api.order("PUT", "/v1/fleets/chat/scale", json!({"to": null})).await;
    let expected = [
        Command::Undrain { fleet: "chat".into(), backend: "b-2".into() },
        Command::Rebalance { fleet: "chat".into(), request: MoveRequest::default() },
        Command::Scale { fleet: "chat".into(), to: Some(4) },
        Command::Scale { fleet: "chat".into(), to: None },
    ];
    assert_eq!(*api.plane.commands.lock(), expected);
}

#[tokio::test]
async fn scale_explains_itself_without_figures_that_json_lacks() {
    let api = Api::new();
    let (_, body) = api.get("/v1/fleets/chat/scale").await;
    assert_eq!((&body["desired"], &body["limited_by"], &body["to"]), (&json!(3), &json!("queue"), &Value::Null));
    assert_eq!(body["inputs"], json!({"need": 66.5, "sessions": 62.0}));
    let (status, problem) = api.get("/v1/fleets/nope/scale").await;
    assert_eq!((status, &problem["type"]), (StatusCode::NOT_FOUND, &json!("urn:holdline:problem:unknown-fleet")));
    assert_eq!(problem["detail"], "no fleet is called `nope`; there are: chat, feed");
}

#[tokio::test]
async fn refused_commands_have_their_status() {
    let api = Api::new();
    let unknown = CommandError::UnknownBackend { fleet: "chat".into(), backend: "x".into(), known: "b-1".into() };
    let phase = CommandError::WrongPhase {
        backend: "b-2".into(),
        phase: holdline_core::cause::Phase::Draining,
        remedy: "undrain it first".into(),
    };
    for (error, status) in [(unknown, 404), (phase, 409), (CommandError::Invalid("over is longer".into()), 422)] {
        let detail = error.to_string();
        *api.plane.answer.lock() = Err(error.into());
        let (got, problem) = api.order("POST", "/v1/fleets/chat/backends/x/drain", json!({})).await;
        assert_eq!((got.as_u16(), problem["detail"].as_str()), (status, Some(detail.as_str())));
    }
    api.plane.stop();
    assert_eq!(api.order("POST", "/v1/fleets/chat/rebalance", json!({})).await.0, 503);
}

#[tokio::test]
async fn bodies_are_small_json_without_surprises() {
    let api = Api::new();
    let drain = "/v1/fleets/chat/backends/b-2/drain";
    let typed = |kind: &'static str, text: &str| {
        let builder = Request::builder().method("POST").uri(drain).header("host", "localhost").header("content-type", kind);
        builder.body(Body::from(text.to_owned())).expect("a request")
    };
    assert_eq!(api.send(typed("application/json; charset=utf-8", "{}")).await.status(), 200);
    for (kind, text, status) in [
        ("text/plain", "{}", 415),
        ("application/x-www-form-urlencoded", "", 415),
        ("application/json", "{", 400),
        ("application/json", "{\"ovre\": \"10s\"}", 422),
        ("application/json", "{\"over\": \"10\"}", 422),
        ("application/json", "{\"over\": 10}", 422),
        ("application/json", "{\"rate\": \"100\"}", 422),
        ("application/json", "{\"mode\": \"handoff\"}", 422),
    ] {
        assert_eq!(read(api.send(typed(kind, text)).await).await.0, status, "{kind} {text}");
    }
    let large = format!("{{\"over\": \"{}\"}}", "9".repeat(70_000));
    assert_eq!(api.send(typed("application/json", &large)).await.status(), 413);
    let untyped = Request::builder().method("POST").uri(drain).header("host", "localhost").body(Body::from("{}"));
    assert_eq!(api.send(untyped.expect("a request")).await.status(), 415);
    assert_eq!(api.order("PUT", "/v1/fleets/chat/scale", json!({})).await.0, 422);
    assert_eq!(api.order("PUT", "/v1/fleets/chat/scale", json!({"to": -1})).await.0, 422);
    assert_eq!(api.plane.commands.lock().len(), 1);
}

#[tokio::test]
async fn foreign_pages_unknown_calls_and_wrong_methods_get_problems() {
    let api = Api::new();
    let mut foreign = request("GET", "/v1/status", None);
    foreign.headers_mut().insert("host", "evil.example".parse().expect("a header value"));
    assert_eq!(read(api.send(foreign).await).await.0, 403);
    let mut cross = request("POST", "/v1/fleets/chat/rebalance", Some("{}"));
    cross.headers_mut().insert("origin", "http://evil.example".parse().expect("a header value"));
    assert_eq!(read(api.send(cross).await).await.0, 403);
    let metrics = text(api.send(request("GET", "/metrics", None)).await).await;
    assert!(metrics.contains("holdline_bad_input_total{reason=\"admin_origin\"} 2\n"), "{metrics}");
    assert_eq!(api.get("/v1/nope").await.0, 404);
    assert_eq!(api.get("/page/nope.js").await.0, 404);
    let wrong = api.send(request("DELETE", "/v1/status", None)).await;
    assert!(wrong.headers().contains_key("allow"));
    assert_eq!(read(wrong).await.0, 405);
    assert!(api.plane.commands.lock().is_empty());
}

#[tokio::test]
async fn heartbeats_are_taken_with_the_right_token_only() {
    let mut api = Api::new();
    let path = "/v1/fleets/chat/heartbeats";
    let beat = json!({"id": "b-1", "seq": 7, "sessions": 41, "capacity": 50, "state": "draining", "later": true});
    assert_eq!(api.order("POST", path, beat.clone()).await.0, 204);
    assert_eq!(api.order("POST", path, json!({"id": "b-9", "seq": 1})).await.0, 202);
    {
        let taken = api.plane.heartbeats.lock();
        let (fleet, backend, heartbeat) = &taken[0];
        assert_eq!((fleet.as_str(), backend.as_str(), heartbeat.seq), ("chat", "b-1", Some(7)));
        assert_eq!((heartbeat.sessions, heartbeat.capacity, heartbeat.draining), (Some(41), Some(50), true));
    }
    for bad in [json!({"id": "b-1"}), json!({"id": "b-1", "seq": 1, "sessions": -4}), json!({"seq": 1, "id": 4})] {
        assert_eq!(api.order("POST", path, bad).await.0, 422);
    }
    assert_eq!(api.order("POST", "/v1/fleets/nope/heartbeats", beat.clone()).await.0, 404);

    let state = Arc::get_mut(&mut api.state).expect("nobody else has it");
    state.heartbeat_tokens.store(Arc::new([("chat".into(), "secret".into())].into()));
    let with = |authorization: Option<&'static str>| {
        let mut request = request("POST", path, Some(&beat.to_string()));
        if let Some(value) = authorization {
            request.headers_mut().insert("authorization", value.parse().expect("a header value"));
        }
        request
    };
    for wrong in [None, Some("Bearer secreT"), Some("Bearer secret2"), Some("Basic secret"), Some("Bearer")] {
        let response = api.send(with(wrong)).await;
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_eq!(response.status(), 401, "{wrong:?}");
    }
    assert_eq!(api.send(with(Some("bearer secret"))).await.status(), 204);
    assert_eq!(api.plane.heartbeats.lock().len(), 3);
}

#[tokio::test]
async fn events_end_after_the_backlog_when_asked() {
    let api = Api::new();
    api.plane.emit(1, "one");
    api.plane.emit(2, "two");
    let response = api.send(request("GET", "/v1/events?follow=0", None)).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let all = text(response).await;
    assert!(all.contains("id: 1\ndata: {\"id\":1,\"at_unix_ms\":1700000000001,\"fleet\":\"chat\",\"backend\":\"b-1\",\"kind\":\"phase\",\"message\":\"one\"}\n\n"), "{all}");
    assert!(all.ends_with("\n\n") && all.contains("id: 2\n"));
    assert_eq!(api.get("/v1/events?follow=2").await.0, 422);
}

#[tokio::test]
async fn events_resume_after_the_last_id_and_own_up_to_gaps() {
    let api = Api::new();
    for id in 5..=7 {
        api.plane.emit(id, "x");
    }
    let after = |id: &'static str| {
        let mut request = request("GET", "/v1/events?follow=0", None);
        request.headers_mut().insert("last-event-id", id.parse().expect("a header value"));
        request
    };
    let resumed = text(api.send(after("6")).await).await;
    assert!(!resumed.contains("id: 6\n") && resumed.contains("id: 7\n") && !resumed.contains("no longer kept"));
    let gap = text(api.send(after("2")).await).await;
    assert!(gap.contains(": 2 older events are no longer kept\n\nid: 5\n"), "{gap}");
    let restarted = text(api.send(after("900")).await).await;
    assert!(restarted.contains("id: 5\n"), "{restarted}");
}

#[tokio::test(start_paused = true)]
async fn followers_see_events_as_they_happen_and_comments_in_between() {
    let api = Api::new();
    let mut body = api.send(request("GET", "/v1/events", None)).await.into_body();
    let mut next = async || {
        let frame = body.frame().await.expect("a frame").expect("no error").into_data().expect("data");
        String::from_utf8(frame.into()).expect("text")
    };
    assert_eq!(next().await, "retry: 2000\n\n");
    assert_eq!(next().await, ":\n\n");
    api.plane.emit(1, "now");
    assert!(next().await.contains("\"message\":\"now\""));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_let_go_and_its_place_is_free_again() {
    let api = Api::new();
    for id in 1..=10 {
        api.plane.emit(id, "x");
    }
    let mut readers = Vec::new();
    for _ in 0..EVENT_READERS_MAX {
        readers.push(api.send(request("GET", "/v1/events", None)).await);
    }
    assert_eq!(api.get("/v1/events").await.0, 503);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(api.send(request("GET", "/v1/events", None)).await.status(), 200);
    let seen = text(readers.remove(0)).await;
    assert_eq!(seen, "retry: 2000\n\n", "one chunk was in memory, no more");
}

#[tokio::test]
async fn the_page_and_its_files_are_there_with_what_protects_them() {
    let api = Api::new();
    let index = api.send(request("GET", "/", None)).await;
    let policy = index.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    let html = text(index).await;
    assert!(!html.contains(" style=") && !html.contains("<style") && !html.contains(" onclick"), "nothing inline");
    let files = html.split('"').filter(|part| part.starts_with('/') && part.contains('.'));
    for path in files {
        let found = api.send(request("GET", path, None)).await;
        assert_eq!(found.status(), 200, "{path}");
        assert_eq!(found.headers()["x-content-type-options"], "nosniff");
        let mut again = request("GET", path, None);
        again.headers_mut().insert("if-none-match", found.headers()["etag"].clone());
        let again = api.send(again).await;
        assert_eq!(again.status(), 304, "{path}");
        assert!(text(again).await.is_empty());
        let head = api.send(request("HEAD", path, None)).await;
        assert_eq!((head.status(), text(head).await.len()), (StatusCode::OK, 0));
    }
}

#[tokio::test]
async fn answers_of_the_api_are_neither_kept_nor_shown_as_a_page() {
    let answer = Api::new().send(request("GET", "/v1/status", None)).await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
    let mut foreign = request("GET", "/", None);
    foreign.headers_mut().insert("host", "evil.example".parse().expect("a header value"));
    assert_eq!(Api::new().send(foreign).await.status(), 403);
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
