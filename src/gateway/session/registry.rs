//! The sessions of one thread, found and woken without a lock.

mod entry;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use holdline_core::cause::EndCause;
use holdline_core::drain::Ending;
use holdline_core::policy::DrainMode;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use slab::Slab;
use tokio::time::MissedTickBehavior;

use self::entry::Tally;
pub use self::entry::{Candidate, SessionEntry};
use super::side::Side;
use super::target::{Session, SessionFilter, SessionInfo};
use super::timer::{self, Due, Tick, Time};
use crate::clock::Clock;
use crate::net::socket::Transport;

/// The sessions of one thread and the thread's coarse time.
pub struct Registry {
    clock: Clock,
    time: Cell<Time>,
    entries: RefCell<Slab<Rc<SessionEntry>>>,
    rng: RefCell<SmallRng>,
}

impl Registry {
    /// Of a thread without sessions; `seed` is for the masks of our frames.
    pub fn new(clock: Clock, seed: u64) -> Rc<Self> {
        Rc::new(Registry {
            clock,
            time: Cell::new(Time::at(timer::tick_of(clock.now()))),
            entries: RefCell::default(),
            rng: RefCell::new(SmallRng::seed_from_u64(seed)),
        })
    }

    /// Enters `session`, which then is listed, timed and can be ordered to end until it is released.
    pub(crate) fn enter(self: &Rc<Self>, session: Session) -> Entered {
        let mut entries = self.entries.borrow_mut();
        let place = entries.vacant_entry();
        let entry = Rc::new(SessionEntry::new(session, place.key() as u32, self.now(), self.clock.now()));
        place.insert(Rc::clone(&entry));
        Entered { registry: Rc::clone(self), entry }
    }

    /// The thread's time, as of its last tick.
    pub fn now(&self) -> Tick {
        self.time.get().now
    }

    /// Sessions on this thread, those included that only wait for a client's end.
    pub fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// No session is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A key to mask a frame with (RFC 6455 5.3).
    pub fn mask(&self) -> [u8; 4] {
        self.rng.borrow_mut().random()
    }

    /// Moves the time, wakes the sessions for which something is due, and hands their byte counts on. Called by [`keep_time`].
    pub fn tick(&self) {
        let mut time = self.time.get();
        time.advance(timer::tick_of(self.clock.now()));
        self.time.set(time);
        let entries = self.entries.borrow();
        let mut tally = Tally::default();
        for (_, entry) in entries.iter() {
            tally.add(entry);
            entry.check(time);
        }
    }

    /// The sessions that `filter` means, in no order.
    pub fn list(&self, filter: &SessionFilter) -> Vec<SessionInfo> {
        let (now, now_ms) = (self.now(), self.now_ms());
        let entries = self.entries.borrow();
        let meant = entries.iter().map(|(_, e)| e).filter(|e| e.holds_seat() && filter.matches(&e.target));
        meant.take(filter.limit.unwrap_or(usize::MAX)).map(|e| e.info(now, now_ms)).collect()
    }

    /// The best `count` sessions to end in this way: idle ones first, then the oldest; for `close` none that is ending already.
    pub fn candidates(&self, filter: &SessionFilter, count: usize, mode: DrainMode) -> Vec<Candidate> {
        let now = self.now();
        let entries = self.entries.borrow();
        let meant = entries.iter().filter(|(_, e)| e.holds_seat() && filter.matches(&e.target) && e.obeys(mode));
        let mut found: Vec<_> = meant.map(|(key, e)| e.candidate(key, now)).collect();
        if count < found.len() {
            found.select_nth_unstable(count);
            found.truncate(count);
        }
        found.sort_unstable();
        found
    }

    /// Tells those of `chosen` that are still here to end; how many that were.
    pub fn end(&self, chosen: &[Candidate], order: Ending) -> u32 {
        let entries = self.entries.borrow();
        let here =
            chosen.iter().filter_map(|c| entries.get(c.key).filter(|e| e.id == c.id && e.holds_seat() && e.obeys(order.mode)));
        let mut count = 0;
        for entry in here {
            entry.tell(order);
            count += 1;
        }
        count
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().since_start().as_millis() as u64
    }
}

/// Moves `registry`'s time and wakes the sessions that are due. Runs for as long as its thread.
pub(crate) async fn keep_time(registry: Rc<Registry>) {
    let mut interval = tokio::time::interval(timer::TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        registry.tick();
    }
}

/// A session in the registry. Whatever way it is dropped, the end is recorded once and the seat is given back once.
pub struct Entered {
    registry: Rc<Registry>,
    entry: Rc<SessionEntry>,
}

impl Entered {
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What is known of the session.
    pub fn entry(&self) -> &SessionEntry {
        &self.entry
    }

    /// What the timer woke the session for, once; nothing if it is not due any more. To be asked once its sockets were read.
    pub fn take_due(&self) -> Option<Due> {
        self.entry.take_due(self.registry.time.get())
    }

    /// Sets the connection with the session's backend up, for which [`Due::SetUp`](timer::Due::SetUp) woke it.
    pub(crate) fn set_up<B: Transport>(&self, backend: &Side<B>) {
        backend.set_up_backend(&self.entry.target.keepalive);
        self.entry.stamps.set_up.set(true);
    }

    /// Settles why the session ends; the first cause stays.
    pub fn settle(&self, cause: EndCause) {
        if self.entry.cause.get().is_none() {
            self.entry.cause.set(Some(cause));
        }
    }

    pub fn cause(&self) -> Option<EndCause> {
        self.entry.cause.get()
    }

    /// The seat was not given back yet.
    pub fn holds_seat(&self) -> bool {
        self.entry.holds_seat()
    }

    /// The backend's end was seen: records the session's end and gives the seat back, the first time. Without a settled cause it is `cut`.
    pub fn release(&self) {
        self.entry.release(self.registry.now_ms());
    }

    /// It turned out to be no session: gives the seat back, and records nothing.
    pub fn withdraw(&self) {
        self.entry.withdraw();
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.release();
        self.registry.entries.borrow_mut().remove(self.entry.key as usize);
    }
}
