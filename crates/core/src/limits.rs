//! Limits per address: how many sessions it holds at once, and how many it begins a second.
//!
//! In two stages. A count-min sketch, which never says too little (the shell keeps it, since its hashes are seeded at random), lets pass
//! for sure whoever is far below the limit, in fixed memory. Whoever it finds above an eighth of the limit is counted here, exactly and by
//! name, in a map that is bounded. What an address did before it was counted is taken from the sketch, but for no more than that eighth:
//! so nobody gets more than the limit, and who shares all its cells with others is refused at seven eighths of it at the earliest.
//! A limit below eight has no first stage.
//!
//! When the map is full, the sketch's word is all there is for addresses that are not in it: they may be refused for what others do.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use crate::time::Moment;

/// Addresses that are counted exactly, for each of the two limits: 2 and 4 MB in their trees. An attacker fills one only from as many
/// addresses or networks of his.
pub const SOURCES_MAX: usize = 65_536;

/// The share of a limit that goes uncounted.
const UNCOUNTED: u32 = 8;

/// Entries that are looked at whenever a session begins, whether they can be forgotten: more than are added.
const SWEPT_AT_ONCE: usize = 2;

/// Over so many times its rate an address is not even accepted.
const FLOOD: u32 = 2;

/// Whom a limit per address counts as one: an IPv4 address, or an IPv6 network of 64 bits, which is what one customer gets (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(u64);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            // As in ::ffff:0:0/96, whose first 64 bits are no customer's.
            IpAddr::V4(v4) => Source(0xffff << 32 | u64::from(v4.to_bits())),
            IpAddr::V6(v6) => Source((v6.to_bits() >> 64) as u64),
        }
    }
}

/// How a session was let in, and is to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accounting {
    /// By the sketch: its address holds few.
    Uncounted,
    /// Counted exactly.
    Counted,
    /// By the sketch, for the map was full.
    Beyond,
}

/// Sessions held at once, of addresses that hold many.
#[derive(Debug)]
pub struct Holders {
    max: u32,
    /// The most that an address held uncounted under any limit so far.
    uncounted_max: u32,
    sources: BTreeMap<Source, Holder>,
    /// Sessions that are here because the map was full.
    beyond: u32,
}

#[derive(Debug)]
struct Holder {
    counted: u32,
    /// At most so many besides: those from before it was counted.
    uncounted: u32,
}

impl Holders {
    /// At most `max` sessions an address; above zero.
    pub fn new(max: u32) -> Self {
        Holders { max, uncounted_max: max / UNCOUNTED, sources: BTreeMap::new(), beyond: 0 }
    }

    /// Another limit from now on. Who holds more keeps it.
    pub fn set_max(&mut self, max: u32) {
        self.max = max;
        self.uncounted_max = self.uncounted_max.max(max / UNCOUNTED);
    }

    /// A session begins. `estimate`: the sessions that the sketch says its address holds, this one included. `None`: it is one too many.
    pub fn begin(&mut self, source: Source, estimate: u32) -> Option<Accounting> {
        if let Some(holder) = self.sources.get_mut(&source) {
            let held = holder.counted.saturating_add(holder.uncounted);
            holder.counted += u32::from(held < self.max);
            return (held < self.max).then_some(Accounting::Counted);
        }
        if estimate <= self.max / UNCOUNTED {
            return Some(Accounting::Uncounted);
        }
        if self.sources.len() >= SOURCES_MAX {
            self.beyond += u32::from(estimate <= self.max);
            return (estimate <= self.max).then_some(Accounting::Beyond);
        }
        let before = estimate.saturating_sub(1);
        // While some were let in beyond the map, an address may hold any number of them.
        let uncounted = if self.beyond > 0 { before } else { before.min(self.uncounted_max) };
        if uncounted >= self.max {
            return None;
        }
        self.sources.insert(source, Holder { counted: 1, uncounted });
        Some(Accounting::Counted)
    }

    /// A session ended that began as `accounting`.
    pub fn end(&mut self, source: Source, accounting: Accounting) {
        self.beyond -= u32::from(accounting == Accounting::Beyond);
        let Some(holder) = self.sources.get_mut(&source) else { return };
        match accounting {
            Accounting::Counted => holder.counted -= 1,
            Accounting::Uncounted | Accounting::Beyond => holder.uncounted = holder.uncounted.saturating_sub(1),
        }
        if holder.counted == 0 {
            self.sources.remove(&source);
        }
    }
}

/// Sessions begun a second, of addresses that begin many.
#[derive(Debug)]
pub struct Starters {
    interval: Duration,
    /// As many at once, after a pause.
    burst: u32,
    sources: BTreeMap<Source, Starter>,
    /// The last one that was looked at by the sweep.
    swept: Source,
}

#[derive(Debug)]
struct Starter {
    /// The generic cell rate algorithm's one number (ITU-T I.371): when the next one would come if all came at their pace.
    next: Moment,
    /// The second that `tries` are of.
    second: u64,
    tries: u32,
}

/// What the sketch says an address began, the one in question included: never too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recent {
    /// In the running [`second`].
    pub this: u32,
    /// In the one before.
    pub last: u32,
}

/// The second that `now` is in.
pub fn second(now: Moment) -> u64 {
    now.since_start().as_secs()
}

impl Starters {
    /// `rate` a second, above zero; a second's worth may come at once, and one always.
    pub fn new(rate: f64) -> Self {
        let mut starters = Starters { interval: Duration::ZERO, burst: 1, sources: BTreeMap::new(), swept: Source(0) };
        starters.set_rate(rate);
        starters
    }

    /// Another rate from now on.
    pub fn set_rate(&mut self, rate: f64) {
        // A day or more is as good as never.
        self.interval = Duration::from_secs_f64((1.0 / rate).min(86_400.0));
        self.burst = rate.clamp(1.0, 1e9) as u32;
    }

    /// A session is to begin; whether it may.
    pub fn begin(&mut self, source: Source, recent: Recent, now: Moment) -> bool {
        let second = second(now);
        self.sweep(now);
        let is_full = self.sources.len() >= SOURCES_MAX;
        let before = recent.this.saturating_add(recent.last).saturating_sub(1);
        let uncounted = before.min(self.burst / UNCOUNTED);
        let starter = match self.sources.get_mut(&source) {
            Some(starter) => starter,
            None if before < self.burst / UNCOUNTED => return true,
            None if is_full => return recent.this <= self.burst,
            None => {
                let next = now + self.interval * uncounted;
                self.sources.entry(source).or_insert(Starter { next, second, tries: uncounted })
            }
        };
        if starter.second != second {
            (starter.second, starter.tries) = (second, 0);
        }
        starter.tries = starter.tries.saturating_add(1);
        let may = starter.next.since(now) <= self.interval * (self.burst - 1);
        if may {
            starter.next = starter.next.max(now) + self.interval;
        }
        may
    }

    /// Whether its address tried more than twice of what it may in this second: nothing that comes from there is worth a handshake.
    pub fn is_flooding(&self, source: Source, now: Moment) -> bool {
        let most = self.burst.saturating_mul(FLOOD);
        self.sources.get(&source).is_some_and(|s| s.second == second(now) && s.tries > most)
    }

    /// Forgets some of those that may begin a whole burst again, and of whom the sketch has nothing more either: it would be charged to
    /// them a second time. A few at a time, since a whole sweep would hold everybody up for milliseconds.
    fn sweep(&mut self, now: Moment) {
        for _ in 0..SWEPT_AT_ONCE {
            let next = self.sources.range((Excluded(self.swept), Unbounded)).next();
            let Some((source, starter)) = next.or_else(|| self.sources.first_key_value()) else { return };
            let (source, is_over) = (*source, starter.next <= now && starter.second + 1 < second(now));
            if is_over {
                self.sources.remove(&source);
            }
            self.swept = source;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn source(text: &str) -> Source {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn an_ipv6_network_is_one_and_a_mapped_address_is_ipv4() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.7"), source("192.0.2.7"));
        assert_ne!(source("192.0.2.7"), source("192.0.2.8"));
    }

    #[test]
    fn an_address_holds_as_many_as_it_may_and_no_more() {
        for max in [1, 2, 7, 8, 9, 100] {
            let (mut holders, a) = (Holders::new(max), source("192.0.2.7"));
            let entries: Vec<_> = (1..=max).map(|n| holders.begin(a, n).unwrap()).collect();
            assert_eq!(holders.begin(a, max + 1), None, "{max}");
            assert_eq!(entries.iter().filter(|e| **e == Accounting::Uncounted).count() as u32, max / 8);
            holders.end(a, entries[0]);
            assert!(holders.begin(a, max).is_some(), "{max}");
            assert_eq!(holders.begin(a, max + 1), None);
        }
    }

    #[test]
    fn who_is_taken_for_others_has_seven_eighths_at_least() {
        let (mut holders, a) = (Holders::new(80), source("192.0.2.7"));
        let entered = (1..=80).take_while(|n| holders.begin(a, n + 5_000).is_some()).count();
        assert_eq!(entered, 70);
    }

    #[test]
    fn with_a_full_map_the_sketch_decides_and_nobody_gets_more_for_it() {
        let mut holders = Holders::new(8);
        for n in 0..SOURCES_MAX {
            assert_eq!(holders.begin(Source(n as u64), 5), Some(Accounting::Counted));
        }
        let late = source("192.0.2.7");
        let entries: Vec<_> = (1..=8).map(|n| holders.begin(late, n).unwrap()).collect();
        assert_eq!((entries[0], entries[1], entries[7]), (Accounting::Uncounted, Accounting::Beyond, Accounting::Beyond));
        assert_eq!(holders.begin(late, 9), None);
        // There is room again, and it is known that nobody counted.
        holders.end(Source(0), Accounting::Counted);
        assert_eq!(holders.begin(late, 9), None);
        entries.into_iter().for_each(|e| holders.end(late, e));
        assert_eq!(holders.begin(late, 3), Some(Accounting::Counted), "others in its cells: it is counted from here");
    }

    #[test]
    fn a_limit_that_is_lowered_counts_for_those_who_come() {
        let (mut holders, a) = (Holders::new(100), source("192.0.2.7"));
        (1..=20).for_each(|n| assert!(holders.begin(a, n).is_some()));
        holders.set_max(10);
        assert_eq!(holders.begin(a, 21), None);
        holders.set_max(21);
        assert!(holders.begin(a, 21).is_some() && holders.begin(a, 22).is_none());
    }

    proptest! {
        /// Against a plain count, with estimates that are too high by what others do.
        #[test]
        fn nobody_holds_more_and_nobody_far_below_is_refused(
            max in 1u32..40,
            steps in prop::collection::vec((0u64..4, 0u32..60, any::<bool>()), 1..400),
        ) {
            let mut holders = Holders::new(max);
            let mut held: HashMap<u64, Vec<Accounting>> = HashMap::new();
            for (who, noise, comes) in steps {
                let mine = held.entry(who).or_default();
                let count = mine.len() as u32;
                if !comes {
                    if let Some(entry) = mine.pop() { holders.end(Source(who), entry) }
                    continue;
                }
                match holders.begin(Source(who), count + 1 + noise) {
                    Some(entry) => mine.push(entry),
                    None => prop_assert!(count >= max - max / 8, "refused with {} of {}", count, max),
                }
                prop_assert!(mine.len() as u32 <= max);
            }
            for (who, entries) in held {
                entries.into_iter().for_each(|e| holders.end(Source(who), e));
            }
            prop_assert!(holders.sources.is_empty() && holders.beyond == 0);
        }
    }

    const MS: Duration = Duration::from_millis(1);

    fn alone(count: u32) -> Recent {
        Recent { this: count, last: 0 }
    }

    #[test]
    fn a_burst_is_a_seconds_worth_and_then_one_at_a_time() {
        for (rate, at_once) in [(20.0, 20), (8.0, 8), (2.5, 2), (0.5, 1)] {
            let (mut starters, a) = (Starters::new(rate), source("192.0.2.7"));
            let may = (1..=50).filter(|n| starters.begin(a, alone(*n), Moment::START)).count();
            assert_eq!(may, at_once, "{rate}");
            let later = Moment::START + Duration::from_secs_f64(1.0 / rate);
            assert!(starters.begin(a, alone(51), later) && !starters.begin(a, alone(52), later), "{rate}");
        }
    }

    #[test]
    fn over_time_the_rate_is_kept() {
        let (mut starters, a) = (Starters::new(20.0), source("192.0.2.7"));
        let (mut may, mut now, mut counts) = (0, Moment::START, HashMap::<u64, u32>::new());
        for _ in 0..10_000 {
            now = now + MS;
            let this = *counts.entry(second(now)).and_modify(|n| *n += 1).or_insert(1);
            let last = second(now).checked_sub(1).and_then(|s| counts.get(&s)).copied().unwrap_or(0);
            may += u32::from(starters.begin(a, Recent { this, last }, now));
        }
        assert!((200..=221).contains(&may), "{may}");
    }

    #[test]
    fn who_is_taken_for_others_has_seven_eighths_at_least_at_once() {
        let (mut starters, a) = (Starters::new(80.0), source("192.0.2.7"));
        assert_eq!((1..=80).filter(|n| starters.begin(a, alone(n + 5_000), Moment::START)).count(), 70);
    }

    #[test]
    fn a_flood_is_told_from_a_few_too_many_and_forgiven_in_the_next_second() {
        let (mut starters, a) = (Starters::new(20.0), source("192.0.2.7"));
        (1..=40).for_each(|n| _ = starters.begin(a, alone(n), Moment::START));
        assert!(!starters.is_flooding(a, Moment::START));
        starters.begin(a, alone(41), Moment::START);
        assert!(starters.is_flooding(a, Moment::from_millis(999)));
        assert!(!starters.is_flooding(source("192.0.2.8"), Moment::START));
        assert!(!starters.is_flooding(a, Moment::from_millis(1_000)));
    }

    #[test]
    fn the_map_is_bounded_and_swept() {
        let mut starters = Starters::new(1.0);
        (0..SOURCES_MAX as u64).for_each(|n| assert!(starters.begin(Source(n), alone(1), Moment::START)));
        let late = source("192.0.2.7");
        assert!(starters.begin(late, alone(1), Moment::START), "the sketch has not seen it before");
        assert!(!starters.begin(late, alone(2), Moment::START));
        assert!(starters.begin(late, alone(3), Moment::from_millis(2_000)), "others were forgotten");
        (0..SOURCES_MAX / 2).for_each(|_| _ = starters.begin(late, alone(1), Moment::from_millis(2_000)));
        assert_eq!(starters.sources.len(), 1, "and soon all of them");
    }
}
