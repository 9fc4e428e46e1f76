//! The one place that reads the monotonic clock.

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
}
