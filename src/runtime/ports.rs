//! Fits the rooms' narrow traits to each other.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use holdline_core::event::{Answer, Command, GatewayReport, Heartbeat};
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::snapshot::Snapshot;
use holdline_core::time::Moment;

use crate::admin::api::{EventBody, SessionBody};
use crate::admin::{Answering, CommandFailure, MetricsText, Plane, SessionQuery, Sessions, Stopped};
use crate::controller::{self, Control, ControlError, DataPlane, EndOrder, Entry};
use crate::gateway::Gateway;
use crate::gateway::session::{SessionFilter, SessionInfo};
use crate::telemetry::Metrics;

/// The gateway, as the control plane needs it.
pub(super) fn data_plane(gateway: &Arc<Gateway>) -> Arc<dyn DataPlane> {
    Arc::new(GatewayPort(Arc::clone(gateway)))
}

/// The gateway, as the admin API needs it.
pub(super) fn sessions(gateway: &Arc<Gateway>) -> Arc<dyn Sessions> {
    Arc::new(GatewayPort(Arc::clone(gateway)))
}

struct GatewayPort(Arc<Gateway>);

impl DataPlane for GatewayPort {
    fn adopt(&self, snapshot: &Snapshot) {
        self.0.adopt(snapshot);
    }

    fn report(&self) -> GatewayReport {
        self.0.report()
    }

    fn used(&self, fleet: &FleetName, backend: &BackendId) -> u32 {
        self.0.used(fleet, backend)
    }

    fn end_sessions<'a>(&'a self, order: &'a EndOrder) -> Pin<Box<dyn Future<Output = u32> + Send + 'a>> {
        let EndOrder { fleet, backend, count, mode, cause } = order;
        Box::pin(self.0.end_sessions(fleet, backend, *count, *mode, *cause))
    }
}

impl Sessions for GatewayPort {
    fn list(&self, query: SessionQuery) -> Answering<'_, Vec<SessionBody>> {
        let filter = SessionFilter { fleet: query.fleet, backend: query.backend, limit: Some(query.limit) };
        Box::pin(async move { self.0.sessions(filter).await.into_iter().map(session).collect() })
    }
}

fn session(info: SessionInfo) -> SessionBody {
    SessionBody {
        id: info.id.to_string(),
        kind: info.kind.as_str().to_owned(),
        fleet: info.fleet,
        backend: info.backend,
        client: info.client,
        age_ms: info.age_ms,
        idle_ms: info.idle_ms,
        bytes_in: info.bytes_in,
        bytes_out: info.bytes_out,
    }
}

impl Plane for Control {
    fn current(&self) -> Arc<Snapshot> {
        Control::current(self)
    }

    fn fresh(&self) -> Answering<'_, Result<Arc<Snapshot>, Stopped>> {
        Box::pin(async { Control::fresh(self).await.map_err(stopped) })
    }

    fn command(&self, command: Command) -> Answering<'_, Result<Answer, CommandFailure>> {
        Box::pin(async {
            Control::command(self, command).await.map_err(|error| match error {
                ControlError::Refused(why) => CommandFailure::Refused(why),
                ControlError::Stopped(_) => CommandFailure::Stopped(Stopped),
            })
        })
    }

    fn heartbeat(&self, fleet: FleetName, backend: BackendId, heartbeat: Heartbeat) -> Answering<'_, Result<(), Stopped>> {
        Box::pin(async move { Control::heartbeat(self, fleet, backend, heartbeat).await.map_err(stopped) })
    }

    fn events_after(&self, id: u64) -> Vec<EventBody> {
        let body = |Entry { id, at_unix_ms, notice }| EventBody { id, at_unix_ms, notice };
        self.events().since(id).into_iter().map(body).collect()
    }

    fn event_beyond(&self, id: u64) -> Answering<'_, Result<(), Stopped>> {
        let mut newest = self.events().subscribe();
        Box::pin(async move { newest.wait_for(|n| *n > id).await.map(|_| ()).map_err(|_| Stopped) })
    }
}

fn stopped(_: controller::Stopped) -> Stopped {
    Stopped
}

impl MetricsText for Metrics {
    fn render(&self, snapshot: &Snapshot, now: Moment) -> String {
        Metrics::render(self, snapshot, now)
    }

    fn bad_input(&self, reason: &'static str) {
        Metrics::bad_input(self, reason);
    }
}
