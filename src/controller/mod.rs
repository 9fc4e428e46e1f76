//! The control plane around `holdline_core::state::State`: one task owns it, others send events and execute effects.
//!
//! ```text
//! prober, gateway, providers ──Event──► State task ──adopt──► data plane
//! admin ──────────Command, fresh──────►     │ ├──Snapshot──► Control::current, prober, metrics
//!                                           │ └──Notice────► EventLog
//!                                           └──Effect──► drainer, providers
//! ```

mod control;
mod drainer;
mod event_log;
#[cfg(test)]
mod fake;
mod probe;
mod prober;
mod report;
mod state_task;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use holdline_core::drain::EndOrder;
use holdline_core::event::GatewayReport;
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::snapshot::Snapshot;

use crate::net::tls::Connector;

pub use control::{Adopt, Control, ControlError, Stopped};
pub use drainer::drain;
pub use event_log::{EventLog, LoggedEvent};
pub use prober::Prober;
pub use report::{BadReport, REPORT_MAX, read_report};
pub use state_task::{Outlets, StateTask};

/// What the control plane needs of a gateway.
pub trait DataPlane: Send + Sync {
    /// Applies `snapshot` before it returns: limits are set, backends have joined or left.
    fn adopt(&self, snapshot: &Snapshot);

    /// The counts, as of now.
    fn report(&self) -> GatewayReport;

    /// Seats currently taken at a backend's address, under any id and fleet; zero if the backend is unknown.
    fn used(&self, fleet: &FleetName, backend: &BackendId) -> u32;

    /// TLS to the backends of `fleet`; `None`: plain text.
    fn connector(&self, _fleet: &FleetName) -> Option<Arc<Connector>> {
        None
    }

    /// Ends `order.count` sessions of a backend, idle ones first, then the oldest; returns how many it began to end.
    fn end_sessions<'a>(
        &'a self,
        fleet: &'a FleetName,
        backend: &'a BackendId,
        order: EndOrder,
    ) -> Pin<Box<dyn Future<Output = u32> + Send + 'a>>;
}
