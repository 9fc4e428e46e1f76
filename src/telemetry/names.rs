//! All metrics: name, meaning, labels. `docs/metrics.md` is generated from this file.

/// Bucket bounds in seconds for latencies: responses of backends, time in the queue.
const SECONDS_SHORT: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Bucket bounds in seconds for durations of sessions.
const SECONDS_LONG: &[f64] = &[0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 4.0 * 3600.0, 12.0 * 3600.0, 86_400.0, 7.0 * 86_400.0];

/// One metric family.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its full name, with prefix and unit.
    pub name: &'static str,
    /// Help text, for scrapers and the documentation.
    pub help: &'static str,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// What kind of figure it is.
    pub kind: Kind,
}

/// What kind of figure a [`Metric`] is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Read from the snapshot at the scrape, or set once per second.
    Gauge,
    /// Observations counted by these upper bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// The word that the exposition format has for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        }
    }
}

/// Values of the label `result` of [`HANDSHAKES`].
pub mod handshake {
    /// The client has its session.
    pub const OPENED: &str = "opened";
    /// The backend answered, but not with a session; its answer was relayed.
    pub const ANSWERED: &str = "answered";
    /// Holdline refused; [`REFUSED`](super::REFUSED) says why.
    pub const REFUSED: &str = "refused";
    /// The client disconnected before it had an answer.
    pub const GONE: &str = "gone";

    /// All of them.
    pub const ALL: [&str; 4] = [OPENED, ANSWERED, REFUSED, GONE];
}

/// Values of the label `seat` of [`UNASKED_STREAMS`].
pub mod unasked {
    /// There was a free one.
    pub const FREE: &str = "free";
    /// There was none, and the backend has more sessions than its limit until one ends.
    pub const BEYOND_LIMIT: &str = "beyond_limit";

    /// All of them.
    pub const ALL: [&str; 2] = [FREE, BEYOND_LIMIT];
}

/// Values of the label `result` of [`CONFIG_RELOADS`].
pub mod reload {
    /// Applied.
    pub const OK: &str = "ok";
    /// Rejected; nothing changed.
    pub const FAILED: &str = "failed";
    /// No changes.
    pub const UNCHANGED: &str = "unchanged";
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $ident:ident = $kind:expr, $name:literal, [$($label:literal),*], $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $ident: Metric = Metric { name: $name, help: $help, labels: &[$($label),*], kind: $kind };
        )+

        /// All of them, in the order of the documentation.
        pub const ALL: &[Metric] = &[$($ident),+];
    };
}

metrics! {
    SESSIONS = Kind::Gauge, "holdline_sessions", ["fleet", "backend"],
        "Sessions that a backend holds through Holdline: seats taken, dials in flight and ends not yet seen included.";
    SEATS = Kind::Gauge, "holdline_seats", ["fleet", "backend", "state"],
        "Seats of a backend; state `capacity`: the lower of configured and reported; `leased`: what the gateway may fill now, zero unless \
         ready; `used`: taken through Holdline or otherwise. +Inf: no limit.";
    SESSIONS_REPORTED = Kind::Gauge, "holdline_sessions_reported", ["fleet", "backend"],
        "Sessions that a backend last reported by its heartbeat; absent while it reports none.";
    QUEUE_LENGTH = Kind::Gauge, "holdline_queue_length", ["fleet"],
        "Handshakes waiting for a seat.";
    QUEUE_WAIT = Kind::Histogram(SECONDS_SHORT), "holdline_queue_wait_seconds", ["fleet"],
        "Time that handshakes waited for a seat, whether or not they got one.";
    HANDSHAKES = Kind::Counter, "holdline_handshakes_total", ["fleet", "result"],
        "Requests for a session by result: `opened`, `answered` (the backend's own answer was relayed), `refused` (see \
         holdline_refused_total), `gone` (the client disconnected).";
    UNASKED_STREAMS = Kind::Counter, "holdline_unasked_streams_total", ["fleet", "seat"],
        "Event streams in answer to plain requests that did not ask for one, by their seat, which they take when the backend has answered; \
         seat `free`: there was one, `beyond_limit`: there was none, and the backend has more sessions than its limit until one ends.";
    REFUSED = Kind::Counter, "holdline_refused_total", ["fleet", "cause"],
        "Requests and sessions that Holdline refused, by cause (header `Holdline-Cause`).";
    SESSIONS_ENDED = Kind::Counter, "holdline_sessions_ended_total", ["fleet", "cause"],
        "Ended sessions by cause.";
    SESSION_DURATION = Kind::Histogram(SECONDS_LONG), "holdline_session_duration_seconds", ["fleet"],
        "Duration of ended sessions.";
    REQUESTS = Kind::Counter, "holdline_requests_total", ["fleet", "code"],
        "Plain HTTP requests by status code.";
    REQUEST_DURATION = Kind::Histogram(SECONDS_SHORT), "holdline_request_duration_seconds", ["fleet"],
        "Time from a plain request's head to the head of its answer.";
    BYTES = Kind::Counter, "holdline_bytes_total", ["fleet", "direction"],
        "Payload bytes of sessions; direction `in`: from clients, `out`: to clients.";
    BACKENDS = Kind::Gauge, "holdline_backends", ["fleet", "phase"],
        "Backends by phase: starting, ready, suspect, draining, drained, dead.";
    BACKENDS_DESIRED = Kind::Gauge, "holdline_backends_desired", ["fleet"],
        "Desired number of backends, by the autoscaler or an operator; advice only for a static fleet.";
    SCALE_DECISIONS = Kind::Counter, "holdline_scale_decisions_total", ["fleet", "direction", "limited_by"],
        "Changes of the number of backends that the autoscaler decided; direction `up` or `down`; limited_by: what kept it from what the \
         need asked for, or `none`.";
    DRAIN_REMAINING = Kind::Gauge, "holdline_drain_remaining", ["fleet", "backend"],
        "Remaining sessions of a drain in progress.";
    HEARTBEAT_AGE = Kind::Gauge, "holdline_heartbeat_age_seconds", ["fleet", "backend"],
        "Time since the last heartbeat of a backend; since it joined if there was none.";
    MOVES = Kind::Counter, "holdline_moves_total", ["fleet", "mode", "result"],
        "Sessions that Holdline ended so that their clients come back elsewhere; mode `close`, result `moved`: a drain \
         or rebalance asked them to close; mode `cut`, result `cut`: broken off, by a drain of that mode or at a deadline.";
    BAD_INPUT = Kind::Counter, "holdline_bad_input_total", ["reason"],
        "Rejected input of clients, backends and users of the admin API, malformed or not allowed, by reason.";
    TLS_RELOADS = Kind::Counter, "holdline_tls_reloads_total", ["result"],
        "Changed files of certificates, keys and trusted certificates; result `ok`: in use for new connections, `failed`: not usable, the \
         previous ones stay in use.";
    CONFIG_RELOADS = Kind::Counter, "holdline_config_reloads_total", ["result"],
        "Reloads of the configuration; result `ok`: applied, `failed`: rejected, nothing changed, `unchanged`: no \
         changes.";
    LOG_LINES_DROPPED = Kind::Counter, "holdline_log_lines_dropped_total", [],
        "Log lines dropped because stderr was not read fast enough; Holdline never blocks on its log.";
    MEMORY = Kind::Gauge, "holdline_memory_bytes", [],
        "Memory in use as limits.memory sees it: of the control group if it is Holdline's own, else of the process and its sockets.";
    MEMORY_LIMIT = Kind::Gauge, "holdline_memory_limit_bytes", [],
        "limits.memory: above it no session begins. +Inf: no limit.";
    BUILD_INFO = Kind::Gauge, "holdline_build_info", ["version"],
        "Always 1; the label is the version.";
}

/// Metrics of the prometheus crate's process collector, where `/proc` exists.
const PROCESS: &[(&str, &str)] = &[
    ("process_cpu_seconds_total", "User and system CPU time."),
    ("process_open_fds", "Open file descriptors."),
    ("process_max_fds", "The limit of open file descriptors."),
    ("process_virtual_memory_bytes", "Virtual memory."),
    ("process_resident_memory_bytes", "Resident memory; kernel socket buffers are not in it."),
    ("process_start_time_seconds", "Start of the process since the Unix epoch."),
    ("process_threads", "Threads of the process."),
];

/// The text of `docs/metrics.md`.
pub fn document() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         `GET /metrics` on the admin address, Prometheus text format. This page is written from `src/telemetry/names.rs`; after a change\n\
         there, `HOLDLINE_REGENERATE=1 cargo test telemetry::names` writes it again. A backend's series go when the backend goes. A\n\
         series whose labels are not of a closed list appears with its first event.\n\n\
         | name | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for m in ALL {
        let labels = m.labels.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(" ");
        text += &format!("| `{}` | {} | {labels} | {} |\n", m.name, m.kind.as_str(), m.help);
    }
    text += "\nOf the process, where `/proc` exists:\n\n| name | meaning |\n|---|---|\n";
    for (name, meaning) in PROCESS {
        text += &format!("| `{name}` | {meaning} |\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_of_this_file() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("HOLDLINE_REGENERATE").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap();
            std::fs::write(path, document()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == document(), "docs/metrics.md is stale; run: HOLDLINE_REGENERATE=1 cargo test telemetry::names");
    }

    #[test]
    fn names_keep_the_conventions() {
        for m in ALL {
            assert!(m.name.starts_with("holdline_"), "{}", m.name);
            assert_eq!(m.name.ends_with("_total"), m.kind == Kind::Counter, "{}", m.name);
            assert!(!m.help.is_empty() && !m.help.contains(['\n', '|']), "{}", m.name);
            assert_eq!(ALL.iter().filter(|other| other.name == m.name).count(), 1, "{}", m.name);
        }
    }
}
