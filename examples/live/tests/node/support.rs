//! A node as a process, and its clients.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Longer than anything here takes; a test that meets it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// A running node, killed when it is dropped.
pub(crate) struct Node {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Node {
    pub(crate) fn start(api: &str, args: &[&str]) -> Node {
        let mut command = Command::new(env!("CARGO_BIN_EXE_live"));
        command.args(["node", "--port", "0", "--api", api]).args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listens on ").expect("the line that it begins with").parse().unwrap();
        Node { child, address }
    }

    /// One whose queue is up.
    pub(crate) async fn ready(api: &str, args: &[&str]) -> Node {
        let node = Node::start(api, args);
        node.until_queue("up").await;
        node
    }

    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    pub(crate) async fn exit(mut self) -> ExitStatus {
        until("it ends", async || self.child.try_wait().unwrap()).await
    }

    pub(crate) async fn websocket(&self, path: &str) -> Result<Socket, Error> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let handshake = tokio_tungstenite::client_async(format!("ws://{}/live/ws/{path}", self.address), stream);
        Ok(tokio::time::timeout(PATIENCE, handshake).await.expect("an answer")?.0)
    }

    /// A WebSocket that said hello; and what it said.
    pub(crate) async fn joined(&self, path: &str) -> (Socket, Value) {
        let mut socket = self.websocket(path).await.unwrap();
        let hello = hear(&mut socket).await["hello"].clone();
        assert!(hello.is_object());
        (socket, hello)
    }

    /// Status and body of a refused handshake.
    pub(crate) async fn refused(&self, path: &str) -> (u16, Value) {
        match self.websocket(path).await {
            Err(Error::Http(answer)) => {
                (answer.status().as_u16(), serde_json::from_slice(answer.body().as_deref().unwrap()).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn events(&self, path: &str, headers: &str) -> Events {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET /live/events/{path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Events { lines: tokio::io::BufReader::new(stream).lines() }
    }

    /// One exchange: status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.get_with(path, "").await
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    /// Its memory.
    pub(crate) fn resident_kib(&self) -> i64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub(crate) async fn heartbeat(&self) -> Value {
        self.get("/heartbeat").await.1
    }

    pub(crate) async fn until_queue(&self, state: &str) {
        until(state, async || (self.heartbeat().await["queue"] == state).then_some(())).await;
    }

    /// Waits until it counts so many sessions.
    pub(crate) async fn counts(&self, sessions: u64) -> Value {
        until("the count", async || Some(self.get("/stats").await.1).filter(|stats| stats["sessions"] == sessions)).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An event stream as a browser reads it.
pub(crate) struct Events {
    lines: tokio::io::Lines<tokio::io::BufReader<TcpStream>>,
}

impl Events {
    /// The next line that is no part of the framing.
    pub(crate) async fn line(&mut self) -> String {
        loop {
            let line =
                tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a line").unwrap().expect("an open stream");
            if line.contains(": ") || line.starts_with("HTTP/") {
                return line;
            }
        }
    }

    /// The next event's lines.
    pub(crate) async fn event(&mut self) -> [String; 2] {
        loop {
            let line = self.line().await;
            if line.starts_with("id: ") || line.starts_with("event: ") {
                return [line, self.line().await];
            }
        }
    }
}

/// Asks until there is an answer; another process has no event to await.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
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

/// The next message that is not about presence.
pub(crate) async fn hear(socket: &mut Socket) -> Value {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a message").expect("an open session").unwrap();
        let Message::Text(text) = message else { panic!("{message:?}") };
        let value: Value = serde_json::from_str(&text).unwrap();
        if value.get("presence").is_none() {
            return value;
        }
    }
}

/// The seqs of the next `count` deltas.
pub(crate) async fn seqs(socket: &mut Socket, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    while seqs.len() < count {
        let message = hear(socket).await;
        seqs.push(message["seq"].as_u64().unwrap_or_else(|| panic!("no delta: {message}")));
    }
    seqs
}
