//! Carries out [`Effect::EndSessions`], one after the other, off the State task.

use std::sync::Arc;

use holdline_core::event::Effect;
use tokio::sync::mpsc;

use super::{DataPlane, EndOrder};

/// Passes orders to the data plane in order of arrival, until the sender is dropped.
///
/// The result is not reported: State sees it in the counts and orders more while too many sessions are left.
pub async fn drain(plane: Arc<dyn DataPlane>, mut orders: mpsc::Receiver<Effect>) {
    while let Some(effect) = orders.recv().await {
        let Effect::EndSessions { fleet, backend, count, mode, cause } = effect else { continue };
        let order = EndOrder { fleet, backend, count, mode, cause };
        let ended = plane.end_sessions(&order).await;
        tracing::debug!(fleet = %order.fleet, backend = %order.backend, %cause, asked = count, ended, "sessions ended by order");
    }
}
