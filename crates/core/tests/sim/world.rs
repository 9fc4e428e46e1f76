//! The world: clients, servers, operators and misfortune around one State, in virtual time.

use std::time::Duration;

use holdline_core::balance::place;
use holdline_core::cause::{EndCause, Phase};
use holdline_core::event::{Command, Effect, Event, MoveRequest, Observation};
use holdline_core::ids::BackendId;
use holdline_core::policy::{DrainMode, ProviderPolicy};
use holdline_core::snapshot::FleetView;
use holdline_core::state::State;
use holdline_core::time::Moment;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::gateway::{Client, Fate, Gateway, Session, Stage};
use crate::mutation::Mutation;
use crate::scenario::Scenario;
use crate::servers::{Server, Servers};
use crate::shadow::{Checked, Rule, Shadow, ensure};

/// One step of virtual time.
pub(crate) const STEP: Duration = Duration::from_millis(100);
/// A client that answers no Close: only a cut gets rid of it.
const DEAF: Duration = Duration::from_secs(3_600);

/// Everything.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) state: State,
    pub(crate) gateway: Gateway,
    pub(crate) servers: Servers,
    pub(crate) shadow: Shadow,
    pub(crate) now: Moment,
    pub(crate) rng: SmallRng,
    mutation: Mutation,
    /// The version of the snapshot that the gateway obeys.
    adopted: Option<u64>,
    arrivals_per_s: f64,
    /// Clients that were moved and come back.
    returning: Vec<(Moment, Client)>,
    last_client: u64,
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
    pub(crate) crashes: u64,
    pub(crate) drained: u64,
    pub(crate) rebalanced: u64,
    pub(crate) cut: u64,
    pub(crate) started: u64,
    pub(crate) stopped: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        self.sessions += other.sessions;
        self.queued += other.queued;
        self.refused += other.refused;
        self.crashes += other.crashes;
        self.drained += other.drained;
        self.rebalanced += other.rebalanced;
        self.cut += other.cut;
        self.started += other.started;
        self.stopped += other.stopped;
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
            state: State::new(vec![policy.clone()], seed, now),
            gateway: Gateway::new(policy.clone(), mutation),
            shadow: Shadow::new(policy.clone()),
            servers,
            now,
            rng,
            mutation,
            adopted: None,
            arrivals_per_s: scenario.arrivals_max,
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
            self.misfortune()?;
            self.operators()?;
        }
        self.processes()?;
        self.clients()?;
        self.sessions()?;
        self.heartbeats()?;
        self.apply(Event::Report(self.gateway.report(self.now)))?;
        self.apply(Event::Tick)?;
        self.queue()?;
        let snapshot = self.state.snapshot(self.now);
        self.shadow.check(&snapshot, &self.gateway, &self.servers, self.now)?;
        self.count_backends(&snapshot.fleets[0]);
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
    fn apply(&mut self, event: Event) -> Checked {
        self.state.apply(event, self.now);
        self.settle()
    }

    pub(crate) fn settle(&mut self) -> Checked {
        let snapshot = self.state.snapshot(self.now);
        if self.adopted == Some(snapshot.version) {
            return ensure(self.state.take_effects().is_empty(), Rule::Order, || "effects without a change".to_owned());
        }
        self.adopted = Some(snapshot.version);
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
                    let view = snapshot.fleets[0].backend(backend.as_str());
                    self.shadow.stops(view, &self.gateway, &self.servers)?;
                    self.tally.stopped += 1;
                    let exits_at = self.now + Duration::from_millis(self.rng.random_range(0..1_000));
                    self.servers.entry(backend).and_modify(|s| s.exits_at = s.exits_at.or(Some(exits_at)));
                }
                Effect::EndSessions { backend, count, mode, cause, .. } => self.end_sessions(&backend, count, mode, cause)?,
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

    fn clients(&mut self) -> Checked {
        let mut count = (self.arrivals_per_s * STEP.as_secs_f64()) as u64;
        let rest = self.arrivals_per_s * STEP.as_secs_f64() - count as f64;
        count += u64::from(self.rng.random_bool(rest.clamp(0.0, 1.0)));
        if self.scenario.waves && self.rng.random_bool(0.005) {
            let max = self.scenario.arrivals_max;
            self.arrivals_per_s = if self.rng.random_bool(0.2) { 0.0 } else { self.rng.random_range(0.0..max) };
        }
        if self.scenario.waves && self.rng.random_bool(0.003) {
            count += self.rng.random_range(1..30);
        }
        for _ in 0..count {
            self.last_client += 1;
            let stays = self.scenario.stay_max.mul_f64(self.rng.random_range(0.05..1.0));
            let client = Client { id: self.last_client, stays, tried: Vec::new(), since: self.now };
            self.arrive(client)?;
        }
        let (back, later) = std::mem::take(&mut self.returning).into_iter().partition(|(at, _)| *at <= self.now);
        self.returning = later;
        let back: Vec<(Moment, Client)> = back;
        for (_, client) in back {
            self.arrive(Client { since: self.now, ..client })?;
        }
        if self.rng.random_bool(0.05) {
            self.request();
        }
        self.give_up_waiting();
        Ok(())
    }

    /// A plain request somewhere.
    fn request(&mut self) {
        let until = self.now + Duration::from_millis(self.rng.random_range(10..3_000));
        let ready: Vec<usize> =
            (0..self.gateway.backends.len()).filter(|&at| self.gateway.backends[at].seats.limit() > 0).collect();
        if ready.is_empty() {
            self.gateway.knocked += 1;
        } else {
            let at = ready[self.rng.random_range(0..ready.len())];
            self.gateway.backends[at].requests.push(until);
        }
    }

    fn give_up_waiting(&mut self) {
        if self.scenario.rough && self.rng.random_bool(0.05) {
            if let Some((_, ticket)) = self.gateway.waiting.pop_first() {
                self.gateway.queue.leave(ticket);
            }
        }
    }

    fn arrive(&mut self, client: Client) -> Checked {
        let fate = self.gateway.handshake(client, self.now, &mut self.rng);
        self.tally.queued += u64::from(matches!(fate, Fate::Waits));
        self.meet(fate)
    }

    fn queue(&mut self) -> Checked {
        for fate in self.gateway.serve(self.now, &mut self.rng) {
            self.meet(fate)?;
        }
        Ok(())
    }

    fn meet(&mut self, fate: Fate) -> Checked {
        match fate {
            Fate::Placed(client, at, seat) => {
                self.gateway.admitted += 1;
                let (id, seats) = (self.gateway.backends[at].id.clone(), self.gateway.backends[at].seats.used());
                let held = self.servers.get(&id).map_or(0, |s| s.sessions.len());
                self.shadow.raised(&id, seats, held)?;
                let until = self.now + Duration::from_millis(self.rng.random_range(0..300));
                let session = Session {
                    backend: id,
                    seat: Some(seat),
                    stage: Stage::Dialling { until },
                    leaves_at: until + client.stays,
                    tried: client.tried,
                    cause: None,
                };
                self.gateway.sessions.insert(client.id, session);
                Ok(())
            }
            Fate::Waits => Ok(()),
            Fate::Refused(client, cause) => {
                self.gateway.refused += 1;
                self.tally.refused += 1;
                self.shadow.refused(&client, cause, &self.gateway, self.now)
            }
        }
    }

    /// Dials end, clients leave, ends are seen.
    fn sessions(&mut self) -> Checked {
        let now = self.now;
        for backend in &mut self.gateway.backends {
            backend.requests.retain(|until| *until > now);
        }
        let ids: Vec<u64> = self.gateway.sessions.keys().copied().collect();
        for id in ids {
            let Some(session) = self.gateway.sessions.get(&id) else { continue };
            match session.stage {
                Stage::Dialling { until } if until <= now => self.dialled(id)?,
                Stage::Open if session.leaves_at <= now => {
                    let takes = Duration::from_millis(self.rng.random_range(0..400));
                    self.end(id, EndCause::ClientClosed, takes)?;
                }
                Stage::Closing { until } if until <= now => self.free(id)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn dialled(&mut self, id: u64) -> Checked {
        let Some(session) = self.gateway.sessions.get_mut(&id) else { return Ok(()) };
        let backend = session.backend.clone();
        let server = self.servers.get_mut(&backend).filter(|s| s.listens(self.now));
        let connected = server.is_some();
        if let Some(server) = server {
            server.sessions.insert(id);
            session.stage = Stage::Open;
            self.tally.sessions += 1;
            let (used, held) = (self.gateway.used(&backend), server.sessions.len());
            ensure(held as u32 <= used, Rule::OneSeat, || format!("`{backend}` holds {held} with {used} seats taken"))?;
        } else {
            self.redial(id)?;
        }
        self.apply(Event::Dial { fleet: self.scenario.policy.name.clone(), backend, connected })
    }

    /// The dial failed: another backend, up to three, else a refusal.
    fn redial(&mut self, id: u64) -> Checked {
        let Some(mut session) = self.gateway.sessions.remove(&id) else { return Ok(()) };
        if self.mutation == Mutation::SeatLeaked {
            std::mem::forget(session.seat.take());
        }
        self.gateway.ended += 1;
        session.tried.push(session.backend.clone());
        drop(session.seat.take());
        let (gateway, policy) = (&mut self.gateway, &self.scenario.policy);
        let usable = |at: usize| !session.tried.contains(&gateway.backends[at].id);
        let tries = session.tried.len();
        let place = place(policy.balance, policy.fill, &gateway.backends, None, usable, self.now, &mut self.rng);
        match place {
            Ok((at, seat)) if tries < 3 => {
                let stays = session.leaves_at.since(self.now);
                self.meet(Fate::Placed(Client { id, stays, tried: session.tried, since: self.now }, at, seat))
            }
            _ => {
                self.tally.refused += 1;
                Ok(())
            }
        }
    }

    /// The one place where a session is given its cause.
    fn end(&mut self, id: u64, cause: EndCause, takes: Duration) -> Checked {
        let Some(session) = self.gateway.sessions.get_mut(&id) else { return Ok(()) };
        let before = session.cause.replace(cause);
        ensure(before.is_none(), Rule::OneCause, || format!("session {id} ended as {before:?} and as {cause}"))?;
        session.stage = Stage::Closing { until: self.now + takes };
        if self.mutation == Mutation::SeatFreedEarly {
            session.seat = None;
        }
        Ok(())
    }

    /// The backend's end was seen: its count falls, then ours.
    fn free(&mut self, id: u64) -> Checked {
        let Some(session) = self.gateway.sessions.remove(&id) else { return Ok(()) };
        if let Some(server) = self.servers.get_mut(&session.backend) {
            server.sessions.remove(&id);
        }
        self.gateway.ended += 1;
        ensure(session.cause.is_some(), Rule::OneCause, || format!("session {id} ended without a cause"))
    }

    fn end_sessions(&mut self, backend: &BackendId, count: u32, mode: DrainMode, cause: EndCause) -> Checked {
        let theirs = self.gateway.sessions.iter().filter(|(_, s)| s.backend == *backend);
        let may_end = |s: &Session| match s.stage {
            Stage::Dialling { .. } => false,
            Stage::Open => true,
            Stage::Closing { .. } => mode == DrainMode::Cut || self.mutation == Mutation::EndedTwice,
        };
        let ids: Vec<u64> = theirs.filter(|(_, s)| may_end(s)).map(|(id, _)| *id).take(count as usize).collect();
        if mode == DrainMode::Cut {
            if self.mutation == Mutation::CutForgotten {
                return Ok(());
            }
            for id in ids {
                let ending = self.gateway.sessions.get(&id).is_some_and(|s| s.cause.is_some());
                if !ending {
                    self.tally.cut += 1;
                    self.end(id, cause, Duration::ZERO)?;
                }
                self.free(id)?;
            }
            return Ok(());
        }
        for id in ids {
            let deaf = self.scenario.rough && self.rng.random_bool(0.03);
            let takes = if deaf { DEAF } else { Duration::from_millis(self.rng.random_range(0..1_500)) };
            self.end(id, cause, takes)?;
            match cause {
                EndCause::Rebalanced => self.tally.rebalanced += 1,
                _ => self.tally.drained += 1,
            }
            if !self.shadow.shut_down {
                let back = self.now + Duration::from_millis(self.rng.random_range(0..800));
                self.last_client += 1;
                let stays = self.scenario.stay_max.mul_f64(self.rng.random_range(0.05..1.0));
                self.returning.push((back, Client { id: self.last_client, stays, tried: Vec::new(), since: back }));
            }
        }
        Ok(())
    }

    /// A process is gone, and its sockets with it.
    fn lose_sessions(&mut self, backend: &BackendId) -> Checked {
        let theirs = self.gateway.sessions.iter().filter(|(_, s)| s.backend == *backend);
        let ids: Vec<(u64, bool, bool)> =
            theirs.map(|(id, s)| (*id, matches!(s.stage, Stage::Dialling { .. }), s.cause.is_some())).collect();
        for (id, dialling, ending) in ids {
            match (dialling, ending) {
                (true, _) => continue,
                (false, false) => self.end(id, EndCause::BackendLost, Duration::ZERO)?,
                (false, true) => {}
            }
            self.free(id)?;
        }
        Ok(())
    }

    fn any_server(&mut self) -> Option<BackendId> {
        let count = self.servers.len();
        (count > 0).then(|| self.rng.random_range(0..count)).and_then(|at| self.servers.keys().nth(at).cloned())
    }

    /// What goes wrong.
    fn misfortune(&mut self) -> Checked {
        let seconds = |rng: &mut SmallRng, max: u64| Duration::from_millis(rng.random_range(500..max * 1_000));
        let (silent, refusing, exits) = (seconds(&mut self.rng, 15), seconds(&mut self.rng, 5), seconds(&mut self.rng, 2));
        let dice = self.rng.random_range(0..10_000);
        let Some(id) = self.any_server() else { return Ok(()) };
        let Some(server) = self.servers.get_mut(&id) else { return Ok(()) };
        match dice {
            0..20 if self.scenario.policy.provider.is_elastic() && server.spawned_at.is_none() => {
                server.dead = true;
                server.sessions.clear();
                server.exits_at = Some(self.now + exits);
                self.tally.crashes += 1;
                self.lose_sessions(&id)?;
            }
            // One that somebody else runs comes back: the same address, no sessions.
            0..20 if !self.scenario.policy.provider.is_elastic() => {
                *server = Server { ready_at: Some(self.now + silent), seq: server.seq, ..Server::running(self.now) };
                self.tally.crashes += 1;
                self.lose_sessions(&id)?;
            }
            20..60 => server.silent_until = self.now + silent,
            60..80 => server.refuses_until = self.now + refusing,
            80..100 => server.draining = !server.draining,
            100..130 => server.capacity = self.rng.random_bool(0.7).then(|| self.rng.random_range(1..25)),
            130..230 if self.scenario.foreign => server.foreign = self.rng.random_range(0..4),
            _ => {}
        }
        Ok(())
    }

    /// What operators do.
    fn operators(&mut self) -> Checked {
        if self.mutation == Mutation::Oscillate {
            return Ok(());
        }
        let dice = self.rng.random_range(0..10_000);
        let Some(backend) = self.any_server().filter(|_| dice < 200) else { return Ok(()) };
        let fleet = self.scenario.policy.name.clone();
        let policy = &self.scenario.policy;
        let request = MoveRequest {
            over: self.rng.random_bool(0.5).then(|| policy.drain.deadline.mul_f64(self.rng.random_range(0.0..1.2))),
            rate_max: self.rng.random_bool(0.3).then(|| self.rng.random_range(0.2..30.0)),
            mode: self.rng.random_bool(0.1).then_some(DrainMode::Cut),
            dry_run: self.rng.random_bool(0.2),
        };
        let before = self.state.snapshot(self.now).version;
        let (command, drained, undrained) = match dice {
            0..50 => (Command::Drain { fleet, backend: backend.clone(), request }, !request.dry_run, false),
            50..130 => (Command::Undrain { fleet, backend: backend.clone() }, false, true),
            130..170 => (Command::Rebalance { fleet, request }, false, false),
            _ => {
                let to = self.rng.random_bool(0.5).then(|| self.rng.random_range(0..8));
                (Command::Scale { fleet, to }, false, false)
            }
        };
        let plan_only = request.dry_run && dice < 50 || request.dry_run && (130..170).contains(&dice);
        let answer = self.state.command(command, self.now);
        if answer.is_err() || plan_only {
            let after = self.state.snapshot(self.now).version;
            return ensure(before == after, Rule::Order, || {
                format!("nothing was to change, and {before} became {after}: {answer:?}")
            });
        }
        if drained {
            self.shadow.held_empty.insert(backend);
        } else if undrained {
            self.shadow.held_empty.remove(&backend);
            let snapshot = self.state.snapshot(self.now);
            let phase = snapshot.fleets[0].backend(backend.as_str()).map(|b| b.phase);
            let free = !matches!(phase, Some(Phase::Draining | Phase::Drained));
            ensure(free, Rule::Order, || format!("`{backend}` was undrained and is {phase:?}"))?;
        }
        self.settle()
    }

    fn count_backends(&mut self, fleet: &FleetView) {
        let counts = |p| matches!(p, Phase::Starting | Phase::Ready | Phase::Suspect);
        let count = fleet.backends.iter().filter(|b| counts(b.phase)).count();
        if self.backends_over_time.last().is_none_or(|(_, last)| *last != count) {
            self.backends_over_time.push((self.now, count));
        }
    }
}
