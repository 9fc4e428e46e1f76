//! What all data threads share.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use super::served::Served;
use crate::clock::Clock;
use crate::config::model::Listener;
use crate::gateway::admission::backend::Backend;
use crate::gateway::limits::descriptors::{ClientSlot, Descriptors};
use crate::gateway::limits::permit::SessionPermit;
use crate::gateway::refuse::Refusal;
use crate::gateway::upstream::dial::Dialler;
use crate::net::socket::Socket;
use crate::telemetry::Metrics;

/// Sockets on their way to another thread. One accept loop hands over one at a time; what finds no place stays where it is.
const HANDED_MAX: usize = 64;

/// What all threads share.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    /// Changes with the configuration, in whole.
    pub(crate) served: ArcSwap<Served>,
    /// Notified when it did.
    pub(crate) swapped: watch::Sender<()>,
    /// A thread lost a task that it cannot do without.
    pub(crate) failed: watch::Sender<bool>,
    pub(crate) descriptors: Arc<Descriptors>,
    /// Memory is above its ceiling: no session begins.
    pub(crate) is_short_of_memory: AtomicBool,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) dialler: Dialler,
    pub(crate) thread_handles: Vec<ThreadHandle>,
}

impl Shared {
    /// A permit for a session of `client`, counted as one that began.
    ///
    /// # Errors
    /// As [`SessionPermit::take`].
    pub(crate) fn session_permit(&self, client: SocketAddr) -> Result<SessionPermit, Refusal> {
        let is_short_of_memory = self.is_short_of_memory.load(Ordering::Relaxed);
        SessionPermit::take(&self.served.load().addresses, &self.descriptors, is_short_of_memory, client, self.clock)
    }

    /// A connection to `backend`, as its fleet's backends are spoken to.
    ///
    /// # Errors
    /// As [`Dialler::dial`].
    pub(crate) async fn dial(&self, backend: &Backend, timeout: Duration, first: &[u8]) -> io::Result<Socket> {
        let connector = self.served.load().tls.connector(&backend.fleet).cloned();
        self.dialler.dial(backend, connector.as_ref(), timeout, first).await
    }
}

/// A thread, as the others see it.
pub(crate) struct ThreadHandle {
    pub(crate) connections: Arc<AtomicUsize>,
    hand: mpsc::Sender<Handed>,
}

impl ThreadHandle {
    /// A thread's, and where sockets that others hand over arrive.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Handed>) {
        let (hand, handed) = mpsc::channel(HANDED_MAX);
        (ThreadHandle { connections: Arc::default(), hand }, handed)
    }

    /// Room for one more socket on the way there.
    pub(crate) fn reserve(&self) -> Option<mpsc::Permit<'_, Handed>> {
        self.hand.try_reserve().ok()
    }

    /// Clients connected there.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A connection that was accepted, `S` being its socket.
pub(crate) struct Accepted<S> {
    pub(crate) socket: S,
    pub(crate) peer: SocketAddr,
    /// Where it came in.
    pub(crate) listener: Arc<Listener>,
    pub(crate) slot: ClientSlot,
}

/// A client's socket on its way to another thread.
pub(crate) type Handed = Accepted<std::net::TcpStream>;

impl<S> Accepted<S> {
    pub(crate) fn try_map<T>(self, convert: impl FnOnce(S) -> io::Result<T>) -> io::Result<Accepted<T>> {
        let Accepted { socket, peer, listener, slot } = self;
        Ok(Accepted { socket: convert(socket)?, peer, listener, slot })
    }
}
