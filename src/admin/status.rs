//! Status: fleets, backends, sessions.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use holdline_core::ids::{BackendId, FleetName};
use http::StatusCode;
use serde::Deserialize;

use super::api::SessionsBody;
use super::stream::follows;
use super::{Problem, Shared, live, view};
use crate::gateway::SessionFilter;

/// Sessions listed by default.
const LIMIT_DEFAULT: usize = 100;

/// Limit of listed sessions, since listing takes time of the data threads.
const LIMIT_MAX: usize = 10_000;

#[derive(Deserialize)]
pub(super) struct StatusQuery {
    follow: Option<u8>,
}

pub(super) async fn status(State(state): Shared, query: Result<Query<StatusQuery>, QueryRejection>) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|e| Problem::plain(StatusCode::BAD_REQUEST, e.body_text()))?;
    if follows(query.follow, false)? {
        return live::follow(&state);
    }
    let snapshot = state.fresh().await?;
    Ok(Json(view::status_body(&snapshot, &state.gateway_id, state.clock.now())).into_response())
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
    // One more than requested, to detect truncation.
    let mut sessions = state.sessions.list(SessionFilter { fleet, backend, limit: Some(limit + 1) }).await;
    let truncated = sessions.len() > limit;
    sessions.truncate(limit);
    Ok(Json(SessionsBody { sessions: sessions.iter().map(view::session_body).collect(), truncated }))
}
