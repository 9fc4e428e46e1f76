//! After a start that failed or a crash: not again at once.

use std::time::Duration;

use crate::time::Moment;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// A backend that stayed ready for so long after the last failure shows that starts succeed.
const PROOF: Duration = Duration::from_secs(60);

/// When a fleet may start backends again: 1 s after a failure, doubling to 60 s.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    failed_at: Moment,
    not_before: Moment,
}

impl Backoff {
    /// A backend failed; returns the wait before the next start. Failures of one time (a machine out of memory) count once.
    pub(super) fn failed(&mut self, now: Moment) -> Duration {
        if now >= self.not_before {
            self.failures += 1;
            let doubled = FIRST.saturating_mul(1 << (self.failures - 1).min(6));
            self.not_before = now + doubled.min(LONGEST);
        }
        self.failed_at = now;
        self.not_before.since(now)
    }

    /// Whether a backend may be started.
    pub(super) fn allows(&self, now: Moment) -> bool {
        now >= self.not_before
    }

    /// A backend is ready since `since`.
    pub(super) fn ready(&mut self, since: Moment, now: Moment) {
        if self.failures > 0 && since >= self.failed_at && now.since(since) >= PROOF {
            *self = Backoff::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_a_minute_and_starts_afresh_after_a_minute_of_health() {
        let mut backoff = Backoff::default();
        let mut now = Moment::START;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let wait = backoff.failed(now);
            assert!(!backoff.allows(now));
            // Another failure of the same time changes nothing.
            assert_eq!(backoff.failed(now), wait);
            waits.push(wait.as_secs());
            now = now + wait;
            assert!(backoff.allows(now));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.ready(Moment::START, now + PROOF);
        assert!(backoff.failures > 0, "it was ready before the failure");
        backoff.ready(now, now + PROOF);
        assert_eq!(backoff.failed(now + PROOF).as_secs(), 1);
    }
}
