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

mod events;
mod heartbeats;
mod orders;
mod page;
mod status;

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
