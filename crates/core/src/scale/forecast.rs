//! How many sessions there will be when a backend that is started now is ready.
//!
//! Sessions are seen as an M(t)/G/∞ system: those there are leave at a rate, new ones come at a rate, and how far the arrivals
//! differ from a Poisson process is measured. The arrival rate is a damped Holt average (Gardner & McKenzie 1985).

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Moment;

use super::dispersion::Seconds;

/// Half-life of the averages; short enough to follow a wave, long enough not to take one second's chance for a rate.
const HALF_LIFE_MIN_S: f64 = 30.0;

/// And at least so many horizons: a rate that is extrapolated for longer than it was averaged makes two of every wave.
const HALF_LIFE_HORIZONS: f64 = 3.0;

/// Time between two decisions: what a decision misses by, at the most.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// The margin in standard deviations: one in twenty seconds has more sessions, if the model holds.
const Z_MIN: f64 = 1.6;

/// Where the margin stops growing: a model that is this wrong is not mended by a larger one.
const Z_MAX: f64 = 3.2;

/// The margin for giving a backend up, in standard deviations: what is given up and started again has cost its sessions a move.
/// In the replay of tests/scaling 4 instead of 3 means 4 swings instead of 17 and a quarter fewer sessions moved, for 3 % more backends.
const Z_LASTING: f64 = 4.0;

/// The share of ticks on which [`Z_MIN`] would not have been enough if the model held.
const MISSES_EXPECTED: f64 = 0.055;

/// By how much one miss widens the margin. One wave that nobody could foresee, missed for a whole start-up, changes it little.
const Z_STEP: f64 = 0.02;

/// Start-up times that are remembered: enough for a 95th percentile, few enough to follow a new release.
const STARTUPS_KEPT: usize = 20;

/// From so many measured start-ups on the prior is forgotten.
const STARTUPS_TRUSTED: usize = 3;

/// Forecasts not yet due, at most: one a tick for a start-up of ten minutes. Older ones are dropped unjudged.
const FORECASTS_KEPT: usize = 600;

/// What was seen between two ticks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    pub(super) admitted: u64,
    pub(super) ended: u64,
    /// Told to leave, to come back elsewhere.
    pub(super) moved: u64,
}

/// Averages of one fleet.
#[derive(Clone, Debug)]
pub(super) struct Forecaster {
    last: Moment,
    /// Counted since `last`, when no time had passed.
    pending: Flow,
    moving: Moving,
    /// Arrivals a second: level and trend (a second) of Holt's method.
    level: f64,
    trend: f64,
    /// Averages whose quotient is the departure rate: sessions that ended a second, sessions there were.
    ended_per_s: f64,
    sessions: f64,
    seconds: Seconds,
    startup_prior: Duration,
    startups: VecDeque<Duration>,
    z: f64,
    /// Needs that were forecast, and when they are due.
    due: VecDeque<(Moment, f64)>,
}

/// The forecast for the moment at which a backend started now is ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forecast {
    /// λ, 1/s.
    pub(super) arrivals_per_s: f64,
    /// μ, 1/s.
    pub(super) departure_rate: f64,
    /// I, variance/mean of arrivals a second.
    pub(super) dispersion: f64,
    /// P95 of start-up.
    pub(super) startup: Duration,
    /// L.
    pub(super) horizon: Duration,
    /// E.
    pub(super) expected: f64,
    /// V.
    pub(super) variance: f64,
    /// Standard deviations kept as a margin.
    pub(super) z: f64,
    /// Sessions to have room for.
    pub(super) need: f64,
    /// Sessions to have room for before any backend is given up: the highest that chance makes likely within the stabilisation window.
    pub(super) need_lasting: f64,
}

impl Forecaster {
    pub(super) fn new(startup_prior: Duration, now: Moment) -> Self {
        Forecaster {
            last: now,
            pending: Flow::default(),
            moving: Moving::default(),
            level: 0.0,
            trend: 0.0,
            ended_per_s: 0.0,
            sessions: 0.0,
            seconds: Seconds::new(now),
            startup_prior,
            startups: VecDeque::with_capacity(STARTUPS_KEPT),
            z: Z_MIN,
            due: VecDeque::new(),
        }
    }

    pub(super) fn started_up(&mut self, took: Duration) {
        if self.startups.len() == STARTUPS_KEPT {
            self.startups.pop_front();
        }
        self.startups.push_back(took);
    }

    /// Takes in what happened since the last call, and looks ahead: over the start-up of a backend, and over `lasting`.
    pub(super) fn tick(&mut self, flow: Flow, sessions: u32, queued: u32, lasting: Duration, now: Moment) -> Forecast {
        self.average(flow, sessions, now);
        self.judge(f64::from(sessions) + f64::from(queued), now);
        let forecast = self.look_ahead(f64::from(sessions), f64::from(queued), lasting);
        if self.due.len() == FORECASTS_KEPT {
            self.due.pop_front();
        }
        self.due.push_back((now + forecast.horizon, forecast.need));
        forecast
    }

    fn average(&mut self, flow: Flow, sessions: u32, now: Moment) {
        let flow = self.moving.leave_out(flow);
        self.seconds.count(flow.admitted, now);
        self.pending.admitted += flow.admitted;
        self.pending.ended += flow.ended;
        let passed_s = now.since(self.last).as_secs_f64();
        if passed_s <= 0.0 {
            return;
        }
        let Flow { admitted, ended, .. } = std::mem::take(&mut self.pending);
        self.last = now;
        let keep = (-passed_s / self.half_life_s()).exp2();
        self.moving.forget((-passed_s / HALF_LIFE_MIN_S).exp2());
        let blend = |old: f64, new: f64| keep * old + (1.0 - keep) * new;

        // The trend is damped by the same half-life: a wave does not go on for ever.
        let level = blend(self.level + self.trend * passed_s * keep, admitted as f64 / passed_s).max(0.0);
        self.trend = blend(self.trend * keep, (level - self.level) / passed_s);
        self.level = level;
        self.ended_per_s = blend(self.ended_per_s, ended as f64 / passed_s);
        // Those that ended were there, or a fleet that empties at once would have an infinite rate.
        self.sessions = blend(self.sessions, f64::from(sessions) + ended as f64);
    }

    /// Widens the margin when it was too small for what came, and narrows it slowly otherwise. The horizon is the start-up time, so
    /// the slower backends start, the more is missed and the wider it gets.
    fn judge(&mut self, demand: f64, now: Moment) {
        while let Some(&(at, need)) = self.due.front() {
            if at > now {
                break;
            }
            self.due.pop_front();
            let missed = if demand > need { 1.0 } else { 0.0 };
            self.z = (self.z + Z_STEP * (missed - MISSES_EXPECTED)).clamp(Z_MIN, Z_MAX);
        }
    }

    fn look_ahead(&self, n: f64, queued: f64, lasting: Duration) -> Forecast {
        let startup = self.startup_p95();
        let horizon = startup + TICK;
        let l = horizon.as_secs_f64();
        let arrivals_per_s = self.arrivals_over(l);
        let departure_rate = if self.sessions > 0.0 { self.ended_per_s / self.sessions } else { 0.0 };
        let dispersion = self.seconds.dispersion();
        let (expected, variance) = population(n, arrivals_per_s, departure_rate, dispersion, l);
        let need = expected.max(n) + queued + self.z * variance.sqrt();
        // Over a longer time the same model says how far chance alone carries a fleet in balance, where as many come as go.
        let (stays, spread) = population(n, departure_rate * n, departure_rate, dispersion, lasting.as_secs_f64());
        let need_lasting = stays.max(n) + queued + Z_LASTING * spread.sqrt();
        Forecast {
            arrivals_per_s,
            departure_rate,
            dispersion,
            startup,
            horizon,
            expected,
            variance,
            z: self.z,
            need,
            need_lasting: need_lasting.max(need),
        }
    }

    /// The mean arrival rate of the next `l` seconds: the level, and the damped trend's mean over them.
    fn arrivals_over(&self, l: f64) -> f64 {
        let tau = self.half_life_s() / std::f64::consts::LN_2;
        let reach = tau * (1.0 - tau / l * (1.0 - (-l / tau).exp()));
        (self.level + self.trend * reach).max(0.0)
    }

    fn half_life_s(&self) -> f64 {
        HALF_LIFE_MIN_S.max(HALF_LIFE_HORIZONS * (self.startup_p95() + TICK).as_secs_f64())
    }

    /// The 95th percentile (nearest rank) of those remembered.
    fn startup_p95(&self) -> Duration {
        if self.startups.len() < STARTUPS_TRUSTED {
            return self.startup_prior;
        }
        let mut sorted: Vec<Duration> = self.startups.iter().copied().collect();
        sorted.sort_unstable();
        sorted[(sorted.len() * 95).div_ceil(100) - 1]
    }
}

/// Sessions in transit between backends. A drain's own ends and returns are no demand: counted as arrivals, they would call back the
/// backend that was just given up.
#[derive(Clone, Copy, Debug, Default)]
struct Moving {
    to_end: f64,
    to_return: f64,
}

impl Moving {
    /// The flow without those who only move.
    fn leave_out(&mut self, flow: Flow) -> Flow {
        self.to_end += flow.moved as f64;
        self.to_return += flow.moved as f64;
        let take = |from: &mut f64, count: u64| {
            let taken = (*from as u64).min(count);
            *from -= taken as f64;
            count - taken
        };
        let ended = take(&mut self.to_end, flow.ended);
        Flow { ended, admitted: take(&mut self.to_return, flow.admitted), moved: 0 }
    }

    /// Not everybody comes back.
    fn forget(&mut self, keep: f64) {
        self.to_end *= keep;
        self.to_return *= keep;
    }
}

/// Expectation and variance of the sessions there are after `l` seconds: those of `n` that stay, and those that come and stay.
fn population(n: f64, lambda: f64, mu: f64, dispersion: f64, l: f64) -> (f64, f64) {
    if mu * l < 0.01 {
        return (n + lambda * l, n * mu * l + dispersion * lambda * l);
    }
    let stay = (-mu * l).exp();
    let come = lambda / mu * (1.0 - stay);
    (n * stay + come, n * stay * (1.0 - stay) + dispersion * come)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fleet seen once a second: `(admitted, ended, sessions)` of each.
    fn after(seconds: impl IntoIterator<Item = (u64, u64, u32)>) -> (Forecaster, Forecast) {
        let mut forecaster = Forecaster::new(Duration::from_secs(2), Moment::START);
        let mut now = Moment::START;
        let mut last = None;
        for (admitted, ended, sessions) in seconds {
            now = now + TICK;
            last = Some(forecaster.tick(Flow { admitted, ended, moved: 0 }, sessions, 0, Duration::ZERO, now));
        }
        (forecaster, last.unwrap())
    }

    #[test]
    fn a_steady_fleet_is_expected_to_stay() {
        let (_, f) = after((0..600).map(|_| (5, 5, 300)));
        assert!((f.arrivals_per_s - 5.0).abs() < 0.1, "{f:?}");
        assert!((f.departure_rate - 5.0 / 305.0).abs() < 1e-3, "{f:?}");
        assert!((f.expected - 300.0).abs() < 1.0, "{f:?}");
        // Even arrivals count as Poisson ones: 3 s of them and of departures, 1.6 standard deviations.
        assert!(f.need > 308.0 && f.need < 311.0, "{f:?}");
    }

    #[test]
    fn a_ramp_is_followed_ahead_of_its_average() {
        let (_, f) = after((0..120).map(|t| (t / 4, 0, (t * t / 8) as u32)));
        // 30 a second now and rising: an average with this half-life alone would still be below 20.
        assert!(f.arrivals_per_s > 23.0 && f.arrivals_per_s < 33.0, "{f:?}");
    }

    #[test]
    fn start_up_is_the_prior_until_three_were_measured() {
        let (mut forecaster, f) = after([(0, 0, 0)]);
        assert_eq!(f.horizon, Duration::from_secs(3));
        forecaster.started_up(Duration::from_secs(4));
        forecaster.started_up(Duration::from_secs(9));
        assert_eq!(forecaster.startup_p95(), Duration::from_secs(2));
        forecaster.started_up(Duration::from_secs(5));
        assert_eq!(forecaster.startup_p95(), Duration::from_secs(9));
        (0..20).for_each(|_| forecaster.started_up(Duration::from_secs(3)));
        assert_eq!(forecaster.startup_p95(), Duration::from_secs(3), "a new release is faster");
    }

    #[test]
    fn the_margin_grows_with_misses_and_comes_back() {
        // A jump of 40 sessions a minute that no rate foretells.
        let (_, missed) = after((0..1200).map(|t| (0, 0, 40 * (t / 20) as u32)));
        assert!(missed.z > 1.7, "{missed:?}");
        let (_, again) = after((0..1200).map(|t| (0, 0, 40 * (t / 20) as u32)).chain((0..2000).map(|_| (0, 0, 2400))));
        assert_eq!(again.z, Z_MIN);
    }

    #[test]
    fn those_who_only_move_are_no_demand() {
        let mut forecaster = Forecaster::new(Duration::from_secs(2), Moment::START);
        let mut moves = |second: u64, admitted, ended, moved| {
            forecaster.tick(Flow { admitted, ended, moved }, 40, 0, Duration::ZERO, Moment::from_millis(second * 1000))
        };
        moves(1, 0, 0, 20);
        moves(2, 0, 15, 0);
        let f = moves(3, 15, 3, 0);
        assert_eq!((f.arrivals_per_s, f.departure_rate), (0.0, 0.0));
        let f = moves(4, 12, 0, 0);
        assert!(f.arrivals_per_s > 0.1, "more come than were moved: {f:?}");
    }

    #[test]
    fn two_looks_at_one_moment_lose_nothing() {
        let mut forecaster = Forecaster::new(Duration::from_secs(2), Moment::START);
        forecaster.tick(Flow { admitted: 9, ended: 0, moved: 0 }, 9, 0, Duration::ZERO, Moment::START);
        let f = forecaster.tick(Flow { admitted: 1, ended: 0, moved: 0 }, 10, 0, Duration::ZERO, Moment::from_millis(1000));
        let mut whole = Forecaster::new(Duration::from_secs(2), Moment::START);
        let g = whole.tick(Flow { admitted: 10, ended: 0, moved: 0 }, 10, 0, Duration::ZERO, Moment::from_millis(1000));
        assert_eq!(f.arrivals_per_s, g.arrivals_per_s);
    }
}
