//! Gauges, built from the snapshot at every scrape, so that removed backends leave no series behind.

use holdline_core::cause::Phase;
use holdline_core::seats::UNLIMITED;
use holdline_core::snapshot::{BackendView, FleetView, Snapshot};
use holdline_core::time::Moment;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, GaugeVec, Opts};

use super::names::{self, Metric};

/// The gauges of `snapshot`, and the counter of dropped log lines.
pub(super) fn gather(snapshot: &Snapshot, now: Moment, log_lines_dropped: u64) -> Vec<MetricFamily> {
    let gauges = Gauges::new();
    gauges.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    for fleet in &snapshot.fleets {
        gauges.fleet(fleet);
        for backend in &fleet.backends {
            gauges.backend(fleet.name().as_str(), backend, now);
        }
    }
    let mut families = gauges.collect();
    let dropped =
        Counter::new(names::LOG_LINES_DROPPED.name, names::LOG_LINES_DROPPED.help).expect("names.rs has valid names; tested");
    dropped.inc_by(log_lines_dropped as f64);
    families.extend(dropped.collect());
    // The encoder rejects families without series.
    families.retain(|f| !f.get_metric().is_empty());
    families
}

struct Gauges {
    sessions: GaugeVec,
    seats: GaugeVec,
    sessions_reported: GaugeVec,
    queue_length: GaugeVec,
    backends: GaugeVec,
    backends_desired: GaugeVec,
    drain_remaining: GaugeVec,
    heartbeat_age: GaugeVec,
    build_info: GaugeVec,
}

impl Gauges {
    fn new() -> Self {
        Gauges {
            sessions: gauge(names::SESSIONS),
            seats: gauge(names::SEATS),
            sessions_reported: gauge(names::SESSIONS_REPORTED),
            queue_length: gauge(names::QUEUE_LENGTH),
            backends: gauge(names::BACKENDS),
            backends_desired: gauge(names::BACKENDS_DESIRED),
            drain_remaining: gauge(names::DRAIN_REMAINING),
            heartbeat_age: gauge(names::HEARTBEAT_AGE),
            build_info: gauge(names::BUILD_INFO),
        }
    }

    fn fleet(&self, fleet: &FleetView) {
        let name = fleet.name().as_str();
        self.queue_length.with_label_values(&[name]).set(fleet.queued.into());
        self.backends_desired.with_label_values(&[name]).set(fleet.decision.desired.into());
        for phase in Phase::ALL {
            let count = fleet.backends.iter().filter(|b| b.phase == *phase).count();
            self.backends.with_label_values(&[name, phase.as_str()]).set(count as f64);
        }
    }

    fn backend(&self, fleet: &str, backend: &BackendView, now: Moment) {
        let labels = [fleet, backend.id.as_str()];
        let seats = |state, value| self.seats.with_label_values(&[fleet, backend.id.as_str(), state]).set(value);
        self.sessions.with_label_values(&labels).set(backend.sessions.into());
        seats("capacity", backend.capacity.map_or(f64::INFINITY, f64::from));
        seats("leased", if backend.limit == UNLIMITED { f64::INFINITY } else { backend.limit.into() });
        seats("used", backend.taken().into());
        if let Some(reported) = backend.reported {
            self.sessions_reported.with_label_values(&labels).set(reported.into());
        }
        if let Some(drain) = &backend.drain {
            self.drain_remaining.with_label_values(&labels).set(drain.remaining.into());
        }
        let heard = backend.heartbeat_at.unwrap_or(backend.since);
        self.heartbeat_age.with_label_values(&labels).set(now.since(heard).as_secs_f64());
    }

    fn collect(&self) -> Vec<MetricFamily> {
        [
            &self.sessions,
            &self.seats,
            &self.sessions_reported,
            &self.queue_length,
            &self.backends,
            &self.backends_desired,
            &self.drain_remaining,
            &self.heartbeat_age,
            &self.build_info,
        ]
        .into_iter()
        .flat_map(Collector::collect)
        .collect()
    }
}

fn gauge(metric: Metric) -> GaugeVec {
    GaugeVec::new(Opts::new(metric.name, metric.help), metric.labels).expect("names.rs has valid names; tested")
}

#[cfg(test)]
pub(super) mod samples {
    //! A snapshot with something in every field.

    use std::sync::Arc;
    use std::time::Duration;

    use holdline_core::cause::EndCause;
    use holdline_core::policy::*;
    use holdline_core::scale::Decision;
    use holdline_core::snapshot::MoveView;
    use holdline_core::traffic::Traffic;

    use super::*;

    pub(in crate::telemetry) fn snapshot() -> Snapshot {
        let fleet = FleetView {
            policy: Arc::new(policy()),
            backends: vec![
                backend("one"),
                BackendView { capacity: None, limit: UNLIMITED, reported: None, drain: None, ..backend("two") },
            ],
            queued: 3,
            oldest_wait: Duration::from_secs(1),
            decision: Arc::new(Decision { desired: 4, ..Decision::default() }),
            scale_to: None,
            rebalance: None,
            traffic: Traffic::default(),
            leaving: false,
        };
        Snapshot { version: 1, at: Moment::START, fleets: vec![fleet], shutting_down: false }
    }

    fn backend(id: &str) -> BackendView {
        BackendView {
            id: id.into(),
            address: None,
            phase: Phase::Draining,
            sessions: 40,
            foreign: 2,
            capacity: Some(50),
            limit: 0,
            reported: Some(42),
            requests: 0,
            heartbeat_at: Some(Moment::from_millis(3_500)),
            since: Moment::from_millis(1_000),
            drain: Some(MoveView {
                started: Moment::START,
                total: 50,
                remaining: 40,
                planned: 39,
                due: Moment::from_millis(9_000),
                deadline: Moment::from_millis(90_000),
                mode: DrainMode::Close,
                cause: EndCause::Drained,
                cut: 0,
            }),
            moved_total: 8,
        }
    }

    fn policy() -> FleetPolicy {
        let default = crate::test_policy::fleet("chat", ProviderPolicy::Static(Vec::new()));
        FleetPolicy { capacity: Some(50), ..default }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prometheus::TextEncoder;

    use super::samples::snapshot;
    use super::*;

    fn text(snapshot: &Snapshot) -> String {
        TextEncoder::new().encode_to_string(&gather(snapshot, Moment::from_millis(5_000), 6)).unwrap()
    }

    #[test]
    fn gauges_are_the_snapshots() {
        let text = text(&snapshot());
        let value: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.rsplit_once(' ')).collect();
        for (series, expected) in [
            (r#"holdline_sessions{backend="one",fleet="chat"}"#, "40"),
            (r#"holdline_seats{backend="one",fleet="chat",state="used"}"#, "42"),
            (r#"holdline_seats{backend="one",fleet="chat",state="leased"}"#, "0"),
            (r#"holdline_seats{backend="two",fleet="chat",state="capacity"}"#, "inf"),
            (r#"holdline_sessions_reported{backend="one",fleet="chat"}"#, "42"),
            (r#"holdline_queue_length{fleet="chat"}"#, "3"),
            (r#"holdline_backends{fleet="chat",phase="draining"}"#, "2"),
            (r#"holdline_backends{fleet="chat",phase="ready"}"#, "0"),
            (r#"holdline_backends_desired{fleet="chat"}"#, "4"),
            (r#"holdline_drain_remaining{backend="one",fleet="chat"}"#, "40"),
            (r#"holdline_heartbeat_age_seconds{backend="one",fleet="chat"}"#, "1.5"),
            ("holdline_log_lines_dropped_total", "6"),
        ] {
            assert_eq!(value.get(series), Some(&expected), "{series} in\n{text}");
        }
        assert!(!value.contains_key(r#"holdline_sessions_reported{backend="two",fleet="chat"}"#));
    }

    #[test]
    fn the_series_of_a_backend_go_with_it() {
        let mut snapshot = snapshot();
        assert!(text(&snapshot).contains(r#"backend="one""#));
        snapshot.fleets[0].backends.remove(0);
        assert!(!text(&snapshot).contains(r#"backend="one""#));
        snapshot.fleets.clear();
        assert!(!text(&snapshot).contains("fleet="));
    }
}
