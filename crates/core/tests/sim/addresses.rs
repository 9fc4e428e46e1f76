//! Servers that change their names: reloads give an address another id, another fleet or nobody, and ids another address, while sessions
//! come and go. At no address are they ever raised above its capacity.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::balance::{Preferred, Seated, place};
use holdline_core::drain::EndOrder;
use holdline_core::event::{
    AddressCount, BackendCounts, Command, Effect, Event, FleetCounts, GatewayReport, Heartbeat, MoveRequest,
};
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::policy::*;
use holdline_core::seats::{Seat, Seats};
use holdline_core::snapshot::Snapshot;
use holdline_core::state::State;
use holdline_core::time::Moment;
use holdline_core::traffic::Totals;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::scenario::base;
use crate::shadow::{Checked, Rule, Violation, ensure};
use crate::world::STEP;

/// One fault between State and the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The gateway fills a backend up to its capacity, whatever others have there.
    LimitUnshared,
    /// The gateway does not tell what is left at addresses that backends had before.
    FormerUntold,
    /// The gateway counts nothing of what goes.
    GoingUncounted,
}

/// What the gateway has of a backend at one address.
struct Joined {
    id: BackendId,
    address: SocketAddr,
    seats: Arc<Seats>,
    is_going: bool,
}

impl Seated for Joined {
    fn seats(&self) -> &Arc<Seats> {
        &self.seats
    }
}

struct Session {
    fleet: FleetName,
    backend: BackendId,
    address: SocketAddr,
    _seat: Seat,
    leaves_at: Moment,
}

/// The members of a fleet, and those at addresses that they had before.
#[derive(Default)]
struct Fleet {
    members: Vec<Joined>,
    former: Vec<Joined>,
}

struct World {
    state: State,
    now: Moment,
    rng: SmallRng,
    fault: Fault,
    /// By the configuration in force.
    capacities: BTreeMap<SocketAddr, u32>,
    fleets: BTreeMap<FleetName, Fleet>,
    sessions: Vec<Session>,
    /// Sessions that began while another id still had some at the address.
    shared: u64,
    is_closing: bool,
}

fn address(n: u16) -> SocketAddr {
    ([127, 0, 0, 1], 9_000 + n).into()
}

impl World {
    fn new(seed: u64, fault: Fault) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        let state = State::new(Vec::new(), Moment::START);
        let (capacities, fleets, sessions) = Default::default();
        World { state, now: Moment::START, rng, fault, capacities, fleets, sessions, shared: 0, is_closing: false }
    }

    /// Four servers, each in one of two fleets under one of four ids, or in none.
    fn configuration(&mut self) -> Vec<Arc<FleetPolicy>> {
        let mut fleets: [Vec<StaticBackend>; 2] = [Vec::new(), Vec::new()];
        for n in 0..4 {
            let (fleet, id) = (self.rng.random_range(0..2), BackendId::from(["a", "b", "c", "d"][self.rng.random_range(0..4)]));
            let capacity = self.rng.random_range(2..7);
            if self.rng.random_bool(0.8) && fleets[fleet].iter().all(|b| b.id != id) {
                fleets[fleet].push(StaticBackend { id, address: address(n), capacity: Some(capacity) });
            }
        }
        let drain = DrainPolicy {
            mode: DrainMode::Close,
            deadline: Duration::from_secs(self.rng.random_range(5..40)),
            rate_max: self.rng.random_bool(0.5).then_some(0.5),
        };
        let policy = |(name, backends): (&str, Vec<StaticBackend>)| {
            Arc::new(FleetPolicy { name: name.into(), provider: ProviderPolicy::Static(backends), drain, ..base() })
        };
        ["chat", "feed"].into_iter().zip(fleets).filter(|(_, b)| !b.is_empty()).map(policy).collect()
    }

    fn step(&mut self) -> Checked {
        self.now = self.now + STEP;
        let now = self.now;
        self.sessions.retain(|s| s.leaves_at > now);
        if !self.is_closing && self.rng.random_bool(0.01) {
            self.report()?;
            // Handshakes do not wait for State: some fall between its count and what it decides by it.
            self.arrive(20)?;
            let policies = self.configuration();
            let backends = policies.iter().map(|p| match &p.provider {
                ProviderPolicy::Static(all) => all.clone(),
                ProviderPolicy::Process(_) => Vec::new(),
            });
            self.capacities = backends.flatten().map(|b| (b.address, b.capacity.unwrap_or(u32::MAX))).collect();
            self.apply(Event::Configure(policies))?;
        }
        if now.since_start().as_millis().is_multiple_of(1_000) {
            self.heartbeats()?;
        }
        self.operator()?;
        self.report()?;
        self.arrive(2)?;
        self.apply(Event::Tick)
    }

    fn heartbeats(&mut self) -> Checked {
        for view in self.state.snapshot(self.now).fleets {
            for b in &view.backends {
                let used = b.address.map_or(0, |a| self.sessions_at(a));
                let is_pushed = self.rng.random_bool(0.5);
                let heartbeat = Heartbeat {
                    ready: true,
                    sessions: self.rng.random_bool(0.5).then_some(used),
                    counted: (!is_pushed).then_some(used),
                    ..Heartbeat::default()
                };
                self.report()?;
                self.apply(Event::Heartbeat { fleet: view.name().clone(), backend: b.id.clone(), heartbeat })?;
            }
        }
        Ok(())
    }

    fn operator(&mut self) -> Checked {
        let snapshot = self.state.snapshot(self.now);
        let all: Vec<_> =
            snapshot.fleets.iter().flat_map(|f| f.backends.iter().map(|b| (f.name().clone(), b.id.clone()))).collect();
        if all.is_empty() || self.is_closing || !self.rng.random_bool(0.01) {
            return Ok(());
        }
        let (fleet, backend) = all[self.rng.random_range(0..all.len())].clone();
        let command = match self.rng.random_bool(0.4) {
            true => Command::Drain { fleet, backend, request: MoveRequest::default() },
            false => Command::Undrain { fleet, backend },
        };
        self.report()?;
        self.arrive(3)?;
        // Some are refused, and change nothing.
        let _ = self.state.command(command, self.now);
        self.obey()
    }

    /// Handshakes at any fleet.
    fn arrive(&mut self, max: usize) -> Checked {
        let count = if self.is_closing { 0 } else { self.rng.random_range(0..=max) };
        for _ in 0..count {
            let names: Vec<FleetName> = self.fleets.keys().cloned().collect();
            let Some(name) = (!names.is_empty()).then(|| names[self.rng.random_range(0..names.len())].clone()) else { break };
            let members = &self.fleets[&name].members;
            let placed = place(Balance::LeastSessions, 0.8, members, Preferred::Nobody, |_| true, self.now, &mut self.rng);
            let Ok((at, seat)) = placed else { continue };
            let (backend, address) = (members[at].id.clone(), members[at].address);
            let others = self.sessions.iter().any(|s| s.address == address && (&s.fleet, &s.backend) != (&name, &backend));
            self.shared += u64::from(others);
            let leaves_at = self.now + Duration::from_millis(self.rng.random_range(500..30_000));
            self.sessions.push(Session { fleet: name, backend, address, _seat: seat, leaves_at });
            let (used, capacity) = (self.sessions_at(address), self.capacities.get(&address).copied().unwrap_or(0));
            ensure(used <= capacity, Rule::Capacity, || format!("{address} was raised to {used} sessions and takes {capacity}"))?;
        }
        Ok(())
    }

    fn sessions_at(&self, address: SocketAddr) -> u32 {
        self.sessions.iter().filter(|s| s.address == address).count() as u32
    }

    fn report(&mut self) -> Checked {
        let (fault, now) = (self.fault, self.now);
        let line = |fleet: &Fleet, joined: &Joined| {
            let former = fleet.former.iter().filter(|f| f.id == joined.id);
            let former: Vec<_> = former.map(|f| AddressCount { address: f.address, used: f.seats.used() }).collect();
            let used = former.iter().map(|f| f.used).sum::<u32>() + joined.seats.used();
            BackendCounts {
                backend: joined.id.clone(),
                used: if fault == Fault::GoingUncounted && joined.is_going { 0 } else { used },
                former: if fault == Fault::FormerUntold { Vec::new() } else { former },
                requests: 0,
                moved_total: 0,
                lost_total: 0,
                cut_total: 0,
            }
        };
        let fleets = self.fleets.iter().map(|(name, fleet)| FleetCounts {
            fleet: name.clone(),
            backends: fleet.members.iter().map(|m| line(fleet, m)).collect(),
            queued: 0,
            oldest_wait: Duration::ZERO,
            admitted_total: 0,
            ended_total: 0,
            refused_total: 0,
            no_backend_total: 0,
            requests: 0,
            totals: Totals::default(),
        });
        let report = GatewayReport { fleets: fleets.collect() };
        self.state.apply(Event::Report(report), now);
        self.obey()
    }

    fn apply(&mut self, event: Event) -> Checked {
        self.state.apply(event, self.now);
        self.obey()
    }

    /// The gateway obeys, then effects are carried out.
    fn obey(&mut self) -> Checked {
        let snapshot = self.state.snapshot(self.now);
        self.adopt(&snapshot);
        for effect in self.state.take_effects() {
            let Effect::EndSessions { fleet, backend, order: EndOrder { count, ending } } = effect else { continue };
            let theirs = self.sessions.iter_mut().filter(|s| s.fleet == fleet && s.backend == backend);
            for session in theirs.take(count as usize) {
                let takes = if ending.mode == DrainMode::Cut { 0 } else { self.rng.random_range(0..3_000) };
                session.leaves_at = session.leaves_at.min(self.now + Duration::from_millis(takes));
            }
        }
        let known = |s: &Session| snapshot.fleet(s.fleet.as_str()).is_some_and(|f| f.backend(s.backend.as_str()).is_some());
        let lost = self.sessions.iter().find(|s| !known(s) && s.leaves_at > self.now);
        ensure(lost.is_none(), Rule::Order, || {
            let s = lost.map(|s| (&s.fleet, &s.backend));
            format!("{s:?} was forgotten with a session")
        })
    }

    fn adopt(&mut self, snapshot: &Snapshot) {
        self.fleets.retain(|name, _| snapshot.fleet(name.as_str()).is_some());
        for view in &snapshot.fleets {
            let fleet = self.fleets.entry(view.name().clone()).or_default();
            let mut old = std::mem::take(&mut fleet.members);
            for seen in &view.backends {
                let Some(address) = seen.address else { continue };
                let kept = old.iter().position(|m| m.id == seen.id).map(|at| old.remove(at));
                let joined = match kept {
                    Some(same) if same.address == address => Joined { is_going: seen.drain.is_some(), ..same },
                    moved => {
                        moved.iter().for_each(|m| m.seats.set_limit(0));
                        fleet.former.extend(moved);
                        Joined { id: seen.id.clone(), address, seats: Seats::new(0, None), is_going: false }
                    }
                };
                let capacity = seen.capacity.unwrap_or(u32::MAX);
                let is_unshared = self.fault == Fault::LimitUnshared && seen.limit > 0;
                joined.seats.set_limit(if is_unshared { capacity } else { seen.limit });
                fleet.members.push(joined);
            }
            fleet.former.retain(|f| f.seats.used() > 0);
        }
    }

    /// Nobody comes any more: in the end every server has all its seats again.
    fn close(&mut self) -> Checked {
        self.is_closing = true;
        let operators: Vec<_> = self.state.snapshot(self.now).fleets;
        for (fleet, b) in operators.iter().flat_map(|f| f.backends.iter().map(|b| (f.name().clone(), b.id.clone()))) {
            // What nobody drained, or goes for good, is refused.
            let _ = self.state.command(Command::Undrain { fleet, backend: b }, self.now);
        }
        for _ in 0..600 {
            self.step()?;
        }
        let snapshot = self.state.snapshot(self.now);
        let limits = snapshot.fleets.iter().flat_map(|f| &f.backends).filter_map(|b| Some((b.address?, b.limit))).collect();
        ensure(self.capacities == limits, Rule::Limit, || format!("{limits:?} of {:?} at the end", self.capacities))
    }
}

/// Lives through one seed; how many sessions began where another id had some.
fn live(seed: u64, fault: Fault) -> Result<u64, Violation> {
    let mut world = World::new(seed, fault);
    for _ in 0..2_500 {
        world.step()?;
    }
    world.close()?;
    Ok(world.shared)
}

#[test]
fn no_address_is_raised_above_its_capacity_by_any_name() {
    let mut shared = 0;
    for seed in 0..20 {
        shared += live(seed, Fault::None).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
    assert!(shared >= 1_000, "only {shared} sessions began where another id had some");
}

#[test]
fn every_fault_in_what_is_shared_is_caught() {
    for fault in [Fault::LimitUnshared, Fault::FormerUntold, Fault::GoingUncounted] {
        let found = (0..40).find_map(|seed| live(seed, fault).err()).map(|v| v.rule);
        assert!(matches!(found, Some(Rule::Capacity | Rule::Order)), "{fault:?} was caught as {found:?}");
    }
}
