//! What a thread knows of one session.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use holdline_core::cause::EndCause;
use holdline_core::ids::SessionId;
use holdline_core::policy::DrainMode;

use super::Candidate;
use crate::gateway::session::{Ended, SeatGuard, Session, SessionInfo, SessionKind, StayGuard, Target};
use crate::gateway::timer::{self, Due, Stamps, TICK, Tick};

/// Silent for so long, a session counts as idle when sessions to move are chosen.
const IDLE_TICKS: Tick = 10;

/// What the thread knows of one session. All cells: the session and the timer share it on one thread.
pub struct Entry {
    pub(super) id: SessionId,
    kind: SessionKind,
    client: SocketAddr,
    pub(super) target: Arc<Target>,
    seat: Cell<Option<SeatGuard>>,
    _stay: StayGuard,
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

impl Entry {
    pub(super) fn new(session: Session, now: Tick, now_ms: u64) -> Self {
        let Session { id, kind, client, target, seat, stay } = session;
        Entry {
            id,
            kind,
            client,
            target,
            seat: Cell::new(Some(seat)),
            _stay: stay,
            opened_ms: now_ms,
            waker: Cell::default(),
            stamps: Stamps { opened: now.into(), moved: now.into(), heard: now.into(), ..Stamps::default() },
            due: Cell::default(),
            order: Cell::default(),
            bytes: Default::default(),
            bytes_told: Default::default(),
        }
    }

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

    /// Wakes the session if something is due at `now`.
    pub(super) fn check(&self, now: Tick) {
        if let Some(due) = timer::check(now, &self.stamps, self.target.limits(self.kind)) {
            self.due.set(Some(due));
            self.wake();
        }
    }

    /// Tells it to end.
    pub(super) fn tell(&self, order: EndOrder) {
        self.order.set(Some(order));
        self.wake();
    }

    /// Records the session's end and gives its seat back, the first time.
    pub(super) fn release(&self, cause: EndCause, now_ms: u64) {
        let Some(seat) = self.seat.take() else { return };
        Tally::default().add(self);
        self.target.watch.ended(&Ended {
            id: self.id,
            kind: self.kind,
            fleet: &self.target.fleet,
            backend: &self.target.backend,
            client: self.client,
            cause,
            age: Duration::from_millis(now_ms.saturating_sub(self.opened_ms)),
            bytes_in: self.bytes[0].get(),
            bytes_out: self.bytes[1].get(),
        });
        self.target.count_end(cause);
        drop(seat);
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake_by_ref();
            self.waker.set(Some(waker));
        }
    }

    pub(super) fn holds_seat(&self) -> bool {
        let seat = self.seat.take();
        let holds = seat.is_some();
        self.seat.set(seat);
        holds
    }

    /// Whether an order of this mode would change anything.
    pub(super) fn obeys(&self, mode: DrainMode) -> bool {
        match mode {
            DrainMode::Close => self.order.get().is_none() && !self.stamps.ending.get(),
            DrainMode::Cut => self.order.get().is_none_or(|o| o.mode == DrainMode::Close),
        }
    }

    pub(super) fn candidate(&self, key: usize, now: Tick) -> Candidate {
        let busy = now.saturating_sub(self.stamps.moved.get()) < IDLE_TICKS;
        Candidate { busy, opened_ms: self.opened_ms, id: self.id, key }
    }

    pub(super) fn info(&self, now: Tick, now_ms: u64) -> SessionInfo {
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

/// Adds up what sessions in a row moved, so that neighbours of one backend cost one call.
#[derive(Default)]
pub(super) struct Tally<'a> {
    target: Option<&'a Arc<Target>>,
    bytes: [u64; 2],
}

impl<'a> Tally<'a> {
    pub(super) fn add(&mut self, entry: &'a Entry) {
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
