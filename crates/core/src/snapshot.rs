//! The one truth that gateway, admin API, metrics, page and CLI read. Immutable, swapped in whole.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::cause::{EndCause, Phase};
use crate::ids::{BackendId, FleetName};
use crate::policy::{DrainMode, FleetPolicy};
use crate::scale::Decision;
use crate::time::Moment;
use crate::traffic::Traffic;

/// Everything that is known at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Grows with every change, save of [`BackendView::heartbeat_at`].
    pub version: u64,
    /// When it was made.
    pub at: Moment,
    /// In the configuration's order.
    pub fleets: Vec<FleetView>,
    /// Holdline itself is stopping.
    pub shutting_down: bool,
}

impl Snapshot {
    /// The fleet of this name.
    pub fn fleet(&self, name: &str) -> Option<&FleetView> {
        self.fleets.iter().find(|f| f.name().as_str() == name)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct FleetView {
    /// What its owner decided.
    pub policy: Arc<FleetPolicy>,
    /// In the order in which they joined.
    pub backends: Vec<BackendView>,
    /// Handshakes that wait.
    pub queued: u32,
    /// How long the first of them has waited.
    pub oldest_wait: Duration,
    /// The last decision of the autoscaler, with its inputs and reason.
    pub decision: Arc<Decision>,
    /// What the operator fixed, if anything.
    pub scale_to: Option<u32>,
    /// A rebalance under way.
    pub rebalance: Option<MoveView>,
    /// What passes through it.
    pub traffic: Traffic,
    /// It is not in the configuration any more: it takes nobody, and is gone when its last backend is.
    pub leaving: bool,
}

impl FleetView {
    pub fn name(&self) -> &FleetName {
        &self.policy.name
    }

    /// The backend of this id.
    pub fn backend(&self, id: &str) -> Option<&BackendView> {
        self.backends.iter().find(|b| b.id.as_str() == id)
    }

    /// Seats taken on all backends.
    pub fn sessions(&self) -> u64 {
        self.backends.iter().map(|b| u64::from(b.sessions)).sum()
    }

    /// Capacity of the backends that take sessions; `None` when one of them has no limit.
    pub fn capacity(&self) -> Option<u64> {
        self.placeable().map(|b| b.capacity.map(u64::from)).sum()
    }

    /// Seats free on the backends that take sessions; `None` when one of them has no limit.
    pub fn free(&self) -> Option<u64> {
        self.placeable().map(|b| b.capacity.map(|c| u64::from(c.saturating_sub(b.taken())))).sum()
    }

    fn placeable(&self) -> impl Iterator<Item = &BackendView> {
        self.backends.iter().filter(|b| b.phase == Phase::Ready)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct BackendView {
    /// Its stable id.
    pub id: BackendId,
    /// Where it listens; not known before its provider started it.
    pub address: Option<SocketAddr>,
    /// What it is doing.
    pub phase: Phase,
    /// Seats taken through Holdline, by its own exact count.
    pub sessions: u32,
    /// Sessions beyond those, by the backend's own report: they take seats too.
    pub foreign: u32,
    /// The lower of configured and reported; `None`: no limit.
    pub capacity: Option<u32>,
    /// Seats that the gateway may fill: zero unless ready. The gateway obeys this before it shows the snapshot to anybody.
    pub limit: u32,
    /// What the backend last reported.
    pub reported: Option<u32>,
    /// Plain requests in flight.
    pub requests: u32,
    /// When it was last heard; `None`: never. As of [`Snapshot::at`], and alone no reason for another snapshot.
    pub heartbeat_at: Option<Moment>,
    /// When it joined.
    pub since: Moment,
    /// A drain under way or done.
    pub drain: Option<MoveView>,
    /// Counter: sessions that were moved off it by drains and rebalances.
    pub moved_total: u64,
}

impl BackendView {
    /// Seats taken by whomever.
    pub fn taken(&self) -> u32 {
        self.sessions.saturating_add(self.foreign)
    }
}

/// A drain or rebalance under way.
#[derive(Clone, Debug, PartialEq)]
pub struct MoveView {
    pub started: Moment,
    /// Sessions there were to move.
    pub total: u32,
    /// Sessions left to move.
    pub remaining: u32,
    /// Sessions that its plan would have left by now.
    pub planned: u32,
    /// When it should be done.
    pub due: Moment,
    /// What is left then is cut.
    pub deadline: Moment,
    pub mode: DrainMode,
    /// The cause its sessions record.
    pub cause: EndCause,
    /// Sessions that were cut because they were left at the deadline, by the gateway's count of causes.
    pub cut: u32,
}
