//! The handle to the State task.

use std::sync::Arc;

use holdline_core::event::{Answer, Command, CommandError, Event, Heartbeat, Notice, NoticeKind};
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::policy::FleetPolicy;
use holdline_core::snapshot::Snapshot;
use tokio::sync::{mpsc, oneshot, watch};

use super::EventLog;

/// Queued requests to the State task, which answers within a tick; further callers wait.
pub(super) const REQUESTS_MAX: usize = 64;

/// Reads snapshots and sends commands. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) log: EventLog,
}

/// How the data plane adopts the first snapshot of a new configuration, together with the rest of that configuration.
pub type Adopt = Box<dyn FnOnce(&Snapshot) + Send>;

/// Requests to the State task, each with its reply channel.
pub(super) enum Request {
    Fresh(oneshot::Sender<Arc<Snapshot>>),
    Command(Command, oneshot::Sender<Result<Answer, CommandError>>),
    Configure(Vec<Arc<FleetPolicy>>, Adopt, oneshot::Sender<Result<(), Stopped>>),
}

/// The State task is gone: Holdline is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Holdline is stopping and accepts no more commands")]
pub struct Stopped;

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ControlError {
    /// It was rejected; nothing was changed.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// The State task has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Control {
    /// The last published snapshot; its ages are those at [`Snapshot::at`].
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// Wakes on every snapshot; none is published while only ages change.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// A snapshot with the data plane's current counts.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn fresh(&self) -> Result<Arc<Snapshot>, Stopped> {
        self.ask(Request::Fresh).await
    }

    /// Executes an operator's command, or plans it.
    ///
    /// # Errors
    /// [`ControlError`]; nothing was changed.
    pub async fn command(&self, command: Command) -> Result<Answer, ControlError> {
        Ok(self.ask(|answer| Request::Command(command, answer)).await??)
    }

    /// Applies the fleets of a new configuration. `adopt` replaces the data plane's own for the first snapshot; when this returns, the
    /// configuration is in force.
    ///
    /// # Errors
    /// [`Stopped`]: Holdline is stopping, and nothing was changed.
    pub async fn configure(&self, fleets: Vec<Arc<FleetPolicy>>, adopt: Adopt) -> Result<(), Stopped> {
        self.ask(|answer| Request::Configure(fleets, adopt, answer)).await?
    }

    /// Adds an event that concerns no fleet.
    pub fn note(&self, kind: NoticeKind, message: String, at_unix_ms: u64) {
        self.log.push(Notice { fleet: None, backend: None, kind, message }, at_unix_ms);
    }

    /// A backend pushed a heartbeat.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn heartbeat(&self, fleet: FleetName, backend: BackendId, heartbeat: Heartbeat) -> Result<(), Stopped> {
        self.tell(Event::Heartbeat { fleet, backend, heartbeat }).await
    }

    /// Begins shutdown: no more scaling, no more starts. Returns when the data plane has adopted it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn shut_down(&self) -> Result<(), Stopped> {
        self.tell(Event::Shutdown).await?;
        self.snapshots.clone().wait_for(|s| s.shutting_down).await.map(|_| ()).map_err(|_| Stopped)
    }

    /// The event log.
    pub fn events(&self) -> &EventLog {
        &self.log
    }

    async fn tell(&self, event: Event) -> Result<(), Stopped> {
        self.events.send(event).await.map_err(|_| Stopped)
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Stopped> {
        let (answer, wait) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| Stopped)?;
        wait.await.map_err(|_| Stopped)
    }
}
