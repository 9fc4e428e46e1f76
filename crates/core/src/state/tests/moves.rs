//! Drains, rebalances and their plans.

use super::*;

const DRAINED: Ending = Ending { mode: DrainMode::Close, cause: EndCause::Drained };

#[test]
fn a_thousand_sessions_over_ten_seconds_at_the_quarters() {
    let mut bench = Bench::with(2_000, &[1_000, 0]);
    let answer = bench.drain("b1", over(10)).unwrap();
    assert_eq!((answer.sessions, answer.over_ms, answer.deadline_ms), (1_000, 10_000, 300_000));
    assert_eq!((answer.to[0].sessions, answer.warnings.len()), (1_000, 0));
    assert_eq!(bench.backend("b1").limit, 0, "closed at once");
    let mut before = 1_000;
    for (quarter, expected) in [(1, 706), (2, 412), (3, 118)] {
        bench.run(2_500);
        let left = bench.backend("b1");
        let view = left.drain.as_ref().unwrap();
        assert!(left.sessions < before && left.sessions.abs_diff(expected) <= 25, "{} left at {quarter}/4", left.sessions);
        assert!(view.remaining == left.sessions && view.planned.abs_diff(expected) <= 15, "{view:?}");
        before = left.sessions;
    }
    bench.run(2_500);
    let done = bench.backend("b1");
    assert_eq!((done.phase, done.sessions, done.moved_total), (Phase::Drained, 0, 1_000));
    let told = bench.seen.iter().filter_map(|e| match e {
        Effect::EndSessions { order, .. } if order.ending == DRAINED => Some(order.count),
        Effect::EndSessions { .. } => panic!("{e:?}"),
        _ => None,
    });
    let told: Vec<u32> = told.collect();
    assert!(told.iter().sum::<u32>() == 1_000 && told.len() > 60, "{} orders", told.len());
    let told = bench.notices(NoticeKind::DrainEnded)[0];
    assert!(told.contains("1000 sessions left"), "{told}");
    assert!(told.ends_with("; 1000 were moved, 0 left by themselves, 0 were cut"), "{told}");
}

#[test]
fn a_session_that_a_drained_backend_began_by_itself_is_told_to_go() {
    let mut bench = Bench::with(10, &[2, 0]);
    bench.drain("b1", over(2)).unwrap();
    bench.run(3_000);
    assert_eq!(bench.phase("b1"), Phase::Drained);
    bench.seen.clear();
    // A request that was in flight until now.
    bench.used.insert("b1".into(), 1);
    bench.run(1_500);
    assert_eq!(bench.used[&"b1".into()], 0, "{:?}", bench.seen);
}

#[test]
fn over_beyond_the_deadline_names_both_and_the_remedy() {
    let mut bench = Bench::with(100, &[10, 0]);
    let text = bench.drain("b1", over(301)).unwrap_err().to_string();
    for part in ["301s", "300s", "fleets.chat.drain.deadline"] {
        assert!(text.contains(part), "{text}");
    }
    let text = bench.drain("b1", MoveRequest { rate_max: Some(0.0), ..over(5) }).unwrap_err().to_string();
    assert!(text.contains("above zero"), "{text}");
    assert_eq!(bench.phase("b1"), Phase::Ready);
}

#[test]
fn what_is_not_known_is_named_with_what_is() {
    let mut bench = Bench::with(100, &[10, 0]);
    let text = bench.drain("b9", over(5)).unwrap_err().to_string();
    assert_eq!(text, "fleet `chat` has no backend `b9`; it has: b1, b2");
    let unknown = Command::Rebalance { fleet: "shop".into(), request: over(5) };
    assert_eq!(bench.command(unknown).unwrap_err().to_string(), "no fleet is called `shop`; there are: chat");
    let text = bench.undrain("b1").unwrap_err().to_string();
    assert!(text.contains("is ready") && text.contains("nothing to take back"), "{text}");
}

#[test]
fn a_plan_warns_and_a_dry_run_changes_nothing() {
    let mut bench = Bench::with(100, &[90, 70]);
    let version = bench.state.snapshot(bench.now).version;
    let request = MoveRequest { rate_max: Some(0.1), dry_run: true, ..MoveRequest::default() };
    let answer = bench.drain("b1", request).unwrap();
    assert_eq!(answer.warnings.len(), 2, "{:?}", answer.warnings);
    assert!(answer.warnings[0].contains("moves 30 of 90") && answer.warnings[0].contains("60 are cut"), "{:?}", answer.warnings);
    assert!(
        answer.warnings[1].contains("free seats for 30 of 90") && answer.warnings[1].contains("add backends"),
        "{:?}",
        answer.warnings
    );
    assert_eq!((answer.dry_run, answer.to[0].sessions), (true, 30));
    assert_eq!(bench.state.snapshot(bench.now).version, version);
    assert_eq!(bench.phase("b1"), Phase::Ready);
}

#[test]
fn only_as_many_go_as_the_rest_has_seats_for_and_the_deadline_cuts() {
    let policy = policy();
    let drain = DrainPolicy { deadline: Duration::from_secs(20), ..policy.drain };
    let mut bench = Bench::with_policy(FleetPolicy { drain, ..policy }, &[50, 90]);
    bench.drain("b1", over(5)).unwrap();
    // Those who leave take the ten free seats.
    for _ in 0..150 {
        bench.run(100);
        let moved = 50 - bench.used[&"b1".into()];
        bench.used.insert("b2".into(), 90 + moved);
    }
    assert_eq!((bench.used[&"b1".into()], bench.phase("b1")), (40, Phase::Draining));
    bench.run(5_200);
    assert_eq!((bench.used[&"b1".into()], bench.phase("b1")), (0, Phase::Drained));
    let order = EndOrder { count: 40, ending: Ending::CUT };
    let cut = Effect::EndSessions { fleet: fleet(), backend: "b1".into(), order };
    assert!(bench.seen.contains(&cut));
    assert_eq!(bench.backend("b1").drain.map(|d| d.cut), Some(40), "what was cut stays to be read");
    let told = bench.notices(NoticeKind::DrainEnded)[0];
    assert!(told.ends_with("; 10 were moved, 0 left by themselves, 40 were cut"), "{told}");
}

#[test]
fn a_drain_tells_who_was_moved_who_left_and_who_was_cut() {
    let deadline = Duration::from_secs(20);
    let drain = DrainPolicy { deadline, ..policy().drain };
    let mut bench = Bench::with_policy(FleetPolicy { drain, ..policy() }, &[10, 0]);
    // An earlier cut is not this drain's.
    bench.ended.insert("b1".into(), (7, 3));
    bench.report();
    bench.drain("b1", over(10)).unwrap();
    bench.deaf = true;
    bench.run(15_000);
    // All were told: four did as they were told, two left by themselves, four did not hear.
    bench.used.insert("b1".into(), 4);
    bench.ended.insert("b1".into(), (7 + 4, 3));
    bench.run(5_000);
    assert_eq!((bench.phase("b1"), bench.backend("b1").drain.map(|d| d.cut)), (Phase::Draining, Some(0)));
    assert!(
        bench.seen.iter().any(|e| matches!(e, Effect::EndSessions { order: EndOrder { count: 4, ending: Ending::CUT }, .. }))
    );
    // Two of them end at the last moment, with a cause of their own.
    bench.used.insert("b1".into(), 0);
    bench.ended.insert("b1".into(), (7 + 4, 3 + 2));
    bench.report();
    assert_eq!((bench.phase("b1"), bench.backend("b1").drain.map(|d| d.cut)), (Phase::Drained, Some(2)));
    let told = bench.notices(NoticeKind::DrainEnded)[0];
    assert!(told.ends_with("; 4 were moved, 4 left by themselves, 2 were cut"), "{told}");
}

#[test]
fn who_asks_for_cuts_has_them_counted_as_moves() {
    let mut bench = Bench::with(100, &[10, 0]);
    bench.drain("b1", MoveRequest { mode: Some(DrainMode::Cut), ..over(2) }).unwrap();
    bench.run(3_000);
    assert_eq!(bench.backend("b1").drain.map(|d| d.cut), Some(0));
    let told = bench.notices(NoticeKind::DrainEnded)[0];
    assert!(told.ends_with("; 10 were moved, 0 left by themselves, 0 were cut"), "{told}");
}

#[test]
fn undrain_restores_at_once() {
    let mut bench = Bench::with(100, &[50, 0]);
    bench.drain("b1", over(60)).unwrap();
    bench.run(5_000);
    assert_eq!(bench.phase("b1"), Phase::Draining);
    bench.undrain("b1").unwrap();
    let back = bench.backend("b1");
    assert_eq!((back.phase, back.limit, back.drain), (Phase::Ready, 100, None));
    let left = bench.used.clone();
    bench.run(5_000);
    assert_eq!(bench.used, left, "nobody is told to go any more");
    assert_eq!(bench.notices(NoticeKind::Undrained).len(), 1);
}

#[test]
fn drained_only_when_a_later_report_says_so() {
    let mut bench = Bench::with(100, &[0, 0]);
    bench.drain("b1", over(5)).unwrap();
    // A session was placed after the last report and before the gateway obeyed.
    bench.used.insert("b1".into(), 1);
    bench.apply(Event::Tick);
    assert_eq!(bench.phase("b1"), Phase::Draining);
    bench.report();
    assert_eq!(bench.backend("b1").drain.map(|d| d.remaining), Some(1));
}

#[test]
fn a_backend_that_asks_is_drained_until_it_is_ready_again() {
    let mut bench = Bench::with(100, &[5, 0]);
    bench.alive.insert("b1".into(), DRAINING);
    bench.run(3_000);
    assert_eq!((bench.phase("b1"), bench.used[&"b1".into()]), (Phase::Drained, 0));
    let text = bench.undrain("b1").unwrap_err().to_string();
    assert!(text.contains("asks for the drain itself"), "{text}");
    bench.alive.insert("b1".into(), READY);
    bench.run(1_000);
    assert_eq!(bench.phase("b1"), Phase::Ready);
    // With an operator's drain on top it stays drained.
    bench.alive.insert("b1".into(), DRAINING);
    bench.run(1_000);
    bench.drain("b1", over(5)).unwrap();
    bench.alive.insert("b1".into(), READY);
    bench.run(3_000);
    assert_eq!(bench.phase("b1"), Phase::Drained);
    bench.undrain("b1").unwrap();
    assert_eq!(bench.phase("b1"), Phase::Ready);
}

#[test]
fn a_rebalance_levels_the_fleet_and_ends() {
    let mut bench = Bench::with(100, &[90, 0, 30]);
    let answer = bench.command(Command::Rebalance { fleet: fleet(), request: over(10) }).map(plan).unwrap();
    assert_eq!((answer.sessions, answer.from.len()), (50, 1));
    assert_eq!((answer.to.len(), answer.to[0].sessions, answer.to[1].sessions), (2, 40, 10));
    for _ in 0..110 {
        bench.run(100);
        // They come back to the emptiest.
        let moved = 90 - bench.used[&"b1".into()];
        bench.used.insert("b2".into(), moved.min(40));
        bench.used.insert("b3".into(), 30 + moved.saturating_sub(40));
        if let Some(view) = bench.fleet().rebalance {
            assert_eq!((view.total, view.cause), (50, EndCause::Rebalanced));
            assert_eq!(bench.backend("b1").limit, 40, "none comes back to the fuller one");
        }
    }
    assert_eq!(bench.used.values().copied().collect::<Vec<_>>(), [40, 40, 40]);
    assert_eq!((bench.fleet().rebalance, bench.backend("b1").limit), (None, 100));
    assert!(bench.notices(NoticeKind::RebalanceEnded)[0].contains("is level"));
    let again = bench.command(Command::Rebalance { fleet: fleet(), request: over(10) }).map(plan).unwrap();
    assert_eq!((again.sessions, bench.fleet().rebalance), (0, None));
}

#[test]
fn a_rebalance_needs_two_and_leaves_its_rest_alone_at_the_deadline() {
    let mut bench = Bench::with(100, &[50]);
    let text = bench.command(Command::Rebalance { fleet: fleet(), request: over(5) }).unwrap_err().to_string();
    assert!(text.contains("has 1 ready backends"), "{text}");
    let drain = DrainPolicy { deadline: Duration::from_secs(10), ..policy().drain };
    let mut bench = Bench::with_policy(FleetPolicy { drain, ..policy() }, &[80, 0]);
    let request = MoveRequest { rate_max: Some(1.0), ..over(10) };
    let answer = bench.command(Command::Rebalance { fleet: fleet(), request }).map(plan).unwrap();
    assert!(answer.warnings[0].contains("30 are left where they are"), "{:?}", answer.warnings);
    bench.run(12_000);
    assert_eq!(bench.fleet().rebalance, None);
    assert!((68..=71).contains(&bench.used[&"b1".into()]), "{:?}", bench.used);
    assert!(bench.notices(NoticeKind::RebalanceEnded)[0].contains("stay where they are"));
}

#[test]
fn a_rebalance_leaves_those_alone_that_it_did_not_plan_to_move() {
    // A poll hangs for a minute; a WebSocket answers its Close within seconds.
    for (holds, request) in [(60, over(5)), (5, over(5)), (5, MoveRequest { rate_max: Some(10.0), ..over(5) })] {
        let mut bench = Bench::with(100, &[100, 0]);
        bench.holds = Duration::from_secs(holds);
        let answer = bench.command(Command::Rebalance { fleet: fleet(), request }).map(plan).unwrap();
        assert_eq!(answer.sessions, 50);
        let mut told_max = 0;
        for _ in 0..200 {
            bench.run(100);
            told_max = told_max.max(bench.told("b1") + 100 - bench.used[&"b1".into()]);
        }
        assert_eq!(told_max, 50, "told, with seats held for {holds} s");
    }
}

#[test]
fn a_rebalance_that_is_asked_for_twice_moves_those_on_their_way_once() {
    let mut bench = Bench::with(100, &[100, 0]);
    bench.holds = Duration::from_secs(60);
    bench.command(Command::Rebalance { fleet: fleet(), request: over(10) }).unwrap();
    bench.run(5_000);
    let told = bench.told("b1");
    assert!((20..50).contains(&told), "{told}");
    let again = bench.command(Command::Rebalance { fleet: fleet(), request: over(5) }).map(plan).unwrap();
    assert_eq!((again.sessions, again.from[0].sessions), (50 - told, 50 - told));
    bench.run(10_000);
    assert_eq!(bench.told("b1"), 50);
    // All are on their way: there is nothing to do, and the one under way goes on.
    let third = bench.command(Command::Rebalance { fleet: fleet(), request: over(5) }).map(plan).unwrap();
    assert_eq!((third.sessions, third.from.len(), bench.fleet().rebalance.is_some()), (0, 0, true));
    bench.run(55_000);
    assert_eq!((bench.used[&"b1".into()], bench.fleet().rebalance), (50, None));
}

#[test]
fn scarce_seats_go_to_the_drain_that_is_cut_first() {
    let mut bench = Bench::with(10_000, &[5_000, 5_000, 9_900]);
    bench.drain("b2", over(20)).unwrap();
    bench.run(100);
    bench.drain("b1", over(20)).unwrap();
    bench.run(900);
    let [first, second] = ["b2", "b1"].map(|id| 5_000 - bench.used[&id.into()]);
    assert_eq!(first + second, 100, "as many as have a seat");
    assert!(first > 2 * second, "{first} and {second}");
}

#[test]
fn a_backend_that_drops_out_of_a_rebalance_takes_sessions_again() {
    let mut bench = Bench::with(100, &[90, 0, 30]);
    bench.command(Command::Rebalance { fleet: fleet(), request: over(30) }).unwrap();
    bench.run(1_000);
    assert_eq!(bench.backend("b1").limit, 40);
    bench.heartbeat(&"b1".into(), Heartbeat { ready: false, ..READY });
    bench.run(200);
    assert_eq!((bench.phase("b1"), bench.fleet().rebalance), (Phase::Suspect, None));
    bench.run(3_000);
    assert_eq!(bench.backend("b1").limit, 100);
}

#[test]
fn one_session_is_planned_over_a_second() {
    let mut bench = Bench::with(100, &[1, 0]);
    let plan = bench.drain("b1", MoveRequest::default()).unwrap();
    assert_eq!((plan.over_ms, plan.rate), (1_000, 1.0));
    bench.run(200);
    assert_eq!(bench.phase("b1"), Phase::Drained, "and goes at once all the same");
}
