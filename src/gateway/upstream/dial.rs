//! A connection to a backend, and what its outcome says about the backend.

use std::io;
use std::time::Duration;

use crate::gateway::admission::backend::Backend;
use crate::gateway::context::thread::Shared;
use crate::net::socket::Socket;
use crate::net::tls::is_about_tls;
use crate::net::{connect, is_ours};

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
