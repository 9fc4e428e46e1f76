//! Doubles of what the admin API talks to: handles that a test drives and looks into.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use holdline_core::cause::{EndCause, Phase, RefuseCause};
use holdline_core::event::{Answer, Command, Heartbeat, MovePlan, Notice, NoticeKind, Share};
use holdline_core::ids::{BackendId, FleetName, SessionId};
use holdline_core::policy::{DrainMode, FleetPolicy, Probe, ProviderPolicy};
use holdline_core::scale::Decision;
use holdline_core::snapshot::{BackendView, FleetView, MoveView, Snapshot};
use holdline_core::time::Moment;
use holdline_core::traffic::{Rates, Totals, Traffic};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::api::EventBody;
use super::interfaces::{Answering, Plane, Sessions};
use crate::controller::{ControlError, Stopped};
use crate::gateway::{SessionFilter, SessionInfo, SessionKind};
use crate::test_policy as policy;

/// A State task with scripted answers that records its requests.
pub(crate) struct FakePlane {
    /// Published; `None`: stopped. Tests may queue several: each `fresh` takes the next, the last stays.
    pub(crate) snapshots: Mutex<VecDeque<Arc<Snapshot>>>,
    /// The answer to every command.
    pub(crate) answer: Mutex<Result<Answer, ControlError>>,
    /// Commands taken.
    pub(crate) commands: Mutex<Vec<Command>>,
    /// Heartbeats taken.
    pub(crate) heartbeats: Mutex<Vec<(FleetName, BackendId, Heartbeat)>>,
    /// What watchers see; `None`: stopped.
    published: Mutex<Option<watch::Sender<Arc<Snapshot>>>>,
    events: Mutex<Vec<EventBody>>,
    newest: watch::Sender<u64>,
}

impl FakePlane {
    pub(crate) fn new(snapshot: Snapshot) -> Arc<Self> {
        let snapshot = Arc::new(snapshot);
        Arc::new(FakePlane {
            published: Mutex::new(Some(watch::Sender::new(snapshot.clone()))),
            snapshots: Mutex::new([snapshot].into()),
            answer: Mutex::new(Ok(Answer::Plan(plan()))),
            commands: Mutex::default(),
            heartbeats: Mutex::default(),
            events: Mutex::default(),
            newest: watch::Sender::new(0),
        })
    }

    /// From now on, the State task is gone.
    pub(crate) fn stop(&self) {
        self.snapshots.lock().clear();
        self.published.lock().take();
        *self.answer.lock() = Err(Stopped.into());
    }

    /// Shown after those that are queued.
    pub(crate) fn then(&self, snapshot: Snapshot) {
        self.snapshots.lock().push_back(Arc::new(snapshot));
    }

    /// Shown to who watches.
    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.published.lock().as_ref().expect("not stopped").send_replace(Arc::new(snapshot));
    }

    pub(crate) fn emit(&self, id: u64, message: &str) {
        let notice =
            Notice { fleet: Some("chat".into()), backend: Some("b-1".into()), kind: NoticeKind::Phase, message: message.into() };
        self.events.lock().push(EventBody { id, at_unix_ms: 1_700_000_000_000 + id, notice });
        self.newest.send_replace(id);
    }
}

impl Plane for FakePlane {
    fn current(&self) -> Arc<Snapshot> {
        self.snapshots.lock().front().cloned().unwrap_or_else(|| Arc::new(snapshot(vec![])))
    }

    fn fresh(&self) -> Answering<'_, Result<Arc<Snapshot>, Stopped>> {
        let mut snapshots = self.snapshots.lock();
        let next = if snapshots.len() > 1 { snapshots.pop_front() } else { snapshots.front().cloned() };
        Box::pin(async move { next.ok_or(Stopped) })
    }

    fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        match &*self.published.lock() {
            Some(published) => published.subscribe(),
            None => watch::channel(self.current()).1,
        }
    }

    fn command(&self, command: Command) -> Answering<'_, Result<Answer, ControlError>> {
        self.commands.lock().push(command);
        let answer = self.answer.lock().clone();
        Box::pin(async move { answer })
    }

    fn heartbeat(&self, fleet: FleetName, backend: BackendId, heartbeat: Heartbeat) -> Answering<'_, Result<(), Stopped>> {
        self.heartbeats.lock().push((fleet, backend, heartbeat));
        Box::pin(async { Ok(()) })
    }

    fn events_since(&self, id: u64) -> Vec<EventBody> {
        let events = self.events.lock();
        let after = if id > *self.newest.borrow() { 0 } else { id };
        events.iter().filter(|e| e.id > after).cloned().collect()
    }

    fn event_after(&self, id: u64) -> Answering<'_, Result<(), Stopped>> {
        let mut newest = self.newest.subscribe();
        Box::pin(async move { newest.wait_for(|n| *n > id).await.map(|_| ()).map_err(|_| Stopped) })
    }
}

/// A gateway with these sessions.
pub(crate) struct FakeSessions(pub(crate) Vec<SessionInfo>);

impl Sessions for FakeSessions {
    fn list(&self, filter: SessionFilter) -> Answering<'_, Vec<SessionInfo>> {
        let fits = |s: &&SessionInfo| {
            filter.fleet.as_ref().is_none_or(|f| *f == s.fleet) && filter.backend.as_ref().is_none_or(|b| *b == s.backend)
        };
        let found = self.0.iter().filter(fits).take(filter.limit.unwrap_or(usize::MAX)).cloned().collect();
        Box::pin(async { found })
    }
}

pub(crate) fn session(n: u64, fleet: &str, backend: &str) -> SessionInfo {
    SessionInfo {
        id: SessionId(n),
        kind: SessionKind::WebSocket,
        fleet: fleet.into(),
        backend: backend.into(),
        client: ([127, 0, 0, 1], 40_000).into(),
        age_ms: 61_000,
        idle_ms: 1_500,
        bytes_in: 2_048,
        bytes_out: 3_000_000,
    }
}

pub(crate) fn snapshot(fleets: Vec<FleetView>) -> Snapshot {
    Snapshot { version: 1, at: Moment::from_millis(100_000), fleets, shutting_down: false }
}

/// A fleet with a full backend, a draining one and one that was never heard.
pub(crate) fn chat() -> FleetView {
    let mut draining = backend("b-2", Phase::Draining, 12, Some(50));
    draining.drain = Some(moving(12, 40));
    let mut starting = backend("b-3", Phase::Starting, 0, Some(50));
    starting.heartbeat_at = None;
    starting.address = None;
    fleet("chat", vec![backend("b-1", Phase::Ready, 50, Some(50)), draining, starting])
}

pub(crate) fn moving(remaining: u32, total: u32) -> MoveView {
    MoveView {
        started: Moment::from_millis(95_000),
        total,
        remaining,
        planned: 20,
        due: Moment::from_millis(105_000),
        deadline: Moment::from_millis(130_000),
        mode: DrainMode::Close,
        cause: EndCause::Drained,
        cut: 0,
    }
}

pub(crate) fn backend(id: &str, phase: Phase, sessions: u32, capacity: Option<u32>) -> BackendView {
    BackendView {
        id: id.into(),
        address: Some(([127, 0, 0, 1], 9001).into()),
        phase,
        sessions,
        foreign: 0,
        capacity,
        limit: if phase == Phase::Ready { capacity.unwrap_or(u32::MAX) } else { 0 },
        reported: Some(sessions),
        requests: 0,
        heartbeat_at: Some(Moment::from_millis(99_750)),
        since: Moment::from_millis(40_000),
        drain: None,
        moved_total: 0,
    }
}

pub(crate) fn fleet(name: &str, backends: Vec<BackendView>) -> FleetView {
    let decision = Decision {
        desired: 3,
        current: 2,
        reason: "62 sessions and 4 waiting need 3 backends of 50 at 80 %".into(),
        limited_by: Some("queue"),
        undrain: vec![],
        start: 1,
        victims: vec!["b-2".into()],
        inputs: BTreeMap::from([("sessions", 62.0), ("need", 66.5), ("z", f64::NAN)]),
    };
    FleetView {
        policy: Arc::new(pushed(name)),
        backends,
        queued: 4,
        oldest_wait: Duration::from_millis(1_250),
        decision: Arc::new(decision),
        scale_to: None,
        rebalance: None,
        traffic: traffic(),
        leaving: false,
    }
}

/// Clients come and go, and some are refused.
fn traffic() -> Traffic {
    let mut totals = Totals { handshakes: 99, opened: 90, ..Totals::default() };
    totals.ended[EndCause::Drained as usize] = 28;
    totals.refused[RefuseCause::QueueFull as usize] = 9;
    Traffic { totals, rates: Rates { arrivals: 3.25, ended: 1.5, refused: 0.5 } }
}

/// Fifty sessions a backend, heartbeats are pushed.
pub(crate) fn pushed(name: &str) -> FleetPolicy {
    let mut policy = policy::fleet(name, ProviderPolicy::Static(Vec::new()));
    policy.capacity = Some(50);
    policy.heartbeat.probe = Probe::Push;
    policy
}

pub(crate) fn plan() -> MovePlan {
    MovePlan {
        fleet: "chat".into(),
        sessions: 40,
        from: vec![Share { backend: "b-2".into(), sessions: 40 }],
        to: vec![Share { backend: "b-1".into(), sessions: 25 }, Share { backend: "b-3".into(), sessions: 15 }],
        mode: DrainMode::Close,
        over_ms: 10_000,
        deadline_ms: 300_000,
        rate: 4.7,
        warnings: vec![],
        dry_run: false,
    }
}
