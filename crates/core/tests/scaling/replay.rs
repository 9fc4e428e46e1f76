//! Two days of a real site (see data/README.md) against the usual rule of thumb.

use std::time::Duration;

use holdline_core::cause::Phase;
use holdline_core::policy::FleetPolicy;
use holdline_core::scale::{Decision, Observation, Scaler};
use holdline_core::time::Moment;

use crate::fleet::{Fleet, Tally};
use crate::support::policy;

const TRACE: &str = include_str!("../data/worldcup98-semifinal.txt");

/// One request in so many opens a session.
const REQUESTS_PER_SESSION: f64 = 500.0;

/// Mean length of a session (exponential), assumed: a visitor follows a match for some minutes.
const LENGTH_S: f64 = 180.0;

/// Backends need this long to start, in seconds.
const STARTUP_S: (u64, u64) = (20, 40);

fn replay(mut decide: impl FnMut(&mut Scaler, &Observation, &FleetPolicy, Moment) -> Decision) -> Tally {
    let mut policy = policy(Some(50), 1, 100);
    policy.queue.timeout = Duration::from_secs(5);
    let mut fleet = Fleet::new(policy, STARTUP_S, 1998);
    for requests in TRACE.lines().map(|line| line.parse::<f64>().unwrap()) {
        for _ in 0..60 {
            let arrivals = fleet.poisson(requests / REQUESTS_PER_SESSION / 60.0);
            fleet.tick_with(arrivals, 1.0 / LENGTH_S, &mut decide);
        }
    }
    fleet.tally
}

/// HorizontalPodAutoscaler's formula on utilisation, every 15 s, with its tolerance of 10 % and without its windows.
fn rule_of_thumb(seen: &Observation, policy: &FleetPolicy, now: Moment) -> Decision {
    let current = seen.backends.iter().filter(|b| b.phase != Phase::Draining).count() as u32;
    let mut decision = Decision { desired: current, current, ..Decision::default() };
    let mut ready: Vec<_> = seen.backends.iter().filter(|b| b.phase == Phase::Ready).collect();
    let sessions: f64 = ready.iter().map(|b| f64::from(b.sessions)).sum();
    let wanted = sessions / (f64::from(policy.capacity.unwrap()) * policy.fill);
    if !now.since_start().as_secs().is_multiple_of(15) || (wanted / ready.len() as f64 - 1.0).abs() <= 0.1 {
        return decision;
    }
    let wanted = (wanted.ceil() as u32).clamp(policy.scale.min, policy.scale.max);
    decision.start = wanted.saturating_sub(current);
    ready.sort_by_key(|b| b.sessions);
    decision.victims = ready.iter().take(current.saturating_sub(wanted) as usize).map(|b| b.id.clone()).collect();
    decision.desired = current + decision.start - decision.victims.len() as u32;
    decision
}

#[test]
fn better_than_the_rule_of_thumb_on_real_days() {
    let ours = replay(|scaler, seen, policy, now| scaler.decide(seen, policy, now));
    let thumb = replay(|_, seen, policy, now| rule_of_thumb(seen, policy, now));
    let swings = |t: &Tally| t.reversals(Duration::from_secs(600));
    let line = |t: &Tally| {
        format!(
            "{} sessions: {} waited, {} refused, {} moved; {} backend hours, {} swings",
            t.arrived,
            t.waited,
            t.refused,
            t.moved,
            t.backend_seconds / 3600,
            swings(t)
        )
    };
    let both = format!("holdline {}; rule of thumb {}", line(&ours), line(&thumb));
    println!("{both}");
    // Fewer are refused and fewer are moved, for at most two fifths more of backends.
    assert!(thumb.refused > 0 && ours.refused * 10 <= thumb.refused, "{both}");
    assert!(ours.moved * 2 <= thumb.moved, "{both}");
    assert!(swings(&ours) * 10 <= swings(&thumb), "{both}");
    assert!(ours.backend_seconds * 5 <= thumb.backend_seconds * 7, "{both}");
}
