//! What became of a request that is to begin a session.

use std::sync::Arc;

use crate::telemetry::FleetMetrics;
use crate::telemetry::names::handshake as handshake_result;

/// The beginning of a session, counted once: if nobody says how it went, its client left.
pub(crate) struct Handshake(Option<Arc<FleetMetrics>>);

impl Handshake {
    pub(crate) fn begin(metrics: &Arc<FleetMetrics>) -> Self {
        Handshake(Some(Arc::clone(metrics)))
    }

    /// How it went.
    pub(crate) fn settle(mut self, result: &'static str) {
        if let Some(metrics) = self.0.take() {
            metrics.handshake(result);
        }
    }

    /// Another takes its place.
    pub(crate) fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        if let Some(metrics) = self.0.take() {
            metrics.handshake(handshake_result::GONE);
        }
    }
}
