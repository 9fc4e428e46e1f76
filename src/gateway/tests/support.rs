//! A gateway without a State: the test plays its part by hand. Backends count what they hold by themselves.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use holdline_core::cause::{EndCause, Phase};
use holdline_core::drain::{EndOrder, Ending};
use holdline_core::event::{Event, FleetCounts};
use holdline_core::policy::{DrainMode, FleetPolicy};
use holdline_core::snapshot::{BackendView, Snapshot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::config::model::{Config, FleetConfig, HostMatch, Limits, Listener, LogConfig, LogFormat, Route};
use crate::config::units::Sessions;
use crate::gateway::admission::fleet::tests::{policy, ready, view};
use crate::gateway::*;

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Longer than anything here takes; a test that hangs fails.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// A WebSocket handshake whose key is that of RFC 6455 1.3.
pub(super) const HANDSHAKE: &str = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v2, v1\r\n\r\n";

/// The answer to [`HANDSHAKE`].
pub(super) const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Without bounds per address or on memory.
pub(in crate::gateway) const LIMITS: Limits = Limits {
    sessions_per_address: None,
    handshakes_per_address: None,
    head: 16 << 10,
    head_timeout: Duration::from_secs(60),
    memory: None,
};

/// A running gateway with one fleet called `chat`.
pub(super) struct Rig {
    pub(super) gateway: Arc<Gateway>,
    pub(super) policy: Arc<FleetPolicy>,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) address: SocketAddr,
    metrics: Arc<Metrics>,
}

impl Rig {
    pub(super) fn start(change: impl FnOnce(&mut FleetPolicy)) -> Self {
        Self::start_on(2, Descriptors::raise(), change)
    }

    /// With one route, where this opens sessions.
    pub(super) fn routed(sessions: Sessions, change: impl FnOnce(&mut FleetPolicy)) -> Self {
        let route = Route { host: HostMatch::Any, path: "/".into(), fleet: "chat".into(), sessions };
        Self::start_with(2, Descriptors::raise(), vec![route], change)
    }

    pub(super) fn start_on(threads: usize, descriptors: Arc<Descriptors>, change: impl FnOnce(&mut FleetPolicy)) -> Self {
        Self::start_with(threads, descriptors, Vec::new(), change)
    }

    fn start_with(
        threads: usize,
        descriptors: Arc<Descriptors>,
        routes: Vec<Route>,
        change: impl FnOnce(&mut FleetPolicy),
    ) -> Self {
        let mut policy = policy("chat");
        change(&mut policy);
        let policy = Arc::new(policy);
        let config = Config {
            listeners: vec![Listener { address: ([127, 0, 0, 1], 0).into(), tls: None, proxy_protocol: false }],
            trusted: Arc::default(),
            admin: ([127, 0, 0, 1], 0).into(),
            log: LogConfig { format: LogFormat::Text, level: tracing::Level::ERROR, access: false },
            routes,
            fleets: vec![FleetConfig { policy: Arc::clone(&policy), heartbeat_token: None, tls: None }],
            limits: LIMITS,
            threads: NonZeroUsize::new(threads),
            shutdown_deadline: Duration::from_secs(5),
            warnings: Vec::new(),
        };
        let (events, seen) = mpsc::channel(64);
        let metrics = Metrics::new();
        let gateway = Gateway::start_within(descriptors, &config, Clock::start(), Arc::clone(&metrics), events, 7).unwrap();
        let address = gateway.addresses()[0];
        Rig { gateway, policy, events: seen, address, metrics }
    }

    pub(super) fn adopt(&self, backends: Vec<BackendView>) {
        self.gateway.adopt(&self.snapshot(backends));
    }

    fn snapshot(&self, backends: Vec<BackendView>) -> Snapshot {
        Snapshot { version: 1, at: Default::default(), fleets: vec![view(&self.policy, backends)], shutting_down: false }
    }

    /// Whether the metrics have this line.
    pub(super) fn tells(&self, line: &str) -> bool {
        self.metrics.render(&self.snapshot(Vec::new()), Default::default()).lines().any(|l| l == line)
    }

    pub(super) fn counts(&self) -> FleetCounts {
        self.gateway.report().fleets.remove(0)
    }

    /// Long-poll clients that are known, with a seat or looking for one.
    pub(super) fn polling(&self) -> usize {
        self.gateway.shared.served.load().fleets[0].polls.len()
    }

    pub(super) fn used(&self) -> u32 {
        self.counts().backends.iter().map(|b| b.used).sum()
    }

    /// Waits until the gateway's counts are so.
    pub(super) async fn until(&self, what: &str, is_so: impl Fn(&FleetCounts) -> bool) {
        eventually(what, || is_so(&self.counts())).await;
    }

    pub(super) async fn open(&self) -> Result<Socket, tungstenite::Error> {
        self.open_with(&[]).await
    }

    pub(super) async fn open_with(&self, fields: &[(&'static str, &str)]) -> Result<Socket, tungstenite::Error> {
        let mut request = format!("ws://{}/", self.address).into_client_request()?;
        for (name, value) in fields {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        within(tokio_tungstenite::connect_async(request)).await.map(|(socket, _)| socket)
    }

    /// Sends raw bytes and reads to the end.
    pub(super) async fn raw(&self, bytes: &str) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        within(socket.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// A WebSocket echo server that counts its connections.
#[derive(Clone)]
pub(super) struct Echo {
    pub(super) address: SocketAddr,
    pub(super) open: Arc<AtomicU32>,
    pub(super) most: Arc<AtomicU32>,
}

impl Echo {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let echo = Echo { address: listener.local_addr().unwrap(), open: Arc::default(), most: Arc::default() };
        let serving = echo.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        echo
    }

    async fn serve(self, stream: TcpStream) {
        let now = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        if let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await {
            while let Some(Ok(message)) = socket.next().await {
                if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                    break;
                }
            }
            // Gone before the socket closes, as a real server's count is.
            self.open.fetch_sub(1, Ordering::SeqCst);
        } else {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
    }

    pub(super) fn view(&self, id: &str, limit: u32) -> BackendView {
        ready(id, self.address, limit)
    }
}

/// A backend that answers the first request of each connection with fixed bytes, once `heard` took that request, and then holds the
/// connection until its peer ends it.
pub(super) async fn scripted(answer: &'static str) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (said, heard) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let said = said.clone();
            tokio::spawn(async move {
                let head = read_head(&mut stream).await;
                let _ = said.send(head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
            });
        }
    });
    (address, heard)
}

pub(super) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// An address that refuses connections: it was free a moment ago.
pub(super) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

pub(super) fn in_phase(mut view: BackendView, phase: Phase) -> BackendView {
    view.phase = phase;
    view.limit = 0;
    view
}

pub(super) async fn echo(socket: &mut Socket, text: &str) -> bool {
    socket.send(Message::text(text)).await.unwrap();
    matches!(within(socket.next()).await, Some(Ok(Message::Text(back))) if back.as_str() == text)
}

pub(super) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(SOON, future).await.expect("it took too long")
}

/// Looks again whenever the runtime has gone round, until `is_so`.
pub(super) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let looked = async {
        let mut again = tokio::time::interval(Duration::from_millis(2));
        while !is_so() {
            again.tick().await;
        }
    };
    tokio::time::timeout(SOON, looked).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The status and header of a failed handshake.
pub(super) fn refusal(error: tungstenite::Error) -> (u16, Option<String>) {
    let tungstenite::Error::Http(response) = error else { panic!("{error}") };
    let cause = response.headers().get("holdline-cause").map(|v| v.to_str().unwrap().to_owned());
    (response.status().as_u16(), cause)
}

pub(super) fn close(count: u32, cause: EndCause) -> EndOrder {
    EndOrder { count, ending: Ending { mode: DrainMode::Close, cause } }
}

pub(super) fn cut(count: u32) -> EndOrder {
    EndOrder { count, ending: Ending::CUT }
}
