//! The API on a real State task, around a data plane that a test drives.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use holdline_core::drain::EndOrder;
use holdline_core::event::{BackendCounts, FleetCounts, GatewayReport};
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::policy::{ProviderPolicy, StaticBackend};
use holdline_core::snapshot::Snapshot;
use holdline_core::traffic::Totals;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::doubles::{FakeSessions, pushed};
use super::*;
use crate::controller::{DataPlane, Outlets, StateTask, drain};

/// Sessions on the backend `b-1`.
#[derive(Default)]
struct HeldSeats(Mutex<u32>);

impl DataPlane for HeldSeats {
    fn adopt(&self, _: &Snapshot) {}

    fn report(&self) -> GatewayReport {
        let backends = vec![BackendCounts {
            backend: "b-1".into(),
            used: *self.0.lock(),
            former: Vec::new(),
            requests: 0,
            moved_total: 0,
            lost_total: 0,
            cut_total: 0,
        }];
        let fleet = FleetCounts {
            fleet: "chat".into(),
            backends,
            queued: 0,
            oldest_wait: std::time::Duration::ZERO,
            admitted_total: 0,
            ended_total: 0,
            refused_total: 0,
            no_backend_total: 0,
            requests: 0,
            totals: Totals::default(),
        };
        GatewayReport { fleets: vec![fleet] }
    }

    fn used(&self, _: &FleetName, backend: &BackendId) -> u32 {
        if backend.as_str() == "b-1" { *self.0.lock() } else { 0 }
    }

    fn end_sessions<'a>(
        &'a self,
        _: &'a FleetName,
        _: &'a BackendId,
        order: EndOrder,
    ) -> Pin<Box<dyn Future<Output = u32> + Send + 'a>> {
        let mut held = self.0.lock();
        let ended = order.count.min(*held);
        *held -= ended;
        Box::pin(std::future::ready(ended))
    }
}

struct Real {
    plane: Arc<HeldSeats>,
    app: Router,
    task: JoinHandle<()>,
    _providers: mpsc::Receiver<holdline_core::event::Effect>,
}

impl Real {
    fn start() -> Self {
        let mut policy = pushed("chat");
        let backend = |id: &str| StaticBackend { id: id.into(), address: ([127, 0, 0, 1], 9).into(), capacity: None };
        policy.provider = ProviderPolicy::Static(vec![backend("b-1"), backend("b-2")]);
        let plane = Arc::new(HeldSeats::default());
        let (events, received) = mpsc::channel(16);
        let (drainer, orders) = mpsc::channel(16);
        let (providers, retired) = mpsc::channel(16);
        let (clock, metrics) = (Clock::start(), Metrics::new());
        let outlets = Outlets { drainer, providers };
        let fleets = vec![Arc::new(policy)];
        let (task, control) = StateTask::new(fleets, plane.clone(), clock, metrics.clone(), (events, received), outlets);
        tokio::spawn(drain(plane.clone(), orders));
        let sessions = Arc::new(FakeSessions(Vec::new()));
        let state = AdminState::new(Arc::new(control), sessions, metrics, clock, ([127, 0, 0, 1], 9900).into());
        Real { plane, app: router(Arc::new(state)), task: tokio::spawn(task.run()), _providers: retired }
    }

    async fn send(&self, method: &str, path: &str, body: Option<Value>) -> axum::response::Response {
        let builder = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = match body {
            None => builder.body(Body::empty()),
            Some(json) => builder.header("content-type", "application/json").body(Body::from(json.to_string())),
        };
        TowerToHyperService::new(self.app.clone()).call(request.expect("a request")).await.expect("infallible")
    }

    async fn json(&self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let response = self.send(method, path, body).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn backend(&self, n: usize) -> Value {
        self.json("GET", "/v1/status", None).await.1["fleets"][0]["backends"][n].take()
    }

    async fn beat(&self, id: &str, seq: u64) -> StatusCode {
        self.json("POST", "/v1/fleets/chat/heartbeats", Some(json!({"id": id, "seq": seq}))).await.0
    }

    /// Both backends are heard until `n` has this phase. Virtual time passes.
    async fn until(&self, n: usize, phase: &str) -> Value {
        for seq in 1..1_000 {
            assert_eq!(
                (self.beat("b-1", seq).await, self.beat("b-2", seq).await),
                (StatusCode::NO_CONTENT, StatusCode::NO_CONTENT)
            );
            let backend = self.backend(n).await;
            if backend["phase"] == phase {
                return backend;
            }
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
        panic!("backend {n} never was {phase}: {}", self.backend(n).await);
    }
}

#[tokio::test(start_paused = true)]
async fn pushed_heartbeats_make_a_backend_ready_and_a_drain_empties_it() {
    let real = Real::start();
    assert_eq!(real.backend(0).await["heartbeat_age_ms"], Value::Null);
    let ready = real.until(0, "ready").await;
    assert!(ready["heartbeat_age_ms"].is_u64() && ready.get("draining").is_none());
    real.until(1, "ready").await;

    *real.plane.0.lock() = 20;
    let drain = "/v1/fleets/chat/backends/b-1/drain";
    let (status, plan) = real.json("POST", drain, Some(json!({"over": "10s", "dry_run": true}))).await;
    assert_eq!((status, &plan["sessions"], &plan["over_ms"]), (StatusCode::OK, &json!(20), &json!(10_000)));
    assert_eq!(real.backend(0).await["phase"], "ready", "a dry run starts nothing");
    real.json("POST", drain, Some(json!({"over": "10s"}))).await;
    let draining = real.backend(0).await;
    assert_eq!((&draining["phase"], &draining["draining"]["remaining"]), (&json!("draining"), &json!(20)));
    let drained = real.until(0, "drained").await;
    assert_eq!((&drained["sessions"], &drained["moved"]), (&json!(0), &json!(20)));
    assert!(drained.get("draining").is_none());

    let (status, done) = real.json("DELETE", drain, None).await;
    assert!(status == StatusCode::OK && done["message"].is_string(), "{done}");
    real.until(0, "ready").await;
    let events = real.send("GET", "/v1/events?follow=0", None).await.into_body().collect().await.expect("a body").to_bytes();
    let events = String::from_utf8_lossy(&events).into_owned();
    for kind in ["drain_started", "drain_ended", "undrained"] {
        assert!(events.contains(&format!("\"kind\":\"{kind}\"")), "{kind}: {events}");
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_of_the_state_task_arrive_as_problems() {
    let real = Real::start();
    let (status, problem) = real.json("POST", "/v1/fleets/chat/backends/nope/drain", None).await;
    assert_eq!((status, &problem["type"]), (StatusCode::NOT_FOUND, &json!("urn:holdline:problem:unknown-backend")));
    assert!(problem["detail"].as_str().is_some_and(|d| d.contains("b-1") && d.contains("b-2")), "{problem}");
    let (status, _) = real.json("POST", "/v1/fleets/nope/rebalance", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    real.until(0, "ready").await;
    let over = json!({"over": "10m"});
    let (status, problem) = real.json("POST", "/v1/fleets/chat/backends/b-1/drain", Some(over)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "over is longer than the deadline: {problem}");
    let (status, problem) = real.json("PUT", "/v1/fleets/chat/scale", Some(json!({"to": 1000}))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_state_task_ends_what_waits_for_it() {
    let real = Real::start();
    let mut events = real.send("GET", "/v1/events", None).await.into_body();
    assert!(events.frame().await.is_some());
    real.task.abort();
    while let Some(frame) = events.frame().await {
        frame.expect("an orderly end");
    }
    let (status, problem) = real.json("GET", "/v1/status", None).await;
    assert_eq!((status, &problem["type"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("urn:holdline:problem:stopping")));
}
