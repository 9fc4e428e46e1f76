//! The JSON of the admin API, written by the server and read by the command line.
//!
//! Times end in `_ms`; a limit that is not set is `null`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use holdline_core::cause::{EndCause, Phase, RefuseCause};
use holdline_core::event::Notice;
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::policy::DrainMode;
use serde::{Deserialize, Serialize};

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusBody {
    /// In the configuration's order.
    pub fleets: Vec<FleetBody>,
    /// Gateways that carry the sessions.
    pub gateways: Vec<GatewayBody>,
    /// Holdline itself is stopping.
    pub shutting_down: bool,
    /// Version of Holdline.
    pub version: String,
    /// Time since startup.
    pub uptime_ms: u64,
}

/// A fleet in [`StatusBody`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetBody {
    pub name: FleetName,
    /// Seats taken on all its backends.
    pub sessions: u64,
    /// Of the backends that take sessions; `null`: one of them has no limit.
    pub capacity: Option<u64>,
    /// Seats free on the backends that take sessions; `null`: one of them has no limit.
    pub free: Option<u64>,
    /// Requests for a session per second, mean of the last ten seconds; those that joined the queue included.
    pub arrivals_per_s: f64,
    /// Ended sessions per second, mean of the last ten seconds.
    pub ended_per_s: f64,
    /// Refusals per second, mean of the last ten seconds.
    pub refused_per_s: f64,
    /// Sessions opened since startup.
    pub opened_total: u64,
    /// Sessions ended since startup, by cause.
    pub ended_total: BTreeMap<EndCause, u64>,
    /// Requests and sessions refused since startup, by cause.
    pub refused_total: BTreeMap<RefuseCause, u64>,
    /// Waiting handshakes.
    pub queued: u32,
    /// Maximum of waiting handshakes.
    pub queue_max: u32,
    /// Maximum wait of each.
    pub queue_timeout_ms: u64,
    /// Wait of the oldest.
    pub oldest_wait_ms: u64,
    /// Desired number of backends.
    pub desired: u32,
    /// Reason of `desired`, with figures.
    pub reason: String,
    /// What kept `desired` from being what the need asked for.
    pub limited_by: Option<String>,
    /// What an operator fixed; `null`: the autoscaler decides.
    pub scale_to: Option<u32>,
    /// The fewest backends there may be.
    pub min: u32,
    /// The most backends there may be.
    pub max: u32,
    /// Holdline starts and stops its backends; otherwise `desired` only advises.
    pub elastic: bool,
    /// Target utilisation of a backend, as a share.
    pub fill: f64,
    /// It was removed from the configuration: it takes no new sessions, and is removed with its last backend.
    #[serde(default)]
    pub leaving: bool,
    /// A rebalance under way; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<MoveBody>,
    /// In the order in which they joined.
    pub backends: Vec<BackendBody>,
}

/// A backend in [`FleetBody`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendBody {
    /// Its stable id.
    pub id: BackendId,
    /// Where it listens; `null` before its provider started it.
    pub address: Option<SocketAddr>,
    /// Its phase.
    pub phase: Phase,
    /// Seats taken through Holdline, by its own exact count.
    pub sessions: u32,
    /// Further sessions, by the backend's own report; they take seats too.
    pub foreign: u32,
    /// What the backend last reported; `null`: nothing.
    pub reported: Option<u32>,
    /// The lower of configured and reported; `null`: no limit.
    pub capacity: Option<u32>,
    /// Plain requests in flight.
    pub requests: u32,
    /// Age of the last heartbeat; `null`: none yet.
    pub heartbeat_age_ms: Option<u64>,
    /// Since it joined.
    pub age_ms: u64,
    /// Sessions that drains and rebalances moved off it.
    pub moved: u64,
    /// A drain under way; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<MoveBody>,
    /// Result of a finished drain; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<MoveBody>,
}

/// The progress of a drain or rebalance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MoveBody {
    /// Sessions left to move.
    pub remaining: u32,
    /// Since its start.
    pub elapsed_ms: u64,
    /// Time to the deadline, at which remaining sessions are cut; zero when it has passed.
    pub deadline_in_ms: u64,
    /// Time to the planned end; zero when it has passed.
    pub due_in_ms: u64,
    /// Sessions at its start.
    pub total: u32,
    /// Sessions that should remain by now according to its plan.
    pub planned: u32,
    /// How sessions are ended.
    pub mode: DrainMode,
    /// The cause its sessions record.
    pub cause: EndCause,
    /// Sessions cut at the deadline.
    pub cut: u32,
}

/// A gateway in [`StatusBody`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayBody {
    pub id: String,
    /// Seats it has taken.
    pub sessions: u64,
    /// How old its counts are.
    pub sync_age_ms: u64,
}

/// `GET /v1/sessions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionsBody {
    /// At most `limit` of them.
    pub sessions: Vec<SessionBody>,
    /// There are more than `limit`.
    pub truncated: bool,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionBody {
    /// As in `Holdline-Session`.
    pub id: String,
    /// `websocket`, `sse` or `long_poll`.
    pub kind: String,
    pub fleet: FleetName,
    pub backend: BackendId,
    /// Where its client connects from.
    pub client: SocketAddr,
    /// Since it began.
    pub age_ms: u64,
    /// Since the last byte in either direction.
    pub idle_ms: u64,
    /// From the client.
    pub bytes_in: u64,
    /// To the client.
    pub bytes_out: u64,
}

/// The body of `POST …/drain` and `POST …/rebalance`; what is absent is the fleet's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveOrder {
    /// Spread over this time, for instance `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
    /// Maximum rate, for instance `100/s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// `close` or `cut`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<DrainMode>,
    /// Return the plan without executing it.
    #[serde(default)]
    pub dry_run: bool,
}

/// The answer to an undrain or to a change of scale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneBody {
    /// Text for a terminal.
    pub message: String,
}

/// `GET /v1/fleets/F/scale`: the last decision with its inputs and reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaleBody {
    pub fleet: FleetName,
    /// Desired number of backends.
    pub desired: u32,
    /// Current number of backends: starting, ready, suspect.
    pub current: u32,
    /// One sentence with the figures.
    pub reason: String,
    /// What kept `desired` from being what the need asked for.
    pub limited_by: Option<String>,
    /// What an operator fixed; `null`: the autoscaler decides.
    pub to: Option<u32>,
    /// The fewest there may be.
    pub min: u32,
    /// The most there may be.
    pub max: u32,
    /// Holdline starts and stops its backends; otherwise `desired` only advises.
    pub elastic: bool,
    /// Backends whose drains were cancelled.
    pub undrain: Vec<BackendId>,
    /// How many were started.
    pub start: u32,
    /// Backends chosen to be removed.
    pub victims: Vec<BackendId>,
    /// The inputs of the decision, by name.
    pub inputs: BTreeMap<String, f64>,
}

/// The body of `PUT /v1/fleets/F/scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleOrder {
    /// Fixed number of backends; `null`: the autoscaler decides. Required, so that an empty object is an error.
    #[serde(deserialize_with = "Option::deserialize")]
    pub to: Option<u32>,
}

/// One event of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventBody {
    /// Consecutive; starts again from 1 at startup.
    pub id: u64,
    /// When it happened, in Unix time.
    pub at_unix_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub notice: Notice,
}

/// The body of `POST /v1/fleets/F/heartbeats`. Unknown keys are ignored: a backend may be newer than Holdline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatBody {
    pub id: BackendId,
    /// Higher than in the last one; a replay is ignored.
    pub seq: u64,
    /// Sessions it holds.
    #[serde(default)]
    pub sessions: Option<u32>,
    /// Sessions it takes.
    #[serde(default)]
    pub capacity: Option<u32>,
    /// What it is doing.
    #[serde(default)]
    pub state: HeartbeatState,
}

/// State that a backend reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeartbeatState {
    /// Takes sessions.
    #[default]
    Ready,
    /// Asks to be drained.
    Draining,
}

/// An error, after RFC 9457.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemBody {
    /// Type URI; `about:blank` when the status describes the problem sufficiently.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// Short text for the type.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Text for this occurrence: what, where, what to do.
    #[serde(default)]
    pub detail: String,
}

fn about_blank() -> String {
    "about:blank".into()
}
