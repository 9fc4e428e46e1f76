//! One probe of one backend: whether it listens, whether it is ready, how many sessions it has.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holdline_core::event::Heartbeat;
use holdline_core::policy::{HeartbeatPolicy, Probe, ProxyProtocol};
use holdline_core::wire::proxy;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use tokio::task::JoinHandle;

use super::report::{BadReport, REPORT_MAX, read_report};
use crate::net::connect;
use crate::net::tls::Connector;
use crate::net::tls::is_about_tls;

/// Limit of a response head; hyper requires at least 8 KiB.
const HEAD_MAX: usize = 16 * 1024;

/// Probes one backend over one kept-alive connection.
pub(super) struct Asker {
    address: SocketAddr,
    policy: HeartbeatPolicy,
    /// `None`: plain text.
    connector: Option<Arc<Connector>>,
    /// Bytes that each connection begins with.
    first: &'static [u8],
    connection: Option<Connection>,
}

/// A backend's answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) heartbeat: Heartbeat,
    /// The report was invalid; the status still counts.
    pub(super) bad: Option<BadAnswer>,
}

/// Why a report was ignored.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadAnswer {
    #[error("invalid report ignored: {0}")]
    Report(#[from] BadReport),
    #[error("report ignored: it is longer than {REPORT_MAX} bytes")]
    TooLong,
}

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Missed {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("TLS failed: {0}; check backends.tls and the backend's certificate")]
    Tls(io::Error),
    #[error("invalid HTTP response: {0}")]
    Http(#[from] hyper::Error),
    #[error("unexpected status {0}; 200 means ready, 503 not ready: check heartbeat.path")]
    Status(StatusCode),
    #[error("heartbeat.path is not a valid request target: {0}")]
    Request(#[from] http::Error),
}

impl Missed {
    /// Whether the failure is local (no descriptor, no port) and so no evidence about the backend.
    pub(super) fn is_ours(&self) -> bool {
        let ours = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
        matches!(self, Missed::Connect(e) if e.raw_os_error().is_some_and(|e| ours.iter().any(|o| o.raw_os_error() == e)))
    }
}

impl Asker {
    pub(super) fn new(
        address: SocketAddr,
        policy: HeartbeatPolicy,
        proxy_protocol: ProxyProtocol,
        connector: Option<Arc<Connector>>,
    ) -> Self {
        let first: &[u8] = match proxy_protocol {
            ProxyProtocol::None => &[],
            // A probe has no client.
            ProxyProtocol::V2 => &proxy::LOCAL,
        };
        Asker { address, policy, connector, first, connection: None }
    }

    /// Probes once, within the policy's timeout.
    pub(super) async fn ask(&mut self) -> Result<Answer, Missed> {
        let timeout = self.policy.timeout;
        let answer = match self.policy.probe {
            Probe::Http => tokio::time::timeout(timeout, self.get()).await,
            Probe::Tcp | Probe::Push => tokio::time::timeout(timeout, self.connect()).await,
        };
        let answer = answer.unwrap_or(Err(Missed::Timeout(timeout)));
        if answer.is_err() {
            // It may hold half a response.
            self.connection = None;
        }
        answer
    }

    async fn connect(&self) -> Result<Answer, Missed> {
        // A TCP probe does not use TLS.
        connect(self.address, None, self.first).await.map_err(Missed::Connect)?;
        Ok(Answer { heartbeat: Heartbeat { ready: true, ..Heartbeat::default() }, bad: None })
    }

    async fn get(&mut self) -> Result<Answer, Missed> {
        // A kept-alive connection may have been closed while the request was in flight: only a failure on a new one counts.
        if let Some(mut kept) = self.connection.take()
            && kept.sender.ready().await.is_ok()
            && let Ok(answer) = self.get_over(kept).await
        {
            return Ok(answer);
        }
        let connection = Connection::open(self.address, self.connector.as_ref(), self.first).await?;
        self.get_over(connection).await
    }

    async fn get_over(&mut self, mut connection: Connection) -> Result<Answer, Missed> {
        let request = Request::get(self.policy.path.as_str())
            .header(header::HOST, self.address.to_string())
            .header(header::USER_AGENT, concat!("holdline/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())?;
        let response = connection.sender.send_request(request).await?;
        let ready = match response.status() {
            StatusCode::OK => true,
            StatusCode::SERVICE_UNAVAILABLE => false,
            other => return Err(Missed::Status(other)),
        };
        let body = read_body(response.into_body()).await?;
        let heartbeat = Heartbeat { ready, unreadable: true, ..Heartbeat::default() };
        let Some(body) = body else {
            return Ok(Answer { heartbeat, bad: Some(BadAnswer::TooLong) });
        };
        self.connection = Some(connection);
        Ok(match read_report(&body, ready) {
            Ok(heartbeat) => Answer { heartbeat, bad: None },
            Err(bad) => Answer { heartbeat, bad: Some(bad.into()) },
        })
    }
}

/// The whole body; `None` when it is longer than a report may be.
async fn read_body(mut body: Incoming) -> Result<Option<Bytes>, hyper::Error> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if read.len() + data.len() > REPORT_MAX {
                return Ok(None);
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(Some(read.freeze()))
}

/// A kept-alive connection and the task that drives it; both end together.
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    driver: JoinHandle<()>,
}

impl Connection {
    async fn open(address: SocketAddr, connector: Option<&Arc<Connector>>, first: &[u8]) -> Result<Self, Missed> {
        let stream = connect(address, connector, first).await.map_err(|error| match is_about_tls(&error) {
            true => Missed::Tls(error),
            false => Missed::Connect(error),
        })?;
        let (sender, connection) = http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // The request reports the same error.
            let _ = connection.await;
        });
        Ok(Connection { sender, driver })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
