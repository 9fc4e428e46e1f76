//! How many backends to run, and which to give up.
//!
//! [`Scaler::decide`] asks in this order: how many sessions there will be when a backend started now is ready (`forecast`), how many
//! backends carry them below their fill, what waits already, what the policy's bounds and `behavior` leave of it, and who is to
//! come or go (`victims`). The first step that held the answer back is named in the decision, and every figure is in its reason.

mod behavior;
mod dispersion;
mod explain;
mod forecast;
mod victims;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::cause::Phase;
use crate::ids::BackendId;
use crate::policy::{Buffer, FleetPolicy, ProviderPolicy};
use crate::time::Moment;

use behavior::Behavior;
use forecast::{Flow, Forecast, Forecaster};

/// Start-up of a child process, until three were measured. Fixed backends are started by others; it does for them as well.
const STARTUP_PRIOR: Duration = Duration::from_secs(2);

/// What the autoscaler remembers of one fleet: averages, windows, start-up times.
#[derive(Clone, Debug)]
pub struct Scaler {
    forecaster: Forecaster,
    behavior: Behavior,
    /// The last number, which a static fleet is only advised of.
    advised: Option<u32>,
    /// When a session, a waiter or a request was last seen.
    busy_at: Moment,
}

/// A fleet as it stands, once a tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Every backend that is not dead.
    pub backends: Vec<BackendLoad>,
    /// Handshakes that wait.
    pub queued: u32,
    /// How long the first of them has waited.
    pub oldest_wait: Duration,
    /// Sessions admitted since the last observation.
    pub admitted: u64,
    /// Sessions ended since the last observation.
    pub ended: u64,
    /// Sessions that drains and rebalances told to leave since the last observation; their ends and returns are among the above.
    pub moved: u64,
    /// Refusals for want of a seat since the last observation.
    pub refused: u64,
    /// Requests or handshakes that found no backend since the last observation.
    pub no_backend: u64,
    /// Plain requests in flight or waiting.
    pub requests: u32,
    /// What the operator fixed (`scale --to N`), if anything.
    pub fixed: Option<u32>,
}

/// One backend, as the autoscaler sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendLoad {
    pub id: BackendId,
    /// What it is doing.
    pub phase: Phase,
    /// Whether a drain under way was the autoscaler's own (and may be taken back), not an operator's or the backend's.
    pub draining_for_scale: bool,
    /// Seats taken.
    pub sessions: u32,
    /// The lower of configured and reported; `None`: no limit.
    pub capacity: Option<u32>,
}

/// What to do, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Decision {
    /// Backends there should be.
    pub desired: u32,
    /// Backends that count at present: starting, ready, suspect.
    pub current: u32,
    /// For people: one sentence with the figures.
    pub reason: String,
    /// What kept `desired` from being what the need asked for: `min`, `max`, `stabilization`, `behavior`, `queue`, `fixed`, `no_room`, `static`.
    pub limited_by: Option<&'static str>,
    /// Draining backends to take back, before anything is created.
    pub undrain: Vec<BackendId>,
    /// How many to start.
    pub start: u32,
    /// Which to drain, and retire when empty.
    pub victims: Vec<BackendId>,
    /// The figures behind it, by name (`sessions`, `queued`, `arrivals_per_s`, `departure_rate`, `startup_p95_ms`, `need`, …).
    pub inputs: BTreeMap<&'static str, f64>,
}

impl Scaler {
    /// Nothing seen yet; the start-up prior is that of `policy`'s provider.
    pub fn new(policy: &FleetPolicy, now: Moment) -> Self {
        let prior = match policy.provider {
            ProviderPolicy::Static(_) | ProviderPolicy::Process(_) => STARTUP_PRIOR,
        };
        Scaler { forecaster: Forecaster::new(prior, now), behavior: Behavior::default(), advised: None, busy_at: now }
    }

    /// Nothing was seen for `gap`: neither idle time nor windows run over it.
    pub fn stood_still(&mut self, gap: Duration) {
        self.busy_at = self.busy_at + gap;
        self.behavior.stood_still(gap);
    }

    /// A backend became ready this long after it was started.
    pub fn started_up(&mut self, took: Duration) {
        self.forecaster.started_up(took);
    }

    /// The decision for this tick (once a second).
    pub fn decide(&mut self, seen: &Observation, policy: &FleetPolicy, now: Moment) -> Decision {
        let fleet = Totals::of(seen, policy);
        if fleet.is_busy(seen) {
            self.busy_at = now;
        }
        let flow = Flow { admitted: seen.admitted, ended: seen.ended, moved: seen.moved };
        let forecast = self.forecaster.tick(flow, fleet.sessions, seen.queued, policy.scale.down.stabilization, now);
        let asked = asked(&fleet, forecast.need, policy);
        let mut recommendation = Recommendation { backends: asked, limited_by: None };
        recommendation.press(&fleet, seen, &forecast);
        let lasting = self::asked(&fleet, forecast.need_lasting, policy);
        self.bound(&mut recommendation, lasting, &fleet, seen, policy, now);

        let mut decision = Decision { current: fleet.current, ..Decision::default() };
        recommendation.carry_out(&mut decision, seen, policy);
        self.advised = Some(decision.desired);
        decision.reason = explain::sentence(&decision, asked, &fleet, seen, policy, &forecast);
        decision.inputs = explain::inputs(asked, &fleet, seen, policy, &forecast);
        decision
    }

    /// Applies `min`, `max`, `behavior`, the way to and from zero, and what the operator fixed.
    fn bound(
        &mut self,
        recommendation: &mut Recommendation,
        lasting: u32,
        fleet: &Totals,
        seen: &Observation,
        policy: &FleetPolicy,
        now: Moment,
    ) {
        let scale = &policy.scale;
        let idle = scale.idle_to_zero_after.is_some_and(|after| now.since(self.busy_at) >= after);
        // A fleet that may be zero stays there until somebody comes, and has one backend from then on until it was idle for long.
        let zero = scale.min == 0 && !fleet.is_busy(seen) && (idle || fleet.current == 0);
        let min = if zero { 0 } else { scale.min.max(1) };
        recommendation.clamp(min, scale.max);
        // Where nothing can be started the advice stands for the fleet, as if it had been followed at once.
        let elastic = policy.provider.is_elastic();
        let reference = if elastic { fleet.current } else { self.advised.unwrap_or(fleet.current) };
        let lasting = lasting.clamp(recommendation.backends, scale.max);
        recommendation
            .limit(self.behavior.stabilize(scale, reference, recommendation.backends, lasting, now), Some("stabilization"));
        if elastic {
            recommendation.limit(self.behavior.step(scale, fleet.current, recommendation.backends, now), Some("behavior"));
        }
        // Bounds that a person set are obeyed at once.
        recommendation.clamp(min, scale.max);
        if zero {
            // The idle time was the stabilisation; a buffer is for clients that come and go, not for an empty house.
            *recommendation = Recommendation { backends: 0, limited_by: None };
        }
        if let Some(fixed) = seen.fixed {
            *recommendation = Recommendation { backends: fixed, limited_by: Some("fixed") };
        }
    }
}

/// Backends that carry the need below their fill, and the buffer.
fn asked(fleet: &Totals, need: f64, policy: &FleetPolicy) -> u32 {
    let Some(unit) = fleet.unit else {
        // Without a capacity no number of sessions asks for a backend.
        return fleet.current;
    };
    let backends = (need / unit).ceil() as u32;
    let buffer = match policy.scale.buffer {
        Buffer::Backends(n) => n,
        Buffer::Share(share) => (f64::from(backends) * share).ceil() as u32,
    };
    backends.saturating_add(buffer)
}

/// A fleet in sums.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    /// Backends that count: starting, ready, suspect.
    current: u32,
    starting: u32,
    suspect: u32,
    draining: u32,
    /// On all backends; those on draining ones will want another seat.
    sessions: u32,
    sessions_suspect: u32,
    /// Seats free on ready backends.
    free: u64,
    /// Mean capacity of the backends that count; the policy's when there are none; `None`: no limit.
    capacity: Option<f64>,
    /// Sessions that a backend should carry: capacity · fill.
    unit: Option<f64>,
}

impl Totals {
    fn of(seen: &Observation, policy: &FleetPolicy) -> Totals {
        let mut t = Totals::default();
        let mut capacities = Some(0.0);
        for b in &seen.backends {
            t.sessions = t.sessions.saturating_add(b.sessions);
            if !b.counts() {
                t.draining += 1;
                continue;
            }
            t.current += 1;
            capacities = capacities.zip(b.capacity).map(|(sum, c)| sum + f64::from(c));
            match b.phase {
                Phase::Starting => t.starting += 1,
                Phase::Suspect => {
                    t.suspect += 1;
                    t.sessions_suspect = t.sessions_suspect.saturating_add(b.sessions);
                }
                _ => t.free += b.capacity.map_or(1 << 40, |c| u64::from(c.saturating_sub(b.sessions))),
            }
        }
        t.capacity = match t.current {
            0 => policy.capacity.map(f64::from),
            n => capacities.map(|sum| sum / f64::from(n)),
        };
        // A backend that reports a capacity of zero for a while must not ask for infinitely many.
        t.unit = t.capacity.map(|c| (c * policy.fill).max(1.0));
        t
    }

    fn is_busy(&self, seen: &Observation) -> bool {
        self.sessions > 0 || seen.queued > 0 || seen.requests > 0 || seen.no_backend > 0 || seen.refused > 0
    }
}

/// The number of backends as it goes through the steps, and the last that held it.
struct Recommendation {
    backends: u32,
    limited_by: Option<&'static str>,
}

impl Recommendation {
    fn limit(&mut self, to: u32, by: Option<&'static str>) {
        if to != self.backends {
            *self = Recommendation { backends: to, limited_by: by };
        }
    }

    fn clamp(&mut self, min: u32, max: u32) {
        if self.backends > max {
            self.limit(max, Some("max"));
        } else if self.backends < min {
            self.limit(min, Some("min"));
        }
    }

    /// Who waits or was refused keeps every backend, and asks for one more unless seats are free or on their way: a backend that
    /// starts is help already, or a fleet would grow with every tick of its start-up.
    fn press(&mut self, fleet: &Totals, seen: &Observation, forecast: &Forecast) {
        let waiting = u64::from(seen.queued) + seen.refused;
        if waiting == 0 {
            return;
        }
        let more = u32::from(waiting > fleet.free && fleet.starting == 0);
        // A suspect backend keeps its sessions and takes no others, so these must do without it.
        let without_suspects = fleet.unit.map_or(0, |unit| {
            let rest = (forecast.need - f64::from(fleet.sessions_suspect)).max(0.0);
            fleet.suspect.saturating_add((rest / unit).ceil() as u32)
        });
        let least = (fleet.current + more).max(without_suspects);
        self.limit(self.backends.max(least), Some("queue"));
    }

    /// Names the backends to come and to go.
    fn carry_out(self, decision: &mut Decision, seen: &Observation, policy: &FleetPolicy) {
        decision.desired = self.backends;
        decision.limited_by = self.limited_by;
        if !policy.provider.is_elastic() {
            decision.limited_by = Some("static");
        } else if self.backends > decision.current {
            let missing = self.backends - decision.current;
            decision.undrain = victims::take_back(&seen.backends, missing);
            decision.start = missing - decision.undrain.len() as u32;
        } else if self.backends < decision.current {
            // An operator may fill the rest to the brim, but not beyond.
            let fill = if seen.fixed.is_some() { 1.0 } else { policy.fill };
            decision.victims = victims::choose(&seen.backends, decision.current - self.backends, fill);
            decision.desired = decision.current - decision.victims.len() as u32;
            if decision.desired != self.backends {
                decision.limited_by = Some("no_room");
            }
        }
    }
}
