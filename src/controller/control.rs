//! The handle to the State task.

use std::sync::Arc;

use holdline_core::event::{Answer, Command, CommandError, Event, Heartbeat, Notice, NoticeKind};
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::policy::FleetPolicy;
use holdline_core::snapshot::Snapshot;
use tokio::sync::{mpsc, oneshot, watch};

use super::EventLog;

/// Commands and questions that wait for the State task, which answers within a tick; more operators than this wait their turn.
pub(super) const REQUESTS_MAX: usize = 64;

/// Reads what is known and asks for changes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) log: EventLog,
}

/// How the data plane obeys the first snapshot of another configuration: with the rest of it, at once.
pub type Adopt = Box<dyn FnOnce(&Snapshot) + Send>;

/// What the State task is asked directly, with the place where the answer goes.
pub(super) enum Request {
    Fresh(oneshot::Sender<Arc<Snapshot>>),
    Command(Command, oneshot::Sender<Result<Answer, CommandError>>),
    Configure(Vec<Arc<FleetPolicy>>, Adopt, oneshot::Sender<Result<(), Stopped>>),
}

/// The State task is gone: Holdline is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Holdline is stopping and takes no more commands")]
pub struct Stopped;

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ControlError {
    /// It cannot be; nothing was changed.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// Nobody is there to do it.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Control {
    /// What was last published: as of the last tick, save that its ages are those of its own time, [`Snapshot::at`].
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// Wakes on every snapshot; there is none while nothing but ages changes.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// What is known with the data plane's counts of this moment.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn fresh(&self) -> Result<Arc<Snapshot>, Stopped> {
        self.ask(Request::Fresh).await
    }

    /// Does what an operator asks, or plans it.
    ///
    /// # Errors
    /// [`ControlError`]; nothing was changed.
    pub async fn command(&self, command: Command) -> Result<Answer, ControlError> {
        Ok(self.ask(|answer| Request::Command(command, answer)).await??)
    }

    /// Takes the fleets of another configuration. `adopt` is called instead of the data plane's own with the first snapshot of it; when
    /// this returns it is in force.
    ///
    /// # Errors
    /// [`Stopped`]: Holdline is stopping, and nothing was changed.
    pub async fn configure(&self, fleets: Vec<Arc<FleetPolicy>>, adopt: Adopt) -> Result<(), Stopped> {
        self.ask(|answer| Request::Configure(fleets, adopt, answer)).await?
    }

    /// A line of the event log that is about no fleet.
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

    /// Holdline is stopping: no more scaling, no more starts. Returns when the data plane has been told.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn shut_down(&self) -> Result<(), Stopped> {
        self.tell(Event::Shutdown).await?;
        self.snapshots.clone().wait_for(|s| s.shutting_down).await.map(|_| ()).map_err(|_| Stopped)
    }

    /// What happened.
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
