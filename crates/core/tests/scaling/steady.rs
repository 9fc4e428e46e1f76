//! Constant load: the number of backends never oscillates.

use std::time::Duration;

use proptest::prelude::*;

use crate::fleet::Fleet;
use crate::support::policy;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// As many come as go, second by second: once it has settled, nothing changes.
    #[test]
    fn even_load(sessions in 1_u32..400, capacity in 5_u32..60, churn in 0_u32..8, startup in 1_u64..=10, seed: u64) {
        let mut fleet = Fleet::new(policy(Some(capacity), 1, 200), (startup, startup), seed);
        fleet.tick(sessions, 0.0);
        let mut settled = (0, 0);
        for second in 0..2400 {
            let churn = churn.min(fleet.sessions());
            fleet.leave(churn);
            fleet.tick(churn, 0.0);
            if second == 900 {
                settled = (fleet.tally.changes.len(), fleet.tally.refused);
            }
        }
        prop_assert_eq!(settled, (fleet.tally.changes.len(), fleet.tally.refused), "{}", fleet.last.reason);
    }

    /// Poisson arrivals and exponential lengths at a constant rate: chance alone does not make it swing.
    #[test]
    fn chance(rate in 0.2_f64..4.0, length_s in 30.0_f64..300.0, capacity in 10_u32..60, startup in 1_u64..=10, seed: u64) {
        let mut fleet = Fleet::new(policy(Some(capacity), 1, 400), (startup, startup), seed);
        let mut refused = 0;
        for second in 0..2 * 3600 {
            let arrivals = fleet.poisson(rate);
            fleet.tick(arrivals, 1.0 / length_s);
            if second == 600 {
                refused = fleet.tally.refused;
            }
        }
        // A peak of chance may be given back an hour later; it does not come again at once.
        let swings = fleet.tally.reversals(Duration::from_secs(2 * 3600));
        prop_assert!(swings <= 3, "{swings} of {:?}", fleet.tally);
        prop_assert_eq!(fleet.tally.refused, refused, "none once it has grown to its size");
    }
}
