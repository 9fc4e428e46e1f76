//! The routes: three kinds of session, `/heartbeat` for Holdline, `/stats` for whoever wants to know.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use axum::serve::Listener as Accept;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::follow::Place;
use super::hub::{Hub, Listener};
use super::poll::Polls;
use super::room::Refusal;
use super::sessions::{Counts, Guard, Heartbeat, Sessions};
use super::{events, poll, websocket};
use crate::problem::Problem;

/// What a connection's answers may wait in, in bytes: an event stream that is not read must not fill more.
const BUFFER_MAX: usize = 16 << 10;

/// Everything that a node is.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) hub: Arc<Hub>,
    pub(crate) sessions: Sessions,
    pub(crate) polls: Polls,
    pub(crate) place: watch::Receiver<Place>,
}

type Shared = State<Arc<Node>>;

#[derive(Deserialize)]
struct Since {
    after: Option<u64>,
}

pub(crate) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/live/ws/{room}", get(websocket))
        .route("/live/events/{room}", get(events))
        .route("/live/poll/{room}", get(poll))
        .route("/heartbeat", get(heartbeat))
        .route("/stats", get(stats))
        .with_state(node)
}

/// Serves for ever. Not by `axum::serve`, which keeps 400 KiB for a client that does not read.
pub(crate) async fn serve(mut listener: TcpListener, app: Router) -> Infallible {
    loop {
        let (stream, _) = Accept::accept(&mut listener).await;
        // A delta is small, and waits for nothing.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).max_buf_size(BUFFER_MAX);
            // A connection that breaks has nobody to be told.
            let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
    }
}

async fn websocket(
    State(node): Shared,
    Path(room): Path<String>,
    since: Result<Query<Since>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|e| Problem::invalid(format!("this is for WebSockets: {}", e.body_text())))?;
    let (listener, guard) = node.join(&room, after(since)?).await?;
    Ok(websocket::begin(upgrade, listener, node.name.clone(), guard))
}

async fn events(
    State(node): Shared,
    Path(room): Path<String>,
    since: Result<Query<Since>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = last_event_id(&headers)?.or(after(since)?);
    let (listener, guard) = node.join(&room, after).await?;
    Ok(events::begin(listener, node.name.clone(), guard))
}

async fn poll(
    State(node): Shared,
    Path(room): Path<String>,
    since: Result<Query<Since>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = after(since)?;
    let client = headers.get("holdline-session").and_then(|value| u64::from_str_radix(value.to_str().ok()?, 16).ok());
    let (mut listener, _counted) = node.polls.listen(&node.hub, &node.sessions, client, &room, after).await?;
    Ok(poll::answer(&mut listener, &node.name, after.is_some()).await)
}

async fn heartbeat(State(node): Shared) -> Json<Heartbeat> {
    Json(node.sessions.heartbeat(node.place.borrow().state))
}

/// What [`stats`] answers.
#[derive(Serialize)]
struct Stats {
    #[serde(flatten)]
    counts: Counts,
    /// The last position of the queue that was heard; 0 before the first.
    pos: u64,
    rooms: usize,
}

async fn stats(State(node): Shared) -> Json<Stats> {
    let pos = node.place.borrow().pos.unwrap_or_default();
    Json(Stats { counts: node.sessions.counts(), pos, rooms: node.hub.rooms() })
}

impl Node {
    async fn join(&self, room: &str, after: Option<u64>) -> Result<(Listener, Guard), Refusal> {
        let member = Arc::new(self.hub.enter(room)?);
        let listener = self.hub.listen(member, after).await?;
        Ok((listener, self.sessions.enter()))
    }
}

fn after(since: Result<Query<Since>, QueryRejection>) -> Result<Option<u64>, Problem> {
    let Query(since) = since.map_err(|_| Problem::invalid("`after` is the number of the last delta that you have"))?;
    Ok(since.after)
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(id) = headers.get("last-event-id") else { return Ok(None) };
    let seq = id.to_str().ok().and_then(|id| id.parse().ok());
    seq.map(Some).ok_or_else(|| Problem::invalid("Last-Event-ID is the number of the last delta that you have"))
}
