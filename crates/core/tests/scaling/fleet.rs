//! A fleet in virtual time: sessions come and go, backends take a while to start, drains move sessions at a pace, and whoever finds no
//! seat waits for ten seconds. Sessions are only counted: their lengths are exponential, so none has to be remembered.

use std::collections::VecDeque;
use std::time::Duration;

use holdline_core::cause::Phase;
use holdline_core::ids::BackendId;
use holdline_core::policy::FleetPolicy;
use holdline_core::scale::{BackendLoad, Decision, Observation, Scaler};
use holdline_core::time::Moment;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::support;

/// Sessions a second that a drain moves.
const DRAIN_PACE: u32 = 5;

struct Backend {
    load: BackendLoad,
    started: Moment,
    ready_at: Moment,
}

/// What happened up to now.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) arrived: u64,
    pub(crate) waited: u64,
    pub(crate) refused: u64,
    pub(crate) moved: u64,
    /// Most backends that were there at once, draining ones aside.
    pub(crate) backends_peak: u32,
    pub(crate) backend_seconds: u64,
    /// Times at which the number of backends changed, and by how many.
    pub(crate) changes: Vec<(Moment, i64)>,
}

impl Tally {
    /// Changes against the direction of the one before, both within `window`.
    pub(crate) fn reversals(&self, window: Duration) -> usize {
        let reversed = |w: &&[(Moment, i64)]| w[0].1.signum() != w[1].1.signum() && w[1].0.since(w[0].0) < window;
        self.changes.windows(2).filter(reversed).count()
    }
}

pub(crate) struct Fleet {
    pub(crate) policy: FleetPolicy,
    pub(crate) scaler: Scaler,
    pub(crate) seen: Observation,
    pub(crate) last: Decision,
    pub(crate) tally: Tally,
    pub(crate) now: Moment,
    /// Seconds that a backend takes to start, drawn for each.
    startup_s: (u64, u64),
    backends: Vec<Backend>,
    waiting: VecDeque<Moment>,
    rng: SmallRng,
    ids: u32,
}

impl Fleet {
    /// `min` ready backends.
    pub(crate) fn new(policy: FleetPolicy, startup_s: (u64, u64), seed: u64) -> Self {
        let now = Moment::START;
        let mut fleet = Fleet {
            scaler: Scaler::new(&policy, now),
            seen: Observation::default(),
            last: Decision::default(),
            tally: Tally::default(),
            now,
            startup_s,
            backends: Vec::new(),
            waiting: VecDeque::new(),
            rng: SmallRng::seed_from_u64(seed),
            ids: 0,
            policy,
        };
        for _ in 0..fleet.policy.scale.min {
            fleet.start();
            fleet.backends.iter_mut().for_each(|b| b.load.phase = Phase::Ready);
        }
        fleet
    }

    /// One second: `arrivals` come, each session ends with probability `end`, and the scaler decides.
    pub(crate) fn tick(&mut self, arrivals: u32, end: f64) -> &Decision {
        self.tick_with(arrivals, end, |scaler, seen, policy, now| scaler.decide(seen, policy, now))
    }

    /// The same under another rule.
    pub(crate) fn tick_with(
        &mut self,
        arrivals: u32,
        end: f64,
        decide: impl FnOnce(&mut Scaler, &Observation, &FleetPolicy, Moment) -> Decision,
    ) -> &Decision {
        self.now = self.now + Duration::from_secs(1);
        self.get_ready();
        self.end_some(end);
        self.serve();
        (0..arrivals).for_each(|_| self.arrive());
        self.tally.arrived += u64::from(arrivals);
        self.drain();
        self.seen.backends = self.backends.iter().map(|b| b.load.clone()).collect();
        self.seen.queued = self.waiting.len() as u32;
        self.seen.oldest_wait = self.waiting.front().map_or(Duration::ZERO, |&since| self.now.since(since));
        self.last = decide(&mut self.scaler, &self.seen, &self.policy, self.now);
        let fixed = self.seen.fixed;
        self.seen = Observation { fixed, ..Observation::default() };
        self.obey();
        &self.last
    }

    /// Seconds in which nobody comes or goes.
    pub(crate) fn pass(&mut self, seconds: u32) {
        (0..seconds).for_each(|_| {
            self.tick(0, 0.0);
        });
    }

    pub(crate) fn sessions(&self) -> u32 {
        self.backends.iter().map(|b| b.load.sessions).sum()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn in_phase(&self, phase: Phase) -> u32 {
        self.backends.iter().filter(|b| b.load.phase == phase).count() as u32
    }

    /// So many sessions end at once, one after the other from random backends.
    pub(crate) fn leave(&mut self, count: u32) {
        for _ in 0..count {
            let held: Vec<usize> = (0..self.backends.len()).filter(|&i| self.backends[i].load.sessions > 0).collect();
            let which = held[self.rng.random_range(0..held.len())];
            self.backends[which].load.sessions -= 1;
            self.seen.ended += 1;
        }
    }

    /// The oldest backend's heartbeats stop or come back.
    pub(crate) fn set_first(&mut self, phase: Phase) {
        self.backends[0].load.phase = phase;
    }

    /// Arrivals of one second at this rate.
    pub(crate) fn poisson(&mut self, rate: f64) -> u32 {
        support::poisson(&mut self.rng, rate)
    }

    fn start(&mut self) {
        self.ids += 1;
        let took = self.rng.random_range(self.startup_s.0..=self.startup_s.1);
        self.backends.push(Backend {
            load: BackendLoad {
                id: BackendId::from(format!("b{}", self.ids)),
                phase: Phase::Starting,
                draining_for_scale: false,
                sessions: 0,
                capacity: self.policy.capacity,
            },
            started: self.now,
            ready_at: self.now + Duration::from_secs(took),
        });
    }

    fn get_ready(&mut self) {
        for b in self.backends.iter_mut().filter(|b| b.load.phase == Phase::Starting && b.ready_at <= self.now) {
            b.load.phase = Phase::Ready;
            self.scaler.started_up(self.now.since(b.started));
        }
    }

    fn arrive(&mut self) {
        if self.waiting.is_empty() && self.seat() {
            self.seen.admitted += 1;
        } else if self.waiting.len() < self.policy.queue.length as usize {
            self.waiting.push_back(self.now);
            self.tally.waited += 1;
        } else {
            self.seen.refused += 1;
            self.tally.refused += 1;
        }
    }

    fn serve(&mut self) {
        while !self.waiting.is_empty() && self.seat() {
            self.waiting.pop_front();
            self.seen.admitted += 1;
        }
        while self.waiting.front().is_some_and(|&since| self.now.since(since) >= self.policy.queue.timeout) {
            self.waiting.pop_front();
            self.seen.refused += 1;
            self.tally.refused += 1;
        }
    }

    /// A seat on the emptiest ready backend.
    fn seat(&mut self) -> bool {
        let limit = self.policy.capacity.unwrap_or(u32::MAX);
        let ready = self.backends.iter_mut().map(|b| &mut b.load).filter(|b| b.phase == Phase::Ready && b.sessions < limit);
        let Some(emptiest) = ready.min_by_key(|b| b.sessions) else { return false };
        emptiest.sessions += 1;
        true
    }

    fn end_some(&mut self, end: f64) {
        if end == 0.0 {
            return;
        }
        for b in &mut self.backends {
            let ended = support::binomial(&mut self.rng, b.load.sessions, end);
            b.load.sessions -= ended;
            self.seen.ended += u64::from(ended);
        }
    }

    /// Clients of a draining backend are told, and come back at once.
    fn drain(&mut self) {
        for i in 0..self.backends.len() {
            let load = &mut self.backends[i].load;
            if load.phase == Phase::Draining {
                let moved = load.sessions.min(DRAIN_PACE);
                load.sessions -= moved;
                self.seen.ended += u64::from(moved);
                self.seen.moved += u64::from(moved);
                self.tally.moved += u64::from(moved);
                (0..moved).for_each(|_| self.arrive());
            }
        }
        self.backends.retain(|b| b.load.phase != Phase::Draining || b.load.sessions > 0);
    }

    /// Does what was decided, and checks that it can be done.
    fn obey(&mut self) {
        let decision = std::mem::take(&mut self.last);
        let counting = self.backends.iter().filter(|b| b.load.phase != Phase::Draining).count() as u32;
        assert_eq!(decision.current, counting, "{decision:?}");
        for (ids, phase) in [(&decision.undrain, Phase::Ready), (&decision.victims, Phase::Draining)] {
            for id in ids {
                let load = &mut self.backends.iter_mut().find(|b| b.load.id == *id).unwrap().load;
                assert_ne!(load.phase, phase, "{decision:?}");
                load.phase = phase;
                load.draining_for_scale = phase == Phase::Draining;
            }
        }
        (0..decision.start).for_each(|_| self.start());
        let counting = self.backends.iter().filter(|b| b.load.phase != Phase::Draining).count() as u32;
        assert!(counting == decision.desired || !self.policy.provider.is_elastic(), "{decision:?}");
        let changed = i64::from(counting) - i64::from(decision.current);
        if changed != 0 {
            self.tally.changes.push((self.now, changed));
        }
        self.tally.backends_peak = self.tally.backends_peak.max(counting);
        self.tally.backend_seconds += self.backends.len() as u64;
        self.last = decision;
    }
}
