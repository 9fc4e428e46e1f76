//! Plain requests that are answered by event streams: twelve at once where three sessions may be, with the route that expects it and
//! without.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::support::holdline::Holdline;
use crate::support::soon;

const AT_ONCE: u32 = 12;
const CAPACITY: u32 = 3;

/// A server that answers each POST with an event stream, which ends when its client leaves.
struct Prompts {
    address: SocketAddr,
    executed: Arc<AtomicU32>,
    open: Arc<AtomicU32>,
}

impl Prompts {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let prompts = Prompts { address: listener.local_addr().unwrap(), executed: Arc::default(), open: Arc::default() };
        let (executed, open) = (Arc::clone(&prompts.executed), Arc::clone(&prompts.open));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(prompt(stream, Arc::clone(&executed), Arc::clone(&open)));
            }
        });
        prompts
    }

    fn config(&self, sessions: &str) -> String {
        format!(
            "routes: [ {{ path: /, fleet: prompts, sessions: {sessions} }} ]\n\
             fleets:\n  prompts:\n    backends:\n      static: [ {{ id: a, address: \"{}\" }} ]\n    capacity: {CAPACITY}\n    drain: {{ deadline: 2s }}\n",
            self.address
        )
    }
}

async fn prompt(mut stream: TcpStream, executed: Arc<AtomicU32>, open: Arc<AtomicU32>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\nhi") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            // A probe.
            Err(_) => return,
        }
    }
    executed.fetch_add(1, Ordering::SeqCst);
    open.fetch_add(1, Ordering::SeqCst);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: token\n\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    open.fetch_sub(1, Ordering::SeqCst);
}

async fn ask_at_once(holdline: &Holdline) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for _ in 0..AT_ONCE {
        let mut client = TcpStream::connect(holdline.address).await.unwrap();
        client.write_all(b"POST /v1/chat HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        clients.push(client);
    }
    clients
}

/// Its stream has begun.
async fn answered(client: &mut TcpStream) {
    let mut seen = Vec::new();
    soon("the first event", async {
        while !seen.ends_with(b"data: token\n\n") {
            seen.push(client.read_u8().await.unwrap());
        }
    })
    .await;
    assert!(seen.starts_with(b"HTTP/1.1 200 "), "{}", seen.escape_ascii());
}

#[tokio::test]
async fn where_the_route_expects_streams_a_seat_comes_before_the_dial() {
    let prompts = Prompts::start().await;
    let holdline = Holdline::start(&prompts.config("streams"));
    holdline.until_ready().await;
    let clients = ask_at_once(&holdline).await;
    let all_wait = |fleet: &serde_json::Value| fleet["queued"] == AT_ONCE - CAPACITY && fleet["opened_total"] == CAPACITY;
    holdline.until("nine wait", all_wait).await;
    let (send, mut served) = mpsc::channel(AT_ONCE as usize);
    for mut client in clients {
        let send = send.clone();
        tokio::spawn(async move {
            answered(&mut client).await;
            send.send(client).await.unwrap();
        });
    }
    for round in 1..=AT_ONCE / CAPACITY {
        let mut leaving = Vec::new();
        for _ in 0..CAPACITY {
            leaving.push(soon("the next is served", served.recv()).await.unwrap());
        }
        assert_eq!(prompts.executed.load(Ordering::SeqCst), round * CAPACITY, "nothing is executed that has no seat");
        assert_eq!(prompts.open.load(Ordering::SeqCst), CAPACITY);
        // Whoever was served leaves, and the next get these seats.
    }
    holdline.until("every seat free", |fleet| fleet["sessions"] == 0 && fleet["opened_total"] == AT_ONCE).await;
    assert_eq!(holdline.metric("holdline_unasked_streams_total", "").await, 0.0);
}

#[tokio::test]
async fn where_nobody_could_know_all_are_kept_and_none_is_placed_above_the_capacity() {
    let prompts = Prompts::start().await;
    let holdline = Holdline::start(&prompts.config("auto"));
    holdline.until_ready().await;
    let mut clients = ask_at_once(&holdline).await;
    for client in &mut clients {
        answered(client).await;
    }
    let fleet = holdline.until("twelve are open", |fleet| fleet["sessions"] == AT_ONCE && fleet["opened_total"] == AT_ONCE).await;
    assert_eq!((&fleet["free"], &fleet["capacity"]), (&0.into(), &CAPACITY.into()));
    assert!(fleet["refused_total"].as_object().unwrap().values().all(|n| *n == 0), "{fleet:#}");
    assert_eq!(holdline.metric("holdline_unasked_streams_total", "seat=\"beyond_limit\"").await, f64::from(AT_ONCE - CAPACITY));
    // Whoever asks for a session waits until there is a seat below the capacity.
    let mut waiting = TcpStream::connect(holdline.address).await.unwrap();
    waiting.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n").await.unwrap();
    holdline.until("one waits", |fleet| fleet["queued"] == 1).await;
    // A drain reaches those beyond the limit as well.
    let drained = holdline.cli(&["drain", "a", "--over", "1s"]).await;
    assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
    let is_drained = |fleet: &serde_json::Value| fleet["backends"][0]["phase"] == "drained" && fleet["sessions"] == 0;
    let fleet = holdline.until("drained", is_drained).await;
    assert_eq!(fleet["ended_total"]["cut"], AT_ONCE);
}
