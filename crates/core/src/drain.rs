//! The pace at which sessions leave a backend: how many have to be told to go, tick by tick.
//!
//! With n sessions left after the time t of the time `over` that was asked for:
//! `rate = min(rate_max, n / max(0.85·over − t, 1 s))`, less the sessions that left by themselves, never above the seats
//! that the rest of the fleet has free; the last second takes what is left, and what is left at the deadline is cut.
//!
//! Nobody here knows which session left by itself and which because it was told to. So progress is the higher of two
//! figures, *told to go* and *gone*: while clients take their time to close, nobody is told twice; when more are gone than
//! were told, the others left by themselves and are not replaced.
//!
//! A drain orders again what is left when all were told, within the same rate and seats: a session that was still being dialled missed the
//! first order, and the gateway passes over those that it told. A rebalance does not: those that were told and still hold their seats cannot
//! be told from those that stay, so another order would move the latter.

use std::collections::VecDeque;
use std::time::Duration;

use crate::cause::EndCause;
use crate::policy::DrainMode;
use crate::snapshot::MoveView;
use crate::time::Moment;

/// Without `rate_max` and `over`, the time is chosen so that about this many sessions leave a second: a backend's worth
/// of clients that reconnect at once is what a drain shall avoid.
pub const RATE_DEFAULT: f64 = 100.0;
/// A shorter time makes no difference to sessions: the last second takes all that are left.
const OVER_MIN: Duration = LAST;
/// The share of `over` in which the plan moves everybody; the rest is for stragglers.
const SHARE: f64 = 0.85;
/// The shortest horizon, so that the rate stays finite, and the length of the end that takes what is left.
const LAST: Duration = Duration::from_secs(1);
/// A client that was told to go has taken its new seat after so long; until then the seat counts as promised.
const RECONNECT: Duration = Duration::from_secs(1);
/// Between two orders to the same sessions: one that was still being dialled missed the first.
const RETELL: Duration = Duration::from_secs(1);

/// How sessions are to be moved, with every value decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Spread over this time.
    pub over: Duration,
    /// Counted from the start; what is left then is cut (a drain) or stays (a rebalance).
    pub deadline: Duration,
    /// Sessions a second at the most.
    pub rate_max: Option<f64>,
    pub mode: DrainMode,
}

impl Pace {
    /// `over` when none was asked for: `n / rate_max`, or [`RATE_DEFAULT`] a second; a second at least, at most the deadline.
    pub fn over_default(n: u32, rate_max: Option<f64>, deadline: Duration) -> Duration {
        let seconds = f64::from(n) / rate_max.unwrap_or(RATE_DEFAULT);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).max(OVER_MIN).min(deadline)
    }

    /// Sessions a second with `left` of them left after `elapsed`.
    pub fn rate(&self, left: u32, elapsed: Duration) -> f64 {
        let rate = f64::from(left) / self.horizon(elapsed).as_secs_f64();
        self.rate_max.map_or(rate, |max| rate.min(max))
    }

    /// What the plan for `total` sessions would have left after `elapsed`.
    pub fn planned(&self, total: u32, elapsed: Duration) -> u32 {
        let line = if elapsed + LAST >= self.over {
            0.0
        } else {
            // Straight down to the last second of the horizon, then by the same share each second.
            let rate = f64::from(total) / self.horizon(Duration::ZERO).as_secs_f64();
            let bend = self.over.mul_f64(SHARE).saturating_sub(LAST);
            let straight = f64::from(total) - rate * elapsed.min(bend).as_secs_f64();
            straight * (-elapsed.saturating_sub(bend).as_secs_f64()).exp()
        };
        let slowest = self.rate_max.map_or(0.0, |max| f64::from(total) - max * elapsed.as_secs_f64());
        line.max(slowest).max(0.0).round() as u32
    }

    fn horizon(&self, elapsed: Duration) -> Duration {
        self.over.mul_f64(SHARE).saturating_sub(elapsed).max(LAST)
    }
}

/// Sessions of a backend that are to end now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndOrder {
    /// At most so many. A session that was told before is not told again.
    pub count: u32,
    pub ending: Ending,
}

/// How a session is to end, and the cause that is recorded then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    pub mode: DrainMode,
    pub cause: EndCause,
}

impl Ending {
    /// At once, with the cause `cut`.
    pub const CUT: Ending = Ending { mode: DrainMode::Cut, cause: EndCause::Cut };
}

/// What is due in a step of a [`Move`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub order: EndOrder,
    /// How many sessions of the order are told for the first time.
    pub first: u32,
}

/// Sessions on their way off one backend.
#[derive(Clone, Debug)]
pub struct Move {
    pace: Pace,
    cause: EndCause,
    /// Whether what is left at the deadline is cut.
    cut: bool,
    started: Moment,
    /// The last step.
    seen: Moment,
    total: u32,
    left: u32,
    /// The higher of told to go and gone.
    progress: u32,
    /// Sessions that the rate allows and that were not told yet.
    credit: f64,
    /// Told within the last [`RECONNECT`].
    in_transit: VecDeque<(Moment, u32)>,
    told: Moment,
}

impl Move {
    /// All `total` sessions off a backend; what is left at the deadline is cut.
    pub fn drain(pace: Pace, total: u32, now: Moment) -> Self {
        let cause = if pace.mode == DrainMode::Cut { EndCause::Cut } else { EndCause::Drained };
        Self::new(pace, cause, true, total, now)
    }

    /// `total` of its sessions, to even out the fleet; nobody is cut for that. So many of them are `leaving` already, since they were told to
    /// go before.
    pub fn rebalance(pace: Pace, total: u32, leaving: u32, now: Moment) -> Self {
        Move { progress: leaving.min(total), ..Self::new(pace, EndCause::Rebalanced, false, total, now) }
    }

    fn new(pace: Pace, cause: EndCause, cut: bool, total: u32, now: Moment) -> Self {
        Move {
            pace,
            cause,
            cut,
            started: now,
            seen: now,
            total,
            left: total,
            progress: 0,
            credit: 0.0,
            in_transit: VecDeque::new(),
            told: now,
        }
    }

    pub fn started(&self) -> Moment {
        self.started
    }

    /// Sessions there were to move.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// How it goes.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// What is left then is cut.
    pub fn deadline(&self) -> Moment {
        self.started + self.pace.deadline
    }

    /// Whether the deadline passed.
    pub fn overdue(&self, now: Moment) -> bool {
        now >= self.deadline()
    }

    /// Sessions that were told to go and are still there, by the last step.
    pub fn leaving(&self) -> u32 {
        self.progress - (self.total - self.left)
    }

    /// Seats elsewhere that clients who were told to go are about to take.
    pub fn in_transit(&self, now: Moment) -> u32 {
        self.in_transit.iter().filter(|(at, _)| now.since(*at) < RECONNECT).map(|(_, n)| n).sum()
    }

    /// Nobody was told for `gap`, nor could be: the plan, its deadline included, goes on from where it was. A deadline that ran on would cut
    /// all who were not told yet.
    pub fn stood_still(&mut self, gap: Duration) {
        for at in
            [&mut self.started, &mut self.seen, &mut self.told].into_iter().chain(self.in_transit.iter_mut().map(|(at, _)| at))
        {
            *at = *at + gap;
        }
    }

    /// What to do at `now` with `left` sessions left and `room` free seats elsewhere (`None`: no limit; seats promised to
    /// sessions in transit are already taken off).
    pub fn step(&mut self, left: u32, room: Option<u32>, now: Moment) -> Option<Due> {
        let natural = self.take_in(left);
        let passed = now.since(self.seen).as_secs_f64();
        self.seen = now;
        let elapsed = now.since(self.started);
        if left == 0 {
            return None;
        }
        if self.overdue(now) {
            return self.cut.then(|| self.cut_rest(now)).flatten();
        }
        let to_tell = self.total - self.progress;
        if to_tell == 0 {
            return self.cut.then(|| self.tell_again(room, passed, now)).flatten();
        }
        let last_second = elapsed + LAST >= self.pace.over;
        let rate = match self.pace.rate_max {
            Some(max) if last_second => max,
            _ => self.pace.rate(to_tell, elapsed),
        };
        // Credit that found no room is worth one second: it must not become a burst when room appears.
        self.credit = (self.credit + rate * passed - f64::from(natural)).clamp(0.0, rate.max(1.0));
        let all = last_second && self.pace.rate_max.is_none();
        let wanted = if all { to_tell } else { (self.credit as u32).min(to_tell) };
        self.tell(wanted.min(room.unwrap_or(u32::MAX)), now)
    }

    /// Brings the figures up to date; returns how many left by themselves since the last step.
    fn take_in(&mut self, left: u32) -> u32 {
        self.left = left;
        self.total = self.total.max(left);
        let gone = self.total - left;
        let natural = gone.saturating_sub(self.progress);
        self.progress = self.progress.max(gone);
        natural
    }

    fn tell(&mut self, count: u32, now: Moment) -> Option<Due> {
        if count == 0 {
            return None;
        }
        self.progress += count;
        self.credit = (self.credit - f64::from(count)).max(0.0);
        self.told = now;
        while self.in_transit.front().is_some_and(|(at, _)| now.since(*at) >= RECONNECT) {
            self.in_transit.pop_front();
        }
        self.in_transit.push_back((now, count));
        Some(Due { order: self.order(count), first: count })
    }

    /// Those of a drain that did not hear it, once a second; as many as the rate and the seats elsewhere allow, as if it were all of them.
    fn tell_again(&mut self, room: Option<u32>, passed: f64, now: Moment) -> Option<Due> {
        let allowed = self.pace.rate_max.map_or(u32::MAX, |max| {
            self.credit = (self.credit + max * passed).min(max.max(1.0));
            self.credit as u32
        });
        let count = self.left.min(allowed).min(room.unwrap_or(u32::MAX));
        if count == 0 || now.since(self.told) < RETELL {
            return None;
        }
        self.credit = (self.credit - f64::from(count)).max(0.0);
        self.told = now;
        Some(Due { order: self.order(count), first: 0 })
    }

    /// All that are left at the deadline; again each second, for a dial in flight has no connection to cut yet.
    fn cut_rest(&mut self, now: Moment) -> Option<Due> {
        if self.told >= self.deadline() && now.since(self.told) < RETELL {
            return None;
        }
        self.told = now;
        Some(Due { order: EndOrder { count: self.left, ending: Ending::CUT }, first: 0 })
    }

    fn order(&self, count: u32) -> EndOrder {
        EndOrder { count, ending: Ending { mode: self.pace.mode, cause: self.cause } }
    }

    /// For the snapshot, as of the last step, with `left` sessions left and `cut` that the deadline cut.
    pub fn view(&self, left: u32, cut: u32) -> MoveView {
        let elapsed = self.seen.since(self.started);
        MoveView {
            started: self.started,
            total: self.total,
            remaining: left,
            planned: if left == 0 { 0 } else { self.pace.planned(self.total, elapsed) },
            due: self.started + self.pace.over,
            deadline: self.deadline(),
            mode: self.pace.mode,
            cause: self.cause,
            cut,
        }
    }
}

#[cfg(test)]
mod tests;
