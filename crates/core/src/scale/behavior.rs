//! Stabilisation windows and rates of change: `behavior` of the HorizontalPodAutoscaler (Kubernetes, autoscaling/v2).

use std::collections::VecDeque;
use std::time::Duration;

use crate::policy::{ScalePolicy, ScaleRules, SelectPolicy, StepAmount};
use crate::time::Moment;

/// What was recommended and what was done lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Behavior {
    recommended: VecDeque<Recommendation>,
    /// The number of backends at the last decision.
    last: Option<(Moment, u32)>,
    /// How it changed after earlier ones: what was really done, starts that failed left out.
    changes: VecDeque<(Moment, i64)>,
}

/// How many backends are needed, and how many before any is given up.
#[derive(Clone, Copy, Debug)]
struct Recommendation {
    at: Moment,
    needed: u32,
    lasting: u32,
}

impl Behavior {
    /// Windows do not run over a time in which nothing was recommended.
    pub(super) fn stood_still(&mut self, gap: Duration) {
        self.recommended.iter_mut().for_each(|r| r.at = r.at + gap);
    }

    /// What the windows leave of `needed` backends: up from `reference` to the lowest of one, down from it to the highest of the other.
    /// Fewer than `lasting` (≥ `needed`) are not gone down to.
    pub(super) fn stabilize(&mut self, policy: &ScalePolicy, reference: u32, needed: u32, lasting: u32, now: Moment) -> u32 {
        if self.recommended.is_empty() {
            // As if it had always been so: what a predecessor decided is not undone before the window has passed.
            self.recommended.push_back(Recommendation { at: now, needed: reference, lasting: reference });
        }
        self.recommended.push_back(Recommendation { at: now, needed, lasting });
        let window = policy.up.stabilization.max(policy.down.stabilization);
        // One entry is kept, so that "nothing recommended yet" stays a thing of the start.
        while self.recommended.len() > 1 && self.recommended.front().is_some_and(|r| now.since(r.at) >= window) {
            self.recommended.pop_front();
        }
        let lowest = self.within(policy.up.stabilization, now).map(|r| r.needed).min().unwrap_or(needed);
        let highest = self.within(policy.down.stabilization, now).map(|r| r.lasting).max().unwrap_or(lasting);
        reference.max(lowest).min(highest)
    }

    /// As far towards `wanted` as the rates allow.
    pub(super) fn step(&mut self, policy: &ScalePolicy, current: u32, wanted: u32, now: Moment) -> u32 {
        if let Some((at, before)) = self.last.replace((now, current))
            && before != current
        {
            self.changes.push_back((at, i64::from(current) - i64::from(before)));
        }
        let steps = policy.up.policies.iter().chain(&policy.down.policies);
        let period = steps.map(|step| step.period).max().unwrap_or_default();
        while self.changes.front().is_some_and(|(at, _)| now.since(*at) >= period) {
            self.changes.pop_front();
        }
        match wanted {
            up if up > current => up.min(self.most(&policy.up, current, now)),
            down if down < current => down.max(self.least(&policy.down, current, now)),
            same => same,
        }
    }

    fn within(&self, window: Duration, now: Moment) -> impl Iterator<Item = &Recommendation> {
        // The newest is always one of them, also with a window of zero.
        let newest = self.recommended.len().saturating_sub(1);
        self.recommended.iter().enumerate().filter(move |(i, r)| *i == newest || now.since(r.at) < window).map(|(_, r)| r)
    }

    /// The most backends there may be now.
    fn most(&self, rules: &ScaleRules, current: u32, now: Moment) -> u32 {
        let bounds = rules.policies.iter().map(|step| {
            let start = self.at_start(step.period, current, now);
            match step.amount {
                StepAmount::Backends(n) => start.saturating_add(n),
                StepAmount::Share(share) => (f64::from(start) * (1.0 + share)).ceil() as u32,
            }
        });
        let bound = match rules.select {
            SelectPolicy::Max => bounds.max(),
            SelectPolicy::Min => bounds.min(),
            SelectPolicy::Disabled => Some(current),
        };
        bound.map_or(u32::MAX, |most| most.max(current))
    }

    /// The fewest backends there may be now.
    fn least(&self, rules: &ScaleRules, current: u32, now: Moment) -> u32 {
        let bounds = rules.policies.iter().map(|step| {
            let start = self.at_start(step.period, current, now);
            match step.amount {
                StepAmount::Backends(n) => start.saturating_sub(n),
                StepAmount::Share(share) => (f64::from(start) * (1.0 - share)).max(0.0) as u32,
            }
        });
        // The largest change is the fewest backends.
        let bound = match rules.select {
            SelectPolicy::Max => bounds.min(),
            SelectPolicy::Min => bounds.max(),
            SelectPolicy::Disabled => Some(current),
        };
        bound.map_or(0, |least| least.min(current))
    }

    /// Backends there were when the period began.
    fn at_start(&self, period: Duration, current: u32, now: Moment) -> u32 {
        let changed: i64 = self.changes.iter().filter(|(at, _)| now.since(*at) < period).map(|(_, by)| by).sum();
        u32::try_from(i64::from(current) - changed).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Buffer, ScaleStep};

    fn rules(stabilization_s: u64, select: SelectPolicy, policies: &[(StepAmount, u64)]) -> ScaleRules {
        let step = |&(amount, s)| ScaleStep { amount, period: Duration::from_secs(s) };
        ScaleRules { stabilization: Duration::from_secs(stabilization_s), select, policies: policies.iter().map(step).collect() }
    }

    fn policy(up: ScaleRules, down: ScaleRules) -> ScalePolicy {
        ScalePolicy { min: 0, max: 100, buffer: Buffer::Backends(0), up, down, idle_to_zero_after: None }
    }

    /// Recommendations `(second, n)`; each is followed at once. Returns what became of them.
    fn follow(policy: &ScalePolicy, start: u32, recommended: &[(u64, u32)]) -> Vec<u32> {
        let (mut behavior, mut current) = (Behavior::default(), start);
        let follow = |&(second, n): &(u64, u32)| {
            let now = Moment::from_millis(second * 1000);
            let stable = behavior.stabilize(policy, current, n, n, now);
            current = behavior.step(policy, current, stable, now);
            current
        };
        recommended.iter().map(follow).collect()
    }

    #[test]
    fn down_goes_to_the_highest_of_the_window() {
        let policy = policy(rules(0, SelectPolicy::Max, &[]), rules(300, SelectPolicy::Max, &[]));
        let seen = [(0, 5), (10, 2), (200, 3), (299, 1), (300, 1), (309, 1), (310, 1), (499, 1), (500, 1), (810, 0)];
        assert_eq!(follow(&policy, 5, &seen), [5, 5, 5, 5, 3, 3, 3, 3, 1, 0]);
    }

    #[test]
    fn the_start_counts_as_a_recommendation() {
        let policy = policy(rules(0, SelectPolicy::Max, &[]), rules(60, SelectPolicy::Max, &[]));
        assert_eq!(follow(&policy, 4, &[(0, 1), (59, 1), (60, 1)]), [4, 4, 1]);
    }

    #[test]
    fn up_goes_to_the_lowest_of_its_window() {
        let policy = policy(rules(30, SelectPolicy::Max, &[]), rules(0, SelectPolicy::Max, &[]));
        assert_eq!(follow(&policy, 1, &[(0, 9), (10, 4), (30, 8), (40, 8), (59, 9), (60, 9)]), [1, 1, 4, 8, 8, 8]);
    }

    #[test]
    fn of_several_steps_the_largest_or_the_smallest_counts() {
        let steps = [(StepAmount::Share(1.0), 15), (StepAmount::Backends(4), 15)];
        let none = || rules(0, SelectPolicy::Max, &[]);
        let max = policy(rules(0, SelectPolicy::Max, &steps), none());
        assert_eq!(follow(&max, 1, &[(0, 50), (1, 50), (14, 50), (15, 50), (30, 50)]), [5, 5, 5, 10, 20]);
        let min = policy(rules(0, SelectPolicy::Min, &steps), none());
        assert_eq!(follow(&min, 1, &[(0, 50), (15, 50), (30, 50), (45, 50)]), [2, 4, 8, 12]);
        let disabled = policy(rules(0, SelectPolicy::Disabled, &steps), none());
        assert_eq!(follow(&disabled, 1, &[(0, 50)]), [1]);
    }

    #[test]
    fn down_keeps_its_steps() {
        let none = || rules(0, SelectPolicy::Max, &[]);
        let steps = [(StepAmount::Share(0.1), 60), (StepAmount::Backends(5), 60)];
        let max = policy(none(), rules(0, SelectPolicy::Max, &steps));
        assert_eq!(follow(&max, 80, &[(0, 1), (59, 1), (60, 1)]), [72, 72, 64]);
        let min = policy(none(), rules(0, SelectPolicy::Min, &steps));
        assert_eq!(follow(&min, 80, &[(0, 1), (60, 1)]), [75, 70]);
        let disabled = policy(none(), rules(0, SelectPolicy::Disabled, &[]));
        assert_eq!(follow(&disabled, 80, &[(0, 1), (600, 1)]), [80, 80]);
    }
}
