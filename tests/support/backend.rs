//! A WebSocket echo server inside the test, which counts its own sessions and remembers the most it held.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    now: AtomicU32,
    max: AtomicU32,
    total: AtomicU32,
}

impl Backend {
    /// Echoes until the test's runtime ends. Connections that send nothing (TCP probes) are no sessions.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Backend { address: listener.local_addr().unwrap(), counts: Arc::default() };
        let counts = Arc::clone(&backend.counts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(stream, Arc::clone(&counts)));
            }
        });
        backend
    }

    pub(crate) fn sessions(&self) -> u32 {
        self.counts.now.load(Ordering::SeqCst)
    }

    /// The most sessions it ever held at once.
    pub(crate) fn sessions_max(&self) -> u32 {
        self.counts.max.load(Ordering::SeqCst)
    }

    pub(crate) fn sessions_total(&self) -> u32 {
        self.counts.total.load(Ordering::SeqCst)
    }
}

async fn echo(mut stream: TcpStream, counts: Arc<Counts>) {
    let mut first = [0; 1];
    if !matches!(stream.peek(&mut first).await, Ok(1)) {
        return;
    }
    let now = counts.now.fetch_add(1, Ordering::SeqCst) + 1;
    counts.max.fetch_max(now, Ordering::SeqCst);
    counts.total.fetch_add(1, Ordering::SeqCst);
    if let Ok(mut socket) = tokio_tungstenite::accept_async(&mut stream).await {
        while let Some(Ok(message)) = socket.next().await {
            let is_data = matches!(message, Message::Text(_) | Message::Binary(_));
            if is_data && socket.send(message).await.is_err() {
                break;
            }
        }
    }
    // Counted out before the socket closes: who sees the end must find the count lowered.
    counts.now.fetch_sub(1, Ordering::SeqCst);
    drop(stream);
}

/// A server that reads a request head and answers with these bytes, then does as `after` says.
pub(crate) async fn raw(answer: &'static [u8], after: After) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Some(mut head) = read_head(&mut stream).await else { return };
                if stream.write_all(&with_accept(answer, &head)).await.is_ok() && after == After::Stall {
                    // Until the other side gives up.
                    let _ = stream.read_to_end(&mut head).await;
                }
            });
        }
    });
    address
}

/// A request's head, to its blank line; `None` if the client went before.
pub(crate) async fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(head)
}

/// What a [`raw`] server does after its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Close,
    Stall,
}

/// `{accept}` in an answer is the accept value that belongs to the request's key (RFC 6455, 4.2.2).
fn with_accept(answer: &[u8], head: &[u8]) -> Vec<u8> {
    let mark = b"{accept}";
    let Some(at) = answer.windows(mark.len()).position(|w| w == mark) else {
        return answer.to_vec();
    };
    let head = String::from_utf8_lossy(head);
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    });
    let accept = derive_accept_key(key.expect("a handshake has a key").as_bytes());
    [&answer[..at], accept.as_bytes(), &answer[at + mark.len()..]].concat()
}
