//! Seats: how many sessions a backend holds and may hold, exact under any number of threads, without a lock.
//!
//! A seat is taken before the dial and given back when its [`Seat`] is dropped, so exactly once on every path. Limit and
//! count stand in one word: a reservation cannot slip in between a drain's decision and its effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Moment;

/// No limit, as a number of seats.
pub const UNLIMITED: u32 = u32::MAX;

/// How many waiting seconds' worth of admissions may come at once after a pause, so that a timer of 100 ms keeps the rate.
const BURST: Duration = Duration::from_millis(100);

/// The seats of one backend, shared by all threads of a gateway.
#[derive(Debug)]
pub struct Seats {
    /// Limit in the upper half, count in the lower.
    word: AtomicU64,
    /// The pace of admissions: the theoretical arrival time of the next one, in ns since the start (GCRA).
    next_ns: AtomicU64,
    /// Nanoseconds between two admissions; zero: no limit.
    interval_ns: AtomicU64,
}

/// Why a seat could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSeat {
    /// All are taken, or the backend takes no sessions.
    Full,
    /// The backend takes the next one at this moment (`admit_rate`).
    NotBefore(Moment),
    /// Others were faster than the count that the caller saw.
    Stale,
}

impl Seats {
    /// `limit` seats, all free; `admit_rate` sessions a second (`None`: no limit).
    pub fn new(limit: u32, admit_rate: Option<f64>) -> Arc<Self> {
        Arc::new(Seats {
            word: AtomicU64::new(pack(limit, 0)),
            next_ns: AtomicU64::new(0),
            interval_ns: AtomicU64::new(interval_ns(admit_rate)),
        })
    }

    /// From now on so many sessions a second are admitted (`None`: no limit).
    pub fn set_rate(&self, admit_rate: Option<f64>) {
        let interval = interval_ns(admit_rate);
        if self.interval_ns.swap(interval, Ordering::Relaxed) != interval {
            // The next one's time was told by the old pace, which may have been one an hour.
            self.next_ns.store(0, Ordering::Release);
        }
    }

    /// Seats taken.
    pub fn used(&self) -> u32 {
        unpack(self.word.load(Ordering::Acquire)).1
    }

    /// Seats that may be taken; those above it stay until they end.
    pub fn limit(&self) -> u32 {
        unpack(self.word.load(Ordering::Acquire)).0
    }

    /// From now on no reservation raises the count above `limit`; zero closes the backend at once.
    pub fn set_limit(&self, limit: u32) {
        let set = |word| Some(pack(limit, unpack(word).1));
        // The closure never declines, so neither does the update.
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, set);
    }

    /// Takes a seat if one is free and the pace allows one at `now`.
    ///
    /// # Errors
    /// [`NoSeat`]; never `Stale`.
    pub fn reserve(self: &Arc<Self>, now: Moment) -> Result<Seat, NoSeat> {
        self.reserve_if(now, |_| true)
    }

    /// Takes a seat if the count is still the `used` that a comparison of backends was made with.
    ///
    /// # Errors
    /// [`NoSeat`]; `Stale` when the comparison should be made again.
    pub fn reserve_seen(self: &Arc<Self>, used: u32, now: Moment) -> Result<Seat, NoSeat> {
        self.reserve_if(now, |u| u == used)
    }

    /// Takes a seat whatever limit and pace say: for a session that the backend holds already, and that nobody could know of before. Says
    /// whether the count is above the limit with it; nobody else gets a seat then until it is below again.
    pub fn take_beyond_limit(self: &Arc<Self>) -> (Seat, bool) {
        let (limit, used) = unpack(self.word.fetch_add(1, Ordering::AcqRel));
        (Seat { seats: Arc::clone(self) }, used >= limit)
    }

    fn reserve_if(self: &Arc<Self>, now: Moment, expected: impl Fn(u32) -> bool) -> Result<Seat, NoSeat> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let (limit, used) = unpack(word);
            if used >= limit {
                return Err(NoSeat::Full);
            }
            if !expected(used) {
                return Err(NoSeat::Stale);
            }
            match self.word.compare_exchange_weak(word, pack(limit, used + 1), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(seen) => word = seen,
            }
        }
        let seat = Seat { seats: Arc::clone(self) };
        // The pace is asked last: a token must not be lost to a full backend. Dropping the seat takes the count back.
        self.keep_pace(now).map(|()| seat).map_err(NoSeat::NotBefore)
    }

    /// When the pace allows the next session, if not at `now` already. Only looks: another thread may be faster.
    pub fn not_before(&self, now: Moment) -> Option<Moment> {
        let interval = self.interval_ns.load(Ordering::Relaxed);
        if interval == 0 {
            return None;
        }
        let slack = (BURST.as_nanos() as u64).saturating_sub(interval);
        let at = Moment::at(Duration::from_nanos(self.next_ns.load(Ordering::Acquire).saturating_sub(slack)));
        (at > now).then_some(at)
    }

    /// Generic cell rate algorithm (ITU-T I.371): one number instead of a bucket and a clock.
    fn keep_pace(&self, now: Moment) -> Result<(), Moment> {
        let interval = self.interval_ns.load(Ordering::Relaxed);
        if interval == 0 {
            return Ok(());
        }
        let now_ns = now.since_start().as_nanos() as u64;
        let slack = (BURST.as_nanos() as u64).saturating_sub(interval);
        let step = |next: u64| (next <= now_ns + slack).then(|| next.max(now_ns).saturating_add(interval));
        match self.next_ns.fetch_update(Ordering::AcqRel, Ordering::Acquire, step) {
            Ok(_) => Ok(()),
            Err(next) => Err(Moment::at(Duration::from_nanos(next - slack))),
        }
    }
}

/// One unit of capacity, taken. Dropping it gives it back.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
}

impl Seat {
    /// Whose seat it is.
    pub fn seats(&self) -> &Arc<Seats> {
        &self.seats
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let before = self.seats.word.fetch_sub(1, Ordering::AcqRel);
        debug_assert_ne!(unpack(before).1, 0, "a seat was given back twice");
    }
}

fn interval_ns(admit_rate: Option<f64>) -> u64 {
    admit_rate.map_or(0, |r| (1e9 / r) as u64)
}

fn pack(limit: u32, used: u32) -> u64 {
    u64::from(limit) << 32 | u64::from(used)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_the_limit_under_threads() {
        let seats = Seats::new(50, None);
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    for _ in 0..20_000 {
                        let seat = seats.reserve(Moment::START);
                        assert!(seats.used() <= 50);
                        drop(seat);
                    }
                });
            }
        });
        assert_eq!(seats.used(), 0);
    }

    #[test]
    fn lowering_the_limit_closes_nobody_and_adds_nobody() {
        let seats = Seats::new(2, None);
        let held = seats.reserve(Moment::START).unwrap();
        seats.set_limit(0);
        assert_eq!((seats.used(), seats.reserve(Moment::START).unwrap_err()), (1, NoSeat::Full));
        drop(held);
        assert_eq!((seats.used(), seats.reserve(Moment::START).unwrap_err()), (0, NoSeat::Full));
    }

    #[test]
    fn beyond_the_limit_nobody_is_placed_until_the_count_is_below_it() {
        let seats = Seats::new(1, Some(1.0));
        let (first, is_beyond) = seats.take_beyond_limit();
        assert!(!is_beyond);
        let (second, is_beyond) = seats.take_beyond_limit();
        assert!(is_beyond);
        assert_eq!((seats.used(), seats.limit(), seats.reserve(Moment::START).unwrap_err()), (2, 1, NoSeat::Full));
        drop(first);
        assert_eq!(seats.reserve(Moment::START).unwrap_err(), NoSeat::Full);
        drop(second);
        assert!(seats.reserve(Moment::START).is_ok(), "it took nothing off the pace");
        seats.set_limit(0);
        assert!(seats.take_beyond_limit().1);
    }

    #[test]
    fn the_slowest_pace_there_is_lets_one_in() {
        let seats = Seats::new(UNLIMITED, Some(f64::MIN_POSITIVE));
        let now = Moment::from_millis(1_000);
        let _held = seats.reserve(now).unwrap();
        assert!(matches!(seats.reserve(now), Err(NoSeat::NotBefore(at)) if at > Moment::from_millis(u64::from(u32::MAX))));
        assert_eq!(seats.used(), 1);
    }

    #[test]
    fn another_pace_counts_from_the_next_session_on() {
        let seats = Seats::new(UNLIMITED, Some(0.001));
        let _held = seats.reserve(Moment::START).unwrap();
        assert!(matches!(seats.reserve(Moment::START), Err(NoSeat::NotBefore(_))));
        seats.set_rate(Some(20.0));
        let _second = seats.reserve(Moment::START).unwrap();
        let held: Vec<_> = std::iter::from_fn(|| seats.reserve(Moment::START).ok()).collect();
        assert!(held.len() <= 2, "{}", held.len());
        seats.set_rate(None);
        assert!((0..100).all(|_| seats.reserve(Moment::START).is_ok()));
    }

    #[test]
    fn a_stale_comparison_takes_no_seat() {
        let seats = Seats::new(9, None);
        let _first = seats.reserve_seen(0, Moment::START).unwrap();
        assert_eq!(seats.reserve_seen(0, Moment::START).unwrap_err(), NoSeat::Stale);
        assert_eq!(seats.used(), 1);
    }

    #[test]
    fn the_pace_is_kept_and_says_when_to_come_back() {
        let seats = Seats::new(UNLIMITED, Some(100.0));
        let mut held = Vec::new();
        let mut now = Moment::START;
        while now <= Moment::from_millis(10_000) {
            match seats.reserve(now) {
                Ok(seat) => held.push(seat),
                Err(NoSeat::NotBefore(at)) => {
                    assert!(at > now);
                    now = at;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        // 10 s at 100/s, and one burst of 100 ms.
        assert_eq!(held.len(), 1010);
        assert_eq!(seats.used(), 1010);
    }
}
