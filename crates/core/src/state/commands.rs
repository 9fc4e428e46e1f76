//! What operators ask of a fleet.

use crate::cause::Phase;
use crate::drain::{Move, Pace};
use crate::event::{Answer, CommandError, MoveRequest, NoticeKind, Share};
use crate::ids::BackendId;
use crate::rebalance::{Load, targets};
use crate::time::Moment;

use super::backend::{Backend, Owners};
use super::fleet::FleetState;
use super::rebalance::{Part, Rebalance};

impl FleetState {
    pub(super) fn drain(&mut self, id: &BackendId, request: &MoveRequest, now: Moment) -> Result<Answer, CommandError> {
        let at = self.known(id)?;
        let backend = &self.backends[at];
        if backend.phase() == Phase::Dead {
            return Err(wrong_phase(
                backend.phase(),
                id,
                "nothing can be moved off it; its sessions end when their connections fail",
            ));
        }
        if backend.retiring {
            return Err(wrong_phase(backend.phase(), id, "it is empty and being stopped already, so there is nothing to do"));
        }
        let pace = self.pace(request, backend.used)?;
        let from = vec![Share { backend: id.clone(), sessions: backend.used }];
        let plan = self.plan(from, &pace, true, request.dry_run, now);
        if !request.dry_run {
            self.start_drain(at, pace, Owners::OPERATOR, "an operator asks for it", now);
        }
        Ok(Answer::Plan(plan))
    }

    pub(super) fn undrain(&mut self, id: &BackendId) -> Result<Answer, CommandError> {
        let at = self.known(id)?;
        let backend = &self.backends[at];
        let phase = backend.phase();
        let remedy = if backend.drain.as_ref().is_some_and(|d| d.owners.config) {
            Some("it goes for good, for the configuration changed: put it back there and reload".to_owned())
        } else if backend.retiring {
            Some(format!("it is being stopped: start another with `holdline scale {} --to N`", self.name()))
        } else if backend.asks_drain {
            Some("it asks for the drain itself in its heartbeats: make it report \"ready\"".to_owned())
        } else if backend.drain.is_none() {
            Some("it is not being drained, so there is nothing to take back".to_owned())
        } else {
            None
        };
        if let Some(remedy) = remedy {
            return Err(wrong_phase(phase, id, &remedy));
        }
        let given_up = self.backends[at].drain.as_ref().is_some_and(|d| d.owners.scale);
        let everybody = Owners { operator: true, backend: true, scale: true, config: false };
        self.give_up_drain(at, everybody, "an operator asks for it");
        let mut message = format!("`{id}` is {}", self.backends[at].phase());
        if given_up {
            // Nothing has changed for the autoscaler, so its next decision may be the same.
            message += &format!(
                "; the autoscaler had given it up and may do so again: `holdline scale {} --to N` fixes the number",
                self.name()
            );
        }
        Ok(Answer::Done { message })
    }

    pub(super) fn rebalance(&mut self, request: &MoveRequest, now: Moment) -> Result<Answer, CommandError> {
        let ready: Vec<usize> = (0..self.backends.len()).filter(|&at| self.backends[at].phase() == Phase::Ready).collect();
        if ready.len() < 2 {
            let (fleet, n) = (self.name(), ready.len());
            return Err(CommandError::Invalid(format!(
                "fleet `{fleet}` has {n} ready backends and a rebalance needs two: scale it up, or wait until another is ready"
            )));
        }
        let load = |at: &usize| {
            let b = &self.backends[*at];
            Load { sessions: b.used, foreign: b.foreign(), capacity: b.capacity() }
        };
        let targets = targets(&ready.iter().map(load).collect::<Vec<_>>());
        let fuller: Vec<(usize, u32)> = ready.into_iter().zip(targets).filter(|(at, t)| self.backends[*at].used > *t).collect();
        let leaving = |b: &Backend| self.rebalance.as_ref().map_or(0, |r| r.leaving(&b.id));
        // Those who were told to go by the rebalance under way are on their way already.
        let parts = fuller.iter().map(|(at, target)| {
            let b = &self.backends[*at];
            let (total, leaving) = (b.used - target, leaving(b).min(b.used - target));
            (Share { backend: b.id.clone(), sessions: total - leaving }, *target, leaving)
        });
        let parts: Vec<(Share, u32, u32)> = parts.collect();
        let shares: Vec<Share> = parts.iter().map(|(share, ..)| share).filter(|s| s.sessions > 0).cloned().collect();
        let n = shares.iter().map(|s| s.sessions).sum();
        let pace = self.pace(request, n)?;
        let plan = self.plan(shares, &pace, false, request.dry_run, now);
        if !request.dry_run && n > 0 {
            let parts = parts.into_iter().map(|(share, target, leaving)| {
                // Each part gets its share of the rate, so that all end together.
                let rate_max = pace.rate_max.map(|max| max * f64::from(share.sessions) / f64::from(n));
                let sessions = Move::rebalance(Pace { rate_max, ..pace }, share.sessions + leaving, leaving, now);
                Part { backend: share.backend, target, sessions }
            });
            self.rebalance = Some(Rebalance { pace, started: now, parts: parts.collect() });
            let message = format!("an operator asks to even out the fleet: {n} sessions move over {:.1?}", pace.over);
            self.notice(None, NoticeKind::RebalanceStarted, message);
        }
        Ok(Answer::Plan(plan))
    }

    pub(super) fn fix_scale(&mut self, to: Option<u32>, now: Moment) -> Result<Answer, CommandError> {
        let (min, max) = (self.policy.scale.min, self.policy.scale.max);
        let fleet = self.name().clone();
        if self.leaving {
            return Err(CommandError::Invalid(format!(
                "fleet `{fleet}` is not in the configuration any more and goes when its sessions have left: put it back there and reload"
            )));
        }
        if !self.is_elastic() {
            return Err(CommandError::Invalid(format!(
                "fleet `{fleet}` is static: Holdline cannot start or stop its backends; change fleets.{fleet}.backends.static instead"
            )));
        }
        if let Some(n) = to.filter(|n| *n < min || *n > max) {
            return Err(CommandError::Invalid(format!(
                "{n} backends are outside of scale.min = {min} to scale.max = {max} of fleet `{fleet}`: \
                 choose a number between them, or change them"
            )));
        }
        self.fixed = to;
        self.scale_at = now;
        let message = match to {
            Some(n) => format!("the fleet is fixed at {n} backends by an operator; it has {}", self.counting()),
            None => format!("the autoscaler decides again; the fleet has {} backends", self.counting()),
        };
        self.notice(None, NoticeKind::Scale, message.clone());
        Ok(Answer::Done { message })
    }

    fn known(&self, id: &BackendId) -> Result<usize, CommandError> {
        self.position(id).ok_or_else(|| CommandError::UnknownBackend {
            fleet: self.name().clone(),
            backend: id.clone(),
            known: match self.backends.is_empty() {
                true => "none at present".to_owned(),
                false => self.backends.iter().map(|b| b.id.as_str()).collect::<Vec<_>>().join(", "),
            },
        })
    }
}

fn wrong_phase(phase: Phase, id: &BackendId, remedy: &str) -> CommandError {
    CommandError::WrongPhase { backend: id.clone(), phase, remedy: remedy.to_owned() }
}
