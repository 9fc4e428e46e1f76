//! Sessions that come and go at once, and what the operator and the policy ask for.

use std::time::Duration;

use holdline_core::cause::Phase;
use holdline_core::policy::{Buffer, ProviderPolicy, ScaleRules, SelectPolicy};
use proptest::prelude::*;

use crate::fleet::Fleet;
use crate::support::policy;

/// 70 at once at one backend of 20: five backends, never more than six; 65 leave: one again.
fn wave(startup_s: (u64, u64), idle_before_s: u32, seed: u64) {
    let mut fleet = Fleet::new(policy(Some(20), 1, 20), startup_s, seed);
    fleet.pass(idle_before_s);
    assert_eq!((fleet.last.current, fleet.last.limited_by), (1, (idle_before_s > 0).then_some("min")));

    fleet.tick(70, 0.0);
    assert_eq!((fleet.last.desired, fleet.last.start), (5, 4), "{}", fleet.last.reason);
    for _ in 0..startup_s.1 {
        fleet.tick(0, 0.0);
        assert!(fleet.last.victims.is_empty(), "{}", fleet.last.reason);
    }
    assert_eq!((fleet.sessions(), fleet.waiting(), fleet.tally.refused), (70, 0, 0));
    for _ in 0..600 {
        fleet.tick(0, 0.0);
        assert!((5..=6).contains(&fleet.last.desired), "{}", fleet.last.reason);
    }

    fleet.leave(65);
    fleet.pass(600);
    assert_eq!((fleet.last.desired, fleet.last.current, fleet.sessions()), (1, 1, 5), "{}", fleet.last.reason);
    assert_eq!((fleet.tally.refused, fleet.in_phase(Phase::Draining)), (0, 0));
    assert!(fleet.tally.backends_peak <= 6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn seventy_sessions_at_one_backend_of_twenty(from in 1_u64..=10, more in 0_u64..=9, idle in 1_u32..400, seed: u64) {
        wave((from, (from + more).min(10)), idle, seed);
    }
}

#[test]
fn no_wave_makes_the_fleet_run_away() {
    // Backends that take a minute: while they start, nothing more is asked for than those who wait need.
    let mut policy = policy(Some(20), 1, 100);
    policy.queue.timeout = Duration::from_secs(120);
    let mut fleet = Fleet::new(policy, (60, 60), 1);
    fleet.tick(150, 0.0);
    fleet.pass(200);
    assert_eq!((fleet.sessions(), fleet.tally.refused), (150, 0));
    assert!((10..=13).contains(&fleet.tally.backends_peak), "{:?}", fleet.tally);
}

#[test]
fn refusals_ask_for_one_more_at_a_time() {
    let mut policy = policy(Some(10), 1, 20);
    policy.queue.length = 0;
    let mut fleet = Fleet::new(policy, (5, 5), 1);
    fleet.tick(5, 0.0);
    fleet.pass(600);
    fleet.tick(50, 0.0);
    assert_eq!((fleet.last.desired, fleet.last.current), (2, 1), "{}", fleet.last.reason);
    // One is on its way, so the next refusal asks for nothing more than the need does.
    fleet.tick(1, 0.0);
    assert_eq!((fleet.last.desired, fleet.last.limited_by), (2, None), "{}", fleet.last.reason);
}

#[test]
fn nobody_is_given_up_while_clients_wait() {
    let mut policy = policy(Some(20), 1, 20);
    policy.scale.down.stabilization = Duration::ZERO;
    let mut fleet = Fleet::new(policy, (2, 2), 1);
    fleet.seen.fixed = Some(3);
    fleet.pass(5);
    fleet.seen.fixed = None;
    fleet.seen.refused = 1;
    fleet.pass(1);
    assert_eq!((fleet.last.desired, fleet.last.limited_by), (3, Some("queue")), "{}", fleet.last.reason);
    fleet.pass(1);
    assert_eq!(fleet.last.desired, 1, "{}", fleet.last.reason);
}

#[test]
fn drains_are_taken_back_before_anything_is_started() {
    let mut policy = policy(Some(20), 1, 20);
    policy.scale.down.stabilization = Duration::ZERO;
    let mut fleet = Fleet::new(policy, (2, 2), 1);
    fleet.tick(60, 0.0);
    fleet.pass(5);
    assert_eq!(fleet.sessions(), 60);
    // The arrival rate of the wave is forgotten, most leave, the rest is moved together.
    fleet.pass(120);
    fleet.leave(30);
    fleet.pass(1);
    let draining = fleet.in_phase(Phase::Draining);
    assert!(draining > 0, "{}", fleet.last.reason);
    fleet.tick(40, 0.0);
    assert!(!fleet.last.undrain.is_empty(), "{}", fleet.last.reason);
    assert_eq!(fleet.in_phase(Phase::Draining), 0, "{}", fleet.last.reason);
}

#[test]
fn to_zero_when_idle_and_back_when_somebody_knocks() {
    let mut policy = policy(Some(20), 0, 20);
    policy.scale.idle_to_zero_after = Some(Duration::from_secs(60));
    let mut fleet = Fleet::new(policy, (2, 2), 1);
    fleet.pass(100);
    assert_eq!((fleet.last.desired, fleet.tally.backends_peak), (0, 0), "nobody came yet");
    fleet.tick(1, 0.0);
    assert_eq!((fleet.last.start, fleet.waiting()), (1, 1), "{}", fleet.last.reason);
    fleet.pass(2);
    assert_eq!((fleet.sessions(), fleet.tally.backends_peak), (1, 1));
    fleet.leave(1);
    fleet.pass(58);
    assert_eq!(fleet.last.desired, 1, "{}", fleet.last.reason);
    fleet.pass(2);
    assert_eq!(fleet.last.desired, 0, "{}", fleet.last.reason);
    // A plain request wakes it as well.
    fleet.seen.no_backend = 1;
    fleet.pass(1);
    assert_eq!(fleet.last.start, 1, "{}", fleet.last.reason);
}

#[test]
fn without_an_idle_time_the_last_backend_stays() {
    let mut fleet = Fleet::new(policy(Some(20), 0, 20), (2, 2), 1);
    fleet.tick(1, 0.0);
    fleet.pass(3);
    fleet.leave(1);
    fleet.pass(5000);
    assert_eq!((fleet.last.desired, fleet.last.limited_by), (1, Some("min")));
}

#[test]
fn the_operator_fixes_the_number_as_far_as_there_is_room() {
    let mut fleet = Fleet::new(policy(Some(20), 1, 20), (2, 2), 1);
    fleet.tick(70, 0.0);
    fleet.pass(5);
    fleet.seen.fixed = Some(1);
    fleet.pass(60);
    assert_eq!((fleet.last.desired, fleet.last.limited_by), (4, Some("no_room")), "{}", fleet.last.reason);
    fleet.seen.fixed = Some(7);
    fleet.pass(60);
    assert_eq!((fleet.last.desired, fleet.last.limited_by), (7, Some("fixed")), "{}", fleet.last.reason);
    assert_eq!(fleet.tally.refused, 0);
}

#[test]
fn a_suspect_backend_is_replaced_only_when_its_seats_are_missed() {
    let mut fleet = Fleet::new(policy(Some(20), 2, 20), (2, 2), 1);
    fleet.tick(20, 0.0);
    fleet.pass(600);
    fleet.set_first(Phase::Suspect);
    fleet.pass(5);
    assert_eq!(fleet.last.desired, 2, "{}", fleet.last.reason);
    fleet.tick(11, 0.0);
    assert_eq!(fleet.waiting(), 1);
    assert_eq!(fleet.last.desired, 3, "{}", fleet.last.reason);
}

#[test]
fn a_static_fleet_is_told_what_it_would_need() {
    let mut policy = policy(Some(20), 2, 20);
    policy.provider = ProviderPolicy::Static(Vec::new());
    let mut fleet = Fleet::new(policy, (2, 2), 1);
    fleet.tick(200, 0.0);
    let last = &fleet.last;
    assert_eq!((last.desired, last.start, last.limited_by), (13, 0, Some("static")), "{}", last.reason);
    // The advice is as steady as a fleet would be.
    fleet.pass(299);
    assert_eq!(fleet.last.desired, 13, "{}", fleet.last.reason);
    fleet.pass(60);
    assert_eq!((fleet.last.desired, fleet.sessions()), (3, 40), "{}", fleet.last.reason);
}

#[test]
fn without_a_capacity_the_number_is_kept() {
    let mut fleet = Fleet::new(policy(None, 2, 20), (2, 2), 1);
    fleet.tick(900, 0.0);
    assert_eq!((fleet.last.desired, fleet.last.start), (2, 0));
    assert!(fleet.last.reason.contains("no capacity is set"), "{}", fleet.last.reason);
}

#[test]
fn buffer_min_and_max() {
    let mut buffered = policy(Some(20), 1, 20);
    buffered.scale.buffer = Buffer::Backends(2);
    let mut fleet = Fleet::new(buffered, (2, 2), 1);
    fleet.tick(30, 0.0);
    assert_eq!(fleet.last.desired, 5, "{}", fleet.last.reason);
    let mut share = policy(Some(20), 1, 20);
    share.scale.buffer = Buffer::Share(0.1);
    let mut fleet = Fleet::new(share, (2, 2), 1);
    fleet.tick(30, 0.0);
    assert_eq!(fleet.last.desired, 4, "{}", fleet.last.reason);
    let mut fleet = Fleet::new(policy(Some(20), 1, 3), (2, 2), 1);
    fleet.tick(200, 0.0);
    assert_eq!((fleet.last.desired, fleet.last.limited_by), (3, Some("max")), "{}", fleet.last.reason);
}

#[test]
fn behavior_holds_a_step_and_says_so() {
    let mut policy = policy(Some(20), 1, 50);
    policy.scale.up = ScaleRules { select: SelectPolicy::Min, ..policy.scale.up };
    let mut fleet = Fleet::new(policy, (2, 2), 1);
    fleet.tick(200, 0.0);
    assert_eq!((fleet.last.desired, fleet.last.limited_by), (2, Some("behavior")), "{}", fleet.last.reason);
}

#[test]
fn the_reason_has_the_figures() {
    let mut fleet = Fleet::new(policy(Some(20), 1, 20), (2, 2), 1);
    fleet.tick(70, 0.0);
    let reason =
        "20 sessions and 50 waiting, 73.3 expected within 3s, margin included; a backend takes 16 (80 % of 20): 5 needed";
    assert_eq!(fleet.last.reason, reason);
    assert_eq!((fleet.last.inputs["sessions"], fleet.last.inputs["queued"]), (20.0, 50.0));
}
