//! What passes through a fleet: counters by outcome and cause, and the rates that follow from them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::cause::{EndCause, RefuseCause};
use crate::time::Moment;

/// Between two samples; a rate changes as often.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Samples kept, so that a rate is the mean of the last ten seconds: steady enough to be read, soon enough to be acted on.
const SAMPLES_MAX: usize = 11;

/// Counters of a fleet since Holdline began; they only grow. The gateway counts them once, for the metrics and for this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests for a session that came to an outcome, whichever (`holdline_handshakes_total`).
    pub handshakes: u64,
    /// Those that became a session.
    pub opened: u64,
    /// Sessions that ended, by [`EndCause`] (`holdline_sessions_ended_total`).
    pub ended: [u64; EndCause::ALL.len()],
    /// Requests and sessions that were refused, by [`RefuseCause`] (`holdline_refused_total`).
    pub refused: [u64; RefuseCause::ALL.len()],
}

/// Means a second over the last ten seconds; less while Holdline is younger.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Requests for a session: those that came to an outcome, and those that joined the queue.
    pub arrivals: f64,
    /// Sessions that ended.
    pub ended: f64,
    /// Refusals.
    pub refused: f64,
}

/// What a snapshot tells of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Since Holdline began.
    pub totals: Totals,
    /// At present.
    pub rates: Rates,
}

/// Makes [`Rates`] of [`Totals`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    samples: VecDeque<(Moment, Sample)>,
    traffic: Traffic,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    arrived: u64,
    ended: u64,
    refused: u64,
}

impl Meter {
    /// Takes the counters of `now`, and how many wait; true when the traffic reads differently.
    pub(crate) fn take(&mut self, totals: Totals, queued: u32, now: Moment) -> bool {
        let before = self.traffic;
        self.traffic.totals = totals;
        let due = self.samples.back().is_none_or(|(at, _)| now.since(*at) >= SAMPLE_EVERY);
        if due {
            self.sample(totals, queued, now);
        }
        before != self.traffic
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic
    }

    fn sample(&mut self, totals: Totals, queued: u32, now: Moment) {
        // Who waits has arrived, and is counted as a handshake when the wait is over.
        let arrived = totals.handshakes + u64::from(queued);
        let sample = Sample { arrived, ended: totals.ended.iter().sum(), refused: totals.refused.iter().sum() };
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((now, sample));
        let (then, first) = self.samples[0];
        let seconds = now.since(then).as_secs_f64();
        let rate = |now: u64, then: u64| if seconds > 0.0 { now.saturating_sub(then) as f64 / seconds } else { 0.0 };
        self.traffic.rates = Rates {
            arrivals: rate(sample.arrived, first.arrived),
            ended: rate(sample.ended, first.ended),
            refused: rate(sample.refused, first.refused),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(handshakes: u64, ended: u64) -> Totals {
        let mut totals = Totals { handshakes, ..Totals::default() };
        totals.ended[EndCause::Drained as usize] = ended;
        totals
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    #[test]
    fn a_steady_stream_has_its_rate_and_a_stop_is_seen_within_ten_seconds() {
        let mut meter = Meter::default();
        for second in 0..=20 {
            meter.take(totals(second * 5, second), 0, at(second));
        }
        assert_eq!(meter.traffic().rates, Rates { arrivals: 5.0, ended: 1.0, refused: 0.0 });
        for second in 21..=30 {
            assert!(meter.traffic().rates.arrivals > 0.0);
            meter.take(totals(100, 20), 0, at(second));
        }
        assert_eq!(meter.traffic().rates, Rates::default());
    }

    #[test]
    fn who_waits_arrived_once() {
        let mut meter = Meter::default();
        meter.take(totals(0, 0), 0, at(0));
        meter.take(totals(0, 0), 40, at(1));
        assert_eq!(meter.traffic().rates.arrivals, 40.0);
        meter.take(totals(40, 0), 0, at(2));
        assert_eq!(meter.traffic().rates.arrivals, 20.0, "a seat after the wait is no second arrival");
    }

    #[test]
    fn what_was_counted_before_the_first_sample_is_no_burst() {
        let mut meter = Meter::default();
        assert!(meter.take(totals(1_000_000, 7), 0, at(50)), "the totals are news");
        assert_eq!(meter.traffic().rates, Rates::default());
        assert!(!meter.take(totals(1_000_000, 7), 0, at(50)), "and the same again is none");
        assert!(meter.take(totals(1_000_001, 7), 0, at(50)));
        assert_eq!(meter.traffic().rates, Rates::default(), "rates change with the samples");
    }
}
