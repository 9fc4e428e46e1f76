//! Misfortune, and operators who do not make it easier.

use std::time::Duration;

use holdline_core::cause::Phase;
use holdline_core::event::{Answer, Command, Event, MoveRequest};
use holdline_core::ids::BackendId;
use holdline_core::policy::DrainMode;
use rand::Rng;
use rand::rngs::SmallRng;

use crate::servers::Server;
use crate::shadow::{Checked, Rule, ensure};
use crate::world::World;

impl World {
    pub(crate) fn any_server(&mut self) -> Option<BackendId> {
        let count = self.servers.len();
        (count > 0).then(|| self.rng.random_range(0..count)).and_then(|at| self.servers.keys().nth(at).cloned())
    }

    /// What goes wrong.
    pub(crate) fn misfortune(&mut self) -> Checked {
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
    pub(crate) fn operators(&mut self) -> Checked {
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
        // As the State task does: nothing is decided on old counts.
        self.apply(Event::Report(self.gateway.report(self.now)))?;
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
        let plan_only = request.dry_run && matches!(dice, 0..50 | 130..170);
        let answer = self.state.command(command, self.now);
        if answer.is_err() || plan_only {
            let after = self.state.snapshot(self.now).version;
            return ensure(before == after, Rule::Order, || {
                format!("nothing was to change, and {before} became {after}: {answer:?}")
            });
        }
        if let (130..170, Ok(Answer::Plan(plan))) = (dice, &answer)
            && plan.sessions > 0
        {
            self.shadow.rebalances(&plan.from);
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
}
