//! The one place that reads clocks.

use std::time::{SystemTime, UNIX_EPOCH};

use holdline_core::time::Moment;
use tokio::time::Instant;

/// Tells [`Moment`]s since it was made; follows tokio's paused time in tests.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn start() -> Self {
        Clock { start: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Moment {
        Moment::at(self.start.elapsed())
    }

    /// `moment` on tokio's clock, to sleep until it.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.start + moment.since_start()
    }

    /// The wall clock, milliseconds since 1970 (UTC): for people to read, nothing is decided by it.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn unix_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}
