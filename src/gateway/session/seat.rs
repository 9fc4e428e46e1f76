//! The seat of a session, and what its fleet's queue learns of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use holdline_core::seats::Seat;
use tokio::sync::Notify;

/// What a fleet's seats and its queue tell each other, on all threads.
#[derive(Debug, Default)]
pub(crate) struct Turnover {
    /// Counters of seats that sessions took and gave back, from which the autoscaler forecasts.
    pub(crate) admitted_total: AtomicU64,
    pub(crate) ended_total: AtomicU64,
    /// Waiters in the queue, readable without its lock: while anybody waits, newcomers wait behind.
    pub(crate) waiting: AtomicUsize,
    /// Notified when a seat may have become free.
    pub(crate) freed: Notify,
}

impl Turnover {
    /// Has the queue served, if anybody waits there: a seat may be free.
    pub(crate) fn seat_freed(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }
}

/// One seat of a backend. Dropped exactly once, so given back exactly once.
#[derive(Debug)]
pub(crate) struct SeatGuard {
    // An option only so that `drop` can give the seat back before the queue hears of it.
    seat: Option<Seat>,
    turnover: Arc<Turnover>,
}

impl SeatGuard {
    /// A seat that was taken for a session: an arrival now and a departure at its end.
    pub(crate) fn new(seat: Seat, turnover: &Arc<Turnover>) -> Self {
        turnover.admitted_total.fetch_add(1, Ordering::Relaxed);
        SeatGuard { seat: Some(seat), turnover: Arc::clone(turnover) }
    }
}

impl Drop for SeatGuard {
    fn drop(&mut self) {
        drop(self.seat.take());
        self.turnover.ended_total.fetch_add(1, Ordering::Relaxed);
        // Either we see the waiter, or the queue's task sees the seat: pairs with the fence in `Fleet::serve`.
        fence(Ordering::SeqCst);
        self.turnover.seat_freed();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use holdline_core::seats::Seats;
    use holdline_core::time::Moment;

    use super::*;

    /// A session's seat of a backend that has no other.
    pub(crate) fn taken_seat() -> (SeatGuard, Arc<Seats>) {
        let seats = Seats::new(1, None);
        (SeatGuard::new(seats.reserve(Moment::START).unwrap(), &Arc::default()), seats)
    }
}
