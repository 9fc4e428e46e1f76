//! A connection to a backend, and what its outcome says about the backend.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::event::Event;
use tokio::sync::mpsc;

use crate::clock::{self, Clock};
use crate::gateway::admission::backend::Backend;
use crate::net::socket::Socket;
use crate::net::tls::{Connector, is_about_tls};
use crate::net::{connect, is_ours};
use crate::telemetry::Metrics;

/// Backends that one handshake or request is tried at, after connect failures only.
pub(crate) const DIALS_MAX: usize = 3;

/// Dials backends, and notes how it went.
pub(crate) struct Dialler {
    pub(crate) clock: Clock,
    /// To State, which is told of outcomes as far as there is room.
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Dialler {
    /// Connects to `backend` within `timeout`, over TLS with a `connector`, sends `first` before anything else, and notes the outcome for
    /// State, unless a failure was this machine's own.
    ///
    /// # Errors
    /// The kernel's, `TimedOut`, or what is wrong with its TLS.
    pub(crate) async fn dial(
        &self,
        backend: &Backend,
        connector: Option<&Arc<Connector>>,
        timeout: Duration,
        first: &[u8],
    ) -> io::Result<Socket> {
        let connected = match clock::timeout(timeout, connect(backend.address, connector, first)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let ours = connected.as_ref().is_err_and(is_ours);
        if !ours {
            backend.dialled(connected.is_ok(), self.clock.now(), &self.events);
        }
        if let Err(error) = &connected {
            tracing::debug!(%error, backend = %backend.id, address = %backend.address, "dial");
        }
        backend.tls_is(connected.as_ref().err().filter(|e| is_about_tls(*e)), &self.metrics);
        connected
    }
}
