//! What a session carries from its handshake to its end.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holdline_core::cause::EndCause;
use holdline_core::ids::{BackendId, FleetName, SessionId};
use holdline_core::policy::{KeepalivePolicy, Timeouts};
use serde::{Serialize, Serializer};

use super::kind::SessionKind;
use super::seat::SeatGuard;
use super::timer::Limits;
use crate::gateway::limits::permit::ConnectionPermit;

/// One session at its beginning. It lives and dies on one thread.
pub(crate) struct Session {
    /// Its id, new for each.
    pub(crate) id: SessionId,
    /// The client's protocol.
    pub(crate) kind: SessionKind,
    pub(crate) client: SocketAddr,
    /// Its backend, and what all sessions there share.
    pub(crate) target: Arc<SessionTarget>,
    /// Dropped once the backend's end was seen.
    pub(crate) seat: SeatGuard,
    /// Dropped once the client's socket was closed, which may be later.
    pub(crate) permit: Option<Box<ConnectionPermit>>,
}

/// What all sessions of one backend share that began under one policy.
pub struct SessionTarget {
    pub fleet: FleetName,
    pub backend: BackendId,
    /// Observer of bytes and ends.
    pub watch: Arc<dyn SessionObserver>,
    /// Of the connections with the backend.
    pub keepalive: KeepalivePolicy,
    websocket: Limits,
    /// Of sessions that are never pinged.
    others: Limits,
    ends: Arc<Ends>,
}

/// A backend's counters of ends, whatever policy its sessions began under.
#[derive(Debug, Default)]
struct Ends {
    moved: AtomicU64,
    cut: AtomicU64,
    lost: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndCounts {
    /// Drained or rebalanced.
    pub(crate) moved: u64,
    pub(crate) cut: u64,
    /// With their backend.
    pub(crate) lost: u64,
}

impl SessionTarget {
    /// `backend` of `fleet`, with the fleet's deadlines.
    pub fn new(
        fleet: FleetName,
        backend: BackendId,
        timeouts: &Timeouts,
        keepalive: &KeepalivePolicy,
        watch: Arc<dyn SessionObserver>,
    ) -> Arc<Self> {
        Self::counting(fleet, backend, (timeouts, keepalive), watch, Arc::default())
    }

    /// The same backend for sessions that begin with other deadlines; they are counted with those that began before.
    pub fn with_deadlines(&self, timeouts: &Timeouts, keepalive: &KeepalivePolicy) -> Arc<Self> {
        let (fleet, backend) = (self.fleet.clone(), self.backend.clone());
        Self::counting(fleet, backend, (timeouts, keepalive), Arc::clone(&self.watch), Arc::clone(&self.ends))
    }

    fn counting(
        fleet: FleetName,
        backend: BackendId,
        (timeouts, keepalive): (&Timeouts, &KeepalivePolicy),
        watch: Arc<dyn SessionObserver>,
        ends: Arc<Ends>,
    ) -> Arc<Self> {
        let limits = |kind| Limits::new(timeouts, keepalive, kind);
        let (websocket, others) = (limits(SessionKind::WebSocket), limits(SessionKind::Sse));
        Arc::new(SessionTarget { fleet, backend, watch, keepalive: *keepalive, websocket, others, ends })
    }

    /// Counts an end; before its seat is given back, so that who sees the free seat finds the end counted.
    pub(crate) fn count_end(&self, cause: EndCause) {
        match cause {
            EndCause::Drained | EndCause::Rebalanced => self.ends.moved.fetch_add(1, Ordering::Relaxed),
            EndCause::Cut => self.ends.cut.fetch_add(1, Ordering::Relaxed),
            EndCause::BackendLost => self.ends.lost.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// How its sessions ended so far.
    pub(crate) fn ends(&self) -> EndCounts {
        let Ends { moved, cut, lost } = &*self.ends;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EndCounts { moved: of(moved), cut: of(cut), lost: of(lost) }
    }

    /// The deadlines of its sessions of this kind.
    pub fn limits(&self, kind: SessionKind) -> &Limits {
        match kind {
            SessionKind::WebSocket => &self.websocket,
            SessionKind::Sse | SessionKind::LongPoll => &self.others,
        }
    }
}

/// Observes sessions, for metrics and access log. Called on the session's thread; must not block.
pub trait SessionObserver: Send + Sync {
    /// Bytes that went through since the last call, of any number of sessions; called on the tick and at ends.
    fn bytes(&self, from_clients: u64, to_clients: u64);
    /// A session ended; exactly once for each.
    fn ended(&self, end: &Ended<'_>);
}

/// A session's end, for the record.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    pub id: SessionId,
    pub kind: SessionKind,
    pub fleet: &'a FleetName,
    pub backend: &'a BackendId,
    pub client: SocketAddr,
    pub cause: EndCause,
    /// From its handshake to its release.
    pub age: Duration,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
}

/// One line of `holdline sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionInfo {
    pub id: SessionId,
    pub kind: SessionKind,
    pub fleet: FleetName,
    pub backend: BackendId,
    #[serde(serialize_with = "as_text")]
    pub client: SocketAddr,
    /// Since its handshake.
    pub age_ms: u64,
    /// Since the last byte in either direction, to the tick.
    pub idle_ms: u64,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
}

/// Which sessions are meant; what is `None` matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Of this fleet.
    pub fleet: Option<FleetName>,
    /// On this backend.
    pub backend: Option<BackendId>,
    /// At most so many.
    pub limit: Option<usize>,
}

impl SessionFilter {
    /// Whether sessions of `target` are meant.
    pub fn matches(&self, target: &SessionTarget) -> bool {
        self.fleet.as_ref().is_none_or(|f| *f == target.fleet) && self.backend.as_ref().is_none_or(|b| *b == target.backend)
    }
}

fn as_text<S: Serializer>(value: &impl fmt::Display, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(value)
}
