//! One fleet: what is known of it, and what follows as time passes.

use std::sync::Arc;
use std::time::Duration;

use crate::cause::Phase;
use crate::event::{Effect, Notice, NoticeKind};
use crate::ids::{BackendId, FleetName};
use crate::policy::{FleetPolicy, ProviderPolicy};
use crate::scale::{Decision, Scaler};
use crate::snapshot::FleetView;
use crate::time::Moment;
use crate::traffic::Meter;

use super::backend::Backend;
use super::backoff::Backoff;
use super::moves::Rebalance;
use super::roll::Replacement;
use super::scaling::{Counters, SCALE_EVERY};

/// One fleet.
#[derive(Debug)]
pub(super) struct Fleet {
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
    /// A child whose command changed is being replaced.
    pub(super) replacement: Option<Replacement>,
    /// Effects not collected yet.
    pub(super) out: Vec<Effect>,
    revision: u64,
}

impl Fleet {
    pub(super) fn new(policy: Arc<FleetPolicy>, now: Moment) -> Self {
        Self::numbered(policy, 0, now)
    }

    /// A fleet whose backends are numbered from behind `last_number`.
    pub(super) fn numbered(policy: Arc<FleetPolicy>, last_number: u64, now: Moment) -> Self {
        let mut fleet = Fleet {
            scaler: Scaler::new(&policy, now),
            policy: Arc::clone(&policy),
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
        };
        match &policy.provider {
            ProviderPolicy::Static(_) => fleet.join_missing(now),
            ProviderPolicy::Process(_) => {
                for _ in 0..policy.scale.min {
                    fleet.start("a fleet begins with scale.min backends", now);
                }
            }
        }
        fleet
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

    /// Every 100 ms.
    pub(super) fn tick(&mut self, now: Moment) {
        for at in 0..self.backends.len() {
            // One that was told to stop falls silent, and that is no news.
            if self.backends[at].retiring {
                continue;
            }
            if let Some(change) = self.backends[at].health.tick(now) {
                self.health_changed(at, change, now);
            }
            self.backoff_sees(at, now);
        }
        self.finish_drains(now);
        self.step_drains(now);
        self.step_rebalance(now);
        self.roll(now);
        self.scale(now);
    }

    pub(super) fn shut_down(&mut self) {
        self.shutting_down = true;
        self.changed();
    }

    /// A backend joins.
    pub(super) fn join(&mut self, backend: Backend, reason: &str) {
        let id = backend.id.clone();
        self.backends.push(backend);
        self.notice(Some(&id), NoticeKind::BackendAdded, format!("`{id}` joins: {reason}"));
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
