//! How long to wait before the next attempt. Pure: the caller waits.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The longest pause that is chosen here; a server may ask for more.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(120);
/// The first interval; each failure doubles it.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest pause that a server may ask for.
const ASKED_MAX: Duration = Duration::from_secs(3600);

/// At once, then at random within intervals that grow up to two minutes ("full jitter"), so that a crowd does not come back in step. A busy server
/// is not asked again at once, and not before the time that it names.
#[derive(Clone, Debug)]
pub struct Backoff {
    failures: u32,
    rng: SmallRng,
}

impl Backoff {
    /// `seed`: another for each client, or they wait in step after all.
    pub fn new(seed: u64) -> Self {
        Backoff { failures: 0, rng: SmallRng::seed_from_u64(seed) }
    }

    /// The pause before the next attempt. `busy`: the server said that it has no place; `asked`: the time that it wants, zero for none.
    pub fn pause(&mut self, busy: bool, asked: Duration) -> Duration {
        let step = self.failures.max(u32::from(busy));
        self.failures = step.saturating_add(1);
        let interval = match step {
            0 => Duration::ZERO,
            _ => PAUSE_FIRST.saturating_mul(2u32.saturating_pow(step - 1)).min(PAUSE_MAX),
        };
        asked.min(ASKED_MAX) + interval.mul_f64(self.rng.random())
    }

    /// It went well for a while: the next loss is a first one.
    pub fn held(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED_NOTHING: Duration = Duration::ZERO;

    /// The longest of many clients' pauses after each of `n` failures in a row.
    fn longest(n: usize, busy: bool) -> Vec<Duration> {
        let mut longest = vec![Duration::ZERO; n];
        for seed in 0..2_000 {
            let mut backoff = Backoff::new(seed);
            for pause in &mut longest {
                *pause = backoff.pause(busy, ASKED_NOTHING).max(*pause);
            }
        }
        longest
    }

    #[test]
    fn at_once_then_anywhere_in_intervals_that_grow_to_two_minutes() {
        let longest = longest(12, false);
        assert_eq!(longest[0], Duration::ZERO);
        for (pause, interval_s) in longest[1..].iter().zip([1, 2, 4, 8, 16, 32, 64, 120, 120, 120, 120]) {
            let share = pause.as_secs_f64() / f64::from(interval_s);
            assert!((0.97..=1.0).contains(&share), "{pause:?} of {interval_s} s");
        }
    }

    #[test]
    fn pauses_are_spread_evenly() {
        let pauses = (0..2_000).map(|seed| {
            let mut backoff = Backoff::new(seed);
            backoff.pause(false, ASKED_NOTHING);
            backoff.pause(false, ASKED_NOTHING).as_secs_f64()
        });
        let mut tenths = [0; 10];
        pauses.for_each(|s| tenths[(s * 10.0) as usize] += 1);
        assert!(tenths.iter().all(|n| (140..=260).contains(n)), "{tenths:?}");
    }

    #[test]
    fn a_busy_server_is_not_asked_at_once_and_not_before_it_wants() {
        assert!(longest(1, true)[0] > Duration::from_millis(900));
        let mut backoff = Backoff::new(7);
        for _ in 0..20 {
            let pause = backoff.pause(true, Duration::from_secs(300));
            assert!((Duration::from_secs(300)..=Duration::from_secs(420)).contains(&pause), "{pause:?}");
        }
        assert!(backoff.pause(true, Duration::MAX) <= ASKED_MAX + PAUSE_MAX, "a server does not keep us away for ever");
    }

    #[test]
    fn what_went_well_is_forgotten() {
        let mut backoff = Backoff::new(7);
        for _ in 0..50 {
            backoff.pause(false, ASKED_NOTHING);
        }
        backoff.held();
        assert_eq!(backoff.pause(false, ASKED_NOTHING), Duration::ZERO);
    }
}
