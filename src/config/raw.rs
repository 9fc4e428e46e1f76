//! The configuration file as written: one type per mapping, with defaults. Only the types of values are checked here.
//!
//! The doc comments are the descriptions of the JSON Schema (`holdline config schema`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::located::{At, Entries, given};
use super::raw_fleet::RawFleet;
use super::units::{Count, OrNone, Period, Rate, Sessions, Size, Threads};

/// Configuration of Holdline. Durations are written `250ms`, `10s`, `5m` or `1h`, rates `100/s`, sizes `64KiB`, shares `80%`; `none` means
/// no limit, or not used.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Holdline configuration")]
pub(super) struct Config {
    /// Where clients connect; at least one.
    pub(super) listeners: At<Vec<Listener>>,
    /// The admin API.
    pub(super) admin: Admin,
    /// Networks of proxies whose PROXY headers and `X-Forwarded-*` are trusted, such as `10.0.0.0/8`; an address without prefix is a single
    /// host. These headers of other peers are replaced.
    pub(super) trusted: At<Vec<At<String>>>,
    /// What is logged to stderr, and how.
    pub(super) log: Log,
    /// Which requests go to which fleet: exact host, then `*.wildcard`, then any host; then the longest path prefix. Optional with one
    /// fleet.
    pub(super) routes: At<Vec<Route>>,
    /// Fleets by name; at least one.
    pub(super) fleets: Entries<RawFleet>,
    /// Bounds on what a client may do.
    pub(super) limits: Limits,
    /// Data-plane threads; `auto`: one per core.
    pub(super) threads: At<Threads>,
    /// Behaviour on SIGTERM.
    pub(super) shutdown: Shutdown,
}

impl<T> Default for At<Vec<T>> {
    fn default() -> Self {
        At::from(Vec::new())
    }
}

/// Where clients connect.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    /// IP address and port, such as `0.0.0.0:8080`.
    pub(super) address: At<String>,
    /// TLS settings; omitted: plain text.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<At<ListenerTls>>,
    /// Each connection begins with a PROXY header, version 1 or 2, before TLS; only from `trusted` networks.
    #[serde(default)]
    pub(super) proxy_protocol: At<bool>,
}

impl Default for At<bool> {
    fn default() -> Self {
        At::from(false)
    }
}

/// TLS settings of a listener.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenerTls {
    /// At least one. Selected by SNI: an exact name, else a wildcard, else the first.
    pub(super) certificates: At<Vec<CertificateFiles>>,
    /// The oldest version that clients may use.
    #[serde(default)]
    pub(super) min_version: TlsVersion,
}

/// Two PEM files, reloaded when they change; relative paths start at this file's directory.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateFiles {
    /// The certificate chain, the server's own first.
    pub(super) cert: At<String>,
    /// Its private key, unencrypted.
    pub(super) key: At<String>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub(super) enum TlsVersion {
    /// TLS 1.2 and newer.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3 only.
    #[serde(rename = "1.3")]
    V13,
}

/// The admin API.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Admin {
    /// IP address and port; loopback only.
    pub(super) address: At<String>,
}

impl Default for Admin {
    fn default() -> Self {
        Admin { address: At::from("127.0.0.1:9900".to_owned()) }
    }
}

/// What is logged to stderr, and how.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    /// The form of a line.
    pub(super) format: LogFormat,
    /// The lowest level that is logged.
    pub(super) level: LogLevel,
    /// A line for every ended session and every plain request.
    pub(super) access: bool,
}

impl Default for Log {
    fn default() -> Self {
        Log { format: LogFormat::Text, level: LogLevel::Info, access: true }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    /// Text for a terminal.
    Text,
    /// One JSON object per line.
    Json,
}

/// The lowest level that is logged.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogLevel {
    /// Failures.
    Error,
    /// Possible problems.
    Warn,
    /// Normal operation.
    Info,
    /// Details for debugging.
    Debug,
    /// Everything.
    Trace,
}

/// Which requests go to which fleet.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    /// A host name, or `*.example.com` for all its subdomains; omitted: any host.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<At<String>>,
    /// Path prefix, compared on `/` borders.
    #[serde(default = "root")]
    pub(super) path: At<String>,
    /// The fleet's name.
    pub(super) fleet: At<String>,
    /// What opens a session here besides a WebSocket handshake and a request that asks for an event stream: each GET and POST, since its
    /// answer is one (streams) or since a client asks here again and again (polls, which needs the fleet's affinity).
    #[serde(default = "auto")]
    pub(super) sessions: At<Sessions>,
}

fn auto() -> At<Sessions> {
    At::from(Sessions::Auto)
}

fn root() -> At<String> {
    At::from("/".to_owned())
}

/// Bounds on what a client may do.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    /// Concurrent sessions per client address; IPv6 addresses are grouped by /64.
    pub(super) sessions_per_address: At<OrNone<Count>>,
    /// New sessions per second and client address, such as `20/s`; the burst is the same number.
    pub(super) handshakes_per_address: OrNone<Rate>,
    /// The largest request head; 8KiB or more.
    pub(super) head: At<Size>,
    /// Timeout for a whole request head, from its first byte; also the idle timeout of connections.
    pub(super) head_timeout: At<Period>,
    /// Memory above which no new session begins, such as `2GiB`; 32MiB or more.
    pub(super) memory: At<OrNone<Size>>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sessions_per_address: At::from(OrNone(None)),
            handshakes_per_address: OrNone(None),
            head: At::from(Size(16 * 1024)),
            head_timeout: At::from(Period::secs(10)),
            memory: At::from(OrNone(None)),
        }
    }
}

impl Default for At<Threads> {
    fn default() -> Self {
        At::from(Threads(None))
    }
}

/// What SIGTERM does.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Shutdown {
    /// Time over which sessions are closed gradually; sessions left then are cut.
    pub(super) deadline: At<Period>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown { deadline: At::from(Period::secs(60)) }
    }
}

impl Period {
    /// So many seconds.
    pub(super) const fn secs(secs: u64) -> Self {
        Period(std::time::Duration::from_secs(secs))
    }
}

impl At<Count> {
    /// A default.
    pub(super) fn count(count: u32) -> Self {
        At::from(Count(count))
    }
}
