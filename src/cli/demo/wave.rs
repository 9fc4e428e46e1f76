//! When simulated clients come and go: pure, so that the demo's story can be checked without running it.

use std::time::Duration;

/// Share of the show at which clients begin to leave.
const LEAVE_FROM: f64 = 0.45;
/// Share of the show by which the wave has left.
const LEAVE_UNTIL: f64 = 0.65;
/// One in so many stays to the end, so that the last backend can be seen to be kept.
const STAYS_ONE_IN: u32 = 12;

/// A crowd that comes in a wave and leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wave {
    /// Clients in all.
    pub(super) clients: u32,
    /// The first comes at once, the last after this time; most in the middle.
    pub(super) arrive_over: Duration,
    /// The whole show.
    pub(super) show: Duration,
}

/// One client's stay, counted from the start of the show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stay {
    pub(super) comes: Duration,
    pub(super) leaves: Duration,
}

impl Wave {
    /// The stays of all clients, in the order in which they come.
    pub(super) fn stays(self) -> impl Iterator<Item = Stay> {
        let last = self.clients.saturating_sub(1).max(1);
        (0..self.clients).map(move |i| {
            let share = f64::from(i) / f64::from(last);
            let comes = self.arrive_over.mul_f64(s_curve(share));
            let leaves = if i % STAYS_ONE_IN == 0 {
                self.show
            } else {
                self.show.mul_f64(LEAVE_FROM + (LEAVE_UNTIL - LEAVE_FROM) * share)
            };
            Stay { comes, leaves: leaves.max(comes) }
        })
    }
}

/// The inverse of a smooth step: even steps in, a crowd out that is thin at both ends and thick in the middle.
fn s_curve(share: f64) -> f64 {
    0.5 - (1.0 - 2.0 * share).clamp(-1.0, 1.0).asin() / std::f64::consts::PI
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAVE: Wave = Wave { clients: 120, arrive_over: Duration::from_secs(15), show: Duration::from_secs(60) };

    #[test]
    fn everybody_comes_within_the_wave_and_leaves_within_the_show() {
        let stays: Vec<_> = WAVE.stays().collect();
        assert_eq!(stays.len(), 120);
        assert!(stays.windows(2).all(|w| w[0].comes <= w[1].comes));
        assert!(stays.iter().all(|s| s.comes <= WAVE.arrive_over && s.comes <= s.leaves && s.leaves <= WAVE.show));
        assert_eq!(stays.iter().filter(|s| s.leaves == WAVE.show).count(), 10);
    }

    #[test]
    fn one_client_is_a_crowd_too() {
        let stays: Vec<_> = Wave { clients: 1, ..WAVE }.stays().collect();
        assert_eq!(stays, [Stay { comes: Duration::ZERO, leaves: WAVE.show }]);
    }

    #[test]
    fn a_wave_longer_than_the_show_still_has_each_leave_after_it_came() {
        let wave = Wave { arrive_over: Duration::from_secs(90), ..WAVE };
        assert!(wave.stays().all(|s| s.comes <= s.leaves));
    }
}
