//! What a drain or rebalance would do, before it does it.

use crate::balance::{Rule, Taken};
use crate::drain::Pace;
use crate::event::{CommandError, MovePlan, MoveRequest, Share};
use crate::ids::BackendId;
use crate::policy::FleetPolicy;
use crate::time::Moment;

use super::backend::Backend;
use super::fleet::FleetState;
use super::moves::sum;

/// Sessions are placed in so many steps at the most: a plan is for people.
const STEPS: u32 = 1000;

impl FleetState {
    /// What was asked for, or the fleet's own, for `n` sessions.
    ///
    /// # Errors
    /// [`CommandError::Invalid`]: a rate that is none, or a time beyond the deadline.
    pub(super) fn pace(&self, request: &MoveRequest, n: u32) -> Result<Pace, CommandError> {
        let drain = &self.policy.drain;
        if let Some(rate) = request.rate_max.filter(|r| !(r.is_finite() && *r > 0.0)) {
            return Err(CommandError::Invalid(format!(
                "the rate must be above zero, and it is {rate}/s: give one, or leave it out"
            )));
        }
        let rate_max = request.rate_max.or(drain.rate_max);
        let over = request.over.unwrap_or_else(|| Pace::over_default(n, rate_max, drain.deadline));
        if over > drain.deadline {
            let (fleet, deadline) = (self.name(), drain.deadline);
            return Err(CommandError::Invalid(format!(
                "over {over:?} is longer than the drain deadline of fleet `{fleet}`, {deadline:?}, at which sessions are cut: \
                 ask for at most {deadline:?}, or raise fleets.{fleet}.drain.deadline"
            )));
        }
        Ok(Pace { over, deadline: drain.deadline, rate_max, mode: request.mode.unwrap_or(drain.mode) })
    }

    /// The plan to move what `from` says to backends outside of it.
    pub(super) fn plan(&self, from: Vec<Share>, pace: &Pace, is_drain: bool, dry_run: bool, now: Moment) -> MovePlan {
        let n = from.iter().map(|s| s.sessions).sum();
        let to = self.landing(&from, n);
        let mut warnings = Vec::new();
        warnings.extend(self.warn_rate(n, pace, is_drain));
        warnings.extend(self.warn_room(n, &from, pace, is_drain, now));
        let millis = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        MovePlan {
            fleet: self.name().clone(),
            sessions: n,
            from,
            to,
            mode: pace.mode,
            over_ms: millis(pace.over),
            deadline_ms: millis(pace.deadline),
            rate: pace.rate(n, std::time::Duration::ZERO),
            warnings,
            dry_run,
        }
    }

    /// The rate cannot make the time, or not even the deadline.
    fn warn_rate(&self, n: u32, pace: &Pace, is_drain: bool) -> Option<String> {
        let rate = pace.rate_max?;
        let needed = f64::from(n) / rate;
        let (over, deadline) = (pace.over.as_secs_f64(), pace.deadline.as_secs_f64());
        if needed > deadline {
            let moved = (rate * deadline) as u32;
            let fate = if is_drain { "cut" } else { "left where they are" };
            let left = n.saturating_sub(moved);
            return Some(format!(
                "{rate}/s moves {moved} of {n} sessions by the deadline of {:?}; {left} are {fate} then: \
                 raise the rate to {:.0}/s, or the deadline",
                pace.deadline,
                (f64::from(n) / deadline).ceil()
            ));
        }
        (needed > over).then(|| format!("at {rate}/s it takes {needed:.0} s, longer than the {:?} asked for", pace.over))
    }

    /// The rest of the fleet has not enough seats.
    fn warn_room(&self, n: u32, from: &[Share], pace: &Pace, is_drain: bool, now: Moment) -> Option<String> {
        let leaving = |id: &BackendId| from.iter().any(|s| s.backend == *id);
        let theirs = sum(self.backends.iter().filter(|b| leaving(&b.id)).filter_map(Backend::free));
        let room = self.room(now)?.saturating_sub(theirs);
        if !is_drain || n == 0 || room >= n {
            return None;
        }
        let (missing, max, deadline) = (n - room, self.policy.scale.max, pace.deadline);
        let remedy = if !self.is_elastic() {
            format!(
                "{missing} wait for seats and are cut after {deadline:?}: add backends, raise the capacity or undrain another"
            )
        } else if let Some(fixed) = self.fixed {
            format!(
                "{missing} wait for seats and are cut after {deadline:?}, for the fleet is fixed at {fixed} backends: \
                 `holdline scale {} --auto`",
                self.name()
            )
        } else if self.counting() as u32 > max {
            format!("{missing} wait for seats and are cut after {deadline:?}, for the fleet is at scale.max = {max}: raise it")
        } else {
            format!("the fleet is scaled up first, and {missing} wait for it (at most {deadline:?})")
        };
        Some(format!("the rest of the fleet has free seats for {room} of {n} sessions: {remedy}"))
    }

    /// Where `n` sessions land by placement's rule ([`Rule`]; affinity apart, which a plan cannot know); fewer when there is no room.
    fn landing(&self, from: &[Share], n: u32) -> Vec<Share> {
        let takes = |b: &&Backend| b.limit() > 0 && !from.iter().any(|s| s.backend == b.id);
        let mut lands: Vec<(Share, Taken)> = self
            .backends
            .iter()
            .filter(takes)
            .map(|b| (Share { backend: b.id.clone(), sessions: 0 }, Taken { used: b.used_here(), limit: b.limit() }))
            .collect();
        let FleetPolicy { balance, fill, .. } = *self.policy;
        let rule = Rule::new(balance, fill, lands.iter().map(|(_, taken)| taken.limit));
        let step = n.div_ceil(STEPS).max(1);
        let mut left = n;
        while left > 0 {
            let free = lands.iter_mut().filter(|(_, taken)| taken.used < taken.limit);
            let Some((share, taken)) = free.min_by(|(_, a), (_, b)| rule.order(*a, *b)) else { break };
            // No step passes a fill, where the rule turns round.
            let turn = taken.below_fill(fill);
            let count = step.min(left).min(taken.limit - taken.used).min(if turn > 0 { turn } else { u32::MAX });
            share.sessions += count;
            taken.used += count;
            left -= count;
        }
        lands.into_iter().map(|(share, _)| share).filter(|s| s.sessions > 0).collect()
    }
}
