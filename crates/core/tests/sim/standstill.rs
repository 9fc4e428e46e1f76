//! The process does not run for a while (SIGSTOP, no CPU): clients and backends go on, and what they do waits to be read.

use std::time::Duration;

use holdline_core::event::Event;
use rand::Rng;

use crate::mutation::Mutation;
use crate::shadow::{Checked, Shadow};
use crate::world::{STEP, World};

impl World {
    /// About once in two minutes. The first thing that State hears is a tick: nobody has read anything yet.
    pub(crate) fn stand_still(&mut self) -> Checked {
        if !self.rng.random_bool(0.001) {
            return Ok(());
        }
        let until = self.now + Duration::from_millis(self.rng.random_range(20..400) * 100);
        // Since the end of the last step, when State was told of something.
        let gap = until.since(self.now - STEP);
        let before = self.state.snapshot(self.now);
        while self.mutation == Mutation::StandstillLivedThrough && self.now < until {
            self.now = (self.now + Duration::from_millis(500)).min(until);
            self.apply(Event::Tick)?;
        }
        self.now = until;
        self.tally.stood_still += 1;
        self.shadow.stood_still(gap);
        // A push that was due is in the socket; of a probe the answer is.
        self.servers.values_mut().for_each(|s| s.heartbeat_at = s.heartbeat_at.min(until));
        self.apply(Event::Report(self.gateway.report(until)))?;
        self.apply(Event::Tick)?;
        Shadow::check_standstill(&before, &self.state.snapshot(until), gap)
    }
}
