//! The three loads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Failure;
use crate::client::{open, round_trip};

/// Handshakes at once while sessions are only to be held: fast, and far from any queue's end.
const OPENING: u32 = 64;

/// Opens sessions and holds them until standard input ends.
pub(crate) async fn hold(target: SocketAddr, sessions: u32) -> Result<(), Failure> {
    let next = Arc::new(AtomicU32::new(0));
    let mut openers = JoinSet::new();
    for _ in 0..OPENING.min(sessions) {
        let next = Arc::clone(&next);
        openers.spawn(async move {
            let mut held = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= sessions {
                    return Ok::<_, Failure>(held);
                }
                held.push(open(target, number).await?);
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

/// Opens and resets sessions for `span`; prints how many a second.
pub(crate) async fn handshakes(target: SocketAddr, span: Duration, concurrency: u32) -> Result<(), Failure> {
    let (next, start) = (Arc::new(AtomicU32::new(0)), now());
    let mut clients = JoinSet::new();
    for _ in 0..concurrency {
        let next = Arc::clone(&next);
        clients.spawn(async move {
            let mut done = 0_u32;
            while now() - start < span {
                open(target, next.fetch_add(1, Ordering::Relaxed)).await?;
                done += 1;
            }
            Ok::<_, Failure>(done)
        });
    }
    let mut done = 0;
    while let Some(client) = clients.join_next().await {
        done += client??;
    }
    println!("{:.0}", f64::from(done) / (now() - start).as_secs_f64());
    Ok(())
}

/// Sends messages there and back for `span`; prints how many a second, and the 99th percentile of their time in µs.
pub(crate) async fn round_trips(target: SocketAddr, span: Duration, connections: u32) -> Result<(), Failure> {
    let mut streams = Vec::new();
    for number in 0..connections {
        streams.push(open(target, number).await?);
    }
    let (done, start) = (Arc::new(AtomicU64::new(0)), now());
    let mut clients = JoinSet::new();
    for mut stream in streams {
        let done = Arc::clone(&done);
        clients.spawn(async move {
            let mut times_us = Vec::new();
            let mut before = now();
            while before - start < span {
                round_trip(&mut stream).await?;
                let after = now();
                times_us.push((after - before).as_micros() as u32);
                before = after;
            }
            done.fetch_add(times_us.len() as u64, Ordering::Relaxed);
            Ok::<_, Failure>(times_us)
        });
    }
    let mut times_us = Vec::new();
    while let Some(client) = clients.join_next().await {
        times_us.extend(client??);
    }
    let seconds = (now() - start).as_secs_f64();
    times_us.sort_unstable();
    let p99 = times_us.get(times_us.len() * 99 / 100).copied().unwrap_or_default();
    println!("{:.0} {p99}", done.load(Ordering::Relaxed) as f64 / seconds);
    Ok(())
}

/// The script holds the other end of standard input: when that is closed, or the script is gone, it is time to end.
pub(crate) async fn stdin_ends() {
    let mut stdin = tokio::io::stdin();
    let mut bytes = [0; 64];
    while matches!(stdin.read(&mut bytes).await, Ok(1..)) {}
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}
