//! Pushed heartbeats, the only call for backends. Their token permits nothing else.

use axum::extract::{Path, State};
use holdline_core::event::Heartbeat;
use holdline_core::ids::FleetName;
use holdline_core::policy::Probe;
use http::{HeaderMap, StatusCode, header};

use super::api::{HeartbeatBody, HeartbeatState};
use super::body::JsonBody;
use super::{AdminState, Problem, Shared, view};

/// 204: accepted. 202: well-formed, but no backend has this id yet; a child's first heartbeat may precede the report of its start.
pub(super) async fn push(
    State(state): Shared,
    Path(fleet): Path<FleetName>,
    headers: HeaderMap,
    body: Result<JsonBody<HeartbeatBody>, Problem>,
) -> Result<StatusCode, Problem> {
    authorize(&state, &fleet, &headers)?;
    let JsonBody(body) = body.inspect_err(|_| state.metrics.bad_input("heartbeat"))?;
    let snapshot = state.control.current();
    let view = view::fleet_or_problem(&snapshot, &fleet)?;
    if view.policy.heartbeat.probe != Probe::Push {
        let detail = format!("fleet `{fleet}` does not take pushed heartbeats; set its heartbeat.probe to push");
        return Err(Problem::new(StatusCode::CONFLICT, "not-pushed", "Heartbeats are not pushed here", detail));
    }
    let known = view.backend(body.id.as_str()).is_some();
    let heartbeat = Heartbeat {
        ready: true,
        draining: body.state == HeartbeatState::Draining,
        sessions: body.sessions,
        capacity: body.capacity,
        counted: None,
        seq: Some(body.seq),
        // An unreadable one was rejected.
        unreadable: false,
    };
    state.control.heartbeat(fleet, body.id, heartbeat).await?;
    Ok(if known { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED })
}

fn authorize(state: &AdminState, fleet: &FleetName, headers: &HeaderMap) -> Result<(), Problem> {
    let tokens = state.heartbeat_tokens.load();
    let Some(token) = tokens.get(fleet) else { return Ok(()) };
    let given = headers.get(header::AUTHORIZATION).and_then(|v| v.as_bytes().split_at_checked(7));
    let good = given.is_some_and(|(scheme, rest)| scheme.eq_ignore_ascii_case(b"bearer ") && same(rest, token.as_bytes()));
    if good {
        return Ok(());
    }
    state.metrics.bad_input("heartbeat");
    let detail = format!("fleet `{fleet}` requires `Authorization: Bearer TOKEN` with its heartbeat token");
    Err(Problem::plain(StatusCode::UNAUTHORIZED, detail))
}

/// Constant-time comparison.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}
