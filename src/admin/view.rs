//! Converts snapshots to JSON. Pure functions.

use std::time::Duration;

use holdline_core::cause::{EndCause, Phase, RefuseCause};
use holdline_core::event::CommandError;
use holdline_core::ids::FleetName;
use holdline_core::snapshot::{BackendView, FleetView, MoveView, Snapshot};
use holdline_core::time::Moment;
use holdline_core::traffic::Traffic;

use super::Problem;
use super::api::{BackendBody, FleetBody, GatewayBody, MoveBody, ScaleBody, SessionBody, StatusBody};
use crate::gateway::SessionInfo;

/// The fleet of this name, or a 404 that lists the known ones.
pub(super) fn fleet_or_problem<'a>(snapshot: &'a Snapshot, name: &FleetName) -> Result<&'a FleetView, Problem> {
    snapshot.fleet(name.as_str()).ok_or_else(|| {
        let known = snapshot.fleets.iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
        Problem::unknown_fleet(&CommandError::UnknownFleet { name: name.clone(), known })
    })
}

/// `GET /v1/status` of a Holdline that is its own only gateway, `gateway_id`. `now` tells how old the counts are.
pub fn status_body(snapshot: &Snapshot, gateway_id: &str, now: Moment) -> StatusBody {
    let gateway = GatewayBody {
        id: gateway_id.into(),
        sessions: snapshot.fleets.iter().map(FleetView::sessions).sum(),
        sync_age_ms: millis(now.since(snapshot.at)),
    };
    StatusBody {
        fleets: snapshot.fleets.iter().map(|f| fleet_body(f, snapshot.at)).collect(),
        gateways: vec![gateway],
        shutting_down: snapshot.shutting_down,
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_ms: millis(snapshot.at.since_start()),
    }
}

fn fleet_body(fleet: &FleetView, at: Moment) -> FleetBody {
    let (policy, Traffic { totals, rates }) = (&fleet.policy, fleet.traffic);
    FleetBody {
        name: policy.name.clone(),
        sessions: fleet.sessions(),
        capacity: fleet.capacity(),
        free: fleet.free(),
        arrivals_per_s: tenths(rates.arrivals),
        ended_per_s: tenths(rates.ended),
        refused_per_s: tenths(rates.refused),
        opened_total: totals.opened,
        ended_total: EndCause::ALL.iter().copied().zip(totals.ended).collect(),
        refused_total: RefuseCause::ALL.iter().copied().zip(totals.refused).collect(),
        queued: fleet.queued,
        queue_max: policy.queue.length,
        queue_timeout_ms: millis(policy.queue.timeout),
        oldest_wait_ms: millis(fleet.oldest_wait),
        desired: fleet.decision.desired,
        reason: fleet.decision.reason.clone(),
        limited_by: fleet.decision.limited_by.map(Into::into),
        scale_to: fleet.scale_to,
        min: policy.scale.min,
        max: policy.scale.max,
        elastic: policy.provider.is_elastic(),
        fill: policy.fill,
        leaving: fleet.leaving,
        rebalance: fleet.rebalance.as_ref().map(|m| move_body(m, at)),
        backends: fleet.backends.iter().map(|b| backend_body(b, at)).collect(),
    }
}

fn backend_body(backend: &BackendView, at: Moment) -> BackendBody {
    // A finished drain stays in the snapshot; clients of the API wait until `draining` is absent.
    let under_way = backend.drain.as_ref().filter(|_| !matches!(backend.phase, Phase::Drained | Phase::Dead));
    let done = backend.drain.as_ref().filter(|_| backend.phase == Phase::Drained);
    BackendBody {
        id: backend.id.clone(),
        address: backend.address,
        phase: backend.phase,
        sessions: backend.sessions,
        foreign: backend.foreign,
        reported: backend.reported,
        capacity: backend.capacity,
        requests: backend.requests,
        heartbeat_age_ms: backend.heartbeat_at.map(|heard| millis(at.since(heard))),
        age_ms: millis(at.since(backend.since)),
        moved: backend.moved_total,
        draining: under_way.map(|m| move_body(m, at)),
        drained: done.map(|m| move_body(m, at)),
    }
}

fn move_body(progress: &MoveView, at: Moment) -> MoveBody {
    MoveBody {
        remaining: progress.remaining,
        elapsed_ms: millis(at.since(progress.started)),
        deadline_in_ms: millis(progress.deadline.since(at)),
        due_in_ms: millis(progress.due.since(at)),
        total: progress.total,
        planned: progress.planned,
        mode: progress.mode,
        cause: progress.cause,
        cut: progress.cut,
    }
}

/// `GET /v1/fleets/F/scale`.
pub(super) fn scale_body(fleet: &FleetView) -> ScaleBody {
    let (policy, decision) = (&fleet.policy, &fleet.decision);
    ScaleBody {
        fleet: policy.name.clone(),
        desired: decision.desired,
        current: decision.current,
        reason: decision.reason.clone(),
        limited_by: decision.limited_by.map(Into::into),
        to: fleet.scale_to,
        min: policy.scale.min,
        max: policy.scale.max,
        elastic: policy.provider.is_elastic(),
        undrain: decision.undrain.clone(),
        start: decision.start,
        victims: decision.victims.clone(),
        // JSON has no infinity and no NaN.
        inputs: decision.inputs.iter().filter(|(_, v)| v.is_finite()).map(|(k, v)| ((*k).into(), *v)).collect(),
    }
}

/// One session of `GET /v1/sessions`.
pub(super) fn session_body(session: &SessionInfo) -> SessionBody {
    SessionBody {
        id: session.id.to_string(),
        kind: session.kind.as_str().into(),
        fleet: session.fleet.clone(),
        backend: session.backend.clone(),
        client: session.client,
        age_ms: session.age_ms,
        idle_ms: session.idle_ms,
        bytes_in: session.bytes_in,
        bytes_out: session.bytes_out,
    }
}

/// As many digits as a mean of ten seconds has.
fn tenths(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
