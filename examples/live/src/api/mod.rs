//! `live api`: takes mutations, answers queries, publishes deltas.

mod input;
mod internal;
mod page;
mod presence;
mod public;
mod publisher;

use std::future::Future;
use std::io::{Error, ErrorKind, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use clap::Args;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::problem::Problem;
use crate::queue;
use crate::store::{Bounds, Refused, Store};
use crate::wall::{Recovery, is_name};

/// The largest request, in bytes.
const BODY_MAX: usize = 256 * 1024;

/// How long requests that are under way may take at the end.
const END_MAX: Duration = Duration::from_secs(5);

/// How to run the api.
#[derive(Args, Clone, Debug)]
pub struct ApiArgs {
    /// Port for clients, on 127.0.0.1; 0: any, which it prints
    #[arg(long, env = "PORT")]
    pub port: u16,
    /// Port for nodes, on 127.0.0.1; 0: any, which it prints
    #[arg(long, value_name = "PORT", default_value_t = 9101)]
    pub internal: u16,
    /// The SQLite file, which is made if it is not there
    #[arg(long, value_name = "FILE", default_value = "live.db")]
    pub db: PathBuf,
    /// The most that the file may hold, in MiB; left out: no bound but the disk
    #[arg(long, value_name = "MIB")]
    pub db_max: Option<u32>,
    /// Where deltas go: embedded (nodes read them from --internal), redis://… or postgres://…
    #[arg(long, value_name = "URL", default_value = "embedded")]
    pub queue: String,
    /// The longest comment, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 2_000, value_parser = comment_max)]
    pub comment_max: usize,
    /// The newest deltas that are kept of each room
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub window: u64,
    /// Rooms to make at the start, NAME:strong or NAME:eventual:SECONDS; those that are there stay
    #[arg(long, value_name = "ROOM", value_parser = room)]
    pub room: Vec<(String, Recovery)>,
}

/// Serves until SIGTERM or SIGINT, then answers what is under way, for 5 s at the most.
///
/// # Errors
/// A port is taken, or the file or the queue's URL cannot be used.
pub async fn run(args: ApiArgs) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let bounds = Bounds { window: args.window, max_mib: args.db_max };
    let store = Store::open(&args.db, bounds).map_err(Error::other)?;
    for (room, recovery) in &args.room {
        match store.make_room(room, *recovery).await {
            Ok(_) | Err(Refused::RoomDiffers(_)) => {}
            Err(refused) => return Err(Error::other(format!("--room {room}: {refused}"))),
        }
    }
    let publisher = queue::open_publisher(&args.queue, &store).map_err(|e| Error::new(ErrorKind::InvalidInput, e))?;
    let (state, mut queue) = watch::channel(Err("it was not reached yet".to_owned()));
    tokio::spawn(publisher::publish(store.clone(), publisher, state));
    // The first mutation should not be the one that comes too early.
    let _ = queue.changed().await;
    let stop = CancellationToken::new();
    let app = App { store, queue, presence: Arc::default(), comment_max: args.comment_max, stop: stop.clone() };

    let (public, internal) = (listen(args.port).await?, listen(args.internal).await?);
    let (here, there) = (public.local_addr()?, internal.local_addr()?);
    // Whoever reads it went: nothing is wrong with the server.
    let _ = writeln!(std::io::stdout(), "listens on {here}, for nodes on {there}");
    let serve = async |listener, routes| {
        axum::serve::<TcpListener, _, _>(listener, routes).with_graceful_shutdown(stop.clone().cancelled_owned()).await
    };
    let served = async { tokio::try_join!(serve(public, clients(app.clone())), serve(internal, nodes(app))).map(|_| ()) };
    let asked = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    until_done(served, asked, &stop).await
}

/// Until `served` is, which ends in its own time once `stop` is cancelled; from when the end is asked for it has [`END_MAX`].
async fn until_done(
    served: impl Future<Output = std::io::Result<()>>,
    asked: impl Future<Output = ()>,
    stop: &CancellationToken,
) -> std::io::Result<()> {
    let end = async {
        asked.await;
        stop.cancel();
        tokio::time::sleep(END_MAX).await;
    };
    tokio::select! {
        served = served => served,
        () = end => Ok(()),
    }
}

async fn listen(port: u16) -> std::io::Result<TcpListener> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let listener = TcpListener::bind(address).await;
    listener.map_err(|e| {
        Error::new(e.kind(), format!("cannot listen on {address}: {e}; choose another port or stop what listens there"))
    })
}

/// What all requests share.
#[derive(Clone)]
struct App {
    store: Store,
    queue: watch::Receiver<publisher::State>,
    presence: Arc<Mutex<presence::Presence>>,
    /// In bytes.
    comment_max: usize,
    /// The api ends, and with it what would not end by itself.
    stop: CancellationToken,
}

fn clients(app: App) -> Router {
    both().merge(page::routes()).with_state(app)
}

fn nodes(app: App) -> Router {
    both().merge(internal::routes()).with_state(app)
}

fn both() -> Router<App> {
    let unknown = async || {
        let detail = "no such path; README.md of examples/live lists them";
        Problem::new(StatusCode::NOT_FOUND, "invalid", "There is nothing here", detail)
    };
    public::routes().route("/heartbeat", get(heartbeat)).fallback(unknown).layer(DefaultBodyLimit::max(BODY_MAX))
}

#[derive(Serialize)]
struct Heartbeat {
    state: &'static str,
    queue: &'static str,
}

/// It stays ready without its queue: queries are answered, and another api would have the same queue.
async fn heartbeat(State(app): State<App>) -> Json<Heartbeat> {
    let queue = if app.queue.borrow().is_ok() { "up" } else { "down" };
    Json(Heartbeat { state: "ready", queue })
}

/// Where time comes in: presence is counted by it.
#[expect(clippy::disallowed_methods, reason = "the one place that asks")]
fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970 (UTC); a clock before that is at its start.
#[expect(clippy::disallowed_methods, reason = "the one place that asks")]
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn comment_max(text: &str) -> Result<usize, String> {
    // A delta with its text is a line of at most a few times this.
    const MOST: usize = 64 * 1024;
    text.parse().ok().filter(|bytes| (1..=MOST).contains(bytes)).ok_or_else(|| format!("it is 1 to {MOST} bytes"))
}

fn room(text: &str) -> Result<(String, Recovery), String> {
    let mut parts = text.splitn(2, ':');
    let (name, recovery) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let recovery = match (recovery, recovery.strip_prefix("eventual:").and_then(|s| s.parse().ok())) {
        ("strong", _) => Some(Recovery::Strong {}),
        (_, Some(refetch_s @ 1..=crate::wall::REFETCH_S_MAX)) => Some(Recovery::Eventual { refetch_s }),
        _ => None,
    };
    match recovery {
        Some(recovery) if is_name(name) => Ok((name.to_owned(), recovery)),
        _ => Err("it is NAME:strong or NAME:eventual:SECONDS".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_under_way_have_their_time_at_the_end_and_no_more() {
        let (started, stop) = (now(), CancellationToken::new());
        let served = async {
            stop.cancelled().await;
            tokio::time::sleep(END_MAX / 2).await;
            Err(Error::other("told"))
        };
        assert_eq!(until_done(served, async {}, &stop).await.unwrap_err().to_string(), "told");
        assert_eq!(now() - started, END_MAX / 2);
        until_done(std::future::pending(), async {}, &stop).await.unwrap();
        assert_eq!(now() - started, END_MAX / 2 + END_MAX);
    }
}
