//! The one task that owns State.

use std::sync::Arc;
use std::time::Duration;

use holdline_core::event::{Effect, Event};
use holdline_core::policy::FleetPolicy;
use holdline_core::snapshot::Snapshot;
use holdline_core::state::State;
use holdline_core::time::Moment;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::control::{REQUESTS_MAX, Request};
use super::{Adopt, Control, DataPlane, EventLog, Stopped};
use crate::clock::Clock;
use crate::telemetry::Metrics;

/// Interval of ticks; drains are paced by it.
const TICK: Duration = Duration::from_millis(100);
/// Events applied before the next snapshot: a burst of heartbeats costs one snapshot, and requests do not wait long.
const BATCH_MAX: usize = 256;

/// Where effects go. The receivers must never wait for the State task.
#[derive(Clone, Debug)]
pub struct Outlets {
    /// [`Effect::EndSessions`]. When it is full, orders are dropped: a drain sees the remaining sessions and repeats the order, a
    /// rebalance moves fewer.
    pub drainer: mpsc::Sender<Effect>,
    /// [`Effect::Start`] and [`Effect::Retire`]. None is dropped.
    pub providers: mpsc::Sender<Effect>,
}

/// Owns State: events and requests in, snapshots and effects out.
pub struct StateTask {
    state: State,
    plane: Arc<dyn DataPlane>,
    clock: Clock,
    metrics: Arc<Metrics>,
    log: EventLog,
    snapshots: watch::Sender<Arc<Snapshot>>,
    outlets: Outlets,
    events: mpsc::Receiver<Event>,
    requests: mpsc::Receiver<Request>,
}

impl StateTask {
    /// A task to [`run`](StateTask::run), and the handle to it. The data plane has adopted the first snapshot when this returns.
    pub fn new(
        fleets: Vec<Arc<FleetPolicy>>,
        plane: Arc<dyn DataPlane>,
        clock: Clock,
        metrics: Arc<Metrics>,
        (events, received): (mpsc::Sender<Event>, mpsc::Receiver<Event>),
        outlets: Outlets,
    ) -> (StateTask, Control) {
        let now = clock.now();
        let state = State::new(fleets, now);
        let first = state.snapshot(now);
        plane.adopt(&first);
        let (snapshots, published) = watch::channel(Arc::new(first));
        let (asked, requests) = mpsc::channel(REQUESTS_MAX);
        let log = EventLog::default();
        let control = Control { requests: asked, events, snapshots: published, log: log.clone() };
        (StateTask { state, plane, clock, metrics, log, snapshots, outlets, events: received, requests }, control)
    }

    /// Runs until all senders of events and requests are dropped.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(TICK);
        // After a pause the current counts matter, not the missed ticks.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                // Ticks first: a flood of events must not delay drains.
                biased;
                _ = ticks.tick() => {
                    let now = self.count();
                    self.state.apply(Event::Tick, now);
                    self.publish(now).await;
                }
                Some(request) = self.requests.recv() => self.answer(request).await,
                1.. = self.events.recv_many(&mut batch, BATCH_MAX) => {
                    let now = self.count();
                    for event in batch.drain(..) {
                        self.state.apply(event, now);
                    }
                    self.publish(now).await;
                }
                else => return,
            }
        }
    }

    async fn answer(&mut self, request: Request) {
        let now = self.count();
        // The requester may have gone meanwhile, so a failed send is ignored.
        match request {
            Request::Fresh(answer) => {
                self.publish(now).await;
                let published = Arc::clone(&self.snapshots.borrow());
                // An older snapshot has old ages.
                let fresh = if published.at == now { published } else { Arc::new(self.state.snapshot(now)) };
                let _ = answer.send(fresh);
            }
            Request::Command(command, answer) => {
                let done = self.state.command(command, now);
                self.publish(now).await;
                let _ = answer.send(done);
            }
            Request::Configure(fleets, adopt, answer) => {
                let done = self.configure(fleets, adopt, now).await;
                let _ = answer.send(done);
            }
        }
    }

    async fn configure(&mut self, fleets: Vec<Arc<FleetPolicy>>, adopt: Adopt, now: Moment) -> Result<(), Stopped> {
        if self.snapshots.borrow().shutting_down {
            return Err(Stopped);
        }
        self.state.apply(Event::Configure(fleets), now);
        self.publish_by(now, adopt).await;
        Ok(())
    }

    /// Applies the data plane's current counts, so that no decision uses old ones.
    fn count(&mut self) -> Moment {
        let now = self.clock.now();
        self.state.apply(Event::Report(self.plane.report()), now);
        now
    }

    /// The data plane adopts the snapshot first, then it is published, then effects run: no new session can take the seat of one that a drain
    /// ends. A snapshot in which only ages differ is not published; [`Control::fresh`](super::Control::fresh) has current ages.
    async fn publish(&mut self, now: Moment) {
        if self.state.version() != self.snapshots.borrow().version {
            let plane = Arc::clone(&self.plane);
            self.publish_by(now, Box::new(move |snapshot| plane.adopt(snapshot))).await;
        }
    }

    async fn publish_by(&mut self, now: Moment, adopt: Adopt) {
        let snapshot = Arc::new(self.state.snapshot(now));
        adopt(&snapshot);
        let before = self.snapshots.send_replace(Arc::clone(&snapshot));
        self.count_decisions(&before, &snapshot);
        for effect in self.state.take_effects() {
            self.carry_out(effect).await;
        }
    }

    async fn carry_out(&self, effect: Effect) {
        match effect {
            Effect::Notice(notice) => self.log.push(notice, self.clock.unix_ms()),
            Effect::EndSessions { .. } => {
                if let Err(TrySendError::Full(order)) = self.outlets.drainer.try_send(effect) {
                    tracing::warn!(?order, "order to end sessions dropped: the data plane is too slow; a drain repeats it");
                }
            }
            // A provider's loop awaits nothing, so this waits for a child's fork at most. A closed channel means shutdown.
            Effect::Start { .. } | Effect::Retire { .. } => {
                let _ = self.outlets.providers.send(effect).await;
            }
        }
    }

    fn count_decisions(&self, before: &Snapshot, after: &Snapshot) {
        for new in after.fleets.iter().filter(|f| !f.leaving) {
            let Some(old) = before.fleet(new.name().as_str()) else { continue };
            let (old, decision) = (&old.decision, &new.decision);
            // The first decision changes nothing, and on a static fleet none does.
            let changes = !old.reason.is_empty() && old.desired != decision.desired && new.policy.provider.is_elastic();
            if changes {
                self.metrics.fleet(new.name()).scaled(decision.desired > old.desired, decision.limited_by);
            }
        }
    }
}

#[cfg(test)]
mod tests;
