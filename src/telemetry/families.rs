//! The metric families of [`names`] in a registry per instance, and the handles that a fleet resolves once.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use holdline_core::cause::{EndCause, RefuseCause};
use holdline_core::ids::FleetName;
use holdline_core::snapshot::Snapshot;
use holdline_core::time::Moment;
use holdline_core::traffic::Totals;
use parking_lot::Mutex;
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder};

use super::logs::DroppedLines;
use super::names::{self, Kind, Metric};
use super::snapshot_gauges;

/// All metrics of one instance. No globals, so several instances in one process do not interfere.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Families,
    fleets: Fleets,
    dropped: Mutex<Option<DroppedLines>>,
}

/// The handles in use. The series of a fleet are removed with the last handle.
type Fleets = Arc<Mutex<HashMap<FleetName, Weak<FleetMetrics>>>>;

impl Metrics {
    /// Empty families, and those of the process where `/proc` exists.
    pub fn new() -> Arc<Self> {
        let registry = Registry::new();
        let families = Families::new(&registry);
        #[cfg(target_os = "linux")]
        register(&registry, prometheus::process_collector::ProcessCollector::for_self());
        Arc::new(Metrics { registry, families, fleets: Arc::default(), dropped: Mutex::default() })
    }

    /// The handles of a fleet; shared while any handle of this name is in use.
    pub fn fleet(&self, name: &FleetName) -> Arc<FleetMetrics> {
        let mut fleets = self.fleets.lock();
        if let Some(held) = fleets.get(name).and_then(Weak::upgrade) {
            return held;
        }
        let made = Arc::new(FleetMetrics::new(&self.families, name, &self.fleets));
        fleets.insert(name.clone(), Arc::downgrade(&made));
        made
    }

    /// Counts a reload of the configuration; `result` is one of [`names::reload`].
    pub fn reloaded(&self, result: &'static str) {
        self.families.config_reloads.with_label_values(&[result]).inc();
    }

    /// Counts rejected input. `reason` is one of a closed list, since each becomes a series.
    pub fn bad_input(&self, reason: &'static str) {
        self.families.bad_input.with_label_values(&[reason]).inc();
    }

    /// Sets memory in use and its limit, in bytes.
    pub fn memory(&self, used: u64, ceiling: Option<u64>) {
        self.families.memory.set(used as f64);
        self.families.memory_limit.set(ceiling.map_or(f64::INFINITY, |bytes| bytes as f64));
    }

    /// Counts a reload of TLS files.
    pub fn tls_reload(&self, is_ok: bool) {
        self.families.tls_reloads.with_label_values(&[if is_ok { "ok" } else { "failed" }]).inc();
    }

    /// Makes [`Metrics::render`] include the dropped lines of this log.
    pub fn follow_log(&self, dropped: DroppedLines) {
        *self.dropped.lock() = Some(dropped);
    }

    /// All metrics in Prometheus' text format. Gauges are read from `snapshot` only, so a removed backend has no series.
    pub fn render(&self, snapshot: &Snapshot, now: Moment) -> String {
        let mut found = self.registry.gather();
        found.extend(snapshot_gauges::gather(snapshot, now, self.dropped.lock().as_ref().map_or(0, DroppedLines::count)));
        found.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = String::new();
        // Writing to a String cannot fail; a family that the encoder rejects (none of ours is empty) leaves what came before it.
        if let Err(error) = TextEncoder::new().encode_utf8(&found, &mut text) {
            tracing::error!(%error, "metrics could not be encoded");
        }
        text
    }
}

/// A fleet's handles: no lookup by name on the data path, except for labels with open sets of values.
#[derive(Debug)]
pub struct FleetMetrics {
    name: FleetName,
    /// In the order of [`names::handshake::ALL`].
    handshakes: [IntCounter; 4],
    /// In the order of [`names::unasked::ALL`].
    unasked: [IntCounter; 2],
    refused: Vec<IntCounter>,
    ended: Vec<IntCounter>,
    queue_wait: Histogram,
    session_duration: Histogram,
    request_duration: Histogram,
    bytes_in: IntCounter,
    bytes_out: IntCounter,
    moved: IntCounter,
    cut: IntCounter,
    families: Families,
    fleets: Fleets,
}

impl Drop for FleetMetrics {
    fn drop(&mut self) {
        let mut fleets = self.fleets.lock();
        // A fleet of the same name may have been created meanwhile; it continues the same series.
        if fleets.get(&self.name).is_some_and(|held| held.strong_count() == 0) {
            fleets.remove(&self.name);
            self.families.forget(&self.name);
        }
    }
}

impl FleetMetrics {
    fn new(families: &Families, name: &FleetName, fleets: &Fleets) -> Self {
        let fleet = name.as_str();
        FleetMetrics {
            name: name.clone(),
            handshakes: names::handshake::ALL.map(|result| families.handshakes.with_label_values(&[fleet, result])),
            unasked: names::unasked::ALL.map(|seat| families.unasked.with_label_values(&[fleet, seat])),
            refused: RefuseCause::ALL.iter().map(|c| families.refused.with_label_values(&[fleet, c.as_str()])).collect(),
            ended: EndCause::ALL.iter().map(|c| families.ended.with_label_values(&[fleet, c.as_str()])).collect(),
            queue_wait: families.queue_wait.with_label_values(&[fleet]),
            session_duration: families.session_duration.with_label_values(&[fleet]),
            request_duration: families.request_duration.with_label_values(&[fleet]),
            bytes_in: families.bytes.with_label_values(&[fleet, "in"]),
            bytes_out: families.bytes.with_label_values(&[fleet, "out"]),
            moved: families.moves.with_label_values(&[fleet, "close", "moved"]),
            cut: families.moves.with_label_values(&[fleet, "cut", "cut"]),
            families: families.clone(),
            fleets: Arc::clone(fleets),
        }
    }

    /// Its counters for the snapshot: the same ones as in the metrics, so that page, API and metrics agree.
    pub fn totals(&self) -> Totals {
        let [opened, ..] = &self.handshakes;
        Totals {
            handshakes: self.handshakes.iter().map(IntCounter::get).sum(),
            opened: opened.get(),
            ended: std::array::from_fn(|cause| self.ended[cause].get()),
            refused: std::array::from_fn(|cause| self.refused[cause].get()),
        }
    }

    /// A request for a session has its outcome: one of [`names::handshake`].
    pub fn handshake(&self, result: &'static str) {
        self.families.handshakes.with_label_values(&[self.name.as_str(), result]).inc();
    }

    /// A plain request was answered by an event stream; whether its seat is beyond the limit.
    pub fn unasked_stream(&self, is_beyond: bool) {
        self.unasked[usize::from(is_beyond)].inc();
        self.handshake(names::handshake::OPENED);
    }

    /// A client was refused.
    pub fn refused(&self, cause: RefuseCause) {
        self.refused[cause as usize].inc();
    }

    /// A session ended at this age. One that Holdline moved counts among the moves, too.
    pub fn ended(&self, cause: EndCause, age: Duration) {
        self.ended[cause as usize].inc();
        self.session_duration.observe(age.as_secs_f64());
        match cause {
            EndCause::Drained | EndCause::Rebalanced => self.moved.inc(),
            EndCause::Cut => self.cut.inc(),
            _ => {}
        }
    }

    /// A plain request was answered with this status; `took` to the answer's head.
    pub fn request(&self, code: u16, took: Duration) {
        self.families.requests.with_label_values(&[self.name.as_str(), code.to_string().as_str()]).inc();
        self.request_duration.observe(took.as_secs_f64());
    }

    /// Payload of sessions since the last call: from clients, to clients.
    pub fn bytes(&self, bytes_in: u64, bytes_out: u64) {
        self.bytes_in.inc_by(bytes_in);
        self.bytes_out.inc_by(bytes_out);
    }

    /// A handshake left the queue, with a seat or without.
    pub fn queue_wait(&self, waited: Duration) {
        self.queue_wait.observe(waited.as_secs_f64());
    }

    /// The autoscaler changed the number of backends; `limited_by` as in its decision.
    pub fn scaled(&self, up: bool, limited_by: Option<&str>) {
        let direction = if up { "up" } else { "down" };
        self.families.scale_decisions.with_label_values(&[self.name.as_str(), direction, limited_by.unwrap_or("none")]).inc();
    }
}

/// The counters and histograms; cloning shares them.
#[derive(Clone, Debug)]
struct Families {
    queue_wait: HistogramVec,
    handshakes: IntCounterVec,
    unasked: IntCounterVec,
    refused: IntCounterVec,
    ended: IntCounterVec,
    session_duration: HistogramVec,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    bytes: IntCounterVec,
    scale_decisions: IntCounterVec,
    moves: IntCounterVec,
    bad_input: IntCounterVec,
    tls_reloads: IntCounterVec,
    config_reloads: IntCounterVec,
    memory: Gauge,
    memory_limit: Gauge,
}

impl Families {
    fn new(registry: &Registry) -> Self {
        Families {
            queue_wait: histogram(registry, names::QUEUE_WAIT),
            handshakes: counter(registry, names::HANDSHAKES),
            unasked: counter(registry, names::UNASKED_STREAMS),
            refused: counter(registry, names::REFUSED),
            ended: counter(registry, names::SESSIONS_ENDED),
            session_duration: histogram(registry, names::SESSION_DURATION),
            requests: counter(registry, names::REQUESTS),
            request_duration: histogram(registry, names::REQUEST_DURATION),
            bytes: counter(registry, names::BYTES),
            scale_decisions: counter(registry, names::SCALE_DECISIONS),
            moves: counter(registry, names::MOVES),
            bad_input: counter(registry, names::BAD_INPUT),
            tls_reloads: counter(registry, names::TLS_RELOADS),
            config_reloads: counter(registry, names::CONFIG_RELOADS),
            memory: gauge(registry, names::MEMORY),
            memory_limit: gauge(registry, names::MEMORY_LIMIT),
        }
    }

    /// Removes every series of a fleet.
    fn forget(&self, name: &FleetName) {
        [&self.queue_wait, &self.session_duration, &self.request_duration].into_iter().for_each(|family| forget(family, name));
        [
            &self.handshakes,
            &self.unasked,
            &self.refused,
            &self.ended,
            &self.requests,
            &self.bytes,
            &self.scale_decisions,
            &self.moves,
        ]
        .into_iter()
        .for_each(|family| forget(family, name));
    }
}

fn forget<T: MetricVecBuilder>(family: &MetricVec<T>, name: &FleetName) {
    let found = family.collect();
    for series in found.iter().flat_map(|f| f.get_metric()) {
        let labels: HashMap<&str, &str> = series.get_label().iter().map(|l| (l.name(), l.value())).collect();
        if labels.get("fleet") == Some(&name.as_str()) {
            // It can only be gone already.
            let _ = family.remove(&labels);
        }
    }
}

fn counter(registry: &Registry, metric: Metric) -> IntCounterVec {
    let family =
        IntCounterVec::new(Opts::new(metric.name, metric.help), metric.labels).expect("names.rs has valid names; tested");
    register(registry, family.clone());
    family
}

fn gauge(registry: &Registry, metric: Metric) -> Gauge {
    let gauge = Gauge::new(metric.name, metric.help).expect("names.rs has valid names; tested");
    register(registry, gauge.clone());
    gauge
}

fn histogram(registry: &Registry, metric: Metric) -> HistogramVec {
    let Kind::Histogram(buckets) = metric.kind else { unreachable!("{} is a histogram in names.rs; tested", metric.name) };
    let opts = HistogramOpts::new(metric.name, metric.help).buckets(buckets.to_vec());
    let family = HistogramVec::new(opts, metric.labels).expect("names.rs has valid names; tested");
    register(registry, family.clone());
    family
}

fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry.register(Box::new(collector)).expect("names.rs has no name twice; tested");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::snapshot_gauges::samples::snapshot;
    use super::*;

    /// Everything that can be counted, once.
    fn busy() -> (Arc<Metrics>, Arc<FleetMetrics>) {
        let metrics = Metrics::new();
        let chat = metrics.fleet(&"chat".into());
        chat.handshake(names::handshake::OPENED);
        chat.refused(RefuseCause::QueueFull);
        chat.ended(EndCause::Drained, Duration::from_secs(90));
        chat.request(404, Duration::from_millis(3));
        chat.bytes(7, 11);
        chat.queue_wait(Duration::from_millis(20));
        chat.ended(EndCause::Cut, Duration::from_secs(1000));
        chat.scaled(true, None);
        metrics.bad_input("head");
        metrics.memory(3, Some(4));
        metrics.tls_reload(true);
        metrics.reloaded(names::reload::OK);
        (metrics, chat)
    }

    #[test]
    fn every_documented_metric_is_there_and_no_other() {
        let (metrics, _chat) = busy();
        let text = metrics.render(&snapshot(), Moment::from_millis(5_000));
        let found: BTreeSet<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let ours: BTreeSet<&str> = found.iter().copied().filter(|n| n.starts_with("holdline_")).collect();
        assert_eq!(ours, names::ALL.iter().map(|m| m.name).collect());
        #[cfg(target_os = "linux")]
        assert!(found.contains("process_open_fds"), "{found:?}");
    }

    #[test]
    fn counts_arrive_under_their_labels() {
        let (metrics, _chat) = busy();
        let text = metrics.render(&snapshot(), Moment::from_millis(5_000));
        for line in [
            r#"holdline_handshakes_total{fleet="chat",result="opened"} 1"#,
            r#"holdline_refused_total{cause="queue_full",fleet="chat"} 1"#,
            r#"holdline_refused_total{cause="limit",fleet="chat"} 0"#,
            r#"holdline_sessions_ended_total{cause="drained",fleet="chat"} 1"#,
            r#"holdline_session_duration_seconds_bucket{fleet="chat",le="300"} 1"#,
            r#"holdline_requests_total{code="404",fleet="chat"} 1"#,
            r#"holdline_bytes_total{direction="out",fleet="chat"} 11"#,
            r#"holdline_moves_total{fleet="chat",mode="close",result="moved"} 1"#,
            r#"holdline_moves_total{fleet="chat",mode="cut",result="cut"} 1"#,
            r#"holdline_scale_decisions_total{direction="up",fleet="chat",limited_by="none"} 1"#,
            r#"holdline_bad_input_total{reason="head"} 1"#,
            "holdline_memory_bytes 3",
            "holdline_memory_limit_bytes 4",
            r#"holdline_tls_reloads_total{result="ok"} 1"#,
            r#"holdline_config_reloads_total{result="ok"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_snapshot_gets_the_counts_of_the_metrics() {
        let totals = busy().1.totals();
        assert_eq!((totals.handshakes, totals.opened), (1, 1));
        assert_eq!((totals.ended[EndCause::Drained as usize], totals.ended[EndCause::Cut as usize]), (1, 1));
        assert_eq!((totals.ended.iter().sum::<u64>(), totals.refused[RefuseCause::QueueFull as usize]), (2, 1));
        let (_metrics, chat) = busy();
        for result in names::handshake::ALL {
            chat.handshake(result);
        }
        assert_eq!((chat.totals().handshakes, chat.totals().opened), (5, 2));
    }

    #[test]
    fn a_fleet_has_one_set_of_handles_and_two_registries_do_not_meet() {
        let (one, two) = (Metrics::new(), Metrics::new());
        let held = one.fleet(&"a".into());
        assert!(Arc::ptr_eq(&held, &one.fleet(&"a".into())));
        one.fleet(&"a".into()).refused(RefuseCause::Limit);
        let text = two.render(&snapshot(), Moment::START);
        assert!(!text.contains("fleet=\"a\""));
    }

    #[test]
    fn the_series_of_a_fleet_go_with_its_last_handle() {
        let (metrics, chat) = busy();
        let other = metrics.fleet(&"other".into());
        other.request(200, Duration::ZERO);
        let empty = Snapshot { fleets: Vec::new(), ..snapshot() };
        drop(chat);
        let text = metrics.render(&empty, Moment::START);
        assert!(!text.contains("fleet=\"chat\"") && text.contains("fleet=\"other\""), "{text}");
        metrics.fleet(&"chat".into()).bytes(1, 0);
        assert!(!metrics.render(&empty, Moment::START).contains("fleet=\"chat\""), "nobody held it");
    }
}
