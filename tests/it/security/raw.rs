//! A client that sends any bytes, and a backend that answers with any bytes and remembers what it was sent.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::holdline::Holdline;
use crate::support::soon;

/// Answers every request with 204, and keeps all bytes that it was sent. Bodies must be in the same packet as their head, or announce no
/// length: it answers when it has seen the end of a head.
pub(super) struct Recorder {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let recorder = Recorder { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = Arc::clone(&recorder.seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(record(stream, Arc::clone(&seen)));
            }
        });
        recorder
    }

    /// All that clients' requests brought here.
    pub(super) fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock()).into_owned()
    }
}

async fn record(mut stream: TcpStream, seen: Arc<Mutex<Vec<u8>>>) {
    let mut bytes = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut bytes).await {
        seen.lock().extend_from_slice(&bytes[..n]);
        let heads = bytes[..n].windows(4).filter(|w| *w == b"\r\n\r\n").count();
        for _ in 0..heads {
            if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
                return;
            }
        }
    }
}

/// Holdline before a [`Recorder`].
pub(super) async fn guarded() -> (Holdline, Recorder) {
    let recorder = Recorder::start().await;
    let config = format!(
        "fleets:\n  chat:\n    backends:\n      static: [ {{ id: a, address: \"{}\" }} ]\n    capacity: 10\n",
        recorder.address
    );
    let holdline = Holdline::start(&config);
    holdline.until_ready().await;
    (holdline, recorder)
}

/// Sends `bytes`, and reads until Holdline ends the connection, which it must.
pub(super) async fn last_words(holdline: &Holdline, bytes: &[u8]) -> String {
    let mut client = TcpStream::connect(holdline.address).await.unwrap();
    client.write_all(bytes).await.unwrap();
    read_to_end(&mut client).await
}

pub(super) async fn read_to_end(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = async { client.read_to_end(&mut answer).await };
    soon("the end of the connection", read).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status codes of the answers in `text`.
pub(super) fn statuses(text: &str) -> Vec<u16> {
    text.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok()).collect()
}
