//! The backends as they are, not as Holdline believes them to be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdline_core::event::Heartbeat;
use holdline_core::ids::BackendId;
use holdline_core::time::Moment;
use rand::Rng;
use rand::rngs::SmallRng;

/// One server process.
#[derive(Debug)]
pub(crate) struct Server {
    /// Its sessions through Holdline, by its own count.
    pub(crate) sessions: BTreeSet<u64>,
    /// Its sessions by other ways.
    pub(crate) foreign: u32,
    /// What it says that it takes.
    pub(crate) capacity: Option<u32>,
    /// The process is told of to its provider at this moment.
    pub(crate) spawned_at: Option<Moment>,
    /// It listens from this moment on; `None`: never.
    pub(crate) ready_at: Option<Moment>,
    /// It crashed.
    pub(crate) dead: bool,
    pub(crate) draining: bool,
    pub(crate) silent_until: Moment,
    pub(crate) refuses_until: Moment,
    pub(crate) heartbeat_at: Moment,
    pub(crate) seq: u64,
    /// What State is told when the process has ended.
    pub(crate) exits_at: Option<Moment>,
}

impl Server {
    /// A process that was just started, quick or slow or hopeless.
    pub(crate) fn starting(rough: bool, now: Moment, rng: &mut SmallRng) -> Self {
        let ms = |ms| Duration::from_millis(ms);
        let spawned_at = now + ms(rng.random_range(10..300));
        let slow = rough && rng.random_bool(0.2);
        let took = if slow { ms(rng.random_range(5_000..40_000)) } else { ms(rng.random_range(300..2_500)) };
        Server {
            spawned_at: Some(spawned_at),
            ready_at: (!rough || rng.random_bool(0.97)).then(|| spawned_at + took),
            ..Server::running(now)
        }
    }

    /// A server that somebody else runs.
    pub(crate) fn running(now: Moment) -> Self {
        Server {
            sessions: BTreeSet::new(),
            foreign: 0,
            capacity: None,
            spawned_at: None,
            ready_at: Some(now),
            dead: false,
            draining: false,
            silent_until: Moment::START,
            refuses_until: Moment::START,
            heartbeat_at: now,
            seq: 0,
            exits_at: None,
        }
    }

    /// Whether it listens.
    pub(crate) fn listens(&self, now: Moment) -> bool {
        !self.dead && self.ready_at.is_some_and(|at| now >= at) && now >= self.refuses_until
    }

    /// Its answer to a probe, or what it pushes; `None`: nothing arrives.
    pub(crate) fn heartbeat(&mut self, push: bool, counted: u32, now: Moment) -> Option<Heartbeat> {
        if self.dead || now < self.silent_until || self.ready_at.is_none_or(|at| now < at) {
            return None;
        }
        self.seq += 1;
        Some(Heartbeat {
            ready: !self.draining,
            draining: self.draining,
            sessions: Some(self.sessions.len() as u32 + self.foreign),
            capacity: self.capacity,
            counted: (!push).then_some(counted),
            seq: push.then_some(self.seq),
            unreadable: false,
        })
    }
}

/// All of them that exist.
pub(crate) type Servers = BTreeMap<BackendId, Server>;
