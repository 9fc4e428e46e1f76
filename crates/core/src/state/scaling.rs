//! How many backends there are: what the autoscaler decides is done here, and what it sees is gathered here.

use std::sync::Arc;
use std::time::Duration;

use crate::cause::Phase;
use crate::event::{Effect, FleetCounts, NoticeKind};
use crate::health::{Health, Standing};
use crate::ids::BackendId;
use crate::scale::{BackendLoad, Decision, Observation};
use crate::time::Moment;

use super::backend::{Backend, Owners};
use super::fleet::Fleet;
use super::reload::patience;

/// Between two decisions.
pub(super) const SCALE_EVERY: Duration = Duration::from_secs(1);

/// The gateway's counters: their last values, and what they grew by since the last decision.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    last: Option<Totals>,
    grown: Totals,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    admitted: u64,
    ended: u64,
    refused: u64,
    knocked: u64,
    /// Counted here, not by the gateway: sessions that were told to leave.
    moved: u64,
}

impl Counters {
    pub(super) fn take(&mut self, counts: &FleetCounts) {
        let now = Totals {
            admitted: counts.admitted_total,
            ended: counts.ended_total,
            refused: counts.refused_total,
            knocked: counts.knocked_total,
            moved: 0,
        };
        // Counters start at zero with the gateway, as State does.
        let last = self.last.replace(now).unwrap_or_default();
        self.grown.admitted += now.admitted.saturating_sub(last.admitted);
        self.grown.ended += now.ended.saturating_sub(last.ended);
        self.grown.refused += now.refused.saturating_sub(last.refused);
        self.grown.knocked += now.knocked.saturating_sub(last.knocked);
    }

    /// So many sessions were told to leave, to come back elsewhere.
    pub(super) fn moved(&mut self, sessions: u32) {
        self.grown.moved += u64::from(sessions);
    }
}

impl Fleet {
    /// Backends that count: starting, ready, suspect.
    pub(super) fn counting(&self) -> usize {
        self.backends
            .iter()
            .filter(|b| !b.retiring && matches!(b.phase(), Phase::Starting | Phase::Ready | Phase::Suspect))
            .count()
    }

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
            knocked: grown.knocked,
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
        let knocked = self.queued > 0 || self.counters.grown.knocked > 0;
        let forbidden = self.shutting_down || self.leaving || !self.is_elastic() || self.fixed == Some(0);
        if !knocked || forbidden || self.counting() > 0 {
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

    /// Starts a backend; returns its id.
    pub(super) fn start(&mut self, reason: &str, now: Moment) -> BackendId {
        let id = self.next_id();
        let policy = Arc::clone(&self.policy);
        let health = Health::new(&policy.heartbeat, patience(&policy, true), now);
        self.out.push(Effect::Start { fleet: policy.name.clone(), backend: id.clone(), policy: Arc::clone(&policy) });
        let backend = Backend::new(id.clone(), None, policy.capacity, health, now);
        self.join(Backend { started_by: Some(policy), ..backend }, &format!("it is started: {reason}"));
        id
    }

    /// An id that no backend has had, nor one that somebody else runs has now.
    fn next_id(&mut self) -> BackendId {
        loop {
            self.last_number += 1;
            let id = BackendId::from(format!("{}-{}", self.name(), self.last_number));
            if self.position(&id).is_none() {
                return id;
            }
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
