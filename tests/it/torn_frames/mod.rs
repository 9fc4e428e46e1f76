//! Thousands of sessions are drained while they talk, read slowly or stand still in the middle of frames. Every byte that reached a side is
//! one that the other sent, once and in order; Holdline's own frames stand between two frames; half a frame is followed by the end.

mod peers;
mod script;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use self::peers::{Account, Habit, Run};
use self::script::Seen;
use crate::support::client;
use crate::support::holdline::Holdline;
use crate::support::soon;

const SESSIONS: u64 = 5_000;

/// Handshakes at once.
const OPENING: usize = 64;

/// What is left so long after the drain began is cut. The last are told after 20 s, and end the frame that they are in some seconds later.
const DEADLINE: Duration = Duration::from_secs(40);

/// How long Holdline waits for a client's Close.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Nearly as late may be too late: Holdline may come round late as well.
const MARGIN: Duration = Duration::from_secs(1);

type Accounts = mpsc::Receiver<Result<Account, String>>;

#[tokio::test]
async fn row_21_five_thousand_sessions_are_drained_and_no_frame_is_torn() {
    let seed = std::env::var("HOLDLINE_TORN_SEED").map_or_else(|_| SmallRng::from_os_rng().random(), |s| s.parse().unwrap());
    println!("HOLDLINE_TORN_SEED={seed}");
    open_files(2 * SESSIONS + 2_000);
    let run = Arc::new(Run { seed, still: AtomicUsize::new(0), over: watch::Sender::new(false), lag_ms: AtomicU64::new(0) });
    let lag = tokio::spawn(note_lag(Arc::clone(&run)));
    let (one, of_one) = backend(Arc::clone(&run));
    let (other, of_other) = backend(Arc::clone(&run));
    let holdline = Holdline::start(&config(one, other));
    holdline.until_ready().await;

    let mut clients = open_all(&run, holdline.address).await;
    let standing = (0..SESSIONS).filter(|n| Habit::of(*n).stands_still()).count();
    soon("all that shall stand still do", async {
        while run.still.load(Ordering::SeqCst) < standing {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;

    let fleet = holdline.fleet().await;
    let drained = fleet["backends"].as_array().unwrap().iter().find(|b| b["sessions"] == SESSIONS);
    let id = drained.unwrap_or_else(|| panic!("`packed` puts them all on one: {fleet:#}"))["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/fleets/chat/backends/{id}/drain");
    let (status, plan) = client::http("POST", holdline.admin, &path, Some(json!({ "over": "20s" }))).await;
    assert!(status < 300 && plan["sessions"] == SESSIONS, "{plan}");
    holdline.until("drained", |fleet| backend_of(fleet, &id)["phase"] == "drained").await;
    run.over.send_replace(true);

    let mut on_client = HashMap::new();
    while let Some(account) = soon("all clients see an end", clients.join_next()).await {
        let account = account.unwrap();
        on_client.insert(account.n, account);
    }
    let mut accounts = if id == "one" { of_one } else { of_other };
    let mut on_backend = HashMap::new();
    while on_backend.len() < SESSIONS as usize {
        let account = soon("the backend sees all ends", accounts.recv()).await.unwrap();
        let account = account.unwrap_or_else(|e| panic!("a backend was sent what it should not: {e}"));
        assert!(on_backend.insert(account.n, account).is_none(), "a session of one client comes once");
    }
    lag.abort();
    compare(&on_client, &on_backend, Duration::from_millis(run.lag_ms.load(Ordering::Relaxed)));
    explained(&holdline, &id).await;
}

fn backend_of<'f>(fleet: &'f Value, id: &str) -> &'f Value {
    fleet["backends"].as_array().unwrap().iter().find(|b| b["id"] == id).unwrap()
}

fn config(one: SocketAddr, other: SocketAddr) -> String {
    // Pings of Holdline's own come between frames too; nobody here answers them.
    format!(
        "fleets:\n  chat:\n    backends:\n      static: [ {{ id: one, address: \"{one}\" }}, {{ id: other, address: \"{other}\" }} ]\n    \
         capacity: 6000\n    balance: packed\n    fill: 100%\n    timeouts: {{ write: 5m }}\n    drain: {{ deadline: {}s }}\n    \
         keepalive: {{ ping: 2s, timeout: 5m }}\n    heartbeat: {{ suspect_after: 1m, dead_after: 2m }}\n",
        DEADLINE.as_secs()
    )
}

/// This process holds both ends.
fn open_files(needed: u64) {
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    assert!(maximum >= needed, "this test needs {needed} open files, and may have {maximum}: raise the hard limit (ulimit -Hn)");
    // Other tests of this process need some too.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

/// A backend on a thread of its own, as on a machine of its own; the accounts of its sessions.
fn backend(run: Arc<Run>) -> (SocketAddr, Accounts) {
    let (tell, accounts) = mpsc::channel(SESSIONS as usize);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            // Until the test has ended.
            while let Ok((stream, _)) = tokio::select! { accepted = listener.accept() => accepted, () = tell.closed() => return }
            {
                let (run, tell) = (Arc::clone(&run), tell.clone());
                tokio::spawn(async move {
                    if let Some(account) = peers::backend(run, stream).await {
                        let _ = tell.send(account).await;
                    }
                });
            }
        });
    });
    (address, accounts)
}

async fn open_all(run: &Arc<Run>, address: SocketAddr) -> JoinSet<Account> {
    let opening = Arc::new(Semaphore::new(OPENING));
    let mut clients = JoinSet::new();
    for n in 0..SESSIONS {
        let permit = Arc::clone(&opening).acquire_owned().await.unwrap();
        let run = Arc::clone(run);
        clients.spawn(async move {
            let account = peers::client(run, n, address, || drop(permit)).await;
            account.unwrap_or_else(|e| panic!("client {n}, {:?}, was sent what it should not: {e}", Habit::of(n)))
        });
    }
    drop(opening.acquire_many(OPENING as u32).await.unwrap());
    clients
}

/// Notes how late the clients' thread comes round, for ever.
async fn note_lag(run: Arc<Run>) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let late = tick.tick().await.elapsed();
        run.lag_ms.fetch_max(late.as_millis() as u64, Ordering::Relaxed);
    }
}

/// What one side sent is what the other saw, as far as it came, and each session ended as its habits let it. `lag`: what a client's reading
/// may have come late by, besides.
fn compare(on_client: &HashMap<u64, Account>, on_backend: &HashMap<u64, Account>, lag: Duration) {
    let (mut pings, mut torn, mut bytes, mut late) = (0, 0, 0, 0);
    for n in 0..SESSIONS {
        let (client, backend, habit) = (on_client[&n], on_backend[&n], Habit::of(n));
        let what = format!("session {n}, {habit:?}: {client:?}, {backend:?}");
        assert!(client.seen.bytes <= backend.sent && backend.seen.bytes <= client.sent, "more than was sent: {what}");
        assert!(client.seen.close == (!habit.is_stuck()).then_some(1012), "{what}");
        assert_eq!(client.seen.torn, habit.is_stuck(), "{what}");
        match habit {
            // Holdline waits no longer for a client, even if it is this machine that has no time for it.
            Habit::Talks | Habit::ComesBack if client.took + lag + MARGIN > CLOSE_WAIT => late += 1,
            // All that a client said before its Close has arrived, then Holdline's own Close.
            Habit::Talks | Habit::ComesBack => {
                assert_eq!(
                    (backend.seen.close, backend.seen.bytes, backend.seen.torn),
                    (Some(1001), client.sent, false),
                    "{what}"
                );
            }
            // Half a frame, and the end.
            Habit::StopsSending => {
                assert_eq!((backend.seen.close, backend.seen.bytes, backend.seen.torn), (None, client.sent, true), "{what}");
            }
            // It may be too late with its own Close.
            Habit::ReadsSlowly => assert!(backend.seen.close == Some(1001) || backend.seen.torn, "{what}"),
            Habit::StopsReading | Habit::BackendStops => assert_eq!(backend.seen.close, None, "{what}"),
        }
        let halves = |seen: Seen| u64::from(seen.torn);
        torn += halves(client.seen) + halves(backend.seen);
        pings += client.seen.pings;
        bytes += client.seen.bytes + backend.seen.bytes;
    }
    println!(
        "{bytes} bytes were right, {pings} Pings among them, {torn} streams ended inside of a frame, {late} clients were late"
    );
    assert!(late < SESSIONS / 2, "this machine is too slow to prove anything: {late} clients were late, the thread by {lag:?}");
    assert!(pings > SESSIONS / 10 && bytes > 2_000 * SESSIONS, "too quiet to prove anything: {pings} Pings, {bytes} bytes");
}

/// Who stood in a frame that had no end was cut at the deadline, and nobody else.
async fn explained(holdline: &Holdline, id: &str) {
    let stuck = (0..SESSIONS).filter(|n| Habit::of(*n).is_stuck()).count();
    let ended = async |cause: &str| holdline.metric("holdline_sessions_ended_total", cause).await;
    assert_eq!(ended("cause=\"cut\"").await, stuck as f64);
    assert_eq!(ended("cause=\"drained\"").await, (SESSIONS as usize - stuck) as f64);
    assert_eq!(ended("").await, SESSIONS as f64);
    assert_eq!(backend_of(&holdline.fleet().await, id)["drained"]["cut"], stuck);
}
