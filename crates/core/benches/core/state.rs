//! What the State task pays: a change of one backend among a thousand, a tick, a scaling decision.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use holdline_core::cause::Phase;
use holdline_core::event::{BackendCounts, Event, FleetCounts, GatewayReport, Heartbeat};
use holdline_core::ids::BackendId;
use holdline_core::policy::{FleetPolicy, ProviderPolicy, StaticBackend};
use holdline_core::scale::{BackendLoad, Observation, Scaler};
use holdline_core::state::State;
use holdline_core::time::Moment;
use holdline_core::traffic::Totals;

use crate::policy;

const BACKENDS: u16 = 1_000;
const TICK: Duration = Duration::from_millis(100);

fn id(n: u16) -> BackendId {
    format!("backend-{n}").into()
}

fn fleet() -> Arc<FleetPolicy> {
    let backend = |n: u16| StaticBackend { id: id(n), address: ([10, 0, 0, 7], 1_024 + n).into(), capacity: None };
    let provider = ProviderPolicy::Static((0..BACKENDS).map(backend).collect());
    Arc::new(FleetPolicy { capacity: Some(1_000), ..policy::fleet("chat", provider) })
}

fn heartbeat(fleet: &FleetPolicy, n: u16, sessions: u32) -> Event {
    let heartbeat = Heartbeat { ready: true, sessions: Some(sessions), counted: Some(500), ..Heartbeat::default() };
    Event::Heartbeat { fleet: fleet.name.clone(), backend: id(n), heartbeat }
}

fn report(fleet: &FleetPolicy, used: u32) -> Event {
    let counts =
        |n| BackendCounts { backend: id(n), used, former: Vec::new(), requests: 0, moved_total: 0, lost_total: 0, cut_total: 0 };
    Event::Report(GatewayReport {
        fleets: vec![FleetCounts {
            fleet: fleet.name.clone(),
            backends: (0..BACKENDS).map(counts).collect(),
            queued: 0,
            oldest_wait: Duration::ZERO,
            admitted_total: 500_000,
            ended_total: 0,
            refused_total: 0,
            no_backend_total: 0,
            requests: 0,
            totals: Totals::default(),
        }],
    })
}

/// A thousand ready backends with 500 sessions each.
fn state(fleet: &Arc<FleetPolicy>) -> State {
    let mut state = State::new(vec![Arc::clone(fleet)], Moment::START);
    for n in 0..BACKENDS {
        state.apply(heartbeat(fleet, n, 500), Moment::START);
    }
    state.apply(report(fleet, 500), Moment::START);
    drop(state.take_effects());
    state
}

pub(crate) fn snapshots(c: &mut Criterion) {
    let mut group = c.benchmark_group("state of 1,000 backends");
    let fleet = fleet();
    group.bench_function("snapshot", |b| {
        let state = state(&fleet);
        b.iter(|| state.snapshot(black_box(Moment::START)));
    });
    group.bench_function("a heartbeat that changes one, and the snapshot", |b| {
        let mut state = state(&fleet);
        let told = [heartbeat(&fleet, BACKENDS / 2, 501), heartbeat(&fleet, BACKENDS / 2, 500)];
        let mut turn = told.iter().cycle();
        b.iter(|| {
            state.apply(turn.next().expect("without end").clone(), Moment::START);
            state.snapshot(Moment::START)
        });
    });
    group.bench_function("a report and a tick", |b| {
        let mut state = state(&fleet);
        let told = [report(&fleet, 501), report(&fleet, 500)];
        let mut turn = told.iter().cycle();
        // Within the time in which nobody becomes suspect.
        let now = Moment::START + TICK;
        b.iter(|| {
            state.apply(turn.next().expect("without end").clone(), now);
            state.apply(Event::Tick, now);
            state.take_effects()
        });
    });
    group.finish();
}

pub(crate) fn decisions(c: &mut Criterion) {
    let mut group = c.benchmark_group("scale decision");
    let provider = ProviderPolicy::Process(policy::process(&["server"], (20_000, 20_999), "logs".as_ref()));
    let fleet = FleetPolicy { capacity: Some(1_000), ..policy::fleet("chat", provider) };
    for backends in [20, BACKENDS] {
        let load = |n| BackendLoad {
            id: id(n),
            phase: Phase::Ready,
            draining_for_scale: false,
            sessions: 500 + u32::from(n % 7),
            capacity: Some(1_000),
        };
        let seen =
            Observation { backends: (0..backends).map(load).collect(), admitted: 300, ended: 290, ..Observation::default() };
        group.bench_function(format!("{backends} backends"), |b| {
            let mut scaler = Scaler::new(&fleet, Moment::START);
            let mut now = Moment::START;
            b.iter(|| {
                now = now + Duration::from_secs(1);
                scaler.decide(black_box(&seen), &fleet, now)
            });
        });
    }
    group.finish();
}
