//! Inputs that Holdline must survive, each against a real `holdline run` and real sockets. The rows are those of docs/security.md.

mod aborts;
mod answers;
mod forged;
mod frames;
mod http;
mod limits;
mod scripted;
mod slow;
mod stalls;
mod upgrade;
mod ways;

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use self::scripted::{Reply, Scripted};
use crate::support::holdline::Holdline;
use crate::support::soon;

/// A plain request after which the connection closes.
const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

/// A WebSocket handshake without its last line; the key is that of RFC 6455 1.3.
const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A backend's answer to it.
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

/// `holdline run` in front of one scripted backend with ten seats.
struct Edge {
    holdline: Holdline,
    backend: Scripted,
}

impl Edge {
    async fn start(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with("", answer).await
    }

    /// `more`: keys of the fleet.
    async fn start_with(more: &str, answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let backend = Scripted::start(answer).await;
        let holdline = Holdline::start(&fleet(backend.address, more));
        holdline.until_ready().await;
        Edge { holdline, backend }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.holdline.address).await.unwrap()
    }

    /// Sends `bytes` and reads to the end.
    async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect().await;
        client.write_all(bytes.as_ref()).await.unwrap();
        to_end(&mut client).await
    }

    /// Sends `bytes`, which must be answered with `status`, a problem and a proper end, and of which the backend must see nothing.
    async fn refused(&self, bytes: impl AsRef<[u8]>, status: u16) {
        let bytes = bytes.as_ref();
        let before = self.backend.received();
        let answer = self.exchange(bytes).await;
        let what = String::from_utf8_lossy(bytes).chars().take(200).collect::<String>();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what:?}: {answer}");
        let lower = answer.to_ascii_lowercase();
        assert!(lower.contains("content-type: application/problem+json\r\n"), "{what:?}: {answer}");
        assert!(lower.contains("connection: close\r\n"), "{what:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what:?}: {answer}");
        assert_eq!(self.backend.received(), before, "{what:?} reached the backend");
    }

    /// The next client is served, and nothing is held for those before.
    async fn is_unharmed(&self) {
        let answer = self.exchange(GET).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer}");
        self.is_free().await;
    }

    /// Every seat is free, and nobody waits.
    async fn is_free(&self) {
        self.holdline.until("all is free", |fleet| fleet["sessions"] == 0 && fleet["queued"] == 0).await;
    }

    async fn bad_input(&self, reason: &str) -> f64 {
        self.holdline.metric("holdline_bad_input_total", &format!("reason=\"{reason}\"")).await
    }

    /// Waits for a counter that follows what a client saw.
    async fn until_counted(&self, metric: &str, labels: &str, count: f64) {
        let seen = async {
            while self.holdline.metric(metric, labels).await < count {
                tokio::task::yield_now().await;
            }
        };
        soon(&format!("{metric}{{{labels}}} is {count}"), seen).await;
    }
}

/// A backend whose every step the test takes.
struct Driven(TcpListener);

impl Driven {
    /// With a `holdline run` in front of it; `more`: keys of the fleet.
    async fn start(more: &str) -> (Self, Holdline) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let holdline = Holdline::start(&fleet(listener.local_addr().unwrap(), more));
        (Driven(listener), holdline)
    }

    /// The next connection that brings a head, behind probes, which bring nothing.
    async fn request(&self) -> (TcpStream, String) {
        loop {
            let (mut stream, _) = soon("a connection", self.0.accept()).await.unwrap();
            if soon("a byte or the end", stream.peek(&mut [0; 1])).await.is_ok_and(|n| n == 1) {
                let head = head(&mut stream).await;
                return (stream, head);
            }
        }
    }
}

fn fleet(address: SocketAddr, more: &str) -> String {
    let capacity = if more.contains("capacity:") { "" } else { "capacity: 10" };
    format!(
        "fleets:\n  chat:\n    backends:\n      static: [ {{ id: a, address: \"{address}\" }} ]\n    {capacity}\n    {more}\n"
    )
}

/// Reads to the end, which must be a proper one.
async fn to_end(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    soon("the connection's end", client.read_to_end(&mut answer)).await.expect("an end and no reset");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads a head and a body with a length.
async fn one_answer(client: &mut TcpStream) -> String {
    let mut answer = head(client).await;
    let length =
        answer.to_ascii_lowercase().split("content-length: ").nth(1).map_or(0, |l| l[..l.find('\r').unwrap()].parse().unwrap());
    let mut body = vec![0; length];
    soon("a body", client.read_exact(&mut body)).await.unwrap();
    answer.push_str(&String::from_utf8_lossy(&body));
    answer
}

async fn head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("a head", client.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}
