//! A connection to a backend, and what its outcome says about the backend.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::backend::Backend;
use super::socket::Socket;
use super::thread::{Shared, is_ours};
use super::tls::{self, Connector, is_about_tls};

/// Backends that one handshake or request is tried at, after connect failures only.
pub(crate) const DIALS_MAX: usize = 3;

/// Connects to `backend` within `timeout`, TLS included, sends `first` before anything else, and notes the outcome for State, unless a failure was this machine's own.
///
/// # Errors
/// The kernel's, `TimedOut`, or what is wrong with its TLS.
pub(crate) async fn dial(shared: &Shared, backend: &Backend, timeout: Duration, first: &[u8]) -> io::Result<Socket> {
    let connector = shared.served.load().tls.connector(&backend.fleet).cloned();
    let connected = match tokio::time::timeout(timeout, connect(backend.address, connector.as_ref(), first)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    let ours = connected.as_ref().is_err_and(is_ours);
    if !ours {
        backend.dialled(connected.is_ok(), shared.clock.now(), &shared.events);
    }
    if let Err(error) = &connected {
        tracing::debug!(%error, backend = %backend.id, address = %backend.address, "dial");
    }
    backend.tls_is(connected.as_ref().err().filter(|e| is_about_tls(*e)), &shared.metrics);
    connected
}

/// Connects to a backend; `first` goes out before anything else, TLS included.
///
/// # Errors
/// The kernel's, or what is wrong with its TLS.
pub(crate) async fn connect(address: SocketAddr, connector: Option<&Arc<Connector>>, first: &[u8]) -> io::Result<Socket> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(first).await?;
    match connector {
        None => Ok(Socket::Plain(stream)),
        Some(connector) => Ok(Socket::Tls(Box::new(tls::Stream::client(stream, connector).await?))),
    }
}
