//! What each address does, as far as it is limited: the sketches of the first stage, and behind them the exact counts of `core::limits`.
//!
//! One lock for both stages of a limit. It is taken once a handshake and once an end, for about a quarter of a microsecond; without it a
//! sketch could say too little while it is emptied.
//!
//! Rates are not counted by `governor`: it keeps an entry for each address that ever came until somebody has all of them looked through, so its
//! memory is as large as a botnet; here it is fixed. Floods and a rate that a reload changes would be on top of it.

use std::net::SocketAddr;
use std::sync::Arc;

use holdline_core::limits::{Accounting, Holders, Recent, Source, Starters, second};
use holdline_core::time::Moment;
use parking_lot::Mutex;
use pingora_limits::estimator::Estimator;

use crate::clock::Clock;
use crate::config::model::Limits;

/// Hashes of a sketch: the estimate is the least of so many cells.
const ROWS: usize = 4;

/// Cells of a row for what is held: as many as sessions may be, within these bounds. Then one address in six shares each of its cells with
/// another one. 32 bytes a column, 32 MiB at most.
const COLUMNS_MIN: usize = 1 << 12;
const COLUMNS_MAX: usize = 1 << 20;

/// Cells of a row for what begins in a second. 1 MiB for the two sketches, one of which is emptied every second.
const COLUMNS_A_SECOND: usize = 1 << 14;

/// Cloning shares the counts.
#[derive(Clone, Default)]
pub(crate) struct Addresses {
    held: Option<Arc<Mutex<HeldSessions>>>,
    begun: Option<Arc<Mutex<Begun>>>,
}

impl Addresses {
    /// Without any address yet. `sessions_max`: the most sessions at once.
    pub(crate) fn new(limits: &Limits, sessions_max: usize) -> Self {
        Addresses::default().under(limits, sessions_max)
    }

    /// The same counts under other limits. A limit that was not there counts from now on.
    pub(crate) fn under(&self, limits: &Limits, sessions_max: usize) -> Self {
        let held = limits.sessions_per_address.map(|max| match &self.held {
            Some(held) => {
                held.lock().exact.set_max(max);
                Arc::clone(held)
            }
            None => Arc::new(Mutex::new(HeldSessions::new(max, sessions_max))),
        });
        let begun = limits.handshakes_per_address.map(|rate| match &self.begun {
            Some(begun) => {
                begun.lock().exact.set_rate(rate);
                Arc::clone(begun)
            }
            None => Arc::new(Mutex::new(Begun::new(rate))),
        });
        Addresses { held, begun }
    }

    /// A session is to begin; whether its address may begin one now.
    pub(crate) fn begin(&self, client: SocketAddr, clock: Clock) -> bool {
        self.begun.as_ref().is_none_or(|begun| {
            let (source, now) = (client.ip().into(), clock.now());
            begun.lock().begin(source, now)
        })
    }

    /// Whether its address tries to begin so many sessions that its connections are not worth a handshake.
    pub(crate) fn is_flooding(&self, client: SocketAddr, clock: Clock) -> bool {
        self.begun.as_ref().is_some_and(|begun| begun.lock().exact.is_flooding(client.ip().into(), clock.now()))
    }

    /// A place for one more session of this address; `None`: it has as many as it may.
    pub(crate) fn place(&self, client: SocketAddr) -> Option<AddressPermit> {
        let Some(held) = &self.held else { return Some(AddressPermit { _counted: None }) };
        let source = client.ip().into();
        let accounting = held.lock().begin(source)?;
        Some(AddressPermit { _counted: Some(Box::new(Counted { held: Arc::clone(held), source, accounting })) })
    }
}

/// A session, counted at its address. Dropping it gives the place back.
#[must_use]
pub(crate) struct AddressPermit {
    _counted: Option<Box<Counted>>,
}

/// In a box of its own, since without a limit nobody has it.
struct Counted {
    held: Arc<Mutex<HeldSessions>>,
    source: Source,
    accounting: Accounting,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.lock().end(self.source, self.accounting);
    }
}

/// Sessions that are held.
struct HeldSessions {
    sketch: Estimator,
    exact: Holders,
}

impl HeldSessions {
    fn new(max: u32, sessions_max: usize) -> Self {
        let columns = sessions_max.clamp(COLUMNS_MIN, COLUMNS_MAX).next_power_of_two();
        HeldSessions { sketch: Estimator::new(ROWS, columns), exact: Holders::new(max) }
    }

    fn begin(&mut self, source: Source) -> Option<Accounting> {
        let estimate = count(self.sketch.incr(source, 1));
        let accounting = self.exact.begin(source, estimate);
        if accounting.is_none() {
            self.sketch.decr(source, 1);
        }
        accounting
    }

    fn end(&mut self, source: Source, accounting: Accounting) {
        self.sketch.decr(source, 1);
        self.exact.end(source, accounting);
    }
}

/// Sessions that began in the running second and in the one before.
struct Begun {
    /// By seconds, even and odd.
    sketches: [Estimator; 2],
    second: u64,
    exact: Starters,
}

impl Begun {
    fn new(rate: f64) -> Self {
        let sketches = [(); 2].map(|()| Estimator::new(ROWS, COLUMNS_A_SECOND));
        Begun { sketches, second: 0, exact: Starters::new(rate) }
    }

    fn begin(&mut self, source: Source, now: Moment) -> bool {
        self.turn(second(now));
        let [this, last] = [self.second, self.second + 1].map(|n| &self.sketches[(n % 2) as usize]);
        let recent = Recent { this: count(this.incr(source, 1)), last: count(last.get(source)) };
        self.exact.begin(source, recent, now)
    }

    /// Empties what is too old.
    fn turn(&mut self, second: u64) {
        if second <= self.second {
            return;
        }
        self.sketches[(second % 2) as usize].reset();
        if second > self.second + 1 {
            self.sketches[((second + 1) % 2) as usize].reset();
        }
        self.second = second;
    }
}

fn count(estimate: isize) -> u32 {
    u32::try_from(estimate.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gateway::tests::support::LIMITS;

    fn address(n: u32) -> SocketAddr {
        (std::net::Ipv4Addr::from_bits(n), 1).into()
    }

    fn limited(sessions: Option<u32>, rate: Option<f64>) -> Addresses {
        Addresses::new(&Limits { sessions_per_address: sessions, handshakes_per_address: rate, ..LIMITS }, 10_000)
    }

    #[test]
    fn places_come_back_and_others_have_theirs() {
        let addresses = limited(Some(20), None);
        let mut held: Vec<_> = (0..20).map(|_| addresses.place(address(1)).unwrap()).collect();
        assert!(addresses.place(address(1)).is_none());
        assert!(addresses.place(address(2)).is_some());
        held.pop();
        held.push(addresses.place(address(1)).unwrap());
        assert!(addresses.place(address(1)).is_none());
        drop(held);
        let inner = addresses.held.as_ref().unwrap().lock();
        assert_eq!(inner.sketch.get(Source::from(address(1).ip())), 0);
    }

    #[test]
    fn without_a_limit_a_place_owns_nothing() {
        let addresses = limited(None, None);
        assert!(addresses.place(address(1)).unwrap()._counted.is_none());
        assert!(addresses.begin(address(1), Clock::start()) && !addresses.is_flooding(address(1), Clock::start()));
        assert_eq!(size_of::<AddressPermit>(), size_of::<usize>());
    }

    #[test]
    fn many_addresses_of_few_sessions_are_let_in_by_the_sketch() {
        let addresses = limited(Some(16), None);
        let _held: Vec<_> = (0..20_000).map(|n| addresses.place(address(n / 2)).expect("two of sixteen")).collect();
        assert!((0..14).all(|_| addresses.place(address(7)).is_some()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_per_address_and_second() {
        let (addresses, clock) = (limited(None, Some(20.0)), Clock::start());
        let begin = |n, times: u32| (0..times).filter(|_| addresses.begin(address(n), clock)).count();
        assert_eq!((begin(1, 30), begin(2, 5)), (20, 5));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(begin(1, 30), 20);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(begin(1, 30), 20, "what is old is forgotten");
        assert!(!addresses.is_flooding(address(1), clock));
        begin(1, 11);
        assert!(addresses.is_flooding(address(1), clock) && !addresses.is_flooding(address(2), clock));
    }

    #[test]
    fn counts_outlive_a_reload() {
        let before = limited(Some(2), None);
        let held = [before.place(address(1)), before.place(address(1))];
        let after = before.under(&Limits { sessions_per_address: Some(3), ..LIMITS }, 10_000);
        let third = after.place(address(1));
        assert!(third.is_some() && after.place(address(1)).is_none());
        drop((held, third, before));
        assert!(after.under(&LIMITS, 10_000).held.is_none() && after.place(address(1)).is_some());
    }
}
