//! Who the client is when proxies stand between: PROXY headers of both sides, trusted networks, X-Forwarded-*.

mod inward;
mod outward;

use std::net::{IpAddr, SocketAddr};

use holdline_core::wire::proxy::{self, Fed, Reader, Source};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::support::holdline::Holdline;
use crate::support::soon;

/// A proxy of these tests, which Holdline trusts, and somebody else.
const PROXY: &str = "127.0.0.1";
const STRANGER: &str = "127.0.0.2";

const V1: &[u8] = b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n";

/// A WebSocket handshake without its last line; the key is that of RFC 6455 1.3.
const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn v2(from: &str) -> Vec<u8> {
    proxy::encode(from.parse().unwrap(), "198.51.100.1:443".parse().unwrap())
}

fn get(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n").into_bytes()
}

/// What a backend heard over one connection: of a probe, the introduction alone.
#[derive(Debug)]
struct Heard {
    /// The PROXY header, of a backend that expects one.
    introduction: Option<Source>,
    /// The first request's head.
    head: String,
}

impl Heard {
    fn field(&self, name: &str) -> Vec<String> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).collect()
    }

    fn x_forwarded_for(&self) -> String {
        self.field("x-forwarded-for").join(" | ")
    }
}

/// A backend that tells what it hears, and answers `ok`, or 101 to a WebSocket handshake.
struct Listening {
    address: SocketAddr,
    heard: mpsc::Receiver<Heard>,
}

impl Listening {
    async fn start() -> Self {
        Self::start_with(false, None).await
    }

    /// `expects`: each connection begins with a PROXY header, before TLS.
    async fn start_with(expects: bool, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, heard) = mpsc::channel(256);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(hear(stream, expects, tls.clone(), tell.clone()));
            }
        });
        Listening { address, heard }
    }

    /// What comes next, save probes.
    async fn next(&mut self) -> Heard {
        loop {
            let heard = soon("a request", self.heard.recv()).await.unwrap();
            if !heard.head.is_empty() && !heard.head.starts_with("GET /heartbeat ") {
                return heard;
            }
        }
    }
}

async fn hear(mut stream: TcpStream, expects: bool, tls: Option<TlsAcceptor>, tell: mpsc::Sender<Heard>) {
    let mut introduction = None;
    let mut reader = Reader::default();
    while expects && introduction.is_none() {
        let Ok(byte) = stream.read_u8().await else { return };
        if let Fed::End(_, source) = reader.feed(&[byte]).expect("a PROXY header and nothing else") {
            introduction = Some(source);
        }
    }
    match tls {
        None => talk(stream, introduction, tell).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                talk(stream, introduction, tell).await;
            }
        }
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, introduction: Option<Source>, tell: mpsc::Sender<Heard>) {
    let (mut head, mut has_asked) = (Vec::new(), false);
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") {
            let head = String::from_utf8(std::mem::take(&mut head)).unwrap();
            let answer = match head.contains("Sec-WebSocket-Key") || head.contains("sec-websocket-key") {
                true => SWITCH,
                false => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            };
            let _ = tell.send(Heard { introduction, head }).await;
            let _ = stream.write_all(answer).await;
            has_asked = true;
        }
    }
    if !has_asked {
        // A probe that only connects.
        let _ = tell.send(Heard { introduction, head: String::new() }).await;
    }
}

/// Holdline in front of `backend`, with `trusted` and the keys `listener`.
fn config(backend: SocketAddr, trusted: &str, listener: &str) -> String {
    format!(
        "trusted: {trusted}\nlisteners: [ {{ address: \"127.0.0.1:0\"{listener} }} ]\n\
         fleets:\n  chat:\n    backends: {{ static: [ {{ id: a, address: \"{backend}\" }} ] }}\n    capacity: 10\n"
    )
}

/// Behind a proxy that sends PROXY headers.
async fn proxied() -> (Holdline, Listening) {
    let backend = Listening::start().await;
    let holdline = Holdline::start(&config(backend.address, "[ 127.0.0.1 ]", ", proxy_protocol: true"));
    holdline.until_ready().await;
    (holdline, backend)
}

async fn connect_from(host: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(host.parse::<IpAddr>().unwrap(), 0)).unwrap();
    let stream = socket.connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends the pieces and reads to the end, however that comes.
async fn exchange(host: &str, to: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut stream = connect_from(host, to).await;
    for piece in pieces {
        // It may be closed by now.
        let _ = stream.write_all(piece).await;
    }
    let mut answer = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

async fn served(host: &str, to: SocketAddr, pieces: &[&[u8]]) {
    let answer = exchange(host, to, pieces).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer:?}");
}

/// A session until it is dropped.
async fn session(host: &str, to: SocketAddr, header: &[u8], fields: &str) -> TcpStream {
    let mut stream = connect_from(host, to).await;
    stream.write_all(&[header, HANDSHAKE.as_bytes(), fields.as_bytes(), b"\r\n"].concat()).await.unwrap();
    let mut start = [0; 12];
    soon("an answer", stream.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 101");
    stream
}
