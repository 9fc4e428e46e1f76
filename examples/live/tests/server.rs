//! The program itself, on a port of the kernel's choice: what clients, Holdline's probe and SIGTERM get from it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Longer than anything here takes; a test that meets it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server, killed when it is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(args: &[&str]) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_live"));
        let mut child = command.args(["node", "--port", "0"]).args(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listens on ").expect("the line that it begins with").parse().unwrap();
        Server { child, address }
    }

    fn terminate(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
    }

    async fn exit(mut self) -> ExitStatus {
        until("it ends", async || self.child.try_wait().unwrap()).await
    }

    async fn websocket(&self, room: &str) -> WebSocketStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let url = format!("ws://{}/ws?room={room}", self.address);
        tokio_tungstenite::client_async(url, stream).await.unwrap().0
    }

    /// One exchange: status and body.
    async fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn json(&self, path: &str) -> Value {
        let (status, body) = self.http("GET", path, "").await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until the server counts so many sessions.
    async fn counts(&self, sessions: u32) -> Value {
        until("the count", async || Some(self.json("/stats").await).filter(|stats| stats["sessions"] == sessions)).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until there is an answer; another process has no event to await.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never: {what}"))
}

async fn hear(socket: &mut WebSocketStream<TcpStream>) -> String {
    let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a message").expect("open").unwrap();
    message.into_text().unwrap().as_str().to_owned()
}

#[tokio::test]
async fn a_room_hears_its_members_whatever_they_connect_with() {
    let server = Server::start(&[]);
    let (mut a, mut b) = (server.websocket("blue").await, server.websocket("blue").await);
    let mut elsewhere = server.websocket("red").await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /events?room=blue HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n").await.unwrap();
    server.counts(4).await;

    a.send(Message::text("from a")).await.unwrap();
    assert_eq!((hear(&mut a).await, hear(&mut b).await), ("from a".to_owned(), "from a".to_owned()));
    let (status, _) = server.http("POST", "/say?room=blue", "from outside").await;
    assert_eq!((status, hear(&mut b).await), (204, "from outside".to_owned()));
    let mut lines = tokio::io::BufReader::new(stream).lines();
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("an event").unwrap().expect("an open stream");
        heard.extend(line.strip_prefix("data: ").map(str::to_owned));
    }
    assert_eq!(heard, ["from a", "from outside"]);

    elsewhere.send(Message::text("red")).await.unwrap();
    assert_eq!(hear(&mut elsewhere).await, "red", "the first that the other room heard is its own");
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let server = Server::start(&[]);
    assert_eq!(server.http("POST", "/say", &"x".repeat(4097)).await.0, 400);
    assert_eq!(server.http("POST", "/say", "two\nlines").await.0, 400);
    assert_eq!(server.http("GET", &format!("/events?room={}", "x".repeat(65)), "").await.0, 400);
    assert_eq!(server.json("/stats").await["sessions_total"], 0, "nobody was a session");
}

#[tokio::test]
async fn heartbeat_and_statistics_count_every_session_once() {
    let server = Server::start(&["--capacity", "7"]);
    assert_eq!(server.json("/heartbeat").await, json!({ "sessions": 0, "capacity": 7, "state": "ready" }));
    let mut polite = server.websocket("a").await;
    let rude = server.websocket("a").await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    server.counts(3).await;
    assert_eq!(server.json("/heartbeat").await["sessions"], 3);

    polite.close(None).await.unwrap();
    while let Some(Ok(_)) = polite.next().await {}
    assert_eq!(server.json("/stats").await["sessions"], 2, "counted out before its end was to be seen");
    drop((rude, stream));
    let stats = server.counts(0).await;
    assert_eq!(stats, json!({ "sessions": 0, "sessions_max": 3, "sessions_total": 3 }));
}

#[tokio::test]
async fn sigterm_says_draining_and_ends_with_the_last_session() {
    let server = Server::start(&["--stop-wait-ms", "600000"]);
    let mut socket = server.websocket("a").await;
    server.terminate();
    let draining = async || (server.json("/heartbeat").await["state"] == "draining").then_some(());
    until("draining", draining).await;
    socket.send(Message::text("still here")).await.unwrap();
    assert_eq!(hear(&mut socket).await, "still here");
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    assert!(server.exit().await.success());
}

#[tokio::test]
async fn its_patience_ends() {
    let server = Server::start(&["--stop-wait-ms", "50"]);
    let _socket = server.websocket("a").await;
    server.terminate();
    assert!(server.exit().await.success());
}

#[test]
fn a_port_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_live")).args(["--port", &port]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && stderr.contains(&port) && stderr.contains("another --port"), "{stderr}");
}
