//! The validated configuration. The part of a fleet that decisions use is `holdline_core::policy`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::ids::FleetName;
use holdline_core::policy::FleetPolicy;
use holdline_core::wire::forwarded::Trusted;

use super::units::Sessions;

/// A whole configuration, every value present and in range.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect; at least one.
    pub listeners: Vec<Listener>,
    /// Networks of trusted proxies.
    pub trusted: Arc<Trusted>,
    /// The admin API; loopback.
    pub admin: SocketAddr,
    /// Logging.
    pub log: LogConfig,
    /// In order of precedence: the first that matches counts.
    pub routes: Vec<Route>,
    /// At least one, in the file's order.
    pub fleets: Vec<FleetConfig>,
    /// Bounds on what a client may do.
    pub limits: Limits,
    /// Data-plane threads; `None`: one per core.
    pub threads: Option<NonZeroUsize>,
    /// On SIGTERM: the time to close sessions gradually.
    pub shutdown_deadline: Duration,
    /// Valid but suspicious settings, each with file, line and remedy.
    pub warnings: Vec<String>,
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its address; port 0: any free one.
    pub address: SocketAddr,
    /// `None`: plain text.
    pub tls: Option<ListenerTls>,
    /// Each connection begins with a PROXY header.
    pub proxy_protocol: bool,
}

/// TLS settings of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// At least one; the first is used for clients without SNI or with an unknown name.
    pub certificates: Vec<CertificateFiles>,
    /// The oldest version that clients may use.
    pub min_version: TlsVersion,
}

/// Two PEM files, reloaded when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate chain, the server's own first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    V12,
    /// RFC 8446.
    V13,
}

/// TLS settings for a fleet's backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTls {
    /// PEM file of trusted root certificates, reloaded when it changes; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// The name that their certificates must have; `None`: the IP address of each.
    pub name: Option<String>,
}

/// A fleet's policy, and what only shells need of it.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetConfig {
    /// Settings that decisions use.
    pub policy: Arc<FleetPolicy>,
    /// Bearer token that a pushed heartbeat must carry; `None`: loopback is trusted.
    pub heartbeat_token: Option<String>,
    /// `None`: plain text.
    pub tls: Option<BackendTls>,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Text or JSON.
    pub format: LogFormat,
    /// The lowest level that is logged.
    pub level: tracing::Level,
    /// A line for every ended session and request.
    pub access: bool,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for a terminal.
    Text,
    /// One object per line.
    Json,
}

/// Which requests go to which fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The host it is for.
    pub host: HostMatch,
    /// Path prefix on `/` borders; begins with `/` and, save `/` itself, does not end with it.
    pub path: String,
    pub fleet: FleetName,
    /// What opens a session; with [`Sessions::Polls`] the fleet's affinity tells one client from the other.
    pub sessions: Sessions,
}

/// The host of a [`Route`], in lower case without port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMatch {
    Exact(String),
    /// Every name below this suffix (of `*.example.com`: `.example.com`).
    Below(String),
    /// Any.
    Any,
}

/// Bounds on what a client may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Sessions that one address holds at once, above zero; `None`: no limit.
    pub sessions_per_address: Option<u32>,
    /// Sessions that one address begins a second, above zero; `None`: no limit.
    pub handshakes_per_address: Option<f64>,
    /// Bytes of a request head, 8 KiB or more (hyper panics below).
    pub head: usize,
    /// For a whole head to arrive; also the idle time of a kept-alive connection.
    pub head_timeout: Duration,
    /// Memory in bytes above which no session begins; `None`: no limit.
    pub memory: Option<u64>,
}
