//! Admission: a seat at once if one is free and the queue is empty, else through the fleet's queue.
//!
//! A seat is a guard all the way: the queue's task hands over a [`SeatGuard`], and whoever drops it (a client that left, a dial that
//! failed, a session that ended) gives it back and has the queue served.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use holdline_core::affinity::Wish;
use holdline_core::balance::{NoPlace, Preferred, place};
use holdline_core::cause::RefuseCause;
use holdline_core::ids::BackendId;
use holdline_core::queue::{Outcome, Ticket};
use holdline_core::seats::Seat;
use holdline_core::time::Moment;
use rand::rngs::SmallRng;
use tokio::sync::oneshot;

use super::backend::Backend;
use super::fleet::Fleet;
use super::waiter::{Admitted, Told, Waiter};
use crate::clock::{CATCH_UP, Clock, HELD_UP};
use crate::gateway::session::seat::SeatGuard;

/// Why a handshake was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// To be told to the client.
    Refused(RefuseCause),
    /// The client disconnected while it waited.
    Gone,
}

/// A seat where `wish` says, or on the best backend but those in `failed`, at once or after a wait, which stops when the client is `gone`,
/// or when no backend but those takes sessions.
///
/// # Errors
/// [`NotAdmitted`].
pub(crate) async fn admit(
    fleet: &Arc<Fleet>,
    wish: &Wish,
    failed: &[BackendId],
    gone: impl Future<Output = ()>,
    clock: Clock,
    rng: &RefCell<SmallRng>,
) -> Result<Admitted, NotAdmitted> {
    let now = clock.now();
    // While anybody waits, newcomers wait behind.
    if fleet.turnover.waiting.load(Ordering::SeqCst) == 0 {
        match fleet.place(wish, failed, now, &mut rng.borrow_mut()) {
            Ok((backend, seat)) => {
                return Ok(Admitted { backend, seat: SeatGuard::new(seat, &fleet.turnover) });
            }
            Err(NoPlace::NoBackend) if failed.is_empty() => fleet.count_no_backend(),
            Err(_) => {}
        }
    }
    let waited = wait(fleet, Waiter::Session, (wish, failed), clock, gone).await;
    fleet.metrics.queue_wait(clock.now().since(now));
    waited
}

/// Waits until the fleet has a backend at all; for plain requests, whose client is watched by hyper. They stand in the queue, so that
/// they are bounded and seen by State, but need no seat to leave it.
///
/// # Errors
/// Why it did not get one.
pub(crate) async fn any_backend(fleet: &Arc<Fleet>, clock: Clock) -> Result<(), RefuseCause> {
    fleet.count_no_backend();
    match wait(fleet, Waiter::Request, (&Wish::Anywhere, &[]), clock, fleet.has_ready()).await {
        Ok(_) | Err(NotAdmitted::Gone) => Ok(()),
        Err(NotAdmitted::Refused(cause)) => Err(cause),
    }
}

async fn wait<T>(
    fleet: &Arc<Fleet>,
    waiter: impl FnOnce(Told<T>) -> Waiter,
    (wish, failed): (&Wish, &[BackendId]),
    clock: Clock,
    gone: impl Future<Output = ()>,
) -> Result<T, NotAdmitted> {
    let (told, answer) = oneshot::channel();
    let ticket = {
        let mut queue = fleet.queue.lock();
        let entered = queue.enter(wish.clone(), failed.to_vec(), waiter(told), clock.now());
        fleet.turnover.waiting.store(queue.len(), Ordering::SeqCst);
        entered
    };
    let ticket = match ticket {
        Ok(ticket) => ticket,
        Err((_, cause)) => return Err(NotAdmitted::Refused(fleet.refused(cause))),
    };
    // Leaves the queue on every way out, and passes on a seat that it was given too late.
    let _place = QueuePlace { fleet, ticket };
    // A seat freed between our look at the seats and our entry would notify nobody.
    fleet.turnover.freed.notify_one();
    tokio::select! {
        biased;
        told = answer => match told {
            Ok(Ok(given)) => Ok(given),
            // Every backend was there and failed at the dial: more of them are not what is missing.
            Ok(Err(RefuseCause::NoBackend)) if !failed.is_empty() => Err(NotAdmitted::Refused(RefuseCause::NoBackend)),
            Ok(Err(cause)) => Err(NotAdmitted::Refused(fleet.refused(cause))),
            // The queue itself went away: the gateway is being dropped.
            Err(_) => Err(NotAdmitted::Refused(RefuseCause::Draining)),
        },
        () = gone => Err(NotAdmitted::Gone),
    }
}

/// A place in the queue; dropping it leaves the queue.
struct QueuePlace<'f> {
    fleet: &'f Arc<Fleet>,
    ticket: Ticket,
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        let mut queue = self.fleet.queue.lock();
        queue.leave(self.ticket);
        self.fleet.turnover.waiting.store(queue.len(), Ordering::SeqCst);
        drop(queue);
        // The next waiter may be first now.
        self.fleet.turnover.seat_freed();
    }
}

/// Serves the fleet's queue for ever: when a seat may be free, and at the queue's own next deadline.
pub(crate) async fn serve_queue(fleet: Arc<Fleet>, clock: Clock, mut rng: SmallRng) {
    // Another task may have served it before, under another policy.
    let mut next: Option<Moment> = fleet.serve(clock.now(), &mut rng);
    loop {
        let deadline = async {
            match next {
                Some(at) => tokio::time::sleep_until(clock.instant(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = fleet.turnover.freed.notified() => {}
            () = deadline => {}
        }
        if next.is_some_and(|at| clock.now().since(at) >= HELD_UP) {
            // Waiters' times passed while this thread was held up. Seats may have become free meanwhile: that is in sockets still.
            tokio::time::sleep(CATCH_UP).await;
        }
        next = fleet.serve(clock.now(), &mut rng);
    }
}

impl Fleet {
    fn place(&self, wish: &Wish, failed: &[BackendId], now: Moment, rng: &mut SmallRng) -> Result<(Arc<Backend>, Seat), NoPlace> {
        let joined = self.joined();
        let backends = &joined.members;
        let preferred = match wish {
            Wish::Anywhere => Preferred::Nobody,
            Wish::Backend(id) => backends.iter().position(|m| m.0.id == *id).map_or(Preferred::Nobody, Preferred::One),
            Wish::Key(key) => {
                joined.affinity.rendezvous().map_or(Preferred::Nobody, |rendezvous| Preferred::InOrder(rendezvous, *key))
            }
        };
        let usable = |index: usize| failed.is_empty() || !failed.contains(&backends[index].0.id);
        let policy = &self.policy;
        let (index, seat) = place(policy.balance, policy.fill, backends, preferred, usable, now, rng)?;
        Ok((Arc::clone(&backends[index].0), seat))
    }

    /// Lets in whom there is room for. Returns when to look again.
    fn serve(self: &Arc<Self>, now: Moment, rng: &mut SmallRng) -> Option<Moment> {
        let mut queue = self.queue.lock();
        fence(Ordering::SeqCst);
        let next =
            queue.serve(now, |wish, failed| self.place(wish, failed, now, rng), |waiter, outcome| self.tell(waiter, outcome));
        self.turnover.waiting.store(queue.len(), Ordering::SeqCst);
        next
    }

    /// A waiter that left meanwhile drops what it is told, which gives the seat back and has the queue served.
    fn tell(self: &Arc<Self>, waiter: Waiter, outcome: Outcome<Arc<Backend>>) {
        // An error is the answer back, dropped here.
        match (waiter, outcome) {
            (Waiter::Session(told), Outcome::Admitted(backend, seat)) => {
                let _ = told.send(Ok(Admitted { backend, seat: SeatGuard::new(seat, &self.turnover) }));
            }
            (Waiter::Request(told), Outcome::Admitted(_, seat)) => {
                let _ = told.send(Ok(()));
                // Free again at once, for the next in line.
                drop(seat);
                self.turnover.seat_freed();
            }
            (waiter, Outcome::Refused(cause)) => waiter.refuse(cause),
        }
    }

    /// Resolves when a backend takes plain requests.
    async fn has_ready(&self) {
        loop {
            // Before the look, so that what is adopted after it is heard.
            let adopted = self.adopted.notified();
            if self.joined().members.iter().any(|m| m.0.takes_requests()) {
                return;
            }
            adopted.await;
        }
    }

    /// A handshake found no backend: State starts one for a fleet of zero.
    fn count_no_backend(&self) {
        self.no_backend_total.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refusal for want of a seat, and says what was missing: with no backend at all it was not the queue's fault.
    fn refused(&self, cause: RefuseCause) -> RefuseCause {
        let none = !self.joined().members.iter().any(|m| m.0.takes_requests());
        self.refused_total.fetch_add(1, Ordering::Relaxed);
        if none && matches!(cause, RefuseCause::Capacity | RefuseCause::QueueTimeout) { RefuseCause::NoBackend } else { cause }
    }
}
