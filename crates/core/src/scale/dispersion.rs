//! How uneven arrivals are: variance/mean of those of a second.

use std::collections::VecDeque;

use crate::time::Moment;

/// The seconds over which dispersion is measured; it is 1, as of a Poisson process, until then.
const DISPERSION_WINDOW: usize = 300;

/// The busiest seconds, left out of the dispersion. A wave that came once stands in `need` already, with its sessions and its queue;
/// as dispersion it would be counted a second time, and start backends after the wave has passed.
const DISPERSION_TRIMMED: usize = 6;

/// Arrivals of each of the last seconds.
#[derive(Clone, Debug)]
pub(super) struct Seconds {
    counts: VecDeque<u64>,
    /// The second that is being counted, and what it has.
    second: u64,
    open: u64,
}

impl Seconds {
    pub(super) fn new(now: Moment) -> Self {
        Seconds { counts: VecDeque::new(), second: now.since_start().as_secs(), open: 0 }
    }

    pub(super) fn count(&mut self, arrivals: u64, now: Moment) {
        let second = now.since_start().as_secs();
        // After a long pause only the window's worth of empty seconds is filled in.
        let passed = second.saturating_sub(self.second).min(DISPERSION_WINDOW as u64);
        for _ in 0..passed {
            if self.counts.len() == DISPERSION_WINDOW {
                self.counts.pop_front();
            }
            self.counts.push_back(std::mem::take(&mut self.open));
        }
        self.second = second;
        self.open += arrivals;
    }

    /// Variance/mean, the busiest seconds left out; 1 until the window is full and while nothing arrives.
    pub(super) fn dispersion(&self) -> f64 {
        if self.counts.len() < DISPERSION_WINDOW {
            return 1.0;
        }
        let mut busiest = [0; DISPERSION_TRIMMED];
        let (mut sum, mut squares) = (0.0, 0.0);
        for &count in &self.counts {
            sum += count as f64;
            squares += (count as f64).powi(2);
            if count > busiest[0] {
                busiest[0] = count;
                busiest.sort_unstable();
            }
        }
        let n = (DISPERSION_WINDOW - DISPERSION_TRIMMED) as f64;
        let mean = (sum - busiest.iter().sum::<u64>() as f64) / n;
        if mean <= 0.0 {
            return 1.0;
        }
        let variance = (squares - busiest.iter().map(|&c| (c as f64).powi(2)).sum::<f64>()) / n - mean * mean;
        // Never below a Poisson process: arrivals that were even may become uneven any time.
        (variance / mean).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: impl IntoIterator<Item = u64>) -> f64 {
        let mut counted = Seconds::new(Moment::START);
        for (second, arrivals) in (1..).zip(seconds) {
            counted.count(arrivals, Moment::from_millis(second * 1_000));
        }
        counted.dispersion()
    }

    #[test]
    fn dispersion_knows_bursts_from_one_wave() {
        let even = after((0..400).map(|_| 4));
        let bursts = after((0..400).map(|t| if t % 10 == 0 { 40 } else { 0 }));
        let wave = after((0..400).map(|t| if t == 300 { 70 } else { 0 }));
        assert_eq!((even, wave), (1.0, 1.0));
        assert!(bursts > 20.0, "{bursts}");
    }

    #[test]
    fn a_long_pause_is_empty_seconds_and_no_more_of_them_than_are_looked_at() {
        let mut seconds = Seconds::new(Moment::START);
        seconds.count(u64::from(u32::MAX), Moment::from_millis(1_000));
        seconds.count(1, Moment::from_millis(u64::MAX));
        assert_eq!((seconds.counts.len(), seconds.dispersion()), (DISPERSION_WINDOW, 1.0));
    }
}
