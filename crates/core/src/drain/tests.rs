use super::*;

const TICK: Duration = Duration::from_millis(100);

fn pace(over_s: u64, rate_max: Option<f64>) -> Pace {
    let deadline = Duration::from_secs(300);
    Pace { over: Duration::from_secs(over_s), deadline, rate_max, mode: DrainMode::Close }
}

/// Runs a drain whose clients go at once when told, and `natural` of which go by themselves each tick; left per tick.
fn run(pace: Pace, total: u32, natural: u32, room: impl Fn(Moment) -> Option<u32>) -> Vec<u32> {
    let mut drain = Move::drain(pace, total, Moment::START);
    let mut left = total;
    let mut seen = vec![left];
    let mut now = Moment::START;
    while left > 0 && now < Moment::from_millis(400_000) {
        now = now + TICK;
        left = left.saturating_sub(natural);
        if let Some(due) = drain.step(left, room(now), now) {
            left -= due.order.count.min(left);
        }
        seen.push(left);
    }
    seen
}

fn near(left: &[u32], tick: usize, expected: u32) {
    assert!(left[tick].abs_diff(expected) <= 20, "{} left after {tick} ticks, expected {expected}", left[tick]);
}

#[test]
fn a_thousand_over_ten_seconds_at_the_quarters() {
    let pace = pace(10, None);
    let left = run(pace, 1000, 0, |_| None);
    for (tick, expected) in [(25, 706), (50, 412), (75, 118)] {
        near(&left, tick, expected);
        assert!(pace.planned(1000, TICK * tick as u32).abs_diff(expected) <= 1);
    }
    assert!(left.len() <= 91, "{} ticks", left.len());
    assert!(left.is_sorted_by(|a, b| a >= b));
    let steepest = left.windows(2).take(85).map(|w| w[0] - w[1]).max();
    assert!(steepest <= Some(13), "{steepest:?} at once");
}

#[test]
fn natural_closes_count_towards_the_pace() {
    let left = run(pace(10, None), 1000, 5, |_| None);
    near(&left, 25, 706);
    near(&left, 50, 412);
}

#[test]
fn rate_max_is_kept_to_the_last() {
    let left = run(pace(10, Some(50.0)), 1000, 0, |_| None);
    near(&left, 100, 500);
    assert!((199..=203).contains(&left.len()), "{}", left.len());
}

#[test]
fn no_room_no_move_and_no_burst_after() {
    let room = |now: Moment| Some(if now < Moment::from_millis(5_000) { 0 } else { 1000 });
    let left = run(pace(10, None), 1000, 0, room);
    assert_eq!(left[49], 1000);
    assert!(left[50] >= 1000 - 1000 / 3, "{} left", left[50]);
    assert!(left.len() <= 92);
}

#[test]
fn after_a_standstill_the_pace_and_the_deadline_go_on_from_where_they_were() {
    let pace = Pace { deadline: Duration::from_secs(20), ..pace(10, None) };
    let (mut drain, mut undisturbed) = (Move::drain(pace, 1000, Moment::START), Move::drain(pace, 1000, Moment::START));
    let gap = Duration::from_secs(25);
    let (mut now, mut left) = (Moment::START, 1000);
    for tick in 1..=100 {
        now = now + TICK;
        let later = if tick > 30 { gap } else { Duration::ZERO };
        if tick == 31 {
            drain.stood_still(gap);
        }
        let due = drain.step(left, None, now + later);
        assert_eq!(due, undisturbed.step(left, None, now), "tick {tick}");
        assert_eq!(drain.deadline(), undisturbed.deadline() + later);
        left -= due.map_or(0, |d| d.first);
    }
    assert_eq!(left, 0);
}

#[test]
fn slow_clients_are_told_once_and_cut_at_the_deadline() {
    let pace = Pace { deadline: Duration::from_secs(20), ..pace(10, None) };
    let mut drain = Move::drain(pace, 100, Moment::START);
    let (mut told, mut now) = (0, Moment::START);
    while now < Moment::from_millis(19_900) {
        now = now + TICK;
        let due = drain.step(100, None, now);
        told += due.map_or(0, |d| d.first);
        assert!(due.is_none_or(|d| d.order.ending.cause == EndCause::Drained));
    }
    assert_eq!((told, drain.in_transit(now)), (100, 0));
    let due = drain.step(100, Some(0), now + TICK);
    assert_eq!(due, Some(Due { order: EndOrder { count: 100, ending: Ending::CUT }, first: 0 }));
}

#[test]
fn a_rebalance_tells_nobody_twice_while_the_told_keep_their_seats() {
    let mut rebalance = Move::rebalance(pace(5, None), 50, 0, Moment::START);
    let mut now = Moment::START;
    let mut told = 0;
    while now < Moment::from_millis(100_000) {
        now = now + TICK;
        told += rebalance.step(50, None, now).map_or(0, |d| d.order.count);
    }
    assert_eq!((told, rebalance.leaving()), (50, 50));
    // Who came above the target meanwhile is to go, too.
    assert_eq!(rebalance.step(53, None, now + TICK).map(|d| d.order.count), Some(3));
}

#[test]
fn a_drain_tells_those_again_that_did_not_hear_within_its_rate_and_room() {
    for (rate_max, room, most) in [(None, None, 10), (None, Some(2), 2), (None, Some(0), 0), (Some(1.0), None, 1)] {
        let mut drain = Move::drain(pace(2, rate_max), 10, Moment::START);
        let mut now = Moment::START;
        while now < Moment::from_millis(15_000) {
            now = now + TICK;
            drain.step(10, None, now);
        }
        let mut again = Vec::new();
        for _ in 0..100 {
            now = now + TICK;
            again.extend(drain.step(10, room, now).map(|d| (d.order.count, d.first)));
        }
        let told: u32 = again.iter().map(|(count, _)| count).sum();
        assert!(again.iter().all(|order| *order == (most, 0)), "rate {rate_max:?}, room {room:?}: {again:?}");
        assert!((9 * most..=10 * most).contains(&told), "rate {rate_max:?}, room {room:?}: {again:?}");
    }
}

#[test]
fn the_default_time_follows_the_rate_and_the_deadline() {
    let deadline = Duration::from_secs(300);
    assert_eq!(Pace::over_default(1000, Some(50.0), deadline), Duration::from_secs(20));
    assert_eq!(Pace::over_default(1000, None, deadline), Duration::from_secs(10));
    assert_eq!(Pace::over_default(1_000_000, None, deadline), deadline);
    assert_eq!(Pace::over_default(0, None, deadline), Duration::from_secs(1));
    assert_eq!(Pace::over_default(1, None, deadline), Duration::from_secs(1));
    assert_eq!(Pace::over_default(1, Some(f64::MIN_POSITIVE), deadline), deadline);
    assert_eq!(Pace::over_default(1, None, Duration::from_millis(500)), Duration::from_millis(500));
}
