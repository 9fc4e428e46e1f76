//! Another configuration: fleets come and go, and those that stay take their new policy, backend by backend.
//!
//! A backend that the new policy does not have is drained as the old one said, and goes when it is empty; so a fleet that went is a fleet
//! whose backends all go. What a backend is (a child of ours or not) is asked of the backend, for a fleet's provider may change.

use std::sync::Arc;

use crate::event::{AddressCount, Effect, Notice, NoticeKind};
use crate::health::{Health, Patience};
use crate::policy::{FleetPolicy, ProcessPolicy, ProviderPolicy, StaticBackend};
use crate::scale::{Decision, Scaler};
use crate::time::Moment;

use super::State;
use super::backend::{Backend, Owners};
use super::backoff::Backoff;
use super::fleet::Fleet;

impl State {
    /// Takes the fleets of another configuration.
    pub(super) fn configure(&mut self, policies: Vec<Arc<FleetPolicy>>, now: Moment) {
        if self.shutting_down {
            return;
        }
        for fleet in &mut self.fleets {
            match policies.iter().find(|p| p.name == *fleet.name()) {
                Some(policy) => fleet.configure(policy, now),
                None => fleet.leave(now),
            }
        }
        for policy in &policies {
            if self.fleets.iter().all(|f| *f.name() != policy.name) {
                let number = self.numbers.remove(&policy.name).unwrap_or_default();
                self.fleets.push(Fleet::numbered(Arc::clone(policy), number, now));
            }
        }
        // In the order of the configuration; those that go come last.
        self.fleets.sort_by_key(|f| policies.iter().position(|p| p.name == *f.name()).unwrap_or(usize::MAX));
        self.past += 1;
    }

    /// Forgets the fleets that went and are empty.
    pub(super) fn forget_gone(&mut self) {
        let is_gone = |f: &Fleet| f.leaving && f.backends.is_empty();
        for fleet in self.fleets.iter().filter(|f| is_gone(f)) {
            // A snapshot's version is a sum, and must not fall.
            self.past += fleet.revision() + 1;
            self.numbers.insert(fleet.name().clone(), fleet.last_number);
            if !self.shutting_down {
                let message =
                    format!("fleet `{}` is gone: it is not in the configuration and its last backend left", fleet.name());
                let notice =
                    Notice { fleet: Some(fleet.name().clone()), backend: None, kind: NoticeKind::ConfigReloaded, message };
                self.effects.push(Effect::Notice(notice));
            }
        }
        self.fleets.retain(|f| !is_gone(f));
    }
}

impl Fleet {
    /// Takes another policy. What goes with the old one goes by the old one's rules.
    pub(super) fn configure(&mut self, policy: &Arc<FleetPolicy>, now: Moment) {
        if *self.policy == **policy && !self.leaving {
            return;
        }
        self.leaving = false;
        let going: Vec<usize> = (0..self.backends.len()).filter(|at| !self.backends[*at].is_wanted(policy)).collect();
        for at in going {
            self.let_go(at, "it is not in the configuration any more", now);
        }
        let old = std::mem::replace(&mut self.policy, Arc::clone(policy));
        for at in 0..self.backends.len() {
            let backend = &mut self.backends[at];
            if !backend.is_wanted(policy) {
                continue;
            }
            backend.configure(&old, policy, now);
            // One that was replaced for its command stays replaced.
            if !backend.is_outdated(policy) {
                self.give_up_drain(at, Owners::CONFIG, "it is in the configuration again");
            }
        }
        self.change_provider(&old, now);
        self.join_missing(now);
        self.keep_fixed_within_bounds();
        // The autoscaler decides by the new policy at the next tick.
        self.scale_at = now;
        self.changed();
        self.finish_drains(now);
    }

    /// The fleet is not in the configuration any more: its backends are drained as it said, and then it is gone.
    pub(super) fn leave(&mut self, now: Moment) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        self.fixed = None;
        self.rebalance = None;
        self.replacement = None;
        self.backends.iter_mut().for_each(|b| b.ceiling = None);
        let reason = "the fleet is not in the configuration any more".to_owned();
        self.decision = Arc::new(Decision { current: self.counting() as u32, reason, ..Decision::default() });
        for at in 0..self.backends.len() {
            self.let_go(at, "its fleet is not in the configuration any more", now);
        }
        self.changed();
        self.finish_drains(now);
    }

    /// Drains a backend for good. One that is drained already keeps its pace.
    pub(super) fn let_go(&mut self, at: usize, reason: &str, now: Moment) {
        let pace = self.default_pace(self.backends[at].used);
        self.start_drain(at, pace, Owners::CONFIG, reason, now);
    }

    /// Joins the static backends of the policy that are not there. One whose id is still borne by what goes joins when that is gone.
    pub(super) fn join_missing(&mut self, now: Moment) {
        if self.leaving {
            return;
        }
        let policy = Arc::clone(&self.policy);
        let ProviderPolicy::Static(wanted) = &policy.provider else { return };
        for new in wanted {
            if self.position(&new.id).is_none() {
                let health = Health::new(&policy.heartbeat, patience(&policy, false), now);
                let backend = Backend::new(new.id.clone(), Some(new.address), capacity(&policy, Some(new)), health, now);
                self.join(backend, "it is in the configuration");
            }
        }
    }

    /// Removes the backends of others that went with a configuration and are empty; a child goes when its process has ended.
    pub(super) fn remove_let_go(&mut self, now: Moment) {
        let is_gone = |b: &Backend| !b.is_child() && b.drain.as_ref().is_some_and(|d| d.done && d.owners.config);
        let gone: Vec<_> = self.backends.iter().filter(|b| is_gone(b)).map(|b| b.id.clone()).collect();
        if gone.is_empty() {
            return;
        }
        self.backends.retain(|b| !is_gone(b));
        for id in gone {
            let message = format!("`{id}` leaves: it is not in the configuration any more");
            self.notice(Some(&id), NoticeKind::BackendRemoved, message);
        }
        self.join_missing(now);
    }

    fn change_provider(&mut self, old: &FleetPolicy, now: Moment) {
        match (&old.provider, &self.policy.provider) {
            (ProviderPolicy::Static(_), ProviderPolicy::Process(_)) => {
                self.scaler = Scaler::new(&self.policy, now);
                for _ in self.counting()..self.policy.scale.min as usize {
                    self.start("a fleet begins with scale.min backends", now);
                }
            }
            (ProviderPolicy::Process(_), ProviderPolicy::Static(_)) => {
                self.scaler = Scaler::new(&self.policy, now);
                self.fixed = None;
            }
            // Whatever failed with the old command may succeed now.
            (ProviderPolicy::Process(a), ProviderPolicy::Process(b)) if a != b => self.backoff = Backoff::default(),
            _ => {}
        }
    }

    fn keep_fixed_within_bounds(&mut self) {
        let (min, max) = (self.policy.scale.min, self.policy.scale.max);
        let Some(fixed) = self.fixed.filter(|n| !(min..=max).contains(n)) else { return };
        let bound = fixed.clamp(min, max);
        self.fixed = Some(bound);
        let message = format!("the fleet was fixed at {fixed} backends and is at {bound} now: scale is from {min} to {max}");
        self.notice(None, NoticeKind::Scale, message);
    }
}

impl Backend {
    /// Whether the fleet has it under this policy.
    fn is_wanted(&self, policy: &FleetPolicy) -> bool {
        match &policy.provider {
            ProviderPolicy::Static(all) => !self.is_child() && all.iter().any(|b| b.id == self.id),
            ProviderPolicy::Process(_) => self.is_child(),
        }
    }

    /// Whether it runs another program than a child that were started now.
    pub(super) fn is_outdated(&self, policy: &FleetPolicy) -> bool {
        let process = |policy: &FleetPolicy| match &policy.provider {
            ProviderPolicy::Process(process) => Some(process.clone()),
            ProviderPolicy::Static(_) => None,
        };
        let differs = |(own, new): (ProcessPolicy, ProcessPolicy)| !own.runs_the_same(&new);
        self.started_by.as_deref().and_then(process).zip(process(policy)).is_some_and(differs)
    }

    fn configure(&mut self, old: &FleetPolicy, policy: &FleetPolicy, now: Moment) {
        let fixed = match &policy.provider {
            ProviderPolicy::Static(all) => all.iter().find(|b| b.id == self.id),
            ProviderPolicy::Process(_) => None,
        };
        self.configured = capacity(policy, fixed);
        let patience = patience(policy, self.is_child());
        if let Some(fixed) = fixed.filter(|b| self.address != Some(b.address)) {
            // Nothing is known of what listens there; its sessions at the old address stay.
            let used = self.used_here();
            self.former.extend(self.address.replace(fixed.address).map(|address| AddressCount { address, used }));
            self.is_moved = true;
            self.health = Health::new(&policy.heartbeat, patience, now);
        } else if old.heartbeat != policy.heartbeat || self.is_child() {
            self.health.set_policy(&policy.heartbeat, patience, old.heartbeat != policy.heartbeat, now);
        }
    }
}

fn capacity(policy: &FleetPolicy, fixed: Option<&StaticBackend>) -> Option<u32> {
    fixed.and_then(|b| b.capacity).or(policy.capacity)
}

/// How long a backend that starts is waited for.
pub(super) fn patience(policy: &FleetPolicy, is_child: bool) -> Patience {
    match &policy.provider {
        ProviderPolicy::Process(process) if is_child => Patience::Total(process.ready_timeout),
        _ => Patience::Silence(policy.heartbeat.dead_after),
    }
}
