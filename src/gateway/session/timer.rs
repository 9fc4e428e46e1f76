//! One coarse timer a thread: it tells the time in ticks and looks at every session once a tick, so a session owns no timer of its own.

use std::cell::Cell;
use std::time::Duration;

use holdline_core::cause::EndCause;
use holdline_core::policy::{KeepalivePolicy, Timeouts};
use holdline_core::time::Moment;

use super::kind::SessionKind;
use crate::clock;

/// The length of a [`Tick`]: what a timeout may be late by, twice. Walking 10,000 sessions takes well under 1 % of it.
pub const TICK: Duration = Duration::from_millis(100);

/// The age at which the connection with a session's backend is set up. Most of those that end sooner never need keepalive or a bound on
/// unsent bytes, whose five system calls would be a quarter of a handshake's.
pub(crate) const SET_UP_AFTER: Duration = Duration::from_secs(3);

/// A count of [`TICK`]s since Holdline started, beginning with one, so that zero means never. Lasts 13 years.
pub type Tick = u32;

/// Ticks that are missing at a tick when the thread was held up.
const HELD_UP: Tick = (clock::HELD_UP.as_millis() / TICK.as_millis()) as Tick;

/// Ticks behind it in which nothing is due.
const CATCH_UP: Tick = (clock::CATCH_UP.as_millis() / TICK.as_millis()) as Tick;

/// A thread's time. It stands still while the thread is held up: what peers did meanwhile is in their sockets, so nobody was silent.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// Now.
    pub now: Tick,
    /// The clock is ahead by so much.
    behind: Tick,
    /// Ticks until timeouts are obeyed again.
    catching_up: Tick,
}

impl Time {
    /// Begins with the clock.
    pub fn at(clock: Tick) -> Self {
        Time { now: clock, behind: 0, catching_up: 0 }
    }

    /// Another tick, at which the clock says `clock`.
    pub fn advance(&mut self, clock: Tick) {
        let passed = clock.saturating_sub(self.clock());
        let is_held_up = passed > HELD_UP;
        // However late all ticks are, time passes.
        let counted = if is_held_up { 1 } else { passed };
        self.now += counted;
        self.behind += passed - counted;
        self.catching_up = match self.catching_up {
            0 if is_held_up => CATCH_UP,
            left => left.saturating_sub(1),
        };
    }

    /// The clock's time.
    pub fn clock(&self) -> Tick {
        self.now + self.behind
    }

    /// Timeouts are obeyed: all sockets had their turn since the thread was held up.
    pub fn obeys(&self) -> bool {
        self.catching_up == 0
    }
}

/// The tick in which `moment` lies.
pub fn tick_of(moment: Moment) -> Tick {
    let ticks = moment.since_start().as_millis() / TICK.as_millis();
    Tick::try_from(ticks).unwrap_or(Tick::MAX - 1) + 1
}

/// Ticks after which `duration` has passed for certain, whatever parts of the first and last were left.
pub fn ticks_past(duration: Duration) -> Tick {
    Tick::try_from(duration.as_millis().div_ceil(TICK.as_millis()) + 1).unwrap_or(Tick::MAX)
}

/// A fleet's deadlines for a session, in ticks; `Tick::MAX`: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    idle: Tick,
    session: Tick,
    write: Tick,
    ping: Tick,
    ping_timeout: Tick,
}

impl Limits {
    /// Those of a session of this kind; only a WebSocket is pinged.
    pub fn new(timeouts: &Timeouts, keepalive: &KeepalivePolicy, kind: SessionKind) -> Self {
        let or_none = |d: Option<Duration>| d.map_or(Tick::MAX, ticks_past);
        Limits {
            idle: or_none(timeouts.idle),
            session: or_none(timeouts.session),
            write: ticks_past(timeouts.write),
            ping: or_none(keepalive.ping.filter(|_| kind == SessionKind::WebSocket)),
            ping_timeout: ticks_past(keepalive.timeout),
        }
    }

    /// What a write may take that makes no progress.
    pub fn write(&self) -> Tick {
        self.write
    }
}

/// When things last happened to a session, in ticks of its thread's [`Time`]; zero: never, or not now.
#[derive(Debug, Default)]
pub struct Stamps {
    /// It began, by the clock: its age is no silence.
    pub opened: Cell<Tick>,
    /// Bytes went in either direction.
    pub moved: Cell<Tick>,
    /// The client was heard.
    pub heard: Cell<Tick>,
    /// A Ping of ours went to the client, which has been silent since.
    pub pinged: Cell<Tick>,
    /// Bytes wait for the client since then, none taken.
    pub client_stalled: Cell<Tick>,
    /// Bytes wait for the backend since then, none taken.
    pub backend_stalled: Cell<Tick>,
    /// The present step of its end must be done by then.
    pub deadline: Cell<Tick>,
    /// Its end has begun: only `deadline` and stalled writes count.
    pub ending: Cell<bool>,
    /// The connection with its backend is set up for a session that lasts, or there is none to be set up.
    pub set_up: Cell<bool>,
}

/// What a session is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// [`Stamps::deadline`] has passed.
    Deadline,
    /// The client should be pinged.
    Ping,
    /// It shall end, for this cause.
    End(EndCause),
    /// It is [`SET_UP_AFTER`] old.
    SetUp,
}

/// What is due, the most urgent first.
pub fn check(time: Time, stamps: &Stamps, limits: &Limits) -> Option<Due> {
    let now = time.now;
    let passed = |since: Tick, limit: Tick| since != 0 && now.saturating_sub(since) >= limit;
    let deadline = stamps.deadline.get();
    if deadline != 0 && now >= deadline {
        return Some(Due::Deadline);
    }
    if passed(stamps.client_stalled.get(), limits.write) || passed(stamps.backend_stalled.get(), limits.write) {
        return Some(Due::End(EndCause::WriteTimeout));
    }
    if stamps.ending.get() {
        return None;
    }
    if time.clock().saturating_sub(stamps.opened.get()) >= limits.session {
        return Some(Due::End(EndCause::SessionTimeout));
    }
    if passed(stamps.pinged.get(), limits.ping_timeout) {
        return Some(Due::End(EndCause::KeepaliveTimeout));
    }
    if passed(stamps.moved.get(), limits.idle) {
        return Some(Due::End(EndCause::IdleTimeout));
    }
    if stamps.pinged.get() == 0 && passed(stamps.heard.get(), limits.ping) {
        return Some(Due::Ping);
    }
    let age = time.clock().saturating_sub(stamps.opened.get());
    (!stamps.set_up.get() && age >= ticks_past(SET_UP_AFTER)).then_some(Due::SetUp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(idle: Option<u64>, session: Option<u64>, ping: Option<u64>) -> Limits {
        let secs = |s: Option<u64>| s.map(Duration::from_secs);
        let timeouts = Timeouts {
            connect: Duration::from_secs(2),
            handshake: Duration::from_secs(10),
            response: Duration::from_secs(60),
            write: Duration::from_secs(30),
            idle: secs(idle),
            session: secs(session),
        };
        let keepalive = KeepalivePolicy { tcp: None, ping: secs(ping), timeout: Duration::from_secs(20) };
        Limits::new(&timeouts, &keepalive, SessionKind::WebSocket)
    }

    fn opened_at(tick: Tick) -> Stamps {
        let stamps = Stamps::default();
        stamps.opened.set(tick);
        stamps.moved.set(tick);
        stamps.heard.set(tick);
        stamps.set_up.set(true);
        stamps
    }

    fn at(secs: u64) -> Tick {
        tick_of(Moment::at(Duration::from_secs(secs)))
    }

    #[test]
    fn without_limits_nothing_is_ever_due() {
        assert_eq!(check(Time::at(Tick::MAX - 1), &opened_at(1), &limits(None, None, None)), None);
    }

    #[test]
    fn a_timeout_is_never_early_and_at_most_two_ticks_late() {
        let limits = limits(Some(60), None, None);
        for ms in [0_u64, 1, 50, 99] {
            let stamps = opened_at(tick_of(Moment::from_millis(ms)));
            let due = (0..100_000_u64)
                .step_by(10)
                .find(|t| check(Time::at(tick_of(Moment::from_millis(*t))), &stamps, &limits).is_some());
            let late = due.unwrap() - (ms + 60_000);
            assert!(late <= 200, "{late} ms");
        }
    }

    #[test]
    fn each_limit_has_its_cause() {
        let (now, limits) = (at(1000), limits(Some(60), Some(600), Some(30)));
        let due = |change: fn(&Stamps)| {
            let stamps = opened_at(now - 1);
            change(&stamps);
            check(Time::at(now), &stamps, &limits)
        };
        assert_eq!(due(|_| ()), None);
        assert_eq!(due(|s| s.opened.set(at(300))), Some(Due::End(EndCause::SessionTimeout)));
        assert_eq!(due(|s| s.moved.set(at(900))), Some(Due::End(EndCause::IdleTimeout)));
        assert_eq!(due(|s| s.client_stalled.set(at(900))), Some(Due::End(EndCause::WriteTimeout)));
        assert_eq!(due(|s| s.backend_stalled.set(at(900))), Some(Due::End(EndCause::WriteTimeout)));
        assert_eq!(due(|s| s.heard.set(at(960))), Some(Due::Ping));
        assert_eq!(due(|s| s.deadline.set(at(1000))), Some(Due::Deadline));
        assert_eq!(due(|s| (s.heard.set(at(960)), s.pinged.set(at(995))).0), None, "one Ping at a time");
        assert_eq!(due(|s| s.pinged.set(at(979))), Some(Due::End(EndCause::KeepaliveTimeout)));
    }

    #[test]
    fn what_is_ending_has_only_its_deadline_and_stalled_writes() {
        let limits = limits(Some(60), Some(600), Some(30));
        let stamps = opened_at(1);
        stamps.ending.set(true);
        assert_eq!(check(Time::at(at(5000)), &stamps, &limits), None);
        stamps.client_stalled.set(at(4900));
        assert_eq!(check(Time::at(at(5000)), &stamps, &limits), Some(Due::End(EndCause::WriteTimeout)));
        stamps.deadline.set(at(5000));
        assert_eq!(check(Time::at(at(5000)), &stamps, &limits), Some(Due::Deadline));
    }

    /// Where the time stands after `ticks` in a row.
    fn after(time: &mut Time, ticks: u32) -> Tick {
        (0..ticks).for_each(|_| time.advance(time.clock() + 1));
        time.now
    }

    #[test]
    fn while_the_thread_is_held_up_its_time_stands_still() {
        let limits = limits(Some(15), Some(600), None);
        let mut time = Time::at(at(100));
        let stamps = opened_at(time.now);
        assert_eq!(after(&mut time, 149), at(100) + 149);
        time.advance(time.clock() + 250);
        assert_eq!((time.now, time.obeys()), (at(100) + 150, false));
        assert_eq!((after(&mut time, 2), time.obeys()), (at(100) + 152, false), "sockets are read meanwhile");
        assert_eq!((after(&mut time, 1), time.obeys()), (at(100) + 153, true));
        assert_eq!(check(time, &stamps, &limits), Some(Due::End(EndCause::IdleTimeout)), "nothing was read");
        stamps.moved.set(time.now);
        after(&mut time, 150);
        assert_eq!(check(time, &stamps, &limits), None);
        after(&mut time, 1);
        assert_eq!(check(time, &stamps, &limits), Some(Due::End(EndCause::IdleTimeout)), "from then on as ever");
    }

    #[test]
    fn a_sessions_age_is_the_clocks() {
        let limits = limits(None, Some(60), None);
        let (mut time, stamps) = (Time::at(at(100)), opened_at(at(100)));
        time.advance(at(161));
        assert_eq!(check(time, &stamps, &limits), Some(Due::End(EndCause::SessionTimeout)));
    }

    #[test]
    fn a_thread_whose_ticks_are_all_late_still_obeys_timeouts() {
        let mut time = Time::at(1);
        let obeyed = (0..100).filter(|_| (time.advance(time.clock() + 10), time.obeys()).1).count();
        assert_eq!((time.now, obeyed), (101, 25));
    }

    #[test]
    fn a_session_is_set_up_once_it_has_lasted() {
        let stamps = opened_at(at(10));
        stamps.set_up.set(false);
        let due = |secs| check(Time::at(at(secs)), &stamps, &limits(None, None, None));
        assert_eq!((due(13), due(14)), (None, Some(Due::SetUp)));
        stamps.set_up.set(true);
        assert_eq!(due(14), None);
    }

    #[test]
    fn an_event_stream_is_never_pinged() {
        let keepalive = KeepalivePolicy { tcp: None, ping: Some(TICK), timeout: TICK };
        let timeouts = Timeouts { connect: TICK, handshake: TICK, response: TICK, write: TICK, idle: None, session: None };
        let limits = Limits::new(&timeouts, &keepalive, SessionKind::Sse);
        assert_eq!(check(Time::at(at(5000)), &opened_at(1), &limits), None);
    }
}
