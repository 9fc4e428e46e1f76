//! One fleet: what is known of it.

use std::sync::Arc;
use std::time::Duration;

use crate::cause::Phase;
use crate::event::{Effect, Notice, NoticeKind};
use crate::ids::{BackendId, FleetName};
use crate::policy::FleetPolicy;
use crate::scale::{Decision, Scaler};
use crate::snapshot::FleetView;
use crate::time::Moment;
use crate::traffic::Meter;

use super::backend::Backend;
use super::backoff::Backoff;
use super::counters::Counters;
use super::rebalance::Rebalance;

/// Between two decisions of the autoscaler.
pub(super) const SCALE_EVERY: Duration = Duration::from_secs(1);

/// A child whose command changed is being replaced.
#[derive(Clone, Debug)]
pub(super) struct Replacement {
    /// Still starting.
    pub(super) new: BackendId,
    /// Drained when the new one is ready; meanwhile the autoscaler does not count it.
    pub(super) old: BackendId,
}

#[derive(Debug)]
pub(super) struct FleetState {
    pub(super) policy: Arc<FleetPolicy>,
    /// In the order in which they joined.
    pub(super) backends: Vec<Backend>,
    pub(super) queued: u32,
    pub(super) oldest_wait: Duration,
    pub(super) requests: u32,
    pub(super) counters: Counters,
    pub(super) meter: Meter,
    pub(super) scaler: Scaler,
    pub(super) decision: Arc<Decision>,
    /// What the operator fixed.
    pub(super) fixed: Option<u32>,
    pub(super) scale_at: Moment,
    pub(super) backoff: Backoff,
    pub(super) rebalance: Option<Rebalance>,
    /// Ids of started backends are `FLEET-N`; no N is used twice.
    pub(super) last_number: u64,
    pub(super) shutting_down: bool,
    /// It is not in the configuration any more.
    pub(super) leaving: bool,
    pub(super) replacement: Option<Replacement>,
    /// Effects not collected yet.
    pub(super) out: Vec<Effect>,
    revision: u64,
}

impl FleetState {
    /// Without backends; those that are started are numbered from behind `last_number`.
    pub(super) fn empty(policy: Arc<FleetPolicy>, last_number: u64, now: Moment) -> Self {
        FleetState {
            scaler: Scaler::new(&policy, now),
            policy,
            backends: Vec::new(),
            queued: 0,
            oldest_wait: Duration::ZERO,
            requests: 0,
            counters: Counters::default(),
            meter: Meter::default(),
            decision: Arc::default(),
            fixed: None,
            scale_at: now + SCALE_EVERY,
            backoff: Backoff::default(),
            rebalance: None,
            last_number,
            shutting_down: false,
            leaving: false,
            replacement: None,
            out: Vec::new(),
            revision: 0,
        }
    }

    pub(super) fn name(&self) -> &FleetName {
        &self.policy.name
    }

    /// Grows with every change that a snapshot shows.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn changed(&mut self) {
        self.revision += 1;
    }

    pub(super) fn is_elastic(&self) -> bool {
        self.policy.provider.is_elastic()
    }

    pub(super) fn position(&self, id: &BackendId) -> Option<usize> {
        self.backends.iter().position(|b| b.id == *id)
    }

    /// Backends that count: starting, ready, suspect.
    pub(super) fn counting(&self) -> usize {
        self.backends
            .iter()
            .filter(|b| !b.retiring && matches!(b.phase(), Phase::Starting | Phase::Ready | Phase::Suspect))
            .count()
    }

    /// Nothing was heard or done for `gap`, by no fault of the backends: no silence, pace or deadline runs over that time.
    pub(super) fn stood_still(&mut self, gap: Duration) {
        for backend in &mut self.backends {
            backend.health.stood_still(gap);
            backend.reported.stood_still(gap);
            if let Some(drain) = &mut backend.drain {
                drain.sessions.stood_still(gap);
            }
        }
        if let Some(rebalance) = &mut self.rebalance {
            rebalance.started = rebalance.started + gap;
            rebalance.parts.iter_mut().for_each(|p| p.sessions.stood_still(gap));
        }
        self.scaler.stood_still(gap);
        self.changed();
    }

    pub(super) fn shut_down(&mut self) {
        self.shutting_down = true;
        self.changed();
    }

    /// A backend's phase changed from `before`, and the reason; drains tell their own.
    pub(super) fn phase_changed(&mut self, at: usize, before: Phase, reason: &str) {
        let backend = &self.backends[at];
        let (id, phase) = (backend.id.clone(), backend.phase());
        if phase != before {
            self.notice(Some(&id), NoticeKind::Phase, format!("`{id}` was {before} and is {phase}: {reason}"));
        }
    }

    /// A line of the event log. While Holdline stops there are none: everything ends, and that is the reason.
    pub(super) fn notice(&mut self, backend: Option<&BackendId>, kind: NoticeKind, message: String) {
        self.changed();
        if !self.shutting_down {
            let fleet = Some(self.policy.name.clone());
            self.out.push(Effect::Notice(Notice { fleet, backend: backend.cloned(), kind, message }));
        }
    }

    pub(super) fn view(&self) -> FleetView {
        FleetView {
            policy: Arc::clone(&self.policy),
            backends: self.backends.iter().map(Backend::view).collect(),
            queued: self.queued,
            oldest_wait: self.oldest_wait,
            decision: Arc::clone(&self.decision),
            scale_to: self.fixed,
            rebalance: self.rebalance.as_ref().map(|r| r.view(&self.backends)),
            traffic: self.meter.traffic(),
            leaving: self.leaving,
        }
    }
}
