//! Which sessions to move so that every backend is as full as the others: the level is taken/capacity.

/// One backend that takes sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Sessions through Holdline; only these can be moved.
    pub sessions: u32,
    /// Sessions by other ways.
    pub foreign: u32,
    /// `None`: no limit.
    pub capacity: Option<u32>,
}

/// How many sessions each backend should have after the move, in the order given. The sum is that of now; nobody is
/// given more than it has room for. Backends without a limit weigh as much as the largest that has one.
pub fn targets(loads: &[Load]) -> Vec<u32> {
    let largest = loads.iter().filter_map(|l| l.capacity).max().unwrap_or(1).max(1);
    let weights: Vec<f64> = loads.iter().map(|l| f64::from(l.capacity.unwrap_or(largest))).collect();
    let total: u64 = loads.iter().map(|l| u64::from(l.sessions) + u64::from(l.foreign)).sum();
    let level = total as f64 / weights.iter().sum::<f64>().max(1.0);
    let exact: Vec<f64> = loads.iter().zip(&weights).map(|(l, w)| (level * w - f64::from(l.foreign)).max(0.0)).collect();
    // Rounded down, and what that leaves over given out one each: the largest fraction first; then, when foreign sessions
    // keep a level above the others', from the emptiest up.
    let mut targets: Vec<u32> = exact.iter().map(|e| *e as u32).collect();
    let sessions: u64 = loads.iter().map(|l| u64::from(l.sessions)).sum();
    let mut over = sessions as i64 - targets.iter().map(|t| i64::from(*t)).sum::<i64>();
    let height = |i: usize, t: u32| (f64::from(t) + f64::from(loads[i].foreign)) / weights[i].max(f64::MIN_POSITIVE);
    while over != 0 {
        let place = (0..loads.len()).filter(|&i| over > 0 || targets[i] > 0);
        let key = |i: usize| if over > 0 { height(i, targets[i] + 1) } else { -height(i, targets[i]) };
        // Of equals the one that has the session already, so that a level fleet is left alone.
        let better = |a: &usize, b: &usize| {
            key(*a).total_cmp(&key(*b)).then_with(|| {
                let missing = |i: usize| i64::from(targets[i]) - i64::from(loads[i].sessions);
                missing(*a).cmp(&missing(*b))
            })
        };
        let Some(best) = place.min_by(better) else { break };
        targets[best] = if over > 0 { targets[best] + 1 } else { targets[best] - 1 };
        over -= over.signum();
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load(sessions: u32, capacity: u32) -> Load {
        Load { sessions, foreign: 0, capacity: Some(capacity) }
    }

    #[test]
    fn levels_become_equal_and_a_level_fleet_is_left_alone() {
        assert_eq!(targets(&[load(90, 100), load(0, 100), load(30, 100)]), [40, 40, 40]);
        assert_eq!(targets(&[load(60, 100), load(0, 200)]), [20, 40]);
        assert_eq!(targets(&[load(3, 10), load(4, 10)]), [3, 4]);
        assert_eq!(targets(&[load(4, 10), load(3, 10)]), [4, 3]);
        assert_eq!(targets(&[Load { capacity: None, ..load(9, 0) }, Load { capacity: None, ..load(0, 0) }]), [5, 4]);
        assert_eq!(targets(&[]), [0; 0]);
    }

    #[test]
    fn foreign_sessions_weigh_but_cannot_be_moved() {
        let foreign = Load { sessions: 0, foreign: 60, capacity: Some(100) };
        assert_eq!(targets(&[foreign, load(40, 100)]), [0, 40]);
        let foreign = Load { sessions: 20, foreign: 20, capacity: Some(100) };
        assert_eq!(targets(&[foreign, load(20, 100)]), [10, 30]);
    }

    proptest! {
        #[test]
        fn the_sum_stays_and_capacity_is_kept(loads in prop::collection::vec((0u32..200, 0u32..20, 1u32..200), 1..8)) {
            let loads: Vec<Load> = loads
                .into_iter()
                .map(|(s, foreign, c)| Load { sessions: s.min(c), foreign, capacity: Some(c) })
                .collect();
            let targets = targets(&loads);
            prop_assert_eq!(targets.iter().sum::<u32>(), loads.iter().map(|l| l.sessions).sum::<u32>());
            let room = loads.iter().map(|l| l.capacity.unwrap_or(0) as i64 - i64::from(l.foreign)).all(|r| r >= 0)
                && loads.iter().map(|l| l.sessions + l.foreign).sum::<u32>() <= loads.iter().filter_map(|l| l.capacity).sum();
            for (l, t) in loads.iter().zip(&targets) {
                prop_assert!(!room || t + l.foreign <= l.capacity.unwrap_or(0), "{t} of {l:?}");
            }
        }
    }
}
