//! A fleet, as the configuration file writes it.

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
    /// Sessions a backend takes, or `none`; a heartbeat may report a lower one. There is no default.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) capacity: Option<At<OrNone<Count>>>,
    /// How full a backend should get: `packed` fills to it, the autoscaler keeps the fleet below it.
    pub(super) fill: At<Share>,
    /// Which backend takes the next session.
    pub(super) balance: Balance,
    /// What sends a client's next connection to the backend it had.
    pub(super) affinity: Affinity,
    /// Handshakes that wait for a seat.
    pub(super) queue: Queue,
    /// New sessions that one backend takes, or `none`; a storm waits in the queue.
    pub(super) admit_rate: OrNone<Rate>,
    /// What a client is told that gets no seat.
    pub(super) refuse: Refuse,
    /// How a backend's health and counts are learned.
    pub(super) heartbeat: Heartbeat,
    /// How sessions leave a backend.
    pub(super) drain: Drain,
    /// Deadlines on the data path.
    pub(super) timeouts: Timeouts,
    /// How silent peers are found.
    pub(super) keepalive: Keepalive,
    /// How many backends to run; a static fleet is only advised.
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
    /// Backends that somebody else runs, at fixed addresses.
    #[serde(rename = "static", deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) static_: Option<At<Vec<StaticBackend>>>,
    /// Children of Holdline.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) process: Option<At<Process>>,
    /// Backends are spoken to over TLS; left out: in plain text.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<At<BackendTls>>,
    /// What backends are told of each connection before its first byte.
    pub(super) proxy_protocol: ProxyProtocol,
}

/// What backends are told of each connection before its first byte, and before TLS.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProxyProtocol {
    /// Nothing.
    #[default]
    None,
    /// Whose it is, by version 2 of the PROXY protocol. Each plain request takes a connection of its own.
    V2,
}

/// How backends are spoken to over TLS. Their certificates are always checked.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BackendTls {
    /// A file in PEM with the certificates that theirs must lead to; a relative path starts at this file's directory. Left out: the system's.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<At<String>>,
    /// The DNS name that their certificates must be for; left out: the IP address of each.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<At<String>>,
}

/// A backend that somebody else runs.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StaticBackend {
    /// Its name; left out: its address.
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
    /// Ports that children may be given, at least `scale.max` of them.
    pub(super) ports: At<PortRange>,
    /// Added to the environment; `{port}` and `{id}` are replaced in the values.
    pub(super) env: Entries<At<String>>,
    /// From start to the first good heartbeat, else the child counts as crashed.
    pub(super) ready_timeout: At<Period>,
    /// From SIGTERM to SIGKILL.
    pub(super) stop_timeout: At<Period>,
    /// One log file a child; starts at this file's directory, created when missing.
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
    /// The fullest that is below its fill, so that others empty.
    Packed,
    /// The emptier of two chosen at random.
    RandomOfTwo,
}

/// What sends a client's next connection to the backend it had.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Affinity {
    /// The means.
    pub(super) by: At<AffinityBy>,
    /// The name of the cookie (left out: `holdline`), header or query parameter.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<At<String>>,
    /// File with the key that signs the cookies, and below it the one before; left out: a random key, until the next start.
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

/// Handshakes that wait for a seat.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Queue {
    /// The most that wait; 0: nobody waits.
    pub(super) length: Count,
    /// The longest that one waits.
    pub(super) timeout: At<Period>,
}

impl Default for Queue {
    fn default() -> Self {
        Queue { length: Count(holdline_core::policy::QUEUE_LENGTH_DEFAULT), timeout: At::from(Period::secs(10)) }
    }
}

/// What a client is told that gets no seat.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Refuse {
    /// The form.
    pub(super) with: RefuseWith,
    /// When it should come back, spread by ±50 %.
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

/// How a backend's health and counts are learned.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Heartbeat {
    /// The means.
    pub(super) probe: Probe,
    /// Path of the HTTP probe.
    pub(super) path: At<String>,
    /// Between two probes.
    pub(super) interval: At<Period>,
    /// For one answer.
    pub(super) timeout: At<Period>,
    /// Without a heartbeat for so long: no new sessions.
    pub(super) suspect_after: At<Period>,
    /// Without a heartbeat for so long: dead, unless dials succeed.
    pub(super) dead_after: At<Period>,
    /// File with the token that a pushed heartbeat must carry; left out: who reaches the admin address may push.
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
    /// The gentlest thing done to a session.
    pub(super) mode: DrainMode,
    /// What is left then is cut.
    pub(super) deadline: At<Period>,
    /// The most sessions moved, or `none`.
    pub(super) rate_max: OrNone<Rate>,
}

impl Default for Drain {
    fn default() -> Self {
        Drain { mode: DrainMode::Close, deadline: At::from(Period::secs(300)), rate_max: OrNone(None) }
    }
}

/// What a session sees of a drain.
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
    /// From the seat to the head of the backend's answer, all dials together.
    pub(super) handshake: At<Period>,
    /// A plain request: to the head of the answer.
    pub(super) response: At<Period>,
    /// A write that makes no progress.
    pub(super) write: At<Period>,
    /// Nothing in either direction.
    pub(super) idle: At<OrNone<Period>>,
    /// A session's whole life.
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

/// How silent peers are found.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Keepalive {
    /// Idle time before the kernel's probes.
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
