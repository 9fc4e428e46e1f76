//! What goes into [`State`](crate::state::State) and what comes out of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cause::{Phase, words};
use crate::drain::EndOrder;
use crate::ids::{BackendId, FleetName};
use crate::policy::{DrainMode, FleetPolicy};
use crate::traffic::Totals;

/// Something that happened outside. Shells report; they do not judge.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Time passed; sent at least every 100 ms.
    Tick,
    /// The gateway's counts, taken just now.
    Report(GatewayReport),
    /// What a provider saw of a backend.
    Observed { fleet: FleetName, backend: BackendId, observation: Observation },
    /// A probe was answered, or a heartbeat was pushed.
    Heartbeat {
        fleet: FleetName,
        /// The backend; a pushed heartbeat of an unknown one is counted and ignored.
        backend: BackendId,
        heartbeat: Heartbeat,
    },
    /// A probe failed.
    HeartbeatMissed { fleet: FleetName, backend: BackendId },
    /// A backend could not be asked for want of something of ours (a descriptor, a port): its silence says nothing.
    HeartbeatNotAsked { fleet: FleetName, backend: BackendId },
    /// A dial's outcome; only connect failures that are the backend's own count (never EMFILE or EADDRNOTAVAIL).
    Dial {
        fleet: FleetName,
        backend: BackendId,
        /// Whether it connected.
        connected: bool,
    },
    /// The configuration is another one. Fleets are matched by name and backends by id: what stays keeps its sessions, what went is
    /// drained as its old policy says and is then gone. Ignored after [`Event::Shutdown`].
    Configure(Vec<Arc<FleetPolicy>>),
    /// The configuration's shutdown began: no more scaling, no more starts.
    Shutdown,
}

/// What a provider saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The child runs and will listen here.
    Started {
        /// Where it will listen.
        address: SocketAddr,
    },
    /// It could not be started (command not found, no port free); `reason` says what to do.
    StartFailed {
        /// For people.
        reason: String,
    },
    /// The process is gone.
    Exited {
        /// For people: the exit status or the signal.
        reason: String,
    },
}

/// What a backend says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// It takes sessions (200), or does not yet or no more (503).
    pub ready: bool,
    /// It asks to be drained.
    pub draining: bool,
    /// Sessions it holds.
    pub sessions: Option<u32>,
    /// Sessions it takes.
    pub capacity: Option<u32>,
    /// Sessions this Holdline counted on it when the heartbeat was asked for, so that the two are of one time; `None` for a pushed one.
    pub counted: Option<u32>,
    /// It answered, with a report that cannot be read: what it said last still counts.
    pub unreadable: bool,
    /// Of a pushed heartbeat: one that is not higher than the last, or out of all proportion, is ignored.
    pub seq: Option<u64>,
}

/// One gateway's counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayReport {
    /// A line a fleet.
    pub fleets: Vec<FleetCounts>,
}

/// One fleet's part of a [`GatewayReport`]. Counters only grow; State takes the differences.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetCounts {
    pub fleet: FleetName,
    /// A line a backend.
    pub backends: Vec<BackendCounts>,
    /// Handshakes that wait.
    pub queued: u32,
    /// How long the first of them has waited.
    pub oldest_wait: Duration,
    /// Counter: sessions that got a seat.
    pub admitted_total: u64,
    /// Counter: sessions that ended.
    pub ended_total: u64,
    /// Counter: refusals for want of a seat (capacity, queue_full, queue_timeout, no_backend).
    pub refused_total: u64,
    /// Counter: plain requests and handshakes that found no backend to go to; wakes a fleet of zero.
    pub no_backend_total: u64,
    /// Plain requests in flight or waiting.
    pub requests: u32,
    /// Counters: what became of clients, as the metrics have it.
    pub totals: Totals,
}

/// One backend's part of a [`GatewayReport`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendCounts {
    pub backend: BackendId,
    /// Seats taken: sessions, dials in flight, ends not yet seen; those at former addresses included.
    pub used: u32,
    /// Those of them that are at addresses it had before, which take no more sessions for it.
    pub former: Vec<AddressCount>,
    /// Plain requests in flight.
    pub requests: u32,
    /// Counter: sessions that ended because they were told to go elsewhere (drained, rebalanced).
    pub moved_total: u64,
    /// Counter: sessions that ended since the backend was lost.
    pub lost_total: u64,
    /// Counter: sessions that ended as cut. A session whose seat is not in `used` any more is in its counter already.
    pub cut_total: u64,
}

/// Seats taken at one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressCount {
    /// The address.
    pub address: SocketAddr,
    /// Seats taken there.
    pub used: u32,
}

/// Something for a shell to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Provider: start this backend.
    Start {
        fleet: FleetName,
        /// The id it shall have.
        backend: BackendId,
        /// How to start it.
        policy: Arc<FleetPolicy>,
    },
    /// Provider: stop exactly this one (SIGTERM, then SIGKILL).
    Retire { fleet: FleetName, backend: BackendId },
    /// Gateway: end so many sessions of the backend, idle ones first, then the oldest.
    EndSessions { fleet: FleetName, backend: BackendId, order: EndOrder },
    /// Event log.
    Notice(Notice),
}

/// A line of the event log (`holdline events`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// The fleet it is about, if any.
    pub fleet: Option<FleetName>,
    /// The backend it is about, if any.
    pub backend: Option<BackendId>,
    pub kind: NoticeKind,
    /// For people: what, why, and what to do if something is to be done.
    pub message: String,
}

words! {
    /// What a [`Notice`] is about.
    NoticeKind {
        /// A backend changed its phase.
        Phase = "phase",
        /// A backend joined.
        BackendAdded = "backend_added",
        /// A backend left.
        BackendRemoved = "backend_removed",
        /// A backend could not be started, or crashed.
        BackendFailed = "backend_failed",
        /// The number of backends was changed.
        Scale = "scale",
        /// A drain began.
        DrainStarted = "drain_started",
        /// A drain ended.
        DrainEnded = "drain_ended",
        /// A drain was taken back.
        Undrained = "undrained",
        /// A rebalance began.
        RebalanceStarted = "rebalance_started",
        /// A rebalance ended.
        RebalanceEnded = "rebalance_ended",
        /// Reported and counted sessions differ, and go on differing.
        CountMismatch = "count_mismatch",
        /// The configuration was reloaded; what came and went with it.
        ConfigReloaded = "config_reloaded",
        /// A reload was refused, and nothing was changed.
        ConfigRejected = "config_rejected",
    }
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Move all sessions off a backend and place none there.
    Drain { fleet: FleetName, backend: BackendId, request: MoveRequest },
    /// Take a drain back.
    Undrain { fleet: FleetName, backend: BackendId },
    /// Move sessions from fuller to emptier backends.
    Rebalance { fleet: FleetName, request: MoveRequest },
    /// Fix the number of backends, or give it back to the autoscaler.
    Scale {
        fleet: FleetName,
        /// So many; `None`: the autoscaler decides.
        to: Option<u32>,
    },
}

/// How sessions shall be moved; what is `None` is the fleet's default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MoveRequest {
    /// Spread over this time.
    pub over: Option<Duration>,
    /// At most so many a second.
    pub rate_max: Option<f64>,
    pub mode: Option<DrainMode>,
    /// Answer with the plan and do nothing.
    pub dry_run: bool,
}

/// The answer to a [`Command`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// Of a drain or rebalance.
    Plan(MovePlan),
    /// Of an undrain or scale.
    Done {
        /// For people.
        message: String,
    },
}

/// What a drain or rebalance will do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MovePlan {
    pub fleet: FleetName,
    /// Sessions that will be moved.
    pub sessions: u32,
    /// From where, and how many.
    pub from: Vec<Share>,
    /// Where they may land, by free seats and balance.
    pub to: Vec<Share>,
    pub mode: DrainMode,
    /// Spread over this time.
    pub over_ms: u64,
    /// What is left after this time is cut.
    pub deadline_ms: u64,
    /// Sessions a second at the pace's start.
    pub rate: f64,
    /// What an operator should know before it starts: no room for all, the rate cannot make the deadline.
    pub warnings: Vec<String>,
    /// Nothing was started.
    pub dry_run: bool,
}

/// One backend's part of a [`MovePlan`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub backend: BackendId,
    /// Sessions.
    pub sessions: u32,
}

/// Why a [`Command`] was refused. The text says what, where and what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// No fleet of that name.
    #[error("no fleet is called `{name}`; there are: {known}")]
    UnknownFleet {
        /// The name given.
        name: FleetName,
        /// The names there are.
        known: String,
    },
    /// No backend of that id.
    #[error("fleet `{fleet}` has no backend `{backend}`; it has: {known}")]
    UnknownBackend {
        fleet: FleetName,
        /// The id given.
        backend: BackendId,
        /// The ids there are.
        known: String,
    },
    /// The backend is not in a phase in which this can be done.
    #[error("backend `{backend}` is {phase}; {remedy}")]
    WrongPhase {
        backend: BackendId,
        /// Its phase.
        phase: Phase,
        /// What to do.
        remedy: String,
    },
    /// A value out of range, or values that contradict each other.
    #[error("{0}")]
    Invalid(String),
}
