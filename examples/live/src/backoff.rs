//! How long to wait before the next attempt: the longest pause doubles with each failure, and the pause itself is any up to that, so that a
//! crowd that lost the same peer does not come back at once.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses between attempts.
pub(crate) struct Backoff {
    longest: Duration,
    random: SmallRng,
}

impl Backoff {
    pub(crate) fn new(random: SmallRng) -> Backoff {
        Backoff { longest: FIRST, random }
    }

    /// With a seed of the system's choice.
    pub(crate) fn from_os() -> Backoff {
        Backoff::new(SmallRng::from_os_rng())
    }

    /// It worked: the next failure is the first again.
    pub(crate) fn reset(&mut self) {
        self.longest = FIRST;
    }

    /// The pause after a failure.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.longest.mul_f64(self.random.random());
        self.longest = (self.longest * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_are_spread_and_begin_anew() {
        let first_of = |n: u64| Backoff::new(SmallRng::seed_from_u64(n)).next();
        assert!((0..100).map(first_of).all(|pause| pause <= FIRST));
        assert!(first_of(1) != first_of(2));
        let mut backoff = Backoff::new(SmallRng::seed_from_u64(1));
        let pauses: Vec<_> = (0..1000).map(|_| backoff.next()).collect();
        assert!(pauses.iter().all(|pause| *pause <= LONGEST));
        assert!(pauses[5..].iter().any(|pause| *pause > LONGEST * 9 / 10) && pauses[5..].iter().any(|p| *p < LONGEST / 10));
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
