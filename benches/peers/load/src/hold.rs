//! Sessions that are held and say nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use crate::Failure;
use crate::client::{Kind, open_as};
use crate::options::Options;

/// Handshakes at once: fast, and far from any queue's end.
const OPENING: u32 = 64;

/// Opens sessions and holds them until standard input ends.
pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let (target, sessions) = (options.target()?, options.number("sessions")?);
    let kind = if options.get("kind") == Some("sse") { Kind::EventStream } else { Kind::WebSocket };
    let next = Arc::new(AtomicU32::new(0));
    let mut openers = JoinSet::new();
    for _ in 0..OPENING.min(sessions) {
        let (target, next) = (target.clone(), Arc::clone(&next));
        openers.spawn(async move {
            let mut held = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= sessions {
                    return Ok::<_, Failure>(held);
                }
                held.push(open_as(kind, &target, number).await?);
            }
        });
    }
    let mut held = Vec::new();
    while let Some(done) = openers.join_next().await {
        held.extend(done??);
    }
    println!("ready");
    stdin_ends().await;
    Ok(())
}

/// The script holds the other end of standard input: when that is closed, or the script is gone, it is time to end.
pub(crate) async fn stdin_ends() {
    let mut stdin = tokio::io::stdin();
    let mut bytes = [0; 64];
    while matches!(stdin.read(&mut bytes).await, Ok(1..)) {}
}
