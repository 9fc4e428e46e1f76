//! Liveness, readiness, metrics.

use axum::extract::State;
use axum::response::IntoResponse;
use http::{StatusCode, header};

use super::{Problem, Shared};

/// The content type of Prometheus' text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Liveness: the process responds.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The configuration is valid, the listeners are up, a snapshot is there, and Holdline is not stopping.
pub(super) async fn readyz(State(state): Shared) -> Result<&'static str, Problem> {
    let not_ready = |detail: &str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not ready", detail);
    if !state.is_ready() {
        return Err(not_ready("the listeners are not up yet"));
    }
    if state.control.current().shutting_down {
        return Err(not_ready("Holdline is stopping"));
    }
    Ok("ok\n")
}

/// Prometheus' text. During shutdown the last snapshot is used, so that the final scrape counts the closed sessions.
pub(super) async fn metrics(State(state): Shared) -> impl IntoResponse {
    let snapshot = match state.control.fresh().await {
        Ok(snapshot) => snapshot,
        Err(_) => state.control.current(),
    };
    ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], state.metrics.render(&snapshot, state.clock.now()))
}
