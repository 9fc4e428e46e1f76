//! Virtual and real time alike: a point on a monotonic clock that somebody else reads.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::Serialize;

/// A point on the monotonic clock, counted from the moment Holdline started.
///
/// Core never asks what time it is: every decision is told. So a test or a simulation can run a day in a millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Moment(Duration);

impl Moment {
    /// The moment at which Holdline started.
    pub const START: Moment = Moment(Duration::ZERO);

    /// The moment `since_start` after the start.
    pub const fn at(since_start: Duration) -> Self {
        Moment(since_start)
    }

    /// A whole number of milliseconds after the start.
    pub const fn from_millis(ms: u64) -> Self {
        Moment(Duration::from_millis(ms))
    }

    /// Time since the start.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// Time that passed since `earlier`; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, d: Duration) -> Moment {
        Moment(self.0.saturating_add(d))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;
    fn sub(self, d: Duration) -> Moment {
        Moment(self.0.saturating_sub(d))
    }
}
