//! The validated model: what a fleet's owner decided. Every value is present and in range; defaults were filled in before.

use std::net::SocketAddr;
use std::time::Duration;

use crate::ids::{BackendId, FleetName};
use crate::wire::token::Keys;

/// The default admission queue of a fleet; see [`QueuePolicy`].
pub const QUEUE_LENGTH_DEFAULT: u32 = 1000;

/// One fleet: interchangeable backends that are scaled together.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetPolicy {
    /// The fleet's name.
    pub name: FleetName,
    /// What starts, lists and stops its backends.
    pub provider: ProviderPolicy,
    /// Sessions a backend takes; `None`: no limit. A heartbeat may report a lower one.
    pub capacity: Option<u32>,
    /// How full a backend should get, 0 < fill ≤ 1.
    pub fill: f64,
    /// Which backend takes the next session.
    pub balance: Balance,
    /// What sends a client back to the backend it had.
    pub affinity: Affinity,
    /// Handshakes that wait for a seat.
    pub queue: QueuePolicy,
    /// New sessions a second that one backend takes; `None`: no limit.
    pub admit_rate: Option<f64>,
    /// What a client is told that gets no seat.
    pub refuse: RefusePolicy,
    /// How a backend's health and counts are learned.
    pub heartbeat: HeartbeatPolicy,
    /// How sessions leave a backend.
    pub drain: DrainPolicy,
    /// Deadlines on the data path.
    pub timeouts: Timeouts,
    /// How silent peers are found.
    pub keepalive: KeepalivePolicy,
    /// What backends are told of a connection before its first byte.
    pub proxy_protocol: ProxyProtocol,
    /// How many backends to run.
    pub scale: ScalePolicy,
}

/// What backends are told of a connection before its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Nothing.
    None,
    /// Whose it is, by version 2 of the PROXY protocol.
    V2,
}

/// Where a fleet's backends come from.
#[derive(Clone, Debug, PartialEq)]
pub enum ProviderPolicy {
    /// Backends that somebody else runs, at fixed addresses.
    Static(Vec<StaticBackend>),
    /// Children of this process.
    Process(ProcessPolicy),
}

impl ProviderPolicy {
    /// Whether Holdline can start and stop backends here; where it cannot, scaling only advises.
    pub fn is_elastic(&self) -> bool {
        matches!(self, ProviderPolicy::Process(_))
    }
}

/// A backend of a `static` fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct StaticBackend {
    /// Its id; the address in text unless the configuration names one.
    pub id: BackendId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its own capacity, instead of the fleet's.
    pub capacity: Option<u32>,
}

/// How to run a backend as a child process.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessPolicy {
    /// Program and arguments, not empty; `{port}` and `{id}` are replaced in each.
    pub command: Vec<String>,
    /// First and last port that children may be given, inclusive.
    pub ports: (u16, u16),
    /// Added to the environment; `{port}` and `{id}` are replaced in the values.
    pub env: Vec<(String, String)>,
    /// From start to the first good heartbeat, else the child is stopped and counted as crashed.
    pub ready_timeout: Duration,
    /// From SIGTERM to SIGKILL.
    pub stop_timeout: Duration,
    /// One log file a child; created when missing.
    pub log_dir: std::path::PathBuf,
}

impl ProcessPolicy {
    /// Whether children of `self` and of `other` are the same programs; the rest is about how they are started and stopped.
    pub fn runs_the_same(&self, other: &ProcessPolicy) -> bool {
        self.command == other.command && self.env == other.env
    }

    /// Where the child of this id writes its log.
    pub fn log_file(&self, id: &BackendId) -> std::path::PathBuf {
        // An id comes from the fleet's name; a file's name has no slash.
        self.log_dir.join(format!("{}.log", id.as_str().replace('/', "_")))
    }
}

/// Which backend takes the next session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Lowest used/capacity, ties at random.
    LeastSessions,
    /// The fullest that is below its fill, so that others empty; above the fill everywhere, the least full.
    Packed,
    /// The emptier of two chosen at random.
    RandomOfTwo,
}

/// What sends a client's next connection to the backend it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// Nothing does.
    None,
    /// An authenticated cookie of this name.
    Cookie {
        /// The cookie's name.
        name: String,
        /// Sign it; `None`: keys of the process, which do not outlive it.
        keys: Option<Keys>,
    },
    /// A request's field of this name, hashed.
    Header {
        /// The field's name, in lower case.
        name: String,
    },
    /// A parameter of the request's query, hashed.
    Query {
        /// The parameter's name, as it reads when decoded.
        name: String,
    },
    /// The client's address, hashed; IPv6 by its /64.
    Address,
}

/// Bounds of the admission queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePolicy {
    /// The most handshakes that wait; zero: nobody waits.
    pub length: u32,
    /// The longest that one waits.
    pub timeout: Duration,
}

/// What a client is told that gets no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusePolicy {
    /// As an HTTP status or as a proper end of the protocol that was asked for.
    pub with: RefuseWith,
    /// The middle of the time after which a client should come back; spread by ±50 %.
    pub retry_after: Duration,
}

/// The form of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefuseWith {
    /// 503 with Retry-After.
    Status,
    /// 101 then Close 1013; an EventSource gets `retry:` and the end.
    Close,
}

/// How a backend's health and counts are learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatPolicy {
    /// The means.
    pub probe: Probe,
    /// Path of the HTTP probe.
    pub path: String,
    /// Between two probes.
    pub interval: Duration,
    /// For one answer.
    pub timeout: Duration,
    /// Without a heartbeat for so long: suspect, no new sessions.
    pub suspect_after: Duration,
    /// Without a heartbeat for so long: dead, unless dials succeed.
    pub dead_after: Duration,
}

/// The means of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A connect.
    Tcp,
    /// GET, with an optional report in the body.
    Http,
    /// The backend posts to the admin address.
    Push,
}

/// How sessions leave a backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrainPolicy {
    /// The gentlest thing done to a session.
    pub mode: DrainMode,
    /// What is left then is cut.
    pub deadline: Duration,
    /// Sessions a second moved at the most; `None`: no limit.
    pub rate_max: Option<f64>,
}

/// What a session sees of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainMode {
    /// A proper end of its protocol.
    Close,
    /// The end of its TCP connection.
    Cut,
}

/// Deadlines on the data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// One dial.
    pub connect: Duration,
    /// From the seat to the head of the backend's answer, all dials together.
    pub handshake: Duration,
    /// A plain request: to the head of the answer.
    pub response: Duration,
    /// A write that makes no progress.
    pub write: Duration,
    /// Nothing in either direction; `None`: no limit.
    pub idle: Option<Duration>,
    /// A session's whole life; `None`: no limit.
    pub session: Option<Duration>,
}

/// How silent peers are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepalivePolicy {
    /// Idle time before the kernel's probes; `None`: off.
    pub tcp: Option<Duration>,
    /// Silence of a WebSocket client before a Ping is sent; `None`: off.
    pub ping: Option<Duration>,
    /// From a Ping to any byte of the client; else `keepalive_timeout`.
    pub timeout: Duration,
}

/// How many backends to run.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalePolicy {
    /// The fewest; zero: to zero and from zero.
    pub min: u32,
    /// The most; ≥ `min`, ≥ 1.
    pub max: u32,
    /// Kept above the need.
    pub buffer: Buffer,
    /// Upwards.
    pub up: ScaleRules,
    /// Downwards.
    pub down: ScaleRules,
    /// With `min: 0`: no session and no request for so long → zero; `None`: at least one stays.
    pub idle_to_zero_after: Option<Duration>,
}

/// Spare backends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Buffer {
    /// So many.
    Backends(u32),
    /// This share of the need, rounded up.
    Share(f64),
}

/// One direction of `behavior`, with names and meaning of the HorizontalPodAutoscaler (autoscaling/v2).
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleRules {
    /// Down: the highest recommendation of this window counts; up: the lowest.
    pub stabilization: Duration,
    /// Which policy counts when several apply.
    pub select: SelectPolicy,
    /// Bounds on the change within a period; empty: no bound.
    pub policies: Vec<ScaleStep>,
}

/// Which of several `behavior` policies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectPolicy {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest change.
    Min,
    /// No change in this direction at all.
    Disabled,
}

/// One bound of `behavior`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScaleStep {
    /// How much may change within `period`.
    pub amount: StepAmount,
    /// The period.
    pub period: Duration,
}

/// The amount of a [`ScaleStep`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepAmount {
    /// So many backends.
    Backends(u32),
    /// This share of the backends there were at the period's start.
    Share(f64),
}
