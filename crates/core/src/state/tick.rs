//! What follows in a fleet as time passes.

use crate::time::Moment;

use super::fleet::FleetState;

impl FleetState {
    /// Every 100 ms.
    pub(super) fn tick(&mut self, now: Moment) {
        for at in 0..self.backends.len() {
            // One that was told to stop falls silent, and that is no news.
            if self.backends[at].retiring {
                continue;
            }
            if let Some(change) = self.backends[at].health.tick(now) {
                self.health_changed(at, change, now);
            }
            self.backoff_sees(at, now);
        }
        self.finish_drains(now);
        self.step_drains(now);
        self.step_rebalance(now);
        self.roll(now);
        self.scale(now);
    }
}
