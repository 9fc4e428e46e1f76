//! The one owner of what is known. Stub: owner replaces bodies, keeps the signatures.

use std::sync::Arc;

use crate::event::{Answer, Command, CommandError, Effect, Event};
use crate::policy::FleetPolicy;
use crate::snapshot::Snapshot;
use crate::time::Moment;

/// All fleets, their backends, drains and scaling.
#[derive(Debug)]
pub struct State {}

impl State {
    /// Static backends join at once; elastic fleets start their `min`.
    pub fn new(_fleets: Vec<Arc<FleetPolicy>>, _seed: u64, _now: Moment) -> Self {
        unimplemented!()
    }

    /// Takes in what happened. Follow with [`State::take_effects`] and [`State::snapshot`].
    pub fn apply(&mut self, _event: Event, _now: Moment) {
        unimplemented!()
    }

    /// Does what an operator asks, or plans it.
    ///
    /// # Errors
    /// [`CommandError`]; nothing was changed.
    pub fn command(&mut self, _command: Command, _now: Moment) -> Result<Answer, CommandError> {
        unimplemented!()
    }

    /// What shells have to do, oldest first; each is returned once.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        unimplemented!()
    }

    /// Everything that is known, as of `now`.
    pub fn snapshot(&self, _now: Moment) -> Snapshot {
        unimplemented!()
    }
}
