//! Silence, dials, replays and standstills in virtual time.

use super::*;
use crate::policy::Probe;

fn policy() -> HeartbeatPolicy {
    HeartbeatPolicy {
        probe: Probe::Tcp,
        path: "/heartbeat".to_owned(),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        suspect_after: Duration::from_secs(3),
        dead_after: Duration::from_secs(10),
    }
}

fn ready_at_zero() -> Health {
    let mut health = Health::new(&policy(), Patience::Silence(Duration::from_secs(10)), Moment::START);
    assert_eq!(health.heartbeat(true, Moment::START).map(|c| c.to), Some(Standing::Ready));
    health
}

fn at(ms: u64) -> Moment {
    Moment::from_millis(ms)
}

#[test]
fn silence_makes_suspect_then_dead_at_the_times_of_the_policy() {
    let mut h = ready_at_zero();
    assert_eq!(h.tick(at(2_999)), None);
    assert_eq!(h.tick(at(3_000)).map(|c| c.to), Some(Standing::Suspect));
    assert_eq!(h.tick(at(9_999)), None);
    assert_eq!(h.tick(at(10_000)).map(|c| c.to), Some(Standing::Dead));
}

#[test]
fn a_dial_that_connects_keeps_a_silent_backend_from_death() {
    let mut h = ready_at_zero();
    h.tick(at(3_000));
    assert_eq!(h.dialled(true, at(8_000)), None, "one dial alone does not bring it back");
    assert_eq!(h.tick(at(17_999)), None);
    assert_eq!(h.tick(at(18_000)).map(|c| c.to), Some(Standing::Dead));
}

#[test]
fn one_lost_heartbeat_changes_nothing_and_three_failed_dials_do() {
    let mut h = ready_at_zero();
    h.missed();
    assert_eq!(h.tick(at(1_500)), None);
    assert_eq!(h.dialled(false, at(1_600)), None);
    assert_eq!(h.dialled(false, at(1_600)), None);
    assert_eq!(h.dialled(true, at(1_700)), None);
    assert_eq!(h.dialled(false, at(1_800)), None);
    assert_eq!(h.dialled(false, at(1_800)), None);
    assert_eq!(h.dialled(false, at(1_900)).map(|c| c.to), Some(Standing::Suspect));
}

#[test]
fn back_after_two_heartbeats_or_one_and_a_dial() {
    let mut h = ready_at_zero();
    h.tick(at(3_000));
    assert_eq!(h.heartbeat(true, at(4_000)), None);
    h.missed();
    assert_eq!(h.heartbeat(true, at(6_000)), None, "not in a row");
    assert_eq!(h.heartbeat(true, at(7_000)).map(|c| c.to), Some(Standing::Ready));
    let mut h = ready_at_zero();
    h.tick(at(3_000));
    h.dialled(true, at(3_500));
    assert_eq!(h.heartbeat(true, at(4_000)).map(|c| c.to), Some(Standing::Ready));
}

#[test]
fn probes_that_succeed_while_dials_fail_do_not_make_it_flap() {
    let mut h = ready_at_zero();
    let mut falls = 0;
    for second in 1..600 {
        let now = at(second * 1_000);
        h.tick(now);
        h.heartbeat(true, now);
        while h.standing() == Standing::Ready {
            falls += u32::from(h.dialled(false, now).is_some());
        }
    }
    assert!(falls <= 23, "{falls} falls in ten minutes");
}

#[test]
fn not_ready_closes_at_once_and_is_no_death() {
    let mut h = ready_at_zero();
    assert_eq!(h.heartbeat(false, at(500)).map(|c| c.to), Some(Standing::Suspect));
    for second in 1..60 {
        h.heartbeat(false, at(second * 1_000));
        assert_eq!(h.tick(at(second * 1_000)), None);
    }
    assert_eq!(h.standing(), Standing::Suspect);
}

#[test]
fn a_time_in_which_nobody_could_ask_is_no_silence() {
    let mut h = ready_at_zero();
    for second in 1..60 {
        h.not_asked(at(second * 1_000));
        assert_eq!(h.tick(at(second * 1_000 + 900)), None);
    }
    assert_eq!(h.tick(at(62_000)).map(|c| c.to), Some(Standing::Suspect), "its own silence counts again");
    h.not_asked(at(63_000));
    assert_eq!((h.standing(), h.tick(at(72_900))), (Standing::Suspect, None), "it neither dies nor comes back by that");
    let mut never = Health::new(&policy(), Patience::Silence(Duration::from_secs(10)), Moment::START);
    never.not_asked(at(9_000));
    assert_eq!(never.tick(at(10_000)).map(|c| c.to), Some(Standing::Dead));
}

#[test]
fn a_standstill_of_ours_is_no_silence() {
    let mut h = ready_at_zero();
    h.stood_still(Duration::from_secs(25));
    assert_eq!(h.tick(at(27_900)), None);
    assert_eq!(h.tick(at(28_000)).map(|c| c.to), Some(Standing::Suspect), "from then on its silence counts");
    h.stood_still(Duration::from_secs(25));
    assert_eq!(h.tick(at(59_900)), None);
    let mut child = Health::new(&policy(), Patience::Total(Duration::from_secs(30)), Moment::START);
    child.stood_still(Duration::from_secs(25));
    assert_eq!(child.tick(at(54_900)), None);
    assert_eq!(child.tick(at(55_000)).map(|c| c.to), Some(Standing::Dead));
}

#[test]
fn a_successor_that_counts_from_one_is_heard_before_the_other_is_called_dead() {
    let mut h = ready_at_zero();
    assert!(h.is_new(Some(700)));
    h.heartbeat(true, at(500));
    h.tick(at(3_400));
    assert!(!h.is_new(Some(1)));
    assert_eq!(h.tick(at(3_500)).map(|c| c.to), Some(Standing::Suspect));
    assert!(h.is_new(Some(2)));
    assert_eq!(h.heartbeat(true, at(3_600)), None);
    assert!(h.is_new(Some(3)));
    assert_eq!(h.heartbeat(true, at(4_600)).map(|c| c.to), Some(Standing::Ready));
}

#[test]
fn a_dial_before_its_death_does_not_vouch_for_a_backend() {
    let mut h = ready_at_zero();
    h.tick(at(3_000));
    h.dialled(true, at(4_000));
    assert_eq!(h.tick(at(14_000)).map(|c| c.to), Some(Standing::Dead));
    assert_eq!(h.heartbeat(true, at(99_000)), None);
    assert_eq!(h.heartbeat(true, at(99_100)).map(|c| c.to), Some(Standing::Ready));
}

#[test]
fn replays_are_ignored_until_a_successor_of_the_dead_speaks() {
    let mut h = ready_at_zero();
    assert!(h.is_new(Some(7)) && !h.is_new(Some(7)) && !h.is_new(Some(3)) && h.is_new(Some(8)));
    h.tick(at(3_000));
    h.tick(at(10_000));
    assert!(h.is_new(Some(1)) && !h.is_new(Some(1)) && h.is_new(None));
}

#[test]
fn one_wild_number_silences_nobody() {
    let mut h = ready_at_zero();
    assert!(h.is_new(Some(700)) && !h.is_new(Some(u64::MAX)) && !h.is_new(Some(700 + SEQ_STEP_MAX)) && h.is_new(Some(701)));
    // As the first of all it counts, and so does what comes next.
    let mut h = ready_at_zero();
    assert!(h.is_new(Some(u64::MAX)) && h.is_new(Some(701)) && !h.is_new(Some(u64::MAX)) && h.is_new(Some(702)));
    // Times in ns, a minute apart.
    let mut h = ready_at_zero();
    assert!((0..10).all(|minute| h.is_new(Some(1_764_000_000_000_000_000 + minute * 60_000_000_000))));
}

#[test]
fn a_child_that_answers_not_ready_loses_our_patience_and_a_static_backend_does_not() {
    let ready_timeout = Duration::from_secs(30);
    let mut child = Health::new(&policy(), Patience::Total(ready_timeout), Moment::START);
    let mut fixed = Health::new(&policy(), Patience::Silence(Duration::from_secs(10)), Moment::START);
    for second in 1..30 {
        for h in [&mut child, &mut fixed] {
            assert_eq!(h.heartbeat(false, at(second * 1_000)), None);
            assert_eq!(h.tick(at(second * 1_000)), None);
        }
    }
    assert_eq!(child.tick(at(30_000)).map(|c| c.to), Some(Standing::Dead));
    assert_eq!(fixed.tick(at(30_000)), None);
}
