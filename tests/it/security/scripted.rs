//! A backend that answers by a script and remembers every byte that it was sent.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::soon;

/// What a backend does about a request.
pub(super) struct Reply {
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The next request.
    Next,
    /// The end of the connection.
    Close,
    /// Nothing, until the other side ends.
    Wait,
}

impl Reply {
    /// These bytes; after them it is ready for the next request.
    pub(super) fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Reply { bytes: bytes.into(), then: Then::Next }
    }

    /// 200 and `ok`.
    pub(super) fn ok() -> Self {
        Self::bytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    }

    /// And then the end.
    pub(super) fn close(self) -> Self {
        Reply { then: Then::Close, ..self }
    }

    /// And then nothing: what comes is read, whatever it is.
    pub(super) fn wait(self) -> Self {
        Reply { then: Then::Wait, ..self }
    }
}

/// The backend.
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    connections: watch::Receiver<Vec<Connection>>,
}

#[derive(Clone, Default)]
struct Connection {
    received: String,
    is_over: bool,
}

/// What a script is asked about requests: head and body.
type Script = dyn Fn(&str) -> Reply + Send + Sync;

type Record = Arc<Mutex<watch::Sender<Vec<Connection>>>>;

impl Scripted {
    pub(super) async fn start(script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (record, connections) = watch::channel(Vec::new());
        let backend = Scripted { address: listener.local_addr().unwrap(), connections };
        let (record, script): (Record, Arc<Script>) = (Arc::new(Mutex::new(record)), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (record, script) = (Arc::clone(&record), Arc::clone(&script));
                tokio::spawn(async move { serve(stream, &record, &*script).await });
            }
        });
        backend
    }

    /// What came over each connection that anything came over, in the order of the connections.
    pub(super) fn received(&self) -> Vec<String> {
        self.connections.borrow().iter().map(|c| c.received.clone()).collect()
    }

    /// Waits until `count` connections brought anything, and all but `open` of them ended.
    pub(super) async fn until_over(&self, count: usize, open: usize) {
        let mut connections = self.connections.clone();
        let over = connections.wait_for(|c| c.len() == count && c.iter().filter(|c| !c.is_over).count() == open);
        soon(&format!("{count} connections, {open} of them open"), over).await.unwrap();
    }

    /// Waits until a connection received `text`.
    pub(super) async fn until_received(&self, text: &str) {
        let mut connections = self.connections.clone();
        soon(&format!("it receives {text:?}"), connections.wait_for(|c| c.iter().any(|c| c.received.contains(text))))
            .await
            .unwrap();
    }
}

async fn serve(mut stream: TcpStream, record: &Record, script: &Script) {
    let mut buffer = vec![0; 4 << 10];
    let mut pending = String::new();
    let mut index = None;
    let mut then = Then::Next;
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
        note(record, &mut index, |c| c.received.push_str(&text));
        pending.push_str(&text);
        while let (Then::Next, Some(len)) = (then, whole(&pending)) {
            let request: String = pending.drain(..len).collect();
            let reply = script(&request);
            then = reply.then;
            // What it is sent afterwards counts as well.
            let _ = stream.write_all(&reply.bytes).await;
        }
        if then == Then::Close {
            break;
        }
    }
    drop(stream);
    // Probes connect and say nothing.
    if index.is_some() {
        note(record, &mut index, |c| c.is_over = true);
    }
}

fn note(record: &Record, index: &mut Option<usize>, change: impl FnOnce(&mut Connection)) {
    record.lock().send_modify(|connections| {
        let at = *index.get_or_insert(connections.len());
        if at == connections.len() {
            connections.push(Connection::default());
        }
        change(&mut connections[at]);
    });
}

/// The length of the request at the start of `text`, if it is whole. Bodies are short here, and in one chunk at most.
fn whole(text: &str) -> Option<usize> {
    let head = text.find("\r\n\r\n")? + 4;
    let lower = text[..head].to_ascii_lowercase();
    if lower.contains("transfer-encoding: chunked") {
        return text[head..].find("0\r\n\r\n").map(|at| head + at + 5);
    }
    let length = lower.split("content-length: ").nth(1).map_or(0, |l| l[..l.find('\r').unwrap()].parse().unwrap());
    (text.len() >= head + length).then_some(head + length)
}
