//! The one owner of what is known: events and commands in, effects and snapshots out.
//!
//! Each fleet is on its own ([`fleet`]); what happens to one is told by file: which backends join and leave (`members`), how sessions are
//! moved (`moves`, planned in `plan`), how many backends there are (`scaling`, `roll`), what shells saw (`events`), what operators ask for
//! (`commands`), another configuration (`reload`). What they have in common are addresses (`shared`).
//!
//! A file uses only those before it:
//! `backoff` `counters` `losses` `reported` `backend` `rebalance` `fleet` `members` `moves` `plan` `scaling` `roll` `events` `commands` `reload` `tick` `shared`.

mod backend;
mod backoff;
mod commands;
mod counters;
mod events;
mod fleet;
mod losses;
mod members;
mod moves;
mod plan;
mod rebalance;
mod reload;
mod reported;
mod roll;
mod scaling;
mod shared;
#[cfg(test)]
mod tests;
mod tick;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{Answer, Command, CommandError, Effect, Event, Notice, NoticeKind};
use crate::ids::FleetName;
use crate::policy::FleetPolicy;
use crate::snapshot::Snapshot;
use crate::time::Moment;

use self::fleet::FleetState;

/// All fleets, their backends, drains and scaling.
#[derive(Debug)]
pub struct State {
    fleets: Vec<FleetState>,
    effects: Vec<Effect>,
    shutting_down: bool,
    /// Part of the version: of fleets that are gone, and of changes of their list.
    past: u64,
    /// The last numbers of fleets that are gone: should one come back, no id is used twice.
    numbers: BTreeMap<FleetName, u64>,
    /// Two backends have one address, or sessions at an address that one of them had before.
    shares_addresses: bool,
    /// When it was last told of anything.
    seen: Moment,
}

/// With a tick each 100 ms, so long without a word means that this process did not run: it was stopped, or had no CPU.
const STANDSTILL_MIN: Duration = Duration::from_secs(1);

impl State {
    /// Static backends join at once; elastic fleets start their `min`. No decision here is random: ties are broken by the order in which
    /// backends joined.
    pub fn new(fleets: Vec<Arc<FleetPolicy>>, now: Moment) -> Self {
        let fleets = fleets.into_iter().map(|policy| FleetState::begin(policy, 0, now)).collect();
        let mut state = State {
            fleets,
            effects: Vec::new(),
            shutting_down: false,
            past: 0,
            numbers: BTreeMap::new(),
            shares_addresses: false,
            seen: now,
        };
        state.collect();
        state
    }

    /// Takes in what happened. Follow with [`State::take_effects`] and [`State::snapshot`]. What is said of a fleet or
    /// backend that is not known (any more) is ignored.
    pub fn apply(&mut self, event: Event, now: Moment) {
        self.notice_standstill(now);
        // Addresses come and go with these; else only counts change.
        let is_about_addresses = matches!(event, Event::Configure(_) | Event::Observed { .. });
        match event {
            Event::Tick => self.fleets.iter_mut().for_each(|f| f.tick(now)),
            Event::Report(report) => {
                for counts in &report.fleets {
                    self.with(&counts.fleet, |f| f.counts(counts, now));
                }
            }
            Event::Observed { fleet, backend, observation } => self.with(&fleet, |f| f.observed(&backend, observation, now)),
            Event::Heartbeat { fleet, backend, heartbeat } => self.with(&fleet, |f| f.heartbeat(&backend, &heartbeat, now)),
            Event::HeartbeatMissed { fleet, backend } => self.with(&fleet, |f| f.missed(&backend)),
            Event::HeartbeatNotAsked { fleet, backend } => self.with(&fleet, |f| f.not_asked(&backend, now)),
            Event::Dial { fleet, backend, connected } => self.with(&fleet, |f| f.dialled(&backend, connected, now)),
            Event::Configure(policies) => self.configure(policies, now),
            Event::Shutdown => {
                self.shutting_down = true;
                self.fleets.iter_mut().for_each(FleetState::shut_down);
            }
        }
        if is_about_addresses || self.shares_addresses {
            self.shares_addresses = shared::share_addresses(&mut self.fleets);
        }
        self.collect();
        self.forget_gone();
    }

    /// Does what an operator asks, or plans it.
    ///
    /// # Errors
    /// [`CommandError`]; nothing was changed.
    pub fn command(&mut self, command: Command, now: Moment) -> Result<Answer, CommandError> {
        self.notice_standstill(now);
        if self.shutting_down {
            return Err(CommandError::Invalid(
                "Holdline is stopping: all sessions are being closed; nothing was changed".to_owned(),
            ));
        }
        let answer = match command {
            Command::Drain { fleet, backend, request } => self.fleet(&fleet)?.drain(&backend, &request, now),
            Command::Undrain { fleet, backend } => self.fleet(&fleet)?.undrain(&backend),
            Command::Rebalance { fleet, request } => self.fleet(&fleet)?.rebalance(&request, now),
            Command::Scale { fleet, to } => self.fleet(&fleet)?.fix_scale(to, now),
        };
        self.collect();
        answer
    }

    /// What shells have to do, oldest first; each is returned once.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The version of what is known: higher than the last one exactly if something changed. That a backend was heard again, and said what it
    /// said before, is no change.
    pub fn version(&self) -> u64 {
        self.past + self.fleets.iter().map(FleetState::revision).sum::<u64>()
    }

    /// Everything that is known, as of `now`.
    pub fn snapshot(&self, now: Moment) -> Snapshot {
        Snapshot {
            version: self.version(),
            at: now,
            fleets: self.fleets.iter().map(FleetState::view).collect(),
            shutting_down: self.shutting_down,
        }
    }

    /// Takes the fleets of another configuration.
    fn configure(&mut self, policies: Vec<Arc<FleetPolicy>>, now: Moment) {
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
                self.fleets.push(FleetState::begin(Arc::clone(policy), number, now));
            }
        }
        // In the order of the configuration; those that go come last.
        self.fleets.sort_by_key(|f| policies.iter().position(|p| p.name == *f.name()).unwrap_or(usize::MAX));
        self.past += 1;
    }

    /// Forgets the fleets that went and are empty.
    fn forget_gone(&mut self) {
        let is_gone = |f: &FleetState| f.leaving && f.backends.is_empty();
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

    /// Whoever seemed silent while nobody here could listen is heard first, and paces go on from where they were.
    fn notice_standstill(&mut self, now: Moment) {
        let gap = now.since(self.seen);
        self.seen = now;
        if gap >= STANDSTILL_MIN {
            self.fleets.iter_mut().for_each(|f| f.stood_still(gap));
        }
    }

    fn with(&mut self, name: &FleetName, act: impl FnOnce(&mut FleetState)) {
        if let Some(fleet) = self.fleets.iter_mut().find(|f| f.name() == name) {
            act(fleet);
        }
    }

    fn fleet(&mut self, name: &FleetName) -> Result<&mut FleetState, CommandError> {
        let known = || self.fleets.iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
        match self.fleets.iter().position(|f| f.name() == name) {
            Some(at) => Ok(&mut self.fleets[at]),
            None => Err(CommandError::UnknownFleet { name: name.clone(), known: known() }),
        }
    }

    /// Effects in the order of their events; fleets do not see each other's.
    fn collect(&mut self) {
        for fleet in &mut self.fleets {
            self.effects.append(&mut fleet.out);
        }
    }
}
