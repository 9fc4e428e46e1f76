//! The gateway's side: what a data plane does with core's seats, placement and queue, without any socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::affinity::Wish;
use holdline_core::balance::{NoPlace, Preferred, Seated, place};
use holdline_core::cause::{EndCause, Phase, RefuseCause};
use holdline_core::event::{BackendCounts, FleetCounts, GatewayReport};
use holdline_core::ids::BackendId;
use holdline_core::policy::FleetPolicy;
use holdline_core::queue::{Outcome, Queue, Ticket};
use holdline_core::seats::{Seat, Seats};
use holdline_core::snapshot::Snapshot;
use holdline_core::time::Moment;
use holdline_core::traffic::Totals;
use rand::rngs::SmallRng;

use crate::mutation::Mutation;

/// A backend that has joined.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) id: BackendId,
    pub(crate) seats: Arc<Seats>,
    /// Ends of the plain requests in flight.
    pub(crate) requests: Vec<Moment>,
    /// Sessions that ended as told to go, and as cut.
    pub(crate) moved: u64,
    pub(crate) cut: u64,
    pub(crate) lost: u64,
}

impl Seated for Joined {
    fn seats(&self) -> &Arc<Seats> {
        &self.seats
    }
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Dialling {
        until: Moment,
    },
    Open,
    /// The end is decided; the backend's end is seen then.
    Closing {
        until: Moment,
    },
}

/// A session: from its seat to the backend's end.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) backend: BackendId,
    pub(crate) seat: Option<Seat>,
    pub(crate) stage: Stage,
    pub(crate) leaves_at: Moment,
    pub(crate) tried: Vec<BackendId>,
    pub(crate) cause: Option<EndCause>,
}

/// A client that has no session yet.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) stays: Duration,
    pub(crate) tried: Vec<BackendId>,
    pub(crate) since: Moment,
}

/// The data plane of one fleet.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) policy: Arc<FleetPolicy>,
    pub(crate) backends: Vec<Joined>,
    pub(crate) queue: Queue<Client>,
    pub(crate) waiting: BTreeMap<u64, Ticket>,
    pub(crate) sessions: BTreeMap<u64, Session>,
    pub(crate) admitted: u64,
    pub(crate) ended: u64,
    pub(crate) refused: u64,
    pub(crate) no_backend: u64,
    pub(crate) mutation: Mutation,
}

/// What became of a handshake.
#[derive(Debug)]
pub(crate) enum Fate {
    Placed(Client, usize, Seat),
    Waits,
    Refused(Client, RefuseCause),
}

impl Gateway {
    pub(crate) fn new(policy: Arc<FleetPolicy>, mutation: Mutation) -> Self {
        Gateway {
            queue: Queue::new(policy.queue),
            policy,
            backends: Vec::new(),
            waiting: BTreeMap::new(),
            sessions: BTreeMap::new(),
            admitted: 0,
            ended: 0,
            refused: 0,
            no_backend: 0,
            mutation,
        }
    }

    /// Obeys a snapshot.
    pub(crate) fn adopt(&mut self, snapshot: &Snapshot) {
        self.backends.retain(|b| snapshot.fleets.iter().any(|f| f.backend(b.id.as_str()).is_some()));
        let Some(fleet) = snapshot.fleets.first() else { return self.begin_anew() };
        for view in &fleet.backends {
            let limit = match (self.mutation, view.phase) {
                (Mutation::LimitOneTooHigh, Phase::Ready) => view.limit + 1,
                (Mutation::DrainStaysOpen, Phase::Draining) => view.capacity.unwrap_or(0).saturating_sub(view.foreign),
                _ => view.limit,
            };
            match self.backends.iter().find(|b| b.id == view.id) {
                Some(joined) => joined.seats.set_limit(limit),
                None => {
                    let seats = Seats::new(limit, self.policy.admit_rate);
                    self.backends.push(Joined { id: view.id.clone(), seats, requests: Vec::new(), moved: 0, cut: 0, lost: 0 });
                }
            }
        }
    }

    /// The fleet is gone: one of its name that comes back is another, with counters of its own.
    fn begin_anew(&mut self) {
        self.refused = 0;
        self.no_backend = 0;
        (self.admitted, self.ended) = (self.admitted - self.ended, 0);
    }

    /// A handshake: a seat, a place in the queue, or a refusal.
    pub(crate) fn handshake(&mut self, client: Client, now: Moment, rng: &mut SmallRng) -> Fate {
        if self.queue.is_empty() {
            let usable = |at: usize| !client.tried.contains(&self.backends[at].id);
            match place(self.policy.balance, self.policy.fill, &self.backends, Preferred::Nobody, usable, now, rng) {
                Ok((at, seat)) => return Fate::Placed(client, at, seat),
                Err(NoPlace::NoBackend) if client.tried.is_empty() => self.no_backend += 1,
                Err(_) => {}
            }
        }
        if self.mutation == Mutation::RefuseEarly && self.queue.len() * 2 > self.policy.queue.length as usize {
            return Fate::Refused(client, RefuseCause::QueueFull);
        }
        let id = client.id;
        match self.queue.enter(Wish::Anywhere, client.tried.clone(), client, now) {
            Ok(ticket) => {
                self.waiting.insert(id, ticket);
                Fate::Waits
            }
            Err((client, cause)) => Fate::Refused(client, cause),
        }
    }

    /// Lets waiters in, and expires them.
    pub(crate) fn serve(&mut self, now: Moment, rng: &mut SmallRng) -> Vec<Fate> {
        let (policy, backends) = (&self.policy, &self.backends);
        let mut fates = Vec::new();
        self.queue.serve(
            now,
            |_, failed| {
                let usable = |at: usize| self.mutation == Mutation::FailureForgotten || !failed.contains(&backends[at].id);
                place(policy.balance, policy.fill, backends, Preferred::Nobody, usable, now, rng)
            },
            |client, outcome| {
                fates.push(match outcome {
                    Outcome::Admitted(at, seat) => Fate::Placed(client, at, seat),
                    Outcome::Refused(cause) => Fate::Refused(client, cause),
                });
            },
        );
        for fate in &fates {
            if let Fate::Placed(client, ..) | Fate::Refused(client, _) = fate {
                self.waiting.remove(&client.id);
            }
        }
        fates
    }

    /// The counts for State.
    pub(crate) fn report(&self, now: Moment) -> GatewayReport {
        let lies = |b: &Joined| self.mutation == Mutation::ReportEmpty && b.seats.limit() == 0;
        let backends = self.backends.iter().map(|b| BackendCounts {
            backend: b.id.clone(),
            used: if lies(b) { 0 } else { b.seats.used() },
            former: Vec::new(),
            requests: b.requests.len() as u32,
            moved_total: b.moved,
            cut_total: b.cut,
            lost_total: b.lost,
        });
        GatewayReport {
            fleets: vec![FleetCounts {
                fleet: self.policy.name.clone(),
                backends: backends.collect(),
                queued: self.queue.len() as u32,
                oldest_wait: self.queue.oldest_wait(now),
                admitted_total: self.admitted,
                ended_total: self.ended,
                refused_total: self.refused,
                no_backend_total: self.no_backend,
                requests: self.backends.iter().map(|b| b.requests.len() as u32).sum(),
                totals: Totals::default(),
            }],
        }
    }

    pub(crate) fn joined(&self, id: &BackendId) -> Option<&Joined> {
        self.backends.iter().find(|b| b.id == *id)
    }

    /// Seats taken on a backend.
    pub(crate) fn used(&self, id: &BackendId) -> u32 {
        self.joined(id).map_or(0, |b| b.seats.used())
    }
}
