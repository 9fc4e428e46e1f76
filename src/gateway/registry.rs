//! The sessions of one thread, found and woken without a lock.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use holdline_core::cause::EndCause;
use holdline_core::ids::SessionId;
use holdline_core::policy::DrainMode;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use slab::Slab;

use super::session::{Ended, SeatGuard, Session, SessionFilter, SessionInfo, SessionKind, Target};
use super::timer::{self, Due, Stamps, TICK, Tick};
use crate::clock::Clock;

/// Silent for so long, a session counts as idle when sessions to move are chosen.
const IDLE_TICKS: Tick = 10;

/// The sessions of one thread and the thread's coarse time.
pub struct Registry {
    clock: Clock,
    now: Cell<Tick>,
    entries: RefCell<Slab<Rc<Entry>>>,
    rng: RefCell<SmallRng>,
}

/// What the thread knows of one session. All cells: the session and the timer share it on one thread.
pub struct Entry {
    id: SessionId,
    kind: SessionKind,
    client: std::net::SocketAddr,
    target: Arc<Target>,
    seat: Cell<Option<SeatGuard>>,
    opened_ms: u64,
    waker: Cell<Option<Waker>>,
    /// When things last happened.
    pub stamps: Stamps,
    due: Cell<Option<Due>>,
    order: Cell<Option<EndOrder>>,
    bytes: [Cell<u64>; 2],
    bytes_told: [Cell<u64>; 2],
}

/// An order to end: how, and what to record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndOrder {
    /// In which way.
    pub mode: DrainMode,
    /// The cause to record.
    pub cause: EndCause,
}

/// A session that an order may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// Sorted first: idle ones.
    busy: bool,
    /// Then the oldest.
    opened_ms: u64,
    /// Its id.
    id: SessionId,
    /// Where it stands on its thread.
    key: usize,
}

impl Registry {
    /// Of a thread without sessions; `seed` is for the masks of our frames.
    pub fn new(clock: Clock, seed: u64) -> Rc<Self> {
        Rc::new(Registry {
            clock,
            now: Cell::new(timer::tick_of(clock.now())),
            entries: RefCell::default(),
            rng: RefCell::new(SmallRng::seed_from_u64(seed)),
        })
    }

    /// Enters `session`, which then is listed, timed and can be ordered to end until it is released.
    pub fn enter(self: &Rc<Self>, session: Session) -> Entered {
        let now = self.now();
        let Session { id, kind, client, target, seat } = session;
        let entry = Rc::new(Entry {
            id,
            kind,
            client,
            target,
            seat: Cell::new(Some(seat)),
            opened_ms: self.now_ms(),
            waker: Cell::default(),
            stamps: Stamps { opened: now.into(), moved: now.into(), heard: now.into(), ..Stamps::default() },
            due: Cell::default(),
            order: Cell::default(),
            bytes: Default::default(),
            bytes_told: Default::default(),
        });
        let key = self.entries.borrow_mut().insert(Rc::clone(&entry)) as u32;
        Entered { registry: Rc::clone(self), entry, key, cause: None }
    }

    /// The thread's time, as of its last tick.
    pub fn now(&self) -> Tick {
        self.now.get()
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

    /// Moves the time, wakes the sessions for which something is due, and hands their byte counts on. Called by [`timer::run`].
    pub fn tick(&self) {
        let now = timer::tick_of(self.clock.now());
        self.now.set(now);
        let entries = self.entries.borrow();
        let mut tally = Tally::default();
        for (_, entry) in entries.iter() {
            tally.add(entry);
            if let Some(due) = timer::check(now, &entry.stamps, entry.target.limits(entry.kind)) {
                entry.due.set(Some(due));
                entry.wake();
            }
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
    pub fn end(&self, chosen: &[Candidate], order: EndOrder) -> u32 {
        let entries = self.entries.borrow();
        let here =
            chosen.iter().filter_map(|c| entries.get(c.key).filter(|e| e.id == c.id && e.holds_seat() && e.obeys(order.mode)));
        let mut count = 0;
        for entry in here {
            entry.order.set(Some(order));
            entry.wake();
            count += 1;
        }
        count
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().since_start().as_millis() as u64
    }
}

impl Entry {
    /// Its protocol.
    pub fn kind(&self) -> SessionKind {
        self.kind
    }

    /// Keeps the waker of the session's task: to be called first in every poll.
    pub fn listen(&self, waker: &Waker) {
        let kept = self.waker.take().filter(|w| w.will_wake(waker));
        self.waker.set(Some(kept.unwrap_or_else(|| waker.clone())));
    }

    /// What the timer woke the session for; once each.
    pub fn take_due(&self) -> Option<Due> {
        self.due.take()
    }

    /// The order under which the session is, if any; stays until [`Entry::clear_order`].
    pub fn order(&self) -> Option<EndOrder> {
        self.order.get()
    }

    /// Gives an order from within; a cut is not softened.
    pub fn set_order(&self, order: EndOrder) {
        if self.order.get().is_none_or(|o| o.mode == DrainMode::Close) {
            self.order.set(Some(order));
        }
    }

    /// The order was carried out.
    pub fn clear_order(&self) {
        self.order.set(None);
    }

    /// `n` bytes of the client went to the backend.
    pub fn count_in(&self, n: usize) {
        self.bytes[0].set(self.bytes[0].get() + n as u64);
    }

    /// `n` bytes of the backend went to the client.
    pub fn count_out(&self, n: usize) {
        self.bytes[1].set(self.bytes[1].get() + n as u64);
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake_by_ref();
            self.waker.set(Some(waker));
        }
    }

    fn holds_seat(&self) -> bool {
        let seat = self.seat.take();
        let holds = seat.is_some();
        self.seat.set(seat);
        holds
    }

    /// Whether an order of this mode would change anything.
    fn obeys(&self, mode: DrainMode) -> bool {
        match mode {
            DrainMode::Close => self.order.get().is_none() && !self.stamps.ending.get(),
            DrainMode::Cut => self.order.get().is_none_or(|o| o.mode == DrainMode::Close),
        }
    }

    fn candidate(&self, key: usize, now: Tick) -> Candidate {
        let busy = now.saturating_sub(self.stamps.moved.get()) < IDLE_TICKS;
        Candidate { busy, opened_ms: self.opened_ms, id: self.id, key }
    }

    fn info(&self, now: Tick, now_ms: u64) -> SessionInfo {
        SessionInfo {
            id: self.id,
            kind: self.kind,
            fleet: self.target.fleet.clone(),
            backend: self.target.backend.clone(),
            client: self.client,
            age_ms: now_ms.saturating_sub(self.opened_ms),
            idle_ms: u64::from(now.saturating_sub(self.stamps.moved.get())) * TICK.as_millis() as u64,
            bytes_in: self.bytes[0].get(),
            bytes_out: self.bytes[1].get(),
        }
    }
}

/// A session's stay in the registry. Whatever way it is dropped, the end is recorded once and the seat is given back once.
pub struct Entered {
    registry: Rc<Registry>,
    entry: Rc<Entry>,
    key: u32,
    cause: Option<EndCause>,
}

impl Entered {
    /// The thread's registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What is known of the session.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Settles why the session ends; the first cause stays.
    pub fn settle(&mut self, cause: EndCause) {
        self.cause.get_or_insert(cause);
    }

    /// Why the session ends, once that is settled.
    pub fn cause(&self) -> Option<EndCause> {
        self.cause
    }

    /// The seat was not given back yet.
    pub fn holds_seat(&self) -> bool {
        self.entry.holds_seat()
    }

    /// The backend's end was seen: records the session's end and gives the seat back, the first time. Without a settled cause it is `cut`.
    pub fn release(&mut self) {
        let Some(seat) = self.entry.seat.take() else { return };
        let entry = &self.entry;
        Tally::default().add(entry);
        entry.target.watch.ended(&Ended {
            id: entry.id,
            kind: entry.kind,
            fleet: &entry.target.fleet,
            backend: &entry.target.backend,
            client: entry.client,
            cause: self.cause.unwrap_or(EndCause::Cut),
            age: Duration::from_millis(self.registry.now_ms().saturating_sub(entry.opened_ms)),
            bytes_in: entry.bytes[0].get(),
            bytes_out: entry.bytes[1].get(),
        });
        drop(seat);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.release();
        self.registry.entries.borrow_mut().remove(self.key as usize);
    }
}

/// Adds up what sessions in a row moved, so that neighbours of one backend cost one call.
#[derive(Default)]
struct Tally<'a> {
    target: Option<&'a Arc<Target>>,
    bytes: [u64; 2],
}

impl<'a> Tally<'a> {
    fn add(&mut self, entry: &'a Entry) {
        let new = [0, 1].map(|i| entry.bytes[i].get() - entry.bytes_told[i].replace(entry.bytes[i].get()));
        if new == [0, 0] {
            return;
        }
        if !self.target.is_some_and(|t| Arc::ptr_eq(t, &entry.target)) {
            self.tell();
            self.target = Some(&entry.target);
        }
        self.bytes[0] += new[0];
        self.bytes[1] += new[1];
    }

    fn tell(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if let Some(target) = self.target.filter(|_| bytes != [0, 0]) {
            target.watch.bytes(bytes[0], bytes[1]);
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.tell();
    }
}
