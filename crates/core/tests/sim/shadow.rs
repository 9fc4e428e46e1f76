//! The rules, and a model of what they depend on that shares no code with what it checks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::cause::{Phase, RefuseCause};
use holdline_core::event::{Heartbeat, Share};
use holdline_core::ids::BackendId;
use holdline_core::policy::{FleetPolicy, ProviderPolicy};
use holdline_core::snapshot::{BackendView, FleetView, Snapshot};
use holdline_core::time::Moment;

use crate::gateway::{Client, Gateway};
use crate::servers::Servers;

/// From an order to cut until the last session is gone: a dial in flight has no connection to cut yet.
const CUT_WITHIN: Duration = Duration::from_secs(3);
/// A tick, and the heartbeat before it.
const TICK: Duration = Duration::from_millis(100);

/// The invariants of the architecture, and a few that follow from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// 1: sessions are never raised above capacity.
    Capacity,
    /// 2: one session, one seat.
    OneSeat,
    /// 3: a draining backend's count never rises.
    DrainRises,
    /// 3: a drain ends by its deadline.
    DrainLate,
    /// 5: an ended session has exactly one cause.
    OneCause,
    /// 6: refuse only when no seat exists and the queue is full or its time has passed.
    Refusal,
    /// Nobody is sent back to a backend that it could not be connected to.
    Retry,
    /// A rebalance tells no more sessions to go than it planned to move, and those that came since.
    ToldTooMany,
    /// Only what is empty is stopped.
    StoppedBusy,
    /// The limit is what phase, capacity and reports say.
    Limit,
    /// No backend is ready without heartbeats.
    Health,
    /// A time in which the process did not run is nobody's silence and no part of a drain.
    Standstill,
    /// What changes has a new version; ids and starts are as promised.
    Order,
}

/// A broken rule.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.message)
    }
}

/// A rule holds, or does not.
pub(crate) type Checked = Result<(), Violation>;

pub(crate) fn ensure(holds: bool, rule: Rule, message: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation { rule, message: message() }) }
}

/// What was delivered to Holdline of one backend.
#[derive(Clone, Debug, Default)]
struct Heard {
    excess: VecDeque<u32>,
    capacity: Option<u32>,
    at: Option<Moment>,
    draining: bool,
}

/// A backend since the last order to rebalance.
#[derive(Clone, Copy, Debug, Default)]
struct Rebalanced {
    planned: u32,
    newcomers: u32,
    told: u32,
}

/// The model.
#[derive(Debug)]
pub(crate) struct Shadow {
    pub(crate) policy: Arc<FleetPolicy>,
    heard: BTreeMap<BackendId, Heard>,
    /// Drained by an operator.
    pub(crate) held_empty: BTreeSet<BackendId>,
    /// The count of each draining backend, and the deadline.
    draining: BTreeMap<BackendId, (u32, Moment)>,
    rebalanced: BTreeMap<BackendId, Rebalanced>,
    started: BTreeSet<BackendId>,
    last: Option<Snapshot>,
    pub(crate) shut_down: bool,
}

impl Shadow {
    pub(crate) fn new(policy: Arc<FleetPolicy>) -> Self {
        Shadow {
            policy,
            heard: BTreeMap::new(),
            held_empty: BTreeSet::new(),
            draining: BTreeMap::new(),
            rebalanced: BTreeMap::new(),
            started: BTreeSet::new(),
            last: None,
            shut_down: false,
        }
    }

    /// A heartbeat is about to be delivered.
    pub(crate) fn heard(&mut self, id: &BackendId, heartbeat: &Heartbeat, counted: u32, now: Moment) {
        let heard = self.heard.entry(id.clone()).or_default();
        heard.at = Some(now);
        heard.capacity = heartbeat.capacity;
        heard.draining = heartbeat.draining;
        if let Some(sessions) = heartbeat.sessions {
            heard.excess.push_back(sessions.saturating_sub(counted));
            if heard.excess.len() > 3 {
                heard.excess.pop_front();
            }
        }
    }

    /// Nobody could be heard for `gap`.
    pub(crate) fn stood_still(&mut self, gap: Duration) {
        self.heard.values_mut().for_each(|h| h.at = h.at.map(|at| at + gap));
        self.draining.values_mut().for_each(|(_, deadline)| *deadline = *deadline + gap);
    }

    /// What was known before a standstill of `gap` and after it, when nothing was read yet.
    pub(crate) fn check_standstill(before: &Snapshot, after: &Snapshot, gap: Duration) -> Checked {
        let pairs = before.fleets.iter().flat_map(|f| {
            let after = after.fleet(f.name().as_str());
            f.backends.iter().filter_map(move |b| Some((b, after?.backend(b.id.as_str())?)))
        });
        for (old, new) in pairs {
            let moved = old.drain.as_ref().zip(new.drain.as_ref()).map(|(old, new)| new.deadline.since(old.deadline));
            let fell = old.phase == Phase::Ready && matches!(new.phase, Phase::Suspect | Phase::Dead);
            ensure(!fell && moved.is_none_or(|by| by == gap), Rule::Standstill, || {
                format!("`{}` was {} and is {} after {gap:?}, its deadline moved by {moved:?}", old.id, old.phase, new.phase)
            })?;
        }
        Ok(())
    }

    pub(crate) fn gone(&mut self, id: &BackendId) {
        self.heard.remove(id);
        self.held_empty.remove(id);
        self.draining.remove(id);
        self.rebalanced.remove(id);
    }

    /// An operator asked for a rebalance that moves these.
    pub(crate) fn rebalances(&mut self, from: &[Share]) {
        let planned = |share: &Share| (share.backend.clone(), Rebalanced { planned: share.sessions, ..Rebalanced::default() });
        self.rebalanced = from.iter().map(planned).collect();
    }

    /// So many sessions, none of which was told before, are told to go for the sake of a level fleet.
    pub(crate) fn told(&mut self, id: &BackendId, count: usize) -> Checked {
        let known = self.rebalanced.entry(id.clone()).or_default();
        known.told += count as u32;
        let Rebalanced { planned, newcomers, told } = *known;
        ensure(told <= planned + newcomers, Rule::ToldTooMany, || {
            format!("{told} sessions of `{id}` were told to go; {planned} were to move, and {newcomers} came since")
        })
    }

    /// Seats of a backend that takes sessions, by what was delivered.
    fn seats(&self, id: &BackendId) -> u32 {
        let configured = match &self.policy.provider {
            ProviderPolicy::Static(all) => all.iter().find(|b| b.id == *id).and_then(|b| b.capacity).or(self.policy.capacity),
            ProviderPolicy::Process(_) => self.policy.capacity,
        };
        let heard = self.heard.get(id);
        let reported = heard.and_then(|h| h.capacity).unwrap_or(u32::MAX);
        let foreign = heard.and_then(|h| h.excess.iter().min().copied()).unwrap_or(0);
        configured.unwrap_or(u32::MAX).min(reported).saturating_sub(foreign)
    }

    /// A seat was taken: `used` with it, `held` by the server's own count.
    pub(crate) fn raised(&mut self, id: &BackendId, used: u32, held: usize) -> Checked {
        let seats = self.seats(id);
        ensure(used <= seats && held as u32 <= seats, Rule::Capacity, || {
            format!("`{id}` was raised to {used} seats ({held} by its own count) and has {seats}")
        })?;
        let heard = self.heard.get(id);
        ensure(heard.is_some(), Rule::Health, || format!("`{id}` was given a session and was never heard"))?;
        self.rebalanced.entry(id.clone()).or_default().newcomers += 1;
        let closed = self.held_empty.contains(id) || heard.is_some_and(|h| h.draining);
        ensure(!closed, Rule::DrainRises, || format!("`{id}` was given a session while it is drained"))
    }

    /// The backend began a session by itself, which may raise even the count of one that drains.
    pub(crate) fn executed(&mut self, id: &BackendId) {
        self.rebalanced.entry(id.clone()).or_default().newcomers += 1;
        if let Some((count, _)) = self.draining.get_mut(id) {
            *count += 1;
        }
    }

    /// A client is refused by the gateway.
    pub(crate) fn refused(&self, client: &Client, cause: RefuseCause, gateway: &Gateway, now: Moment) -> Checked {
        let fleet = self.last.as_ref().and_then(|s| s.fleets.first());
        let is_open = |b: &&BackendView| b.phase == Phase::Ready && !client.tried.contains(&b.id);
        let free = |b: &&BackendView| is_open(b) && gateway.used(&b.id) < self.seats(&b.id);
        let paced = self.policy.admit_rate.is_some();
        let seat = fleet.and_then(|f| f.backends.iter().find(free)).filter(|_| !paced);
        let (queued, length) = (gateway.queue.len(), self.policy.queue.length as usize);
        let waited = now.since(client.since);
        let allowed = match cause {
            RefuseCause::QueueFull => queued >= length,
            RefuseCause::Capacity => length == 0,
            RefuseCause::QueueTimeout => waited >= self.policy.queue.timeout,
            // It failed at every backend that takes sessions.
            RefuseCause::NoBackend => !client.tried.is_empty(),
            _ => false,
        };
        // Those who wait come first: a seat that is free this instant is theirs. A reload may have left them in a queue of length 0.
        let theirs = matches!(cause, RefuseCause::QueueFull | RefuseCause::Capacity) && queued > 0;
        ensure(allowed && (seat.is_none() || theirs), Rule::Refusal, || {
            format!("{cause} after {waited:?}, {queued} of {length} wait, free: {:?}", seat.map(|b| (&b.id, b.limit, b.sessions)))
        })
    }

    /// A backend is started.
    pub(crate) fn starts(&mut self, id: &BackendId) -> Checked {
        ensure(self.started.insert(id.clone()), Rule::Order, || format!("the id `{id}` was used twice"))?;
        ensure(!self.shut_down, Rule::Order, || format!("`{id}` was started after the shutdown"))
    }

    /// A backend is stopped; only what is dead may have anything left.
    pub(crate) fn stops(&self, view: Option<&BackendView>, gateway: &Gateway, servers: &Servers) -> Checked {
        let Some(view) = view.filter(|v| v.phase != Phase::Dead) else { return Ok(()) };
        let (used, held) = (gateway.used(&view.id), servers.get(&view.id).map_or(0, |s| s.sessions.len()));
        ensure(view.phase == Phase::Drained && used == 0 && held == 0, Rule::StoppedBusy, || {
            format!("`{}` is {} and is stopped with {used} seats taken and {held} sessions", view.id, view.phase)
        })
    }

    /// After every step.
    pub(crate) fn check(&mut self, snapshot: &Snapshot, gateway: &Gateway, servers: &Servers, now: Moment) -> Checked {
        let Some(fleet) = snapshot.fleets.first() else { return self.check_gone(snapshot, gateway) };
        self.check_seats(gateway, servers)?;
        for view in &fleet.backends {
            self.check_drain(view, gateway.used(&view.id), now)?;
            self.check_limit(fleet, view)?;
            self.check_health(view, now)?;
        }
        self.check_version(snapshot)?;
        self.last = Some(snapshot.clone());
        Ok(())
    }

    /// A fleet is gone when nobody is left.
    fn check_gone(&mut self, snapshot: &Snapshot, gateway: &Gateway) -> Checked {
        let left = gateway.sessions.len();
        ensure(left == 0, Rule::StoppedBusy, || format!("the fleet is gone, and {left} sessions are not"))?;
        self.check_version(snapshot)?;
        self.last = Some(snapshot.clone());
        Ok(())
    }

    /// A snapshot was adopted: what is refused from now on is judged by it.
    pub(crate) fn adopted(&mut self, snapshot: &Snapshot) -> Checked {
        self.check_version(snapshot)?;
        self.last = Some(snapshot.clone());
        // A drain can be taken back and begin again within one step.
        let fleet = snapshot.fleets.first();
        self.draining.retain(|id, _| fleet.and_then(|f| f.backend(id.as_str())).is_some_and(|b| b.drain.is_some()));
        Ok(())
    }

    fn check_seats(&self, gateway: &Gateway, servers: &Servers) -> Checked {
        for joined in &gateway.backends {
            let (id, used) = (&joined.id, joined.seats.used());
            let sessions = gateway.sessions.values().filter(|s| s.backend == *id && s.seat.is_some()).count();
            let held = servers.get(id).map_or(0, |s| s.sessions.len());
            ensure(used as usize == sessions && held <= sessions, Rule::OneSeat, || {
                format!("`{id}` has {used} seats taken, {sessions} sessions have one, and it holds {held}")
            })?;
        }
        Ok(())
    }

    fn check_drain(&mut self, view: &BackendView, used: u32, now: Moment) -> Checked {
        let id = &view.id;
        let Some(drain) = view.drain.as_ref().filter(|_| matches!(view.phase, Phase::Draining | Phase::Drained)) else {
            self.draining.remove(id);
            return ensure(!self.held_empty.contains(id) || view.phase == Phase::Dead, Rule::DrainRises, || {
                format!("`{id}` is {} and an operator drained it", view.phase)
            });
        };
        // A second order of an operator may set a later deadline; the count still only falls.
        let (before, _) = self.draining.insert(id.clone(), (used, drain.deadline)).unwrap_or((used, drain.deadline));
        ensure(used <= before, Rule::DrainRises, || format!("`{id}` is {} and went from {before} to {used}", view.phase))?;
        let over = now >= drain.deadline + CUT_WITHIN;
        ensure(!over || (used == 0 && view.phase == Phase::Drained), Rule::DrainLate, || {
            format!("`{id}` is {} with {used} sessions {:?} after its deadline", view.phase, now.since(drain.deadline))
        })
    }

    fn check_limit(&self, fleet: &FleetView, view: &BackendView) -> Checked {
        let ready = view.phase == Phase::Ready && view.address.is_some();
        let expected = if ready { self.seats(&view.id) } else { 0 };
        let held_back = fleet.rebalance.is_some() && view.limit < expected;
        ensure(view.limit == expected || held_back, Rule::Limit, || {
            format!("`{}` is {} with limit {} instead of {expected}", view.id, view.phase, view.limit)
        })
    }

    fn check_health(&self, view: &BackendView, now: Moment) -> Checked {
        let at = self.heard.get(&view.id).and_then(|h| h.at);
        let silence = at.map(|at| now.since(at));
        let allowed = self.policy.heartbeat.suspect_after + TICK;
        ensure(view.phase != Phase::Ready || silence.is_some_and(|s| s <= allowed), Rule::Health, || {
            format!("`{}` is ready after {silence:?} of silence", view.id)
        })
    }

    fn check_version(&self, snapshot: &Snapshot) -> Checked {
        let Some(last) = &self.last else { return Ok(()) };
        let same = last.fleets == snapshot.fleets || told(last) == told(snapshot);
        let fine = snapshot.version > last.version || (snapshot.version == last.version && same);
        ensure(fine, Rule::Order, || {
            let which = last.fleets.iter().zip(&snapshot.fleets).find(|(a, b)| a != b);
            format!("version {} after {}, and the content differs: {which:#?}", snapshot.version, last.version)
        })
    }
}

/// What a snapshot tells, but for when its backends were last heard: that is no change.
fn told(snapshot: &Snapshot) -> Vec<FleetView> {
    let mut fleets = snapshot.fleets.clone();
    fleets.iter_mut().flat_map(|f| &mut f.backends).for_each(|b| b.heartbeat_at = None);
    fleets
}
