//! A life of churn: clients come, talk, leave and vanish while an operator drains, takes back, rebalances, scales and reloads. At the end
//! every seat is free, and every session ended as its client saw it end: there is a cause for each, and no other.
//!
//! `benches/soak/run` is the same for longer: HOLDLINE_SOAK_SECONDS, HOLDLINE_SOAK_CLIENTS and HOLDLINE_SOAK_SEED.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::scaling::process_fleet;
use crate::support::client::{self, PATIENCE, Socket, refusal};
use crate::support::holdline::Holdline;
use crate::support::network;

/// What the soak itself does, and so the only causes there may be.
const CAUSES: [&str; 5] = ["client_closed", "client_lost", "drained", "rebalanced", "cut"];

/// How a client saw its sessions end.
#[derive(Debug, Default)]
struct Seen {
    opened: AtomicU64,
    refused: AtomicU64,
    /// It closed, and its Close was answered.
    left: AtomicU64,
    /// It was told to go.
    told: AtomicU64,
    /// It closed while it was told to go: either may be the cause.
    crossed: AtomicU64,
    /// It broke off, whatever was on its way to it.
    vanished: AtomicU64,
    /// It was broken off.
    cut: AtomicU64,
}

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{name}={text} is not a number: {e}")))
}

#[tokio::test]
async fn whatever_happens_every_seat_is_free_afterwards_and_every_end_is_explained() {
    let (seed, clients) = (env("HOLDLINE_SOAK_SEED", 1), env("HOLDLINE_SOAK_CLIENTS", 200));
    let span = Duration::from_secs(env("HOLDLINE_SOAK_SECONDS", 60));
    println!("seed {seed}, {clients} clients, {span:?}");
    let network = network::own();
    let holdline = Holdline::start(&config(network.ports(), clients, 30));
    holdline.until_ready().await;

    let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let mut crowd = JoinSet::new();
    for n in 0..clients {
        let life = Life {
            address: holdline.address,
            path: format!("/live/ws/{}", n / 5),
            rng: SmallRng::seed_from_u64(seed ^ n << 32),
            seen: Arc::clone(&seen),
            stop: Arc::clone(&stop),
        };
        crowd.spawn(life.live());
    }
    let mut operator =
        Operator { holdline: &holdline, ports: network.ports(), clients, rng: SmallRng::seed_from_u64(seed), reloads: 0 };
    // It has no end of its own.
    let _ = tokio::time::timeout(span, operator.work()).await;
    let reloads = operator.reloads;
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = crowd.join_next().await {
        ended.unwrap();
    }
    holdline.until("everybody is gone", |fleet| fleet["sessions"] == 0 && fleet["queued"] == 0).await;
    println!("{seen:?}, {reloads} reloads");
    explained(&holdline, &seen).await;
    holdline.signal("TERM");
    assert!(holdline.wait().await.success());
}

/// Seats for everybody at 80 %, so that the fleet has to breathe when some of it is drained.
fn config(ports: (u16, u16), clients: u64, queue_timeout_s: u64) -> String {
    let capacity = clients.div_ceil(5).max(2);
    process_fleet(
        ports,
        &format!(
            "capacity: {capacity}\n    affinity: {{ by: cookie }}\n    queue: {{ length: {clients}, timeout: {queue_timeout_s}s }}\n    \
             drain: {{ deadline: 20s }}\n    scale: {{ min: 2, max: 8, behavior: {{ down: {{ stabilization: 5s }} }} }}"
        ),
    )
}

async fn explained(holdline: &Holdline, seen: &Seen) {
    let count = |n: &AtomicU64| n.load(Ordering::SeqCst) as f64;
    let ended = async |cause: &str| holdline.metric("holdline_sessions_ended_total", &format!("cause=\"{cause}\"")).await;
    let [closed, lost, drained, rebalanced, cut] =
        [ended(CAUSES[0]).await, ended(CAUSES[1]).await, ended(CAUSES[2]).await, ended(CAUSES[3]).await, ended(CAUSES[4]).await];
    let told = drained + rebalanced;
    let all = format!("{closed} closed, {lost} lost, {drained} drained, {rebalanced} rebalanced, {cut} cut; {seen:?}");
    println!("{all}");

    assert_eq!(holdline.metric("holdline_seats", "state=\"used\"").await, 0.0);
    let total = holdline.metric("holdline_sessions_ended_total", "").await;
    assert_eq!(closed + lost + told + cut, total, "another cause than the soak has: {all}");
    // A client that broke off while it was answered never learnt that it had a session; Holdline counts it as opened.
    assert_eq!(total, holdline.metric("holdline_handshakes_total", "result=\"opened\"").await, "{all}");
    assert_eq!(total, count(&seen.opened), "{all}");
    assert_eq!(holdline.metric("holdline_refused_total", "").await, count(&seen.refused), "{all}");

    // Who left, or vanished, just when it was told to go or cut may be counted as either: the first to be seen is the cause.
    let (left, went) = (count(&seen.left), count(&seen.told));
    let (crossed, vanished, broken) = (count(&seen.crossed), count(&seen.vanished), count(&seen.cut));
    assert!((left..=left + crossed + broken).contains(&closed), "{all}");
    assert!((went..=went + crossed + vanished + broken).contains(&told), "{all}");
    assert!(lost <= vanished, "{all}");
    assert!(cut <= broken + crossed + vanished, "{all}");
    assert!(closed + cut >= left + broken, "a session was broken off that nobody cut: {all}");
    assert!(closed > 0.0 && lost > 0.0 && told > 0.0, "too quiet to prove anything: {all}");
}

/// One client, who comes again and again.
struct Life {
    address: std::net::SocketAddr,
    path: String,
    rng: SmallRng,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
}

/// One of its sessions, and the Close that came, if one did.
struct Session {
    socket: Socket,
    closed: Option<Option<u16>>,
}

impl Life {
    async fn live(mut self) {
        while !self.stop.load(Ordering::SeqCst) {
            match client::websocket(self.address, &self.path).await {
                Ok(socket) => {
                    self.seen.opened.fetch_add(1, Ordering::SeqCst);
                    let end = self.session(Session { socket, closed: None }).await;
                    self.count(end);
                }
                Err(error @ Error::Http(_)) => {
                    let (status, cause) = refusal(&error);
                    assert!(
                        status == 503 && matches!(&*cause, "queue_full" | "queue_timeout" | "no_backend"),
                        "{status} {cause}"
                    );
                    self.seen.refused.fetch_add(1, Ordering::SeqCst);
                }
                Err(error) => panic!("a handshake ended without an answer: {error}"),
            }
            self.pause(0..300).await;
        }
    }

    fn count(&self, end: End) {
        let counter = match end {
            End::Left => &self.seen.left,
            End::Told => &self.seen.told,
            End::Crossed => &self.seen.crossed,
            End::Vanished => &self.seen.vanished,
            End::Cut => &self.seen.cut,
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }

    async fn session(&mut self, mut session: Session) -> End {
        for _ in 0..self.rng.random_range(1..40) {
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            // A node answers it; the spaces make frames of any length.
            let message = Message::text(r#"{"ping":1}"#.to_owned() + &" ".repeat(self.rng.random_range(1..3_000)));
            if session.socket.send(message).await.is_err() {
                // The end stands behind what was on its way.
                return awaited(session.end()).await;
            }
            let pause = Duration::from_millis(self.rng.random_range(20..400));
            if let Ok(end) = tokio::time::timeout(pause, session.end()).await {
                return end;
            }
        }
        if self.rng.random_bool(0.15) {
            session.socket.get_ref().set_zero_linger().unwrap();
            return End::Vanished;
        }
        let sent = session.socket.close(None).await.is_ok();
        match awaited(session.end()).await {
            End::Told if sent => End::Crossed,
            end => end,
        }
    }

    async fn pause(&mut self, ms: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(ms))).await;
    }
}

/// How a session ended for its client.
enum End {
    Left,
    Told,
    Crossed,
    Vanished,
    Cut,
}

async fn awaited(end: impl Future<Output = End>) -> End {
    tokio::time::timeout(PATIENCE, end).await.expect("a session ends")
}

impl Session {
    /// Reads up to its end; may be dropped and asked again.
    async fn end(&mut self) -> End {
        while let Some(Ok(message)) = self.socket.next().await {
            if let Message::Close(frame) = message {
                self.closed = Some(frame.map(|f| f.code.into()));
            }
        }
        match self.closed {
            Some(Some(1012)) => End::Told,
            Some(_) => End::Left,
            None => End::Cut,
        }
    }
}

/// Whoever runs the fleet, restlessly.
struct Operator<'h> {
    holdline: &'h Holdline,
    ports: (u16, u16),
    clients: u64,
    rng: SmallRng,
    reloads: u64,
}

impl Operator<'_> {
    async fn work(&mut self) {
        loop {
            match self.rng.random_range(0..10) {
                0..3 => self.drain().await,
                3..6 => self.undrain().await,
                6 => self.rebalance().await,
                7 => {
                    let to = self.rng.random_range(5..=8);
                    self.ask("PUT", "/v1/fleets/chat/scale", Some(json!({ "to": to }))).await;
                }
                8 => self.ask("PUT", "/v1/fleets/chat/scale", Some(json!({ "to": null }))).await,
                _ => {
                    self.reloads += 1;
                    self.holdline.configure(&config(self.ports, self.clients, 30 + self.reloads % 2));
                    self.holdline.signal("HUP");
                }
            }
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(200..1_500))).await;
        }
    }

    async fn drain(&mut self) {
        if let Some(id) = self.one_that_is(&["ready"]).await {
            let mode = if self.rng.random_bool(0.2) { "cut" } else { "close" };
            let body = json!({ "over": format!("{}s", self.rng.random_range(1..5)), "mode": mode });
            self.ask("POST", &format!("/v1/fleets/chat/backends/{id}/drain"), Some(body)).await;
        }
    }

    async fn undrain(&mut self) {
        if let Some(id) = self.one_that_is(&["draining", "drained"]).await {
            self.ask("DELETE", &format!("/v1/fleets/chat/backends/{id}/drain"), None).await;
            // It is the emptiest now.
            if self.rng.random_bool(0.5) {
                self.rebalance().await;
            }
        }
    }

    async fn rebalance(&self) {
        self.ask("POST", "/v1/fleets/chat/rebalance", Some(json!({ "over": "2s" }))).await;
    }

    async fn one_that_is(&mut self, phases: &[&str]) -> Option<String> {
        let fleet = self.holdline.fleet().await;
        let is = |b: &&Value| phases.iter().any(|p| b["phase"] == *p);
        let ids: Vec<_> = fleet["backends"].as_array().unwrap().iter().filter(is).map(|b| b["id"].as_str().unwrap()).collect();
        (!ids.is_empty()).then(|| ids[self.rng.random_range(0..ids.len())].to_owned())
    }

    /// An order may come too late for a fleet that moves by itself; it may not break anything.
    async fn ask(&self, method: &str, path: &str, body: Option<Value>) {
        let (status, answer) = client::http(method, self.holdline.admin, path, body).await;
        assert!(status < 500, "{method} {path}: {status} {answer}");
    }
}
