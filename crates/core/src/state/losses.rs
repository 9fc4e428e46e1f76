//! What a backend lost a moment ago.

use std::time::Duration;

use crate::time::Moment;

/// Sessions that were lost with their backend in the last seconds: its sockets fail before anybody hears that its process is gone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    /// The counter at two earlier moments, the older one first.
    before: [(Moment, u64); 2],
}

impl Losses {
    /// Between two moments that are kept.
    const EVERY: Duration = Duration::from_secs(2);

    /// Takes the counter, which was `last` until now.
    pub(super) fn take(&mut self, last: u64, now: Moment) {
        let [_, newer] = self.before;
        if now.since(newer.0) >= Self::EVERY {
            self.before = [newer, (now, last)];
        }
    }

    /// Of the last two seconds at least, of the last four at most.
    pub(super) fn of(&self, total: u64) -> u32 {
        u32::try_from(total.saturating_sub(self.before[0].1)).unwrap_or(u32::MAX)
    }
}
