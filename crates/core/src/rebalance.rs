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
    let sessions: u64 = loads.iter().map(|l| u64::from(l.sessions)).sum();
    let Some(level) = level(loads, &weights, sessions as f64) else {
        // Nobody takes any: they stay where they are.
        return loads.iter().map(|l| l.sessions).collect();
    };
    let mut targets: Vec<u32> =
        loads.iter().zip(&weights).map(|(l, w)| (level * w - f64::from(l.foreign)).max(0.0) as u32).collect();
    hand_out(&mut targets, loads, &weights, sessions);
    targets
}

/// The height to which `sessions` fill vessels as wide as `weights`, in which foreign sessions stand already; `None` when all are of no
/// width. A backend whose foreign sessions stand above the level keeps none of ours.
fn level(loads: &[Load], weights: &[f64], sessions: f64) -> Option<f64> {
    let mut vessels: Vec<(f64, f64)> =
        loads.iter().zip(weights).filter(|(_, w)| **w > 0.0).map(|(l, w)| (f64::from(l.foreign), *w)).collect();
    vessels.sort_by(|(f, w), (g, v)| (f / w).total_cmp(&(g / v)));
    let (mut water, mut width, mut level) = (sessions, 0.0, None);
    for (foreign, weight) in vessels {
        if level.is_some_and(|level| level <= foreign / weight) {
            break;
        }
        water += foreign;
        width += weight;
        level = Some(water / width);
    }
    level
}

/// Gives out what rounding down left over, one each, so that the levels stay close: fewer than there are backends.
fn hand_out(targets: &mut [u32], loads: &[Load], weights: &[f64], sessions: u64) {
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

    #[test]
    fn whatever_backends_report_is_answered_at_once() {
        let liar = Load { sessions: 50, foreign: u32::MAX, capacity: Some(100) };
        assert_eq!(targets(&[liar, load(0, 100)]), [0, 50]);
        let huge = Load { sessions: 50, foreign: 0, capacity: Some(u32::MAX) };
        assert_eq!(targets(&[huge, load(50, 100)]).iter().sum::<u32>(), 100);
        assert_eq!(targets(&[load(7, 0), load(3, 0)]), [7, 3], "nobody takes any");
        assert_eq!(targets(&[load(7, 0), load(3, 10)]), [0, 10]);
        let all_lie = Load { sessions: u32::MAX, ..liar };
        assert_eq!(targets(&[all_lie, all_lie, all_lie]), [u32::MAX; 3]);
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
