//! What the admin API needs of the rest, as narrow as it needs it: tests drive doubles, `runtime` passes the real ones.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use holdline_core::event::{Answer, Command, CommandError, Heartbeat};
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::snapshot::Snapshot;
use holdline_core::time::Moment;

use super::api::{EventBody, SessionBody};

/// An answer that is on its way.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The State task has ended: Holdline is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Holdline is stopping")]
pub struct Stopped;

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CommandFailure {
    /// State refused it; nothing was changed.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// Nobody is there to carry it out.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The State task's handle.
pub trait Plane: Send + Sync {
    /// What was last published.
    fn current(&self) -> Arc<Snapshot>;
    /// What is known now: the gateway's counts are taken first.
    fn fresh(&self) -> Answering<'_, Result<Arc<Snapshot>, Stopped>>;
    /// Does what an operator asks, or plans it.
    fn command(&self, command: Command) -> Answering<'_, Result<Answer, CommandFailure>>;
    /// Takes in a pushed heartbeat.
    fn heartbeat(&self, fleet: FleetName, backend: BackendId, heartbeat: Heartbeat) -> Answering<'_, Result<(), Stopped>>;
    /// Events with a higher id than this, oldest first, as far back as they are kept.
    fn events_after(&self, id: u64) -> Vec<EventBody>;
    /// Waits until there is an event with a higher id than this.
    fn event_beyond(&self, id: u64) -> Answering<'_, Result<(), Stopped>>;
}

/// Which sessions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionQuery {
    /// Only of this fleet.
    pub fleet: Option<FleetName>,
    /// Only on this backend.
    pub backend: Option<BackendId>,
    /// So many at the most.
    pub limit: usize,
}

/// The gateway, as far as listing goes.
pub trait Sessions: Send + Sync {
    /// Sessions that are open now.
    fn list(&self, query: SessionQuery) -> Answering<'_, Vec<SessionBody>>;
}

/// The metric registry.
pub trait MetricsText: Send + Sync {
    /// Everything in Prometheus' text format, gauges after `snapshot`.
    fn render(&self, snapshot: &Snapshot, now: Moment) -> String;
    /// Counts input that was refused.
    fn bad_input(&self, reason: &'static str);
}
