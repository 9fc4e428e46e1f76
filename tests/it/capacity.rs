//! A storm from many threads: no backend is ever filled above its capacity, and afterwards every seat is free.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Barrier;

use crate::support::backend::Backend;
use crate::support::client::{self, refusal};
use crate::support::holdline::Holdline;
use crate::support::soon;

const THREADS: usize = 20;
const HANDSHAKES: usize = 2000;
const BACKENDS: usize = 4;
const CAPACITY: u32 = 50;
const SEATS: u32 = BACKENDS as u32 * CAPACITY;

#[derive(Default)]
struct Seen {
    held: AtomicU32,
    queue_full: AtomicU32,
    queue_timeout: AtomicU32,
}

#[tokio::test]
async fn a_storm_never_overfills_a_backend() {
    let mut backends = Vec::new();
    for _ in 0..BACKENDS {
        backends.push(Backend::start().await);
    }
    let holdline = Holdline::start(&config(&backends));
    holdline.until_ready().await;

    let seen = Arc::new(Seen::default());
    let leave = Arc::new(Barrier::new(SEATS as usize + 1));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (address, seen, leave) = (holdline.address, Arc::clone(&seen), Arc::clone(&leave));
            std::thread::spawn(move || storm(address, seen, leave))
        })
        .collect();

    // The waiters time out first, so nobody takes the place of one who leaves.
    soon("all others are refused", async {
        while holdline.metric("holdline_refused_total", "").await < f64::from(HANDSHAKES as u32 - SEATS) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    leave.wait().await;
    for thread in threads {
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    }

    for backend in &backends {
        assert_eq!(backend.sessions_max(), CAPACITY, "each was filled to its capacity, and never above");
    }
    assert_eq!(seen.held.load(Ordering::SeqCst), SEATS);
    let (full, late) = (seen.queue_full.load(Ordering::SeqCst), seen.queue_timeout.load(Ordering::SeqCst));
    assert_eq!(SEATS + full + late, HANDSHAKES as u32);
    assert!(late >= 100, "the queue's 100 places were used: {late} timed out, {full} found it full");

    holdline.until("every seat free", |fleet| fleet["sessions"] == 0 && fleet["free"] == SEATS).await;
    assert_eq!(holdline.metric("holdline_seats", "state=\"used\"").await, 0.0);
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "cause=\"client_closed\"").await, f64::from(SEATS));
    assert_eq!(holdline.metric("holdline_refused_total", "cause=\"queue_full\"").await, f64::from(full));
    assert_eq!(holdline.metric("holdline_refused_total", "cause=\"queue_timeout\"").await, f64::from(late));
}

fn config(backends: &[Backend]) -> String {
    let list: Vec<_> = backends.iter().map(|b| format!("{{ address: \"{}\" }}", b.address)).collect();
    format!(
        "fleets:\n  storm:\n    backends:\n      static: [ {} ]\n    capacity: {CAPACITY}\n    queue: {{ length: 100, timeout: 5s }}\n",
        list.join(", ")
    )
}

/// One thread's share of the handshakes, all at once; those that are held wait for each other.
fn storm(address: SocketAddr, seen: Arc<Seen>, leave: Arc<Barrier>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut handshakes = tokio::task::JoinSet::new();
        for _ in 0..HANDSHAKES / THREADS {
            handshakes.spawn(one(address, Arc::clone(&seen), Arc::clone(&leave)));
        }
        while let Some(done) = handshakes.join_next().await {
            done.unwrap();
        }
    });
}

async fn one(address: SocketAddr, seen: Arc<Seen>, leave: Arc<Barrier>) {
    match client::websocket(address, "/").await {
        Ok(mut socket) => {
            seen.held.fetch_add(1, Ordering::SeqCst);
            client::echo(&mut socket, "here").await;
            leave.wait().await;
            client::leave(socket).await;
        }
        Err(error) => match refusal(&error) {
            (503, cause) if cause == "queue_full" => _ = seen.queue_full.fetch_add(1, Ordering::SeqCst),
            (503, cause) if cause == "queue_timeout" => _ = seen.queue_timeout.fetch_add(1, Ordering::SeqCst),
            other => panic!("refused otherwise: {other:?}"),
        },
    }
}
