//! The admin API for operators, scrapers and backends that push heartbeats (contract: docs/interface.md, "Admin API").
//!
//! It makes no decisions: it translates HTTP into commands for the State task, and snapshots into JSON. [`api`] has the JSON types; the
//! command line uses the same ones.

pub mod api;
mod body;
mod connections;
#[cfg(test)]
pub(crate) mod doubles;
mod events;
mod fleets;
mod guard;
mod heartbeats;
mod interfaces;
mod live;
mod page;
mod probes;
mod problem;
#[cfg(test)]
mod real;
mod serve;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod view;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use axum::Router;
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::{get, post};
use holdline_core::ids::FleetName;
use holdline_core::snapshot::Snapshot;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::telemetry::Metrics;
pub use interfaces::{Answering, Plane, Sessions};
pub use problem::Problem;
pub use serve::serve;
pub use view::status_body;

/// Concurrent readers of `/v1/events`. Each has a task and one copy of the event ring buffer, and may stay forever.
const EVENT_READERS_MAX: usize = 64;

/// State of the handlers, created by `runtime` and shared by all requests.
pub struct AdminState {
    pub control: Arc<dyn Plane>,
    /// The gateway's sessions.
    pub sessions: Arc<dyn Sessions>,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// For ages.
    pub clock: Clock,
    /// The address the API is bound to; a Host header may name it.
    pub address: SocketAddr,
    /// The name of this gateway in `/v1/status`.
    pub gateway_id: String,
    /// Fleets that demand a bearer token of a pushed heartbeat.
    pub heartbeat_tokens: ArcSwap<HashMap<FleetName, String>>,
    /// Listeners are up. Set by `runtime` with [`AdminState::set_ready`].
    ready: AtomicBool,
    event_readers: Arc<Semaphore>,
    live: live::Live,
}

impl AdminState {
    /// State that is not ready yet, for an API bound to `address`.
    pub fn new(
        control: Arc<dyn Plane>,
        sessions: Arc<dyn Sessions>,
        metrics: Arc<Metrics>,
        clock: Clock,
        address: SocketAddr,
    ) -> Self {
        AdminState {
            control,
            sessions,
            metrics,
            clock,
            address,
            gateway_id: "local".into(),
            heartbeat_tokens: ArcSwap::default(),
            ready: AtomicBool::new(false),
            event_readers: Arc::new(Semaphore::new(EVENT_READERS_MAX)),
            live: live::Live::default(),
        }
    }

    /// Says whether the listeners are up; `/readyz` follows.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// A snapshot with current counts.
    async fn fresh(&self) -> Result<Arc<Snapshot>, Problem> {
        self.control.fresh().await.map_err(Problem::from)
    }
}

type Shared = axum::extract::State<Arc<AdminState>>;

/// All calls of the admin API, and the status page.
pub fn router(state: Arc<AdminState>) -> Router {
    let guarded = page::routes()
        .route("/metrics", get(probes::metrics))
        .route("/v1/status", get(status::status))
        .route("/v1/sessions", get(status::sessions))
        .route("/v1/events", get(events::events))
        .route("/v1/fleets/{fleet}/backends/{backend}/drain", post(fleets::drain).delete(fleets::undrain))
        .route("/v1/fleets/{fleet}/rebalance", post(fleets::rebalance))
        .route("/v1/fleets/{fleet}/scale", get(fleets::scale).put(fleets::set_scale))
        .route("/v1/fleets/{fleet}/heartbeats", post(heartbeats::push))
        .layer(from_fn_with_state(state.clone(), guard::check));
    // Kubelets and load balancers probe by addresses that the guard would reject.
    let open = Router::new().route("/healthz", get(probes::healthz)).route("/readyz", get(probes::readyz));
    guarded
        .merge(open)
        .fallback(|| async { Problem::no_such_call() })
        .method_not_allowed_fallback(|| async { Problem::wrong_method() })
        .with_state(state)
        .layer(map_response(page::protect))
}
