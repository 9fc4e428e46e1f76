//! The waiters of a fleet's queue, and their results.

use std::sync::Arc;

use holdline_core::cause::RefuseCause;
use tokio::sync::oneshot;

use super::backend::Backend;
use crate::gateway::session::seat::SeatGuard;

/// A seat, and where it is.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) backend: Arc<Backend>,
    pub(crate) seat: SeatGuard,
}

/// A waiter in the queue, with the channel for its result.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// For a seat.
    Session(Told<Admitted>),
    /// A plain request at a fleet of zero waits for a backend, and keeps no seat.
    Request(Told<()>),
}

pub(crate) type Told<T> = oneshot::Sender<Result<T, RefuseCause>>;

impl Waiter {
    /// The fleet goes.
    pub(crate) fn turn_away(self) {
        self.refuse(RefuseCause::Draining);
    }

    /// Who left meanwhile needs no answer.
    pub(crate) fn refuse(self, cause: RefuseCause) {
        match self {
            Waiter::Session(told) => drop(told.send(Err(cause))),
            Waiter::Request(told) => {
                let _ = told.send(Err(cause));
            }
        }
    }
}
