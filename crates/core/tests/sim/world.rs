//! The world: clients, servers, operators and misfortune around one State, in virtual time.

use std::time::Duration;

use holdline_core::cause::{EndCause, Phase};
use holdline_core::drain::{EndOrder, Ending};
use holdline_core::event::{Effect, Event, Observation};
use holdline_core::ids::BackendId;
use holdline_core::policy::ProviderPolicy;
use holdline_core::snapshot::FleetView;
use holdline_core::state::State;
use holdline_core::time::Moment;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::gateway::{Client, Gateway, Stage};
use crate::mutation::Mutation;
use crate::scenario::Scenario;
use crate::servers::{Server, Servers};
use crate::shadow::{Checked, Rule, Shadow, ensure};

/// One step of virtual time.
pub(crate) const STEP: Duration = Duration::from_millis(100);

/// Everything.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) state: State,
    pub(crate) gateway: Gateway,
    pub(crate) servers: Servers,
    pub(crate) shadow: Shadow,
    pub(crate) now: Moment,
    pub(crate) rng: SmallRng,
    pub(crate) mutation: Mutation,
    /// Print the event log: for a look at one seed.
    pub(crate) trace: bool,
    /// The version of the snapshot that the gateway obeys.
    adopted: Option<u64>,
    pub(crate) arrivals_per_s: f64,
    /// The fleet is not in the configuration until then.
    pub(crate) absent_until: Option<Moment>,
    /// Clients that were moved and come back.
    pub(crate) returning: Vec<(Moment, Client)>,
    pub(crate) last_client: u64,
    last_port: u16,
    /// How many backends counted, at each change.
    pub(crate) backends_over_time: Vec<(Moment, usize)>,
    pub(crate) tally: Tally,
}

/// What was seen, so that a test can tell that its world was not an empty one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sessions: u64,
    pub(crate) queued: u64,
    pub(crate) refused: u64,
    /// Requests that became sessions.
    pub(crate) executed: u64,
    pub(crate) crashes: u64,
    pub(crate) drained: u64,
    pub(crate) rebalanced: u64,
    pub(crate) cut: u64,
    pub(crate) started: u64,
    pub(crate) stopped: u64,
    pub(crate) reloaded: u64,
    /// The fleet was taken out of the configuration, and was gone before it came back.
    pub(crate) left: u64,
    pub(crate) gone: u64,
    /// The process did not run for a while.
    pub(crate) stood_still: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        self.sessions += other.sessions;
        self.queued += other.queued;
        self.refused += other.refused;
        self.executed += other.executed;
        self.crashes += other.crashes;
        self.drained += other.drained;
        self.rebalanced += other.rebalanced;
        self.cut += other.cut;
        self.started += other.started;
        self.stopped += other.stopped;
        self.reloaded += other.reloaded;
        self.left += other.left;
        self.gone += other.gone;
        self.stood_still += other.stood_still;
    }
}

impl World {
    pub(crate) fn new(seed: u64, scenario: impl FnOnce(&mut SmallRng) -> Scenario, mutation: Mutation) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let scenario = scenario(&mut rng);
        let now = Moment::START;
        let policy = &scenario.policy;
        let servers = match &policy.provider {
            ProviderPolicy::Static(all) => all.iter().map(|b| (b.id.clone(), Server::running(now))).collect(),
            ProviderPolicy::Process(_) => Servers::new(),
        };
        World {
            state: State::new(vec![policy.clone()], now),
            gateway: Gateway::new(policy.clone(), mutation),
            shadow: Shadow::new(policy.clone()),
            servers,
            now,
            rng,
            mutation,
            trace: false,
            adopted: None,
            arrivals_per_s: scenario.arrivals_max,
            absent_until: None,
            returning: Vec::new(),
            last_client: 0,
            last_port: 20_000,
            backends_over_time: Vec::new(),
            tally: Tally::default(),
            scenario,
        }
    }

    /// 100 ms of life, then all rules.
    pub(crate) fn step(&mut self) -> Checked {
        self.now = self.now + STEP;
        if self.scenario.rough {
            self.stand_still()?;
            self.misfortune()?;
            self.operators()?;
            self.reload()?;
        }
        self.processes()?;
        self.clients()?;
        self.sessions()?;
        self.heartbeats()?;
        self.apply(Event::Report(self.gateway.report(self.now)))?;
        self.apply(Event::Tick)?;
        self.queue()?;
        self.forget_let_go();
        let snapshot = self.state.snapshot(self.now);
        self.shadow.check(&snapshot, &self.gateway, &self.servers, self.now)?;
        snapshot.fleets.first().into_iter().for_each(|f| self.count_backends(f));
        Ok(())
    }

    /// Nobody comes any more and everybody goes: afterwards every seat is free.
    pub(crate) fn close(&mut self) -> Checked {
        self.scenario.rough = false;
        self.arrivals_per_s = 0.0;
        self.scenario.waves = false;
        self.returning.clear();
        for ticket in std::mem::take(&mut self.gateway.waiting).into_values() {
            self.gateway.queue.leave(ticket);
        }
        self.shadow.shut_down = true;
        self.apply(Event::Shutdown)?;
        let ids: Vec<u64> = self.gateway.sessions.keys().copied().collect();
        for id in ids {
            self.gateway.sessions.entry(id).and_modify(|s| s.leaves_at = Moment::START);
        }
        for _ in 0..100 {
            self.step()?;
            for session in self.gateway.sessions.values_mut() {
                if matches!(session.stage, Stage::Closing { .. }) {
                    session.stage = Stage::Closing { until: self.now };
                }
            }
        }
        let used: u32 = self.gateway.backends.iter().map(|b| b.seats.used()).sum();
        let balance = self.gateway.admitted - self.gateway.ended;
        ensure(used == 0 && self.gateway.sessions.is_empty() && balance == 0, Rule::OneSeat, || {
            format!("{used} seats are taken when all sessions are gone, and {balance} never ended")
        })
    }

    /// Tells State, obeys its snapshot, and does what it wants done, in the order of the State task.
    pub(crate) fn apply(&mut self, event: Event) -> Checked {
        self.state.apply(event, self.now);
        self.settle()
    }

    pub(crate) fn settle(&mut self) -> Checked {
        let snapshot = self.state.snapshot(self.now);
        if self.adopted == Some(snapshot.version) {
            return ensure(self.state.take_effects().is_empty(), Rule::Order, || "effects without a change".to_owned());
        }
        self.adopted = Some(snapshot.version);
        self.tally.gone += u64::from(snapshot.fleets.is_empty() && !self.gateway.backends.is_empty());
        self.gateway.adopt(&snapshot);
        self.shadow.adopted(&snapshot)?;
        for effect in self.state.take_effects() {
            match effect {
                Effect::Start { backend, .. } => {
                    self.shadow.starts(&backend)?;
                    self.tally.started += 1;
                    let server = Server::starting(self.scenario.rough, self.now, &mut self.rng);
                    self.servers.insert(backend, server);
                }
                Effect::Retire { backend, .. } => {
                    let view = snapshot.fleets.first().and_then(|f| f.backend(backend.as_str()));
                    self.shadow.stops(view, &self.gateway, &self.servers)?;
                    self.tally.stopped += 1;
                    let exits_at = self.now + Duration::from_millis(self.rng.random_range(0..1_000));
                    self.servers.entry(backend).and_modify(|s| s.exits_at = s.exits_at.or(Some(exits_at)));
                }
                Effect::EndSessions { backend, order: EndOrder { count, ending: Ending { mode, cause } }, .. } => {
                    let twice = self.mutation == Mutation::OrderedTwice && cause == EndCause::Rebalanced;
                    let count = if twice { count * 2 } else { count };
                    self.end_sessions(&backend, count, mode, cause)?;
                }
                Effect::Notice(notice) if self.trace => println!("{:>9.1?} {}", self.now.since_start(), notice.message),
                Effect::Notice(_) => {}
            }
        }
        Ok(())
    }

    fn observe(&mut self, backend: &BackendId, observation: Observation) -> Checked {
        let fleet = self.scenario.policy.name.clone();
        self.apply(Event::Observed { fleet, backend: backend.clone(), observation })
    }

    /// Children come up and go.
    fn processes(&mut self) -> Checked {
        let ids: Vec<BackendId> = self.servers.keys().cloned().collect();
        for id in ids {
            let Some(server) = self.servers.get_mut(&id) else { continue };
            if server.exits_at.is_some_and(|at| at <= self.now) {
                self.lose_sessions(&id)?;
                self.servers.remove(&id);
                self.shadow.gone(&id);
                self.observe(&id, Observation::Exited { reason: "exit status 0".to_owned() })?;
            } else if server.spawned_at.is_some_and(|at| at <= self.now) {
                server.spawned_at = None;
                if self.scenario.rough && self.rng.random_bool(0.03) {
                    self.servers.remove(&id);
                    self.shadow.gone(&id);
                    self.observe(&id, Observation::StartFailed { reason: "command not found".to_owned() })?;
                } else {
                    self.last_port += 1;
                    let address = ([127, 0, 0, 1], self.last_port).into();
                    self.observe(&id, Observation::Started { address })?;
                }
            }
        }
        Ok(())
    }

    fn heartbeats(&mut self) -> Checked {
        let ids: Vec<BackendId> = self.servers.keys().cloned().collect();
        let every = self.scenario.policy.heartbeat.interval;
        for id in ids {
            let (now, counted) = (self.now, self.gateway.used(&id));
            let Some(server) = self.servers.get_mut(&id).filter(|s| s.heartbeat_at <= now && s.spawned_at.is_none()) else {
                continue;
            };
            server.heartbeat_at = now + every;
            let mut heartbeat = server.heartbeat(self.scenario.push, counted, now);
            if let Some(heartbeat) = &heartbeat {
                self.shadow.heard(&id, heartbeat, counted, now);
            } else if self.mutation == Mutation::SilenceUnheard {
                server.silent_until = Moment::START;
                heartbeat = server.heartbeat(self.scenario.push, counted, now);
                server.silent_until = now + every * 2;
            }
            let (fleet, backend) = (self.scenario.policy.name.clone(), id);
            match heartbeat {
                Some(heartbeat) => {
                    // A push may take the gateway's count of the last report, so that one is made first.
                    self.apply(Event::Report(self.gateway.report(now)))?;
                    let event = Event::Heartbeat { fleet, backend, heartbeat };
                    self.apply(event.clone())?;
                    if self.scenario.push && self.rng.random_bool(0.1) {
                        self.apply(event)?;
                    }
                }
                None if self.scenario.push => {}
                None => self.apply(Event::HeartbeatMissed { fleet, backend })?,
            }
        }
        Ok(())
    }

    fn count_backends(&mut self, fleet: &FleetView) {
        let counts = |p| matches!(p, Phase::Starting | Phase::Ready | Phase::Suspect);
        let count = fleet.backends.iter().filter(|b| counts(b.phase)).count();
        if self.backends_over_time.last().is_none_or(|(_, last)| *last != count) {
            self.backends_over_time.push((self.now, count));
        }
    }
}
