//! How many backends to run, and which to give up. Stub: owner replaces bodies, keeps the signatures.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::cause::Phase;
use crate::ids::BackendId;
use crate::policy::FleetPolicy;
use crate::time::Moment;

/// What the autoscaler remembers of one fleet: averages, windows, start-up times.
#[derive(Clone, Debug)]
pub struct Scaler {}

/// A fleet as it stands, once a tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Every backend that is not dead.
    pub backends: Vec<BackendLoad>,
    /// Handshakes that wait.
    pub queued: u32,
    /// How long the first of them has waited.
    pub oldest_wait: Duration,
    /// Sessions admitted since the last observation.
    pub admitted: u64,
    /// Sessions ended since the last observation.
    pub ended: u64,
    /// Refusals for want of a seat since the last observation.
    pub refused: u64,
    /// Requests or handshakes that found no backend since the last observation.
    pub knocked: u64,
    /// Plain requests in flight or waiting.
    pub requests: u32,
    /// What the operator fixed (`scale --to N`), if anything.
    pub fixed: Option<u32>,
}

/// One backend, as the autoscaler sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendLoad {
    /// Its id.
    pub id: BackendId,
    /// What it is doing.
    pub phase: Phase,
    /// Whether a drain under way was the autoscaler's own (and may be taken back), not an operator's or the backend's.
    pub draining_for_scale: bool,
    /// Seats taken.
    pub sessions: u32,
    /// The lower of configured and reported; `None`: no limit.
    pub capacity: Option<u32>,
}

/// What to do, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Decision {
    /// Backends there should be.
    pub desired: u32,
    /// Backends that count at present: starting, ready, suspect.
    pub current: u32,
    /// For people: one sentence with the figures.
    pub reason: String,
    /// What kept `desired` from being what the need asked for: `min`, `max`, `stabilization`, `behavior`, `queue`, `fixed`, `no_room`, `static`.
    pub limited_by: Option<&'static str>,
    /// Draining backends to take back, before anything is created.
    pub undrain: Vec<BackendId>,
    /// How many to start.
    pub start: u32,
    /// Which to drain, and retire when empty.
    pub victims: Vec<BackendId>,
    /// The figures behind it, by name (`sessions`, `queued`, `arrivals_per_s`, `departure_rate`, `startup_p95_ms`, `need`, …).
    pub inputs: BTreeMap<&'static str, f64>,
}

impl Scaler {
    /// Nothing seen yet; the start-up prior is that of `policy`'s provider.
    pub fn new(_policy: &FleetPolicy, _now: Moment) -> Self {
        unimplemented!()
    }

    /// A backend became ready this long after it was started.
    pub fn started_up(&mut self, _took: Duration) {
        unimplemented!()
    }

    /// The decision for this tick (once a second).
    pub fn decide(&mut self, _seen: &Observation, _policy: &FleetPolicy, _now: Moment) -> Decision {
        unimplemented!()
    }
}
