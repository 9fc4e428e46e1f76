//! How many backends there are: what the autoscaler decides is done here, and what it sees is gathered here.

use std::sync::Arc;

use crate::cause::Phase;
use crate::event::NoticeKind;
use crate::health::Standing;
use crate::ids::BackendId;
use crate::scale::{BackendLoad, Decision, Observation};
use crate::time::Moment;

use super::backend::{Backend, Owners};
use super::fleet::{FleetState, SCALE_EVERY};

impl FleetState {
    /// Once a second: asks the autoscaler and does what it says.
    pub(super) fn scale(&mut self, now: Moment) {
        self.wake(now);
        if self.shutting_down || self.leaving || now < self.scale_at {
            return;
        }
        self.scale_at = now + SCALE_EVERY;
        let seen = self.observe();
        let decision = self.scaler.decide(&seen, &self.policy, now);
        if self.is_elastic() {
            self.obey(&decision, now);
        } else {
            self.advise(&decision);
        }
        if *self.decision != decision {
            self.decision = Arc::new(decision);
            self.changed();
        }
    }

    fn observe(&mut self) -> Observation {
        let grown = std::mem::take(&mut self.counters.grown);
        // One whose successor starts already is as good as gone: the two count as one.
        let replaced = |b: &Backend| self.replacement.as_ref().is_some_and(|r| r.old == b.id);
        let load = |b: &Backend| match b.load() {
            load if replaced(b) && load.phase != Phase::Drained => BackendLoad { phase: Phase::Draining, ..load },
            load => load,
        };
        Observation {
            backends: self.backends.iter().filter(|b| b.phase() != Phase::Dead).map(load).collect(),
            queued: self.queued,
            oldest_wait: self.oldest_wait,
            admitted: grown.admitted,
            ended: grown.ended,
            moved: grown.moved,
            refused: grown.refused,
            no_backend: grown.no_backend,
            requests: self.requests,
            fixed: self.fixed,
        }
    }

    fn obey(&mut self, decision: &Decision, now: Moment) {
        let starts = if self.backoff.allows(now) { decision.start } else { 0 };
        if starts > 0 || !decision.undrain.is_empty() || !decision.victims.is_empty() {
            self.notice(None, NoticeKind::Scale, decision.reason.clone());
        }
        // The reason was told in full; each backend's line names the decision.
        let reason = format!("the autoscaler wants {} backends", decision.desired);
        for id in &decision.undrain {
            self.take_back(id, &reason);
        }
        for _ in 0..starts {
            self.start(&reason, now);
        }
        for id in &decision.victims {
            self.give_up(id, &reason, now);
        }
    }

    /// Nothing can be started here; people are told when the advice changes.
    fn advise(&mut self, decision: &Decision) {
        let Decision { current, desired, reason, .. } = decision;
        if desired != current && *desired != self.decision.desired {
            self.notice(
                None,
                NoticeKind::Scale,
                format!("advice, for this fleet is static: {current} → {desired} backends: {reason}"),
            );
        }
    }

    /// Somebody waits at a fleet without backends: one comes at once, by taking back a drain if there is one.
    pub(super) fn wake(&mut self, now: Moment) {
        let no_backend = self.queued > 0 || self.counters.grown.no_backend > 0;
        let forbidden = self.shutting_down || self.leaving || !self.is_elastic() || self.fixed == Some(0);
        if !no_backend || forbidden || self.counting() > 0 {
            return;
        }
        let reason = "a client waits and no backend runs";
        let back = self.backends.iter().find(|b| b.drained_for_scale()).map(|b| b.id.clone());
        if let Some(id) = back {
            self.take_back(&id, reason);
        } else if self.backoff.allows(now) {
            let id = self.start(reason, now);
            self.notice(None, NoticeKind::Scale, format!("0 → 1 backends: {reason}; `{id}` is started"));
        }
    }

    fn take_back(&mut self, id: &BackendId, reason: &str) {
        if let Some(at) = self.position(id).filter(|&at| self.backends[at].drained_for_scale()) {
            self.give_up_drain(at, Owners::SCALE, reason);
        }
    }

    /// Drains a backend and has it stopped when it is empty. An operator's drain is left alone.
    fn give_up(&mut self, id: &BackendId, reason: &str, now: Moment) {
        let free_to_go = |b: &Backend| !b.retiring && b.drain.as_ref().is_none_or(|d| !d.owners.operator && !d.owners.scale);
        let Some(at) = self.position(id).filter(|&at| free_to_go(&self.backends[at])) else { return };
        let pace = self.default_pace(self.backends[at].used);
        self.start_drain(at, pace, Owners::SCALE, reason, now);
    }

    /// A backend that stays ready shows that starts succeed.
    pub(super) fn backoff_sees(&mut self, at: usize, now: Moment) {
        let health = &self.backends[at].health;
        if health.standing() == Standing::Ready {
            self.backoff.ready(health.since(), now);
        }
    }
}
