//! What is there: fleets, backends, sessions.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use holdline_core::ids::{BackendId, FleetName};
use http::StatusCode;
use serde::Deserialize;

use super::api::{SessionsBody, StatusBody};
use super::{Problem, Shared, view};
use crate::gateway::session::SessionFilter;

/// Sessions listed unless asked otherwise.
const LIMIT_DEFAULT: usize = 100;

/// Sessions listed at the most: each costs its data thread a line, and the thread has sessions to serve.
const LIMIT_MAX: usize = 10_000;

pub(super) async fn status(State(state): Shared) -> Result<Json<StatusBody>, Problem> {
    let snapshot = state.fresh().await?;
    Ok(Json(view::status_body(&snapshot, &state.gateway_id, state.clock.now())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    fleet: Option<FleetName>,
    backend: Option<BackendId>,
    limit: Option<usize>,
}

pub(super) async fn sessions(
    State(state): Shared,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<SessionsBody>, Problem> {
    let Query(ListQuery { fleet, backend, limit }) = query.map_err(|e| Problem::plain(StatusCode::BAD_REQUEST, e.body_text()))?;
    if let Some(fleet) = &fleet {
        view::fleet_or_problem(&state.control.current(), fleet)?;
    }
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::invalid(format!("limit is {limit}; it must be from 1 to {LIMIT_MAX}")));
    }
    // One more than asked for tells whether there are more.
    let mut sessions = state.sessions.list(SessionFilter { fleet, backend, limit: Some(limit + 1) }).await;
    let truncated = sessions.len() > limit;
    sessions.truncate(limit);
    Ok(Json(SessionsBody { sessions: sessions.iter().map(view::session_body).collect(), truncated }))
}
