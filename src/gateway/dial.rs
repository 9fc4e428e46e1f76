//! A connection to a backend, and what its outcome says about the backend.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use super::backend::Backend;
use super::socket::Socket;
use super::thread::{Shared, is_ours};

/// Backends that one handshake or request is tried at, after connect failures only.
pub(crate) const DIALS_MAX: usize = 3;

/// Connects to `backend` within `timeout` and notes the outcome for State, unless a failure was this machine's own.
///
/// # Errors
/// The kernel's, or `TimedOut`.
pub(crate) async fn dial(shared: &Shared, backend: &Backend, timeout: Duration) -> io::Result<Socket> {
    let connected = match tokio::time::timeout(timeout, TcpStream::connect(backend.address)).await {
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
    let stream = connected?;
    stream.set_nodelay(true)?;
    Ok(Socket::Plain(stream))
}
