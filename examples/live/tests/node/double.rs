//! An api that a test drives: it can be away, hang back, and lose what it had published.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use futures_util::stream;
use holdline_live::delta::{Action, Delta, Entry};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The most deltas to a page, as the api has it.
const PAGE_MAX: usize = 1_000;

pub(crate) struct Double {
    server: JoinSet<()>,
    pub(crate) address: SocketAddr,
    /// Bound and never listening: while this is away nobody is there, and nobody else gets the port.
    _place: TcpSocket,
    world: Arc<Mutex<World>>,
    written: watch::Sender<u64>,
}

#[derive(Default)]
struct World {
    rooms: BTreeMap<String, Vec<Delta>>,
    /// The first delta that is kept of each room.
    oldest: u64,
    queue: Vec<Entry>,
    presence: BTreeMap<String, u64>,
    reports: Vec<(String, Value)>,
    asked: u64,
}

type Shared = State<(Arc<Mutex<World>>, watch::Receiver<u64>)>;

impl Double {
    /// An api with these rooms.
    pub(crate) fn start(rooms: &[&str]) -> Double {
        let mut double = Double::stopped(rooms);
        double.up();
        double
    }

    /// One that is not there yet.
    pub(crate) fn stopped(rooms: &[&str]) -> Double {
        let rooms = rooms.iter().map(|room| ((*room).to_owned(), Vec::new())).collect();
        let place = bound(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = place.local_addr().unwrap();
        let world = Arc::new(Mutex::new(World { rooms, oldest: 1, ..World::default() }));
        Double { server: JoinSet::new(), address, _place: place, world, written: watch::Sender::new(0) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn up(&mut self) {
        let app = Router::new()
            .route("/api/rooms/{room}", get(room))
            .route("/api/rooms/{room}/deltas", get(deltas))
            .route("/internal/newest", get(newest))
            .route("/internal/stream", get(entries))
            .route("/internal/presence/{node}", put(presence))
            .with_state((Arc::clone(&self.world), self.written.subscribe()));
        self.server.spawn(serve(bound(self.address).listen(1024).unwrap(), app));
    }

    /// All its connections end.
    pub(crate) async fn down(&mut self) {
        self.server.shutdown().await;
    }

    /// Stores a delta, the next of the room, and publishes it.
    pub(crate) fn write(&self, room: &str, text: &str) -> u64 {
        let seq = self.write_unpublished(room, text);
        let mut world = self.world.lock();
        let (pos, delta) = (world.queue.len() as u64 + 1, world.rooms[room].last().unwrap().clone());
        world.queue.push(Entry { pos, room: room.to_owned(), delta });
        drop(world);
        self.written.send_modify(|n| *n += 1);
        seq
    }

    /// Stores one that the queue loses.
    pub(crate) fn write_unpublished(&self, room: &str, text: &str) -> u64 {
        let mut world = self.world.lock();
        let log = world.rooms.get_mut(room).unwrap();
        let seq = log.len() as u64 + 1;
        let text = Some(text.to_owned());
        log.push(Delta { seq, at: 1_764_000_000, action: Action::Create, comment: seq, user: "ann".into(), text });
        seq
    }

    pub(crate) fn make(&self, room: &str) {
        self.world.lock().rooms.insert(room.to_owned(), Vec::new());
    }

    /// Only deltas from `oldest` on are kept.
    pub(crate) fn keep_from(&self, oldest: u64) {
        self.world.lock().oldest = oldest;
    }

    /// What all nodes together are told.
    pub(crate) fn set_presence(&self, room: &str, presence: u64) {
        self.world.lock().presence.insert(room.to_owned(), presence);
    }

    /// The newest report of a node.
    pub(crate) fn report(&self) -> Option<(String, Value)> {
        self.world.lock().reports.last().cloned()
    }

    /// Requests for rooms and their deltas so far.
    pub(crate) fn asked(&self) -> u64 {
        self.world.lock().asked
    }
}

/// Several sockets may have an address as long as one of them listens at the most.
pub(crate) fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// Its connections end with it.
async fn serve(listener: TcpListener, app: Router) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(app.clone());
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn problem(status: u16, kind: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(json!({ "type": format!("urn:live:problem:{kind}") }))).into_response()
}

async fn room(State((world, _)): Shared, Path(room): Path<String>) -> Response {
    let mut world = world.lock();
    world.asked += 1;
    let Some(log) = world.rooms.get(&room) else { return problem(404, "unknown-room") };
    let (seq, presence) = (log.len() as u64, world.presence.get(&room).copied().unwrap_or_default());
    let oldest = world.oldest.min(seq + 1);
    let body = json!({
        "room": room, "recovery": "strong", "seq": seq, "oldest": oldest, "presence": presence, "comments": [], "more": false,
    });
    Json(body).into_response()
}

#[derive(Deserialize)]
struct After {
    after: u64,
    limit: Option<usize>,
}

async fn deltas(State((world, _)): Shared, Path(room): Path<String>, Query(After { after, limit }): Query<After>) -> Response {
    let mut world = world.lock();
    world.asked += 1;
    let Some(log) = world.rooms.get(&room) else { return problem(404, "unknown-room") };
    let seq = log.len() as u64;
    if after > seq {
        return problem(400, "from-the-future");
    }
    if after + 1 < world.oldest {
        return problem(410, "window-passed");
    }
    let page: Vec<_> = log.iter().skip(after as usize).take(limit.unwrap_or(PAGE_MAX).min(PAGE_MAX)).collect();
    let more = after + (page.len() as u64) < seq;
    Json(json!({ "room": room, "seq": seq, "oldest": world.oldest, "deltas": page, "more": more })).into_response()
}

async fn newest(State((world, _)): Shared) -> Json<Value> {
    Json(json!({ "pos": world.lock().queue.len() }))
}

async fn entries(State((world, written)): Shared, Query(After { after, .. }): Query<After>) -> Response {
    let lines = stream::unfold((world, written, after as usize), |(world, mut written, at)| async move {
        loop {
            written.borrow_and_update();
            let next = world.lock().queue.get(at).cloned();
            if let Some(entry) = next {
                let line = serde_json::to_string(&entry).unwrap() + "\n";
                return Some((Ok::<_, Infallible>(Bytes::from(line)), (world, written, at + 1)));
            }
            if tokio::time::timeout(Duration::from_secs(5), written.changed()).await.is_err() {
                return Some((Ok(Bytes::from_static(b"\n")), (world, written, at)));
            }
        }
    });
    Body::from_stream(lines).into_response()
}

async fn presence(State((world, _)): Shared, Path(node): Path<String>, Json(here): Json<Value>) -> Json<Value> {
    let mut world = world.lock();
    world.reports.push((node, here));
    Json(json!({ "rooms": world.presence }))
}
