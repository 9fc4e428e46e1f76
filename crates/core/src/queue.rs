//! The admission queue: handshakes that wait for a seat. Stub: owner replaces bodies, keeps the signatures.

use std::time::Duration;

use crate::balance::NoPlace;
use crate::cause::RefuseCause;
use crate::ids::BackendId;
use crate::policy::QueuePolicy;
use crate::seats::Seat;
use crate::time::Moment;

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// First come, first served; bounded in number and time. `W` is how a waiter is told.
#[derive(Debug)]
pub struct Queue<W> {
    _waiters: Vec<W>,
}

/// What became of a waiter.
#[derive(Debug)]
pub enum Outcome<T> {
    /// A seat, where the placement said.
    Admitted(T, Seat),
    /// [`RefuseCause::QueueTimeout`].
    Refused(RefuseCause),
}

impl<W> Queue<W> {
    /// Empty.
    pub fn new(_policy: QueuePolicy) -> Self {
        unimplemented!()
    }

    /// Waiters now.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long the first has waited.
    pub fn oldest_wait(&self, _now: Moment) -> Duration {
        unimplemented!()
    }

    /// Joins at the end; `preferred` is the backend that affinity names.
    ///
    /// # Errors
    /// The waiter back, with `QueueFull` (or `Capacity` when the policy lets nobody wait).
    pub fn enter(&mut self, _preferred: Option<BackendId>, _waiter: W, _now: Moment) -> Result<Ticket, (W, RefuseCause)> {
        unimplemented!()
    }

    /// The client went away. Unknown tickets (already served) are ignored.
    pub fn leave(&mut self, _ticket: Ticket) {
        unimplemented!()
    }

    /// Serves and expires waiters. `place` is asked for each in turn and answers with a seat and where it is, until it says that nobody can be placed.
    /// Returns when to come again at the latest (a deadline, or the pace), if anybody still waits.
    pub fn serve<T>(
        &mut self,
        _now: Moment,
        _place: impl FnMut(Option<&BackendId>) -> Result<(T, Seat), NoPlace>,
        _tell: impl FnMut(W, Outcome<T>),
    ) -> Option<Moment> {
        unimplemented!()
    }
}
