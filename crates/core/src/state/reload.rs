//! Another configuration: fleets come and go, and those that stay take their new policy, backend by backend.
//!
//! A backend that the new policy does not have is drained as the old one said, and goes when it is empty; so a fleet that went is a fleet
//! whose backends all go. What a backend is (a child of ours or not) is asked of the backend, for a fleet's provider may change.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::{AddressCount, NoticeKind};
use crate::health::Health;
use crate::policy::{FleetPolicy, ProviderPolicy, StaticBackend};
use crate::scale::{Decision, Scaler};
use crate::time::Moment;

use super::backend::{Backend, Owners};
use super::backoff::Backoff;
use super::fleet::FleetState;
use super::members::{capacity, patience};

impl FleetState {
    /// Takes another policy. What goes with the old one goes by the old one's rules.
    pub(super) fn configure(&mut self, policy: &Arc<FleetPolicy>, now: Moment) {
        if *self.policy == **policy && !self.leaving {
            return;
        }
        self.leaving = false;
        let fixed = match &policy.provider {
            ProviderPolicy::Static(all) => all.iter().map(|b| (&b.id, b)).collect(),
            ProviderPolicy::Process(_) => BTreeMap::new(),
        };
        let is_wanted = |b: &Backend| match policy.provider.is_elastic() {
            true => b.is_child(),
            false => !b.is_child() && fixed.contains_key(&b.id),
        };
        let going: Vec<usize> = (0..self.backends.len()).filter(|at| !is_wanted(&self.backends[*at])).collect();
        for at in going {
            self.let_go(at, "it is not in the configuration any more", now);
        }
        let old = std::mem::replace(&mut self.policy, Arc::clone(policy));
        for at in 0..self.backends.len() {
            let backend = &mut self.backends[at];
            if !is_wanted(backend) {
                continue;
            }
            let fixed = fixed.get(&backend.id).copied();
            backend.configure(&old, policy, fixed, now);
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
    /// Takes another policy, and what it says of this very backend.
    fn configure(&mut self, old: &FleetPolicy, policy: &FleetPolicy, fixed: Option<&StaticBackend>, now: Moment) {
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
