//! Traits that the admin API needs of the State task and the gateway: `runtime` passes the real ones, tests pass doubles.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use holdline_core::event::{Answer, Command, Heartbeat};
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::snapshot::Snapshot;
use tokio::sync::watch;

use super::api::EventBody;
use crate::controller::{Control, ControlError, LoggedEvent, Stopped};
use crate::gateway::{SessionFilter, SessionInfo};

/// A pending result.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The State task's handle; see [`Control`].
pub trait Plane: Send + Sync {
    /// The last published snapshot; its ages may be old.
    fn current(&self) -> Arc<Snapshot>;
    /// A snapshot with the gateway's current counts.
    fn fresh(&self) -> Answering<'_, Result<Arc<Snapshot>, Stopped>>;
    /// Wakes on every snapshot; none is published while only ages change. Ends with the State task.
    fn watch(&self) -> watch::Receiver<Arc<Snapshot>>;
    /// Executes an operator's command, or plans it.
    fn command(&self, command: Command) -> Answering<'_, Result<Answer, ControlError>>;
    /// Passes a pushed heartbeat on.
    fn heartbeat(&self, fleet: FleetName, backend: BackendId, heartbeat: Heartbeat) -> Answering<'_, Result<(), Stopped>>;
    /// Events after this id, oldest first, as far back as they are kept; all of them when the id is higher than any.
    fn events_since(&self, id: u64) -> Vec<EventBody>;
    /// Waits until there is an event after this id, or the State task has ended.
    fn event_after(&self, id: u64) -> Answering<'_, Result<(), Stopped>>;
}

impl Plane for Control {
    fn current(&self) -> Arc<Snapshot> {
        Control::current(self)
    }

    fn fresh(&self) -> Answering<'_, Result<Arc<Snapshot>, Stopped>> {
        Box::pin(Control::fresh(self))
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        Control::watch(self)
    }

    fn command(&self, command: Command) -> Answering<'_, Result<Answer, ControlError>> {
        Box::pin(Control::command(self, command))
    }

    fn heartbeat(&self, fleet: FleetName, backend: BackendId, heartbeat: Heartbeat) -> Answering<'_, Result<(), Stopped>> {
        Box::pin(Control::heartbeat(self, fleet, backend, heartbeat))
    }

    fn events_since(&self, id: u64) -> Vec<EventBody> {
        let body = |LoggedEvent { id, at_unix_ms, notice }| EventBody { id, at_unix_ms, notice };
        self.events().since(id).into_iter().map(body).collect()
    }

    fn event_after(&self, id: u64) -> Answering<'_, Result<(), Stopped>> {
        let (mut newest, mut snapshots) = (self.events().subscribe(), self.watch());
        Box::pin(async move {
            // The log outlives the State task, the snapshots' sender does not.
            let ended = async { while snapshots.changed().await.is_ok() {} };
            tokio::select! {
                biased;
                found = newest.wait_for(|newest| *newest > id) => found.map(drop).map_err(|_| Stopped),
                () = ended => Err(Stopped),
            }
        })
    }
}

/// The gateway's list of sessions.
pub trait Sessions: Send + Sync {
    /// Sessions that are open now.
    fn list(&self, filter: SessionFilter) -> Answering<'_, Vec<SessionInfo>>;
}
