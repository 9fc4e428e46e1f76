//! Which backends a fleet has: they join, are started, are told to stop, and leave.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::event::{Effect, NoticeKind};
use crate::health::{Health, Patience};
use crate::ids::BackendId;
use crate::policy::{FleetPolicy, ProviderPolicy, StaticBackend};
use crate::time::Moment;

use super::backend::Backend;
use super::fleet::FleetState;

impl FleetState {
    /// A fleet begins: static backends join at once, an elastic fleet starts its `min`.
    pub(super) fn begin(policy: Arc<FleetPolicy>, last_number: u64, now: Moment) -> Self {
        let mut fleet = FleetState::empty(Arc::clone(&policy), last_number, now);
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

    /// Joins the static backends of the policy that are not there. One whose id is still borne by what goes joins when that is gone.
    pub(super) fn join_missing(&mut self, now: Moment) {
        if self.leaving {
            return;
        }
        let policy = Arc::clone(&self.policy);
        let ProviderPolicy::Static(wanted) = &policy.provider else { return };
        let there: BTreeSet<&BackendId> = self.backends.iter().map(|b| &b.id).collect();
        let missing: Vec<&StaticBackend> = wanted.iter().filter(|new| !there.contains(&new.id)).collect();
        for new in missing {
            let health = Health::new(&policy.heartbeat, patience(&policy, false), now);
            let backend = Backend::new(new.id.clone(), Some(new.address), capacity(&policy, Some(new)), health, now);
            self.join(backend, "it is in the configuration");
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

    /// A backend joins.
    pub(super) fn join(&mut self, backend: Backend, reason: &str) {
        let id = backend.id.clone();
        self.backends.push(backend);
        self.notice(Some(&id), NoticeKind::BackendAdded, format!("`{id}` joins: {reason}"));
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

    /// Tells the provider to stop it.
    pub(super) fn retire(&mut self, at: usize) {
        let backend = &mut self.backends[at];
        backend.retiring = true;
        self.out.push(Effect::Retire { fleet: self.policy.name.clone(), backend: backend.id.clone() });
        self.changed();
    }

    pub(super) fn remove(&mut self, at: usize, now: Moment) -> Backend {
        self.changed();
        let removed = self.backends.remove(at);
        // A backend of the configuration may have waited for its id.
        self.join_missing(now);
        removed
    }
}

pub(super) fn capacity(policy: &FleetPolicy, fixed: Option<&StaticBackend>) -> Option<u32> {
    fixed.and_then(|b| b.capacity).or(policy.capacity)
}

/// How long a backend that starts is waited for.
pub(super) fn patience(policy: &FleetPolicy, is_child: bool) -> Patience {
    match &policy.provider {
        ProviderPolicy::Process(process) if is_child => Patience::Total(process.ready_timeout),
        _ => Patience::Silence(policy.heartbeat.dead_after),
    }
}
