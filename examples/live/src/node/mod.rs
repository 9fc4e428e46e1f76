//! `live node`: holds the clients' connections, hears every delta from the queue and hands it to the clients of its room.

mod cursor;
mod events;
mod follow;
mod hub;
mod lingering;
mod poll;
mod problem;
mod room;
mod server;
mod sessions;
#[cfg(test)]
mod tests;
mod upstream;
mod websocket;

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use self::follow::{Place, follow};
use self::hub::Hub;
use self::poll::Polls;
use self::server::Node;
use self::sessions::Sessions;
use self::upstream::{Api, HttpApi};
use crate::backoff::Backoff;
use crate::queue;
use crate::wall::is_name;

/// How often the api is told who is here.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// How often it is looked who has left.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How to run one node.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// Port to listen on, on 127.0.0.1; 0: any, which it prints
    #[arg(long, env = "PORT")]
    pub port: u16,
    /// The address that `live api --internal` names
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9101")]
    pub api: String,
    /// Where deltas come from: embedded (from --api), redis://… or postgres://…
    #[arg(long, value_name = "URL", default_value = "embedded")]
    pub queue: String,
    /// Its name, which clients see; left out: `node-PORT`
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Sessions that its heartbeat says it takes; left out: it does not say
    #[arg(long, value_name = "N")]
    pub capacity: Option<u32>,
    /// Wait before listening, as a server does that loads its data first
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub start_delay_ms: u64,
    /// After SIGTERM: how long to wait for its sessions to leave
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub stop_wait_ms: u64,
}

/// Serves until SIGTERM or SIGINT, then says `draining` in its heartbeat and leaves when its last session has, or when its patience ends.
///
/// # Errors
/// The port is taken, an address or the name cannot be used, or signals cannot be watched.
pub async fn run(args: NodeArgs) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::time::sleep(Duration::from_millis(args.start_delay_ms)).await;

    let listener = listen(args.port).await?;
    let name = args.name.unwrap_or(format!("node-{}", listener.local_addr()?.port()));
    if !is_name(&name) {
        return Err(unusable(format!("--name {name} is no name: 1 to 32 of a-z A-Z 0-9 _ -")));
    }
    let api: Arc<dyn Api> = Arc::new(HttpApi::new(&args.api, &name)?);
    let queue = queue::open_subscriber(&args.queue, &args.api).map_err(|e| unusable(e.to_string()))?;
    let sessions = Sessions::new(args.capacity);
    let (tell, place) = watch::channel(Place::default());
    let hub = Hub::new(Arc::clone(&api));
    let node = Arc::new(Node { name, hub: Arc::clone(&hub), sessions: sessions.clone(), polls: Polls::new(), place });
    // Whoever reads it went: nothing is wrong with the server.
    let _ = writeln!(std::io::stdout(), "listens on {}", listener.local_addr()?);

    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sessions.drain();
        // Whoever is left is cut when the process ends.
        let _ = tokio::time::timeout(Duration::from_millis(args.stop_wait_ms), sessions.empty()).await;
    };
    tokio::select! {
        never = server::serve(listener, server::router(Arc::clone(&node))) => match never {},
        never = follow(hub, queue, tell, Backoff::from_os()) => match never {},
        never = report(Arc::clone(&node), api) => match never {},
        never = sweep(node) => match never {},
        () = stop => Ok(()),
    }
}

async fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await.map_err(|e| {
        let text = format!("cannot listen on 127.0.0.1:{port}: {e}; give another --port");
        std::io::Error::new(e.kind(), text)
    })
}

fn unusable(text: String) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidInput, text)
}

/// Tells the api who is here, and the clients who is anywhere.
async fn report(node: Arc<Node>, api: Arc<dyn Api>) -> Infallible {
    let mut is_there = true;
    let mut every = tokio::time::interval(REPORT_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let sums = api.report(&node.hub.present()).await;
        match &sums {
            Ok(sums) => node.hub.set_presence(sums),
            // Told once for each absence.
            Err(error) if is_there => eprintln!("live: {error}; trying again"),
            Err(_) => {}
        }
        is_there = sums.is_ok();
    }
}

/// Lets go of rooms and seats that nobody uses.
async fn sweep(node: Arc<Node>) -> Infallible {
    let mut every = tokio::time::interval(SWEEP_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        node.polls.sweep();
        node.hub.sweep();
    }
}
