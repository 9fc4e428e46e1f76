//! Carries out [`Effect::EndSessions`], one after the other, off the State task.

use std::sync::Arc;

use holdline_core::event::Effect;
use tokio::sync::mpsc;

use super::DataPlane;

/// Passes orders to the data plane in order of arrival, until the sender is dropped.
///
/// The result is not reported: State sees it in the counts and orders more while too many sessions are left.
pub async fn drain(plane: Arc<dyn DataPlane>, mut orders: mpsc::Receiver<Effect>) {
    while let Some(effect) = orders.recv().await {
        let Effect::EndSessions { fleet, backend, order } = effect else { continue };
        let ended = plane.end_sessions(&fleet, &backend, order).await;
        tracing::debug!(%fleet, %backend, cause = %order.ending.cause, asked = order.count, ended, "sessions ended by order");
    }
}
