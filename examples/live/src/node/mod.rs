//! `live node`: holds the clients' connections, hears every delta from the queue and hands it to the clients of its room.

mod rooms;
mod server;
mod sessions;

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;

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
/// The port is taken, or signals cannot be watched.
pub async fn run(args: NodeArgs) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::time::sleep(Duration::from_millis(args.start_delay_ms)).await;

    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], args.port))).await?;
    // Whoever reads it went: nothing is wrong with the server.
    let _ = writeln!(std::io::stdout(), "listens on {}", listener.local_addr()?);
    let sessions = sessions::Sessions::new(args.capacity);
    let app = server::router(sessions.clone());
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sessions.drain();
        // Whoever is left is cut when the process ends.
        let _ = tokio::time::timeout(Duration::from_millis(args.stop_wait_ms), sessions.empty()).await;
    };
    // Not axum's graceful shutdown: that would close the listener, and the heartbeat with it, before the sessions have left.
    tokio::select! {
        served = axum::serve(listener, app) => served,
        () = stop => Ok(()),
    }
}
