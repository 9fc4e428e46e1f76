//! What a thread knows of one session.

use std::cell::Cell;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use holdline_core::cause::EndCause;
use holdline_core::drain::Ending;
use holdline_core::ids::SessionId;
use holdline_core::policy::DrainMode;
use holdline_core::time::Moment;

use crate::gateway::limits::permit::ConnectionPermit;
use crate::gateway::session::kind::SessionKind;
use crate::gateway::session::seat::SeatGuard;
use crate::gateway::session::target::{Ended, Session, SessionInfo, SessionTarget};
use crate::gateway::session::timer::{self, Due, Limits, Stamps, TICK, Tick, Time, tick_of};

/// Silent for so long, a session counts as idle when sessions to move are chosen.
const IDLE_TICKS: Tick = 10;

/// What the thread knows of one session. All cells: the session and the timer share it on one thread. Each session has one for as long
/// as it lives, so its fields are no wider than what they hold (docs/decisions/0013-bytes-per-session.md).
pub struct SessionEntry {
    pub(super) id: SessionId,
    pub(super) target: Arc<SessionTarget>,
    seat: Cell<Option<SeatGuard>>,
    _permit: Option<Box<ConnectionPermit>>,
    waker: Cell<Option<Waker>>,
    bytes: [Cell<u64>; 2],
    /// The lower halves of what was told of `bytes`: between two ticks nothing moves 4 GiB.
    bytes_told: [Cell<u32>; 2],
    /// When things last happened.
    pub stamps: Stamps,
    pub(super) key: u32,
    client: Address,
    /// Milliseconds of the tick in which it was opened that had passed.
    opened_rest_ms: u8,
    kind: SessionKind,
    is_due: Cell<bool>,
    order: Cell<Option<Ending>>,
    pub(super) cause: Cell<Option<EndCause>>,
}

/// A client's address in 18 bytes instead of 32: without an IPv6 scope, and IPv4 as its own or mapped into IPv6 is the same.
struct Address {
    ip: Ipv6Addr,
    port: u16,
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Address { ip, port: address.port() }
    }
}

impl Address {
    fn get(&self) -> SocketAddr {
        SocketAddr::new(self.ip.to_canonical(), self.port)
    }
}

/// A session that an order may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// Sorted first: idle ones.
    busy: bool,
    /// Then the oldest.
    opened_ms: u64,
    pub(super) id: SessionId,
    /// Where it stands on its thread.
    pub(super) key: usize,
}

impl SessionEntry {
    /// `key`: where it stands; `now` is the thread's time, `opened` the time itself.
    pub(super) fn new(session: Session, key: u32, now: Tick, opened: Moment) -> Self {
        let Session { id, kind, client, target, seat, permit } = session;
        let opened_rest_ms = (opened.since_start().as_millis() % TICK.as_millis()) as u8;
        SessionEntry {
            id,
            target,
            seat: Cell::new(Some(seat)),
            _permit: permit,
            waker: Cell::default(),
            bytes: Default::default(),
            bytes_told: Default::default(),
            stamps: Stamps {
                opened: tick_of(opened).into(),
                moved: now.into(),
                heard: now.into(),
                // Polls are plain requests, each on a connection of its own.
                set_up: Cell::new(kind == SessionKind::LongPoll),
                ..Stamps::default()
            },
            key,
            client: client.into(),
            opened_rest_ms,
            kind,
            is_due: Cell::default(),
            order: Cell::default(),
            cause: Cell::default(),
        }
    }

    fn opened_ms(&self) -> u64 {
        u64::from(self.stamps.opened.get() - 1) * TICK.as_millis() as u64 + u64::from(self.opened_rest_ms)
    }

    pub fn kind(&self) -> SessionKind {
        self.kind
    }

    pub fn limits(&self) -> &Limits {
        self.target.limits(self.kind)
    }

    /// Keeps the waker of the session's task: to be called first in every poll.
    pub fn listen(&self, waker: &Waker) {
        let kept = self.waker.take().filter(|w| w.will_wake(waker));
        self.waker.set(Some(kept.unwrap_or_else(|| waker.clone())));
    }

    pub(super) fn take_due(&self, time: Time) -> Option<Due> {
        if self.is_due.take() { timer::check(time, &self.stamps, self.limits()) } else { None }
    }

    /// The order under which the session is, if any; stays until [`SessionEntry::clear_order`].
    pub fn order(&self) -> Option<Ending> {
        self.order.get()
    }

    /// Gives an order from within; a cut is not softened.
    pub fn set_order(&self, order: Ending) {
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

    /// Wakes the session if something is due.
    pub(super) fn check(&self, time: Time) {
        if time.obeys() && timer::check(time, &self.stamps, self.limits()).is_some() {
            self.is_due.set(true);
            self.wake();
        }
    }

    /// Tells it to end.
    pub(super) fn tell(&self, order: Ending) {
        self.order.set(Some(order));
        self.wake();
    }

    /// Records the session's end and gives its seat back, the first time. Without a settled cause it is `cut`.
    pub(super) fn release(&self, now_ms: u64) {
        let Some(seat) = self.seat.take() else { return };
        let cause = self.cause.get().unwrap_or(EndCause::Cut);
        Tally::default().add(self);
        self.target.watch.ended(&Ended {
            id: self.id,
            kind: self.kind,
            fleet: &self.target.fleet,
            backend: &self.target.backend,
            client: self.client.get(),
            cause,
            age: Duration::from_millis(now_ms.saturating_sub(self.opened_ms())),
            bytes_in: self.bytes[0].get(),
            bytes_out: self.bytes[1].get(),
        });
        self.target.count_end(cause);
        drop(seat);
    }

    /// Gives its seat back without a record.
    pub(super) fn withdraw(&self) {
        Tally::default().add(self);
        drop(self.seat.take());
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
        Candidate { busy, opened_ms: self.opened_ms(), id: self.id, key }
    }

    pub(super) fn info(&self, now: Tick, now_ms: u64) -> SessionInfo {
        SessionInfo {
            id: self.id,
            kind: self.kind,
            fleet: self.target.fleet.clone(),
            backend: self.target.backend.clone(),
            client: self.client.get(),
            age_ms: now_ms.saturating_sub(self.opened_ms()),
            idle_ms: u64::from(now.saturating_sub(self.stamps.moved.get())) * TICK.as_millis() as u64,
            bytes_in: self.bytes[0].get(),
            bytes_out: self.bytes[1].get(),
        }
    }
}

/// Adds up what sessions in a row moved, so that neighbours of one backend cost one call.
#[derive(Default)]
pub(super) struct Tally<'a> {
    target: Option<&'a Arc<SessionTarget>>,
    bytes: [u64; 2],
}

impl<'a> Tally<'a> {
    pub(super) fn add(&mut self, entry: &'a SessionEntry) {
        let new = [0, 1].map(|i| {
            let low = entry.bytes[i].get() as u32;
            u64::from(low.wrapping_sub(entry.bytes_told[i].replace(low)))
        });
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
