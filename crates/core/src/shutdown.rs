//! The pace at which a gateway that stops tells its sessions to go.
//!
//! The time is `n / 100` seconds, as for a drain, but at least one second, so that a handful of clients does not come back at once, and
//! at most three quarters of the deadline: the rest is for close handshakes. What is left at the deadline is cut.

use std::time::Duration;

use crate::drain::Pace;
use crate::time::Moment;

/// The shortest time over which sessions are told, if the deadline allows it.
const OVER_MIN: Duration = Duration::from_secs(1);

/// The share of the deadline in which all sessions are told.
const SHARE: f64 = 0.75;

/// A shutdown under way.
#[derive(Clone, Debug)]
pub struct Shutdown {
    started: Moment,
    total: u32,
    over: Duration,
    deadline: Duration,
    told: u32,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownAction {
    /// So many sessions that were not told yet shall close.
    Close(u32),
    /// The deadline passed: all that are left are cut.
    Cut,
}

impl Shutdown {
    /// Of `total` sessions, to be over by `deadline` after `now`.
    pub fn new(total: u32, deadline: Duration, now: Moment) -> Self {
        let most = deadline.mul_f64(SHARE);
        let over = Pace::over_default(total, None, most).max(OVER_MIN.min(most));
        Shutdown { started: now, total, over, deadline, told: 0 }
    }

    /// What is due at `now`. [`Shutdown::told`] says what came of it.
    pub fn step(&self, now: Moment) -> ShutdownAction {
        let elapsed = now.since(self.started);
        if elapsed >= self.deadline {
            return ShutdownAction::Cut;
        }
        if elapsed >= self.over {
            // Also those that nobody knew of: handshakes that were almost through.
            return ShutdownAction::Close(u32::MAX);
        }
        let share = elapsed.as_secs_f64() / self.over.as_secs_f64();
        // Rounded up: the first does not wait.
        let due = (f64::from(self.total) * share).floor() as u32 + 1;
        ShutdownAction::Close(due.min(self.total).saturating_sub(self.told))
    }

    /// So many were told.
    pub fn told(&mut self, count: u32) {
        self.told = self.told.saturating_add(count);
    }

    /// What is left of the time until the cut.
    pub fn left(&self, now: Moment) -> Duration {
        self.deadline.saturating_sub(now.since(self.started))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    /// How many are told by each tick until all are, and when that is; clients obey at once.
    fn run(total: u32, deadline_s: u64) -> (Vec<u32>, Duration) {
        let mut shutdown = Shutdown::new(total, Duration::from_secs(deadline_s), Moment::START);
        let (mut now, mut told) = (Moment::START, Vec::new());
        loop {
            let before = told.last().copied().unwrap_or(0);
            let ShutdownAction::Close(count) = shutdown.step(now) else { panic!("{before} of {total} told at the deadline") };
            let count = count.min(total - before);
            shutdown.told(count);
            told.push(before + count);
            if before + count == total {
                return (told, now.since(Moment::START));
            }
            now = now + TICK;
        }
    }

    #[test]
    fn a_nearly_empty_gateway_is_quick() {
        for total in [0, 1, 4, 50] {
            let (told, took) = run(total, 60);
            assert!(took <= Duration::from_secs(1), "{total} took {took:?}");
            assert!(told[0] <= 1);
        }
    }

    #[test]
    fn thousands_go_a_hundred_a_second_at_the_quarters() {
        let (told, took) = run(2000, 60);
        assert!(took.abs_diff(Duration::from_secs(20)) <= TICK, "{took:?}");
        for (tick, expected) in [(50, 500), (100, 1000), (150, 1500)] {
            assert!(told[tick].abs_diff(expected) <= 10, "{} told after {tick} ticks", told[tick]);
        }
        let steepest = told.windows(2).map(|w| w[1] - w[0]).max();
        assert!(steepest <= Some(11), "{steepest:?} at once");
    }

    #[test]
    fn more_than_the_deadline_has_time_for_go_faster() {
        let (told, took) = run(60_000, 60);
        assert!(took.abs_diff(Duration::from_secs(45)) <= TICK, "{took:?}");
        assert!(told[225].abs_diff(30_000) <= 150, "{}", told[225]);
        let (_, took) = run(3, 1);
        assert!(took <= Duration::from_millis(800), "{took:?}");
    }

    #[test]
    fn what_is_left_at_the_deadline_is_cut_and_nobody_is_told_twice() {
        let mut shutdown = Shutdown::new(10, Duration::from_secs(8), Moment::START);
        shutdown.told(10);
        assert_eq!(shutdown.step(Moment::from_millis(900)), ShutdownAction::Close(0));
        assert_eq!(shutdown.step(Moment::from_millis(7_999)), ShutdownAction::Close(u32::MAX), "whoever was never told");
        assert_eq!(shutdown.left(Moment::from_millis(7_000)), Duration::from_secs(1));
        assert_eq!(shutdown.step(Moment::from_millis(8_000)), ShutdownAction::Cut);
        assert_eq!(Shutdown::new(10, Duration::ZERO, Moment::START).step(Moment::START), ShutdownAction::Cut);
    }
}
