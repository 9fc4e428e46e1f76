//! Implements the traits that the control plane and the admin API need with the gateway.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use holdline_core::drain::EndOrder;
use holdline_core::event::GatewayReport;
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::snapshot::Snapshot;

use crate::admin::{Answering, Sessions};
use crate::controller::DataPlane;
use crate::gateway::Gateway;
use crate::gateway::{SessionFilter, SessionInfo};
use crate::net::tls::Connector;

/// The gateway, as the control plane needs it.
pub(super) fn data_plane(gateway: &Arc<Gateway>) -> Arc<dyn DataPlane> {
    Arc::new(GatewayAdapter(Arc::clone(gateway)))
}

/// The gateway, as the admin API needs it.
pub(super) fn sessions(gateway: &Arc<Gateway>) -> Arc<dyn Sessions> {
    Arc::new(GatewayAdapter(Arc::clone(gateway)))
}

struct GatewayAdapter(Arc<Gateway>);

impl DataPlane for GatewayAdapter {
    fn adopt(&self, snapshot: &Snapshot) {
        self.0.adopt(snapshot);
    }

    fn report(&self) -> GatewayReport {
        self.0.report()
    }

    fn used(&self, fleet: &FleetName, backend: &BackendId) -> u32 {
        self.0.used(fleet, backend)
    }

    fn connector(&self, fleet: &FleetName) -> Option<Arc<Connector>> {
        self.0.connector(fleet)
    }

    fn end_sessions<'a>(
        &'a self,
        fleet: &'a FleetName,
        backend: &'a BackendId,
        order: EndOrder,
    ) -> Pin<Box<dyn Future<Output = u32> + Send + 'a>> {
        Box::pin(self.0.end_sessions(fleet, backend, order))
    }
}

impl Sessions for GatewayAdapter {
    fn list(&self, filter: SessionFilter) -> Answering<'_, Vec<SessionInfo>> {
        Box::pin(self.0.sessions(filter))
    }
}
