//! A data plane that a test drives.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::cause::Phase;
use holdline_core::drain::EndOrder;
use holdline_core::event::{BackendCounts, FleetCounts, GatewayReport};
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::policy::{FleetPolicy, HeartbeatPolicy, Probe, ProviderPolicy};
use holdline_core::scale::Decision;
use holdline_core::snapshot::{BackendView, FleetView, Snapshot};
use holdline_core::time::Moment;
use holdline_core::traffic::{Totals, Traffic};
use parking_lot::Mutex;

use super::DataPlane;
use crate::test_policy as policy;

/// Counts that a test sets, limits that State set, orders that arrived.
#[derive(Default)]
pub(super) struct FakePlane {
    pub(super) inner: Mutex<Inner>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) used: Vec<(FleetName, BackendId, u32)>,
    pub(super) adopted: Vec<Arc<Snapshot>>,
    pub(super) ended: Vec<(FleetName, BackendId, EndOrder)>,
    pub(super) admitted_total: u64,
    pub(super) ended_total: u64,
}

impl FakePlane {
    /// Sets the count of one backend.
    pub(super) fn hold(&self, fleet: &str, backend: &str, used: u32) {
        let mut inner = self.inner.lock();
        inner.used.retain(|(f, b, _)| f.as_str() != fleet || b.as_str() != backend);
        inner.used.push((fleet.into(), backend.into(), used));
    }

    pub(super) fn limit(&self, fleet: &str, backend: &str) -> u32 {
        let inner = self.inner.lock();
        let fleet = inner.adopted.last().and_then(|s| s.fleet(fleet));
        fleet.and_then(|f| f.backend(backend)).map_or(0, |b| b.limit)
    }
}

impl DataPlane for FakePlane {
    fn adopt(&self, snapshot: &Snapshot) {
        self.inner.lock().adopted.push(Arc::new(snapshot.clone()));
    }

    fn report(&self) -> GatewayReport {
        let inner = self.inner.lock();
        let mut fleets: Vec<FleetCounts> = Vec::new();
        for (fleet, backend, used) in &inner.used {
            let at = fleets.iter().position(|f| f.fleet == *fleet).unwrap_or_else(|| {
                fleets.push(FleetCounts {
                    fleet: fleet.clone(),
                    backends: Vec::new(),
                    queued: 0,
                    oldest_wait: Duration::ZERO,
                    admitted_total: inner.admitted_total,
                    ended_total: inner.ended_total,
                    refused_total: 0,
                    no_backend_total: 0,
                    requests: 0,
                    totals: Totals::default(),
                });
                fleets.len() - 1
            });
            let backend = backend.clone();
            fleets[at].backends.push(BackendCounts {
                backend,
                used: *used,
                former: Vec::new(),
                requests: 0,
                moved_total: 0,
                lost_total: 0,
                cut_total: 0,
            });
        }
        GatewayReport { fleets }
    }

    fn used(&self, fleet: &FleetName, backend: &BackendId) -> u32 {
        self.inner.lock().used.iter().find(|(f, b, _)| f == fleet && b == backend).map_or(0, |(.., used)| *used)
    }

    fn end_sessions<'a>(
        &'a self,
        fleet: &'a FleetName,
        backend: &'a BackendId,
        order: EndOrder,
    ) -> Pin<Box<dyn Future<Output = u32> + Send + 'a>> {
        let mut inner = self.inner.lock();
        inner.ended.push((fleet.clone(), backend.clone(), order));
        inner.ended_total += u64::from(order.count);
        let used = inner.used.iter_mut().find(|(f, b, _)| f == fleet && b == backend);
        let ended = used.map_or(0, |(.., used)| {
            let ended = order.count.min(*used);
            *used -= ended;
            ended
        });
        Box::pin(std::future::ready(ended))
    }
}

/// A fleet `chat` that is probed in this way.
pub(super) fn fleet(probe: Probe, interval: Duration, timeout: Duration) -> Arc<FleetPolicy> {
    let fleet = policy::fleet("chat", ProviderPolicy::Static(Vec::new()));
    let heartbeat = HeartbeatPolicy { probe, interval, timeout, ..fleet.heartbeat };
    Arc::new(FleetPolicy { heartbeat, ..fleet })
}

/// A snapshot with these backends in it.
pub(super) fn snapshot(policy: &Arc<FleetPolicy>, backends: &[(&str, SocketAddr, Phase)]) -> Arc<Snapshot> {
    let view = |(id, address, phase): &(&str, SocketAddr, Phase)| BackendView {
        id: (*id).into(),
        address: Some(*address),
        phase: *phase,
        sessions: 0,
        foreign: 0,
        capacity: None,
        limit: 0,
        reported: None,
        requests: 0,
        heartbeat_at: None,
        since: Moment::START,
        drain: None,
        moved_total: 0,
    };
    let fleet = FleetView {
        policy: Arc::clone(policy),
        backends: backends.iter().map(view).collect(),
        queued: 0,
        oldest_wait: Duration::ZERO,
        decision: Arc::new(Decision::default()),
        scale_to: None,
        rebalance: None,
        traffic: Traffic::default(),
        leaving: false,
    };
    Arc::new(Snapshot { version: 1, at: Moment::START, fleets: vec![fleet], shutting_down: false })
}
