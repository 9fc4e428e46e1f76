//! Operator commands: drain, undrain, rebalance, scale.

use axum::Json;
use axum::extract::{Path, State};
use holdline_core::event::{Answer, Command, MoveRequest};
use holdline_core::ids::{BackendId, FleetName};

use super::api::{MoveOrder, ScaleBody, ScaleOrder};
use super::body::JsonBody;
use super::{Problem, Shared, view};
use crate::config::units::{Period, Rate, Scalar};

pub(super) async fn drain(
    State(state): Shared,
    Path((fleet, backend)): Path<(FleetName, BackendId)>,
    JsonBody(order): JsonBody<MoveOrder>,
) -> Result<Json<Answer>, Problem> {
    let request = move_request(&order)?;
    Ok(Json(state.control.command(Command::Drain { fleet, backend, request }).await?))
}

pub(super) async fn undrain(
    State(state): Shared,
    Path((fleet, backend)): Path<(FleetName, BackendId)>,
) -> Result<Json<Answer>, Problem> {
    Ok(Json(state.control.command(Command::Undrain { fleet, backend }).await?))
}

pub(super) async fn rebalance(
    State(state): Shared,
    Path(fleet): Path<FleetName>,
    JsonBody(order): JsonBody<MoveOrder>,
) -> Result<Json<Answer>, Problem> {
    let request = move_request(&order)?;
    Ok(Json(state.control.command(Command::Rebalance { fleet, request }).await?))
}

pub(super) async fn scale(State(state): Shared, Path(fleet): Path<FleetName>) -> Result<Json<ScaleBody>, Problem> {
    let snapshot = state.fresh().await?;
    Ok(Json(view::scale_body(view::fleet_or_problem(&snapshot, &fleet)?)))
}

pub(super) async fn set_scale(
    State(state): Shared,
    Path(fleet): Path<FleetName>,
    JsonBody(order): JsonBody<ScaleOrder>,
) -> Result<Json<Answer>, Problem> {
    Ok(Json(state.control.command(Command::Scale { fleet, to: order.to }).await?))
}

fn move_request(order: &MoveOrder) -> Result<MoveRequest, Problem> {
    let over: Option<Period> = scalar("over", order.over.as_deref())?;
    let rate: Option<Rate> = scalar("rate", order.rate.as_deref())?;
    Ok(MoveRequest { over: over.map(|p| p.0), rate_max: rate.map(|r| r.0), mode: order.mode, dry_run: order.dry_run })
}

fn scalar<T: Scalar>(key: &str, text: Option<&str>) -> Result<Option<T>, Problem> {
    text.map(T::parse).transpose().map_err(|e| Problem::invalid(format!("{key}: {e}")))
}
