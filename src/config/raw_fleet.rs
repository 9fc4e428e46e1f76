//! A fleet in the configuration file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::located::{At, Entries, given};
use super::raw_scale::Scale;
use super::units::{Count, OrNone, Period, PortRange, Rate, Share};

/// Interchangeable backends that are scaled together.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Fleet")]
pub(super) struct RawFleet {
    /// Where its backends come from: exactly one provider.
    pub(super) backends: Backends,
    /// Maximum sessions of a backend, or `none`; a heartbeat may report a lower one. Required.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) capacity: Option<At<OrNone<Count>>>,
    /// Target utilisation of a backend: `packed` fills up to it, the autoscaler keeps the fleet below it.
    pub(super) fill: At<Share>,
    /// Which backend takes the next session.
    pub(super) balance: Balance,
    /// How returning clients are sent to their previous backend.
    pub(super) affinity: Affinity,
    /// Queue of handshakes that wait for a seat.
    pub(super) queue: Queue,
    /// Maximum rate of new sessions per backend, or `none`; excess handshakes wait in the queue.
    pub(super) admit_rate: OrNone<Rate>,
    /// Response to clients that get no seat.
    pub(super) refuse: Refuse,
    /// Health checks, and reports of a backend's counts.
    pub(super) heartbeat: Heartbeat,
    /// How sessions leave a backend.
    pub(super) drain: Drain,
    /// Deadlines on the data path.
    pub(super) timeouts: Timeouts,
    /// Detection of unresponsive peers.
    pub(super) keepalive: Keepalive,
    /// Number of backends; advice only for a static fleet.
    pub(super) scale: Scale,
}

impl Default for RawFleet {
    fn default() -> Self {
        RawFleet {
            backends: Backends::default(),
            capacity: None,
            fill: At::from(Share::percent(80.0)),
            balance: Balance::LeastSessions,
            affinity: Affinity::default(),
            queue: Queue::default(),
            admit_rate: OrNone(None),
            refuse: Refuse::default(),
            heartbeat: Heartbeat::default(),
            drain: Drain::default(),
            timeouts: Timeouts::default(),
            keepalive: Keepalive::default(),
            scale: Scale::default(),
        }
    }
}

/// Where a fleet's backends come from: exactly one provider.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Backends {
    /// Backends at fixed addresses, not run by Holdline.
    #[serde(rename = "static", deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) static_: Option<At<Vec<StaticBackend>>>,
    /// Backends as child processes.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) process: Option<At<Process>>,
    /// TLS to backends; omitted: plain text.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<At<BackendTls>>,
    /// PROXY header sent to backends on each connection.
    pub(super) proxy_protocol: ProxyProtocol,
}

/// PROXY header sent to backends on each connection, before TLS.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProxyProtocol {
    /// Nothing.
    #[default]
    None,
    /// PROXY protocol version 2 with the client's address. Each plain request then uses its own connection.
    V2,
}

/// TLS to backends. Their certificates are always verified.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BackendTls {
    /// PEM file of trusted root certificates; a relative path starts at this file's directory. Omitted: the system's.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<At<String>>,
    /// The DNS name that their certificates must have; omitted: the IP address of each.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<At<String>>,
}

/// A backend that Holdline does not run.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StaticBackend {
    /// Its name; default: its address.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<At<String>>,
    /// IP address and port.
    pub(super) address: At<String>,
    /// Its own capacity, instead of the fleet's.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) capacity: Option<At<Count>>,
}

/// How to run a backend as a child process.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Process {
    /// Program and arguments; `{port}` and `{id}` are replaced. A program with a `/` starts at this file's directory, others are looked up in PATH.
    pub(super) command: At<Vec<At<String>>>,
    /// Port range for children, at least `scale.max` ports.
    pub(super) ports: At<PortRange>,
    /// Added to the environment; `{port}` and `{id}` are replaced in the values.
    pub(super) env: Entries<At<String>>,
    /// Time from start to the first good heartbeat; after it, the start has failed.
    pub(super) ready_timeout: At<Period>,
    /// From SIGTERM to SIGKILL.
    pub(super) stop_timeout: At<Period>,
    /// Directory of the children's log files; relative to this file's directory, created when missing.
    pub(super) log_dir: At<String>,
}

impl Default for Process {
    fn default() -> Self {
        Process {
            command: At::default(),
            ports: At::from(PortRange { first: 20_000, last: 20_999 }),
            env: Entries::default(),
            ready_timeout: At::from(Period::secs(30)),
            stop_timeout: At::from(Period::secs(30)),
            log_dir: At::from("logs".to_owned()),
        }
    }
}

/// Which backend takes the next session.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Balance {
    /// Lowest used/capacity, ties at random.
    LeastSessions,
    /// The fullest backend below its fill, so that others empty.
    Packed,
    /// The emptier of two chosen at random.
    RandomOfTwo,
}

/// How returning clients are sent to their previous backend.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Affinity {
    /// The means.
    pub(super) by: At<AffinityBy>,
    /// The name of the cookie (default: `holdline`), header or query parameter.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<At<String>>,
    /// File with the key that signs the cookies, and below it the one before; omitted: a random key per start.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) key_file: Option<At<String>>,
}

impl Default for Affinity {
    fn default() -> Self {
        Affinity { by: At::from(AffinityBy::None), name: None, key_file: None }
    }
}

/// The means of affinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum AffinityBy {
    /// None.
    None,
    /// An authenticated cookie.
    Cookie,
    /// A header of the request, hashed.
    Header,
    /// A parameter of the request's query, hashed.
    Query,
    /// The client's address, hashed; IPv6 by its /64.
    Address,
}

/// Queue of handshakes that wait for a seat.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Queue {
    /// Maximum number of waiting handshakes; 0: no queue.
    pub(super) length: Count,
    /// Maximum wait.
    pub(super) timeout: At<Period>,
}

impl Default for Queue {
    fn default() -> Self {
        Queue { length: Count(holdline_core::policy::QUEUE_LENGTH_DEFAULT), timeout: At::from(Period::secs(10)) }
    }
}

/// Response to clients that get no seat.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Refuse {
    /// The form.
    pub(super) with: RefuseWith,
    /// Retry delay for the client, randomised by ±50 %.
    pub(super) retry_after: At<Period>,
}

impl Default for Refuse {
    fn default() -> Self {
        Refuse { with: RefuseWith::Status, retry_after: At::from(Period::secs(5)) }
    }
}

/// The form of a refusal.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RefuseWith {
    /// 503 with Retry-After.
    Status,
    /// A WebSocket gets 101 and Close 1013, an EventSource gets `retry:` and the end.
    Close,
}

/// Health checks, and reports of a backend's counts.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Heartbeat {
    /// The means.
    pub(super) probe: Probe,
    /// Path of the HTTP probe.
    pub(super) path: At<String>,
    /// Interval of probes.
    pub(super) interval: At<Period>,
    /// Timeout of one probe.
    pub(super) timeout: At<Period>,
    /// Without a heartbeat for so long: no new sessions.
    pub(super) suspect_after: At<Period>,
    /// Without a heartbeat for so long: dead, unless dials succeed.
    pub(super) dead_after: At<Period>,
    /// File with the token that a pushed heartbeat must carry; omitted: no authentication.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) token_file: Option<At<String>>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Heartbeat {
            probe: Probe::Tcp,
            path: At::from("/heartbeat".to_owned()),
            interval: At::from(Period::secs(1)),
            timeout: At::from(Period::secs(1)),
            suspect_after: At::from(Period::secs(3)),
            dead_after: At::from(Period::secs(10)),
            token_file: None,
        }
    }
}

/// The means of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Probe {
    /// A connect.
    Tcp,
    /// GET, with an optional report in the body.
    Http,
    /// The backend posts to the admin address.
    Push,
}

/// How sessions leave a backend.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Drain {
    /// How sessions are ended before the deadline.
    pub(super) mode: DrainMode,
    /// Sessions left at the deadline are cut.
    pub(super) deadline: At<Period>,
    /// Maximum rate of moved sessions, or `none`.
    pub(super) rate_max: OrNone<Rate>,
}

impl Default for Drain {
    fn default() -> Self {
        Drain { mode: DrainMode::Close, deadline: At::from(Period::secs(300)), rate_max: OrNone(None) }
    }
}

/// How a drain ends sessions.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum DrainMode {
    /// A proper end of its protocol.
    Close,
    /// The end of its TCP connection.
    Cut,
}

/// Deadlines on the data path.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Timeouts {
    /// One dial.
    pub(super) connect: At<Period>,
    /// From the seat to the head of the backend's response, all connection attempts included.
    pub(super) handshake: At<Period>,
    /// A plain request: to the head of the answer.
    pub(super) response: At<Period>,
    /// A write that makes no progress.
    pub(super) write: At<Period>,
    /// Nothing in either direction.
    pub(super) idle: At<OrNone<Period>>,
    /// Maximum duration of a session.
    pub(super) session: At<OrNone<Period>>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: At::from(Period::secs(2)),
            handshake: At::from(Period::secs(10)),
            response: At::from(Period::secs(60)),
            write: At::from(Period::secs(30)),
            idle: At::from(OrNone(None)),
            session: At::from(OrNone(None)),
        }
    }
}

/// Detection of unresponsive peers.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Keepalive {
    /// Idle time before TCP keepalive probes.
    pub(super) tcp: At<OrNone<Period>>,
    /// Silence of a WebSocket client before it is sent a Ping.
    pub(super) ping: At<OrNone<Period>>,
    /// From a Ping to any byte of the client.
    pub(super) timeout: At<Period>,
}

impl Default for Keepalive {
    fn default() -> Self {
        Keepalive {
            tcp: At::from(OrNone(Some(Period::secs(60)))),
            ping: At::from(OrNone(None)),
            timeout: At::from(Period::secs(20)),
        }
    }
}
