//! The admission queue: handshakes that wait for a seat.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use crate::affinity::Wish;
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
///
/// Affinity is a wish, so a seat that does for anybody does for the first, who is never passed, unless the only seats are on backends
/// that it could not be connected to.
#[derive(Debug)]
pub struct Queue<W> {
    policy: QueuePolicy,
    /// By ticket, so in the order of arrival. A map, since clients that come and go must leave nothing behind.
    waiters: BTreeMap<Ticket, Waiter<W>>,
    next: u64,
    closed: bool,
    /// When [`Queue::serve`] asked to be called again at the latest.
    due: Option<Moment>,
    /// Nobody's time is up before.
    spared_until: Moment,
}

/// Called so much later than asked, the caller stood still: sessions that ended meanwhile have left seats that nobody has freed yet.
const LATE: Duration = Duration::from_secs(1);
/// Time to read of those ends before anybody is refused.
const SPARED: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Waiter<W> {
    wish: Wish,
    failed: Vec<BackendId>,
    since: Moment,
    tell: W,
}

/// What became of a waiter.
#[derive(Debug)]
pub enum Outcome<T> {
    /// A seat, where the placement said.
    Admitted(T, Seat),
    /// [`RefuseCause::QueueTimeout`], or [`RefuseCause::NoBackend`] for a waiter that failed at every backend that takes sessions.
    Refused(RefuseCause),
}

impl<W> Queue<W> {
    pub fn new(policy: QueuePolicy) -> Self {
        Queue { policy, waiters: BTreeMap::new(), next: 0, closed: false, due: None, spared_until: Moment::START }
    }

    /// Other bounds from now on. Those who wait stay, however many they are; their time is the new one.
    pub fn set_policy(&mut self, policy: QueuePolicy) {
        self.policy = policy;
    }

    /// The fleet goes: nobody may enter, and who waits is handed back, first come first, to be refused as `Draining`.
    pub fn close(&mut self) -> impl Iterator<Item = W> + use<W> {
        self.closed = true;
        std::mem::take(&mut self.waiters).into_values().map(|w| w.tell)
    }

    /// The fleet is back.
    pub fn reopen(&mut self) {
        self.closed = false;
    }

    /// Waiters now.
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// How long the first has waited.
    pub fn oldest_wait(&self, now: Moment) -> Duration {
        self.waiters.first_key_value().map_or(Duration::ZERO, |(_, first)| now.since(first.since))
    }

    /// Joins at the end; `wish` is what affinity asks for, `failed` are backends that it is not to be given, for it was there.
    ///
    /// # Errors
    /// The waiter back, with `QueueFull` (or `Capacity` when the policy lets nobody wait, `Draining` when the fleet goes).
    pub fn enter(&mut self, wish: Wish, failed: Vec<BackendId>, waiter: W, now: Moment) -> Result<Ticket, (W, RefuseCause)> {
        if self.closed {
            return Err((waiter, RefuseCause::Draining));
        }
        if self.policy.length == 0 {
            return Err((waiter, RefuseCause::Capacity));
        }
        if self.waiters.len() >= self.policy.length as usize {
            return Err((waiter, RefuseCause::QueueFull));
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiters.insert(ticket, Waiter { wish, failed, since: now, tell: waiter });
        Ok(ticket)
    }

    /// The client went away. Unknown tickets (already served) are ignored.
    pub fn leave(&mut self, ticket: Ticket) {
        self.waiters.remove(&ticket);
    }

    /// Serves and expires waiters. `place` is asked for each in turn, with its wish and the backends that it failed at, and answers with
    /// a seat and where it is, until it says that nobody can be placed. A seat that is there goes even to a waiter whose time has just
    /// passed; and nobody is refused within a second after the caller stood still, which shows in a call that is a second late.
    /// Returns when to come again at the latest (a deadline, or the pace), if anybody still waits.
    pub fn serve<T>(
        &mut self,
        now: Moment,
        mut place: impl FnMut(&Wish, &[BackendId]) -> Result<(T, Seat), NoPlace>,
        mut tell: impl FnMut(W, Outcome<T>),
    ) -> Option<Moment> {
        if self.due.is_some_and(|due| now.since(due) >= LATE) {
            self.spared_until = now + SPARED;
        }
        let not_before = self.admit(&mut place, &mut tell);
        self.due = self.expire(now, &mut tell).map(|deadline| not_before.map_or(deadline, |at| at.min(deadline)));
        self.due
    }

    /// Returns when the pace allows the next one, if it is that which keeps them waiting.
    fn admit<T>(
        &mut self,
        place: &mut impl FnMut(&Wish, &[BackendId]) -> Result<(T, Seat), NoPlace>,
        tell: &mut impl FnMut(W, Outcome<T>),
    ) -> Option<Moment> {
        let mut not_before: Option<Moment> = None;
        let mut from = Bound::Unbounded;
        // Sets of failed backends besides which there was no seat: backends are compared once for each set, not for each waiter.
        let mut full: Vec<Vec<BackendId>> = Vec::new();
        while let Some((&ticket, waiter)) = self.waiters.range((from, Bound::Unbounded)).next() {
            from = Bound::Excluded(ticket);
            if full.contains(&waiter.failed) {
                continue;
            }
            let outcome = match place(&waiter.wish, &waiter.failed) {
                Ok((at, seat)) => Outcome::Admitted(at, seat),
                // What it cannot be given, those behind it may.
                Err(NoPlace::NoBackend) if !waiter.failed.is_empty() => Outcome::Refused(RefuseCause::NoBackend),
                Err(why) => {
                    if let NoPlace::NotBefore(at) = why {
                        not_before = Some(not_before.map_or(at, |earlier| earlier.min(at)));
                    }
                    if waiter.failed.is_empty() {
                        break;
                    }
                    full.push(waiter.failed.clone());
                    continue;
                }
            };
            if let Some(served) = self.waiters.remove(&ticket) {
                tell(served.tell, outcome);
            }
        }
        not_before
    }

    /// Returns when the next one's time is up.
    fn expire<T>(&mut self, now: Moment, tell: &mut impl FnMut(W, Outcome<T>)) -> Option<Moment> {
        while let Some(first) = self.waiters.first_entry() {
            // All wait equally long at most, so the first is the first to expire.
            let deadline = (first.get().since + self.policy.timeout).max(self.spared_until);
            if deadline > now {
                return Some(deadline);
            }
            tell(first.remove().tell, Outcome::Refused(RefuseCause::QueueTimeout));
        }
        None
    }
}
