//! Backends come, fail, recover, are started, replaced and stopped.

use super::*;

fn started(bench: &mut Bench, id: &str, port: u16) {
    bench.observed(id, Observation::Started { address: ([127, 0, 0, 1], port).into() });
}

#[test]
fn counts_are_read_in_any_order_and_a_backend_without_a_line_has_nothing() {
    let mut bench = Bench::with(100, &[1, 2, 3, 4, 5]);
    let line = |n: u32| BackendCounts {
        backend: format!("b{n}").into(),
        used: 10 * n,
        former: Vec::new(),
        requests: n,
        moved_total: 0,
        lost_total: 0,
        cut_total: 0,
    };
    for lines in [&[1, 2, 3, 4, 5][..], &[2, 3, 5], &[5, 9, 4, 3, 1], &[9, 1, 2, 3, 4, 5], &[3, 4, 5, 1, 2], &[]] {
        bench.counts(lines.iter().map(|n| line(*n)).collect());
        let seen: Vec<(u32, u32)> = bench.fleet().backends.iter().map(|b| (b.sessions, b.requests)).collect();
        let has = |n| if lines.contains(&n) { (10 * n, n) } else { (0, 0) };
        assert_eq!(seen, (1..=5).map(has).collect::<Vec<_>>(), "{lines:?}");
    }
}

#[test]
fn a_static_backend_is_ready_with_its_first_good_heartbeat() {
    let mut bench = Bench::new(policy());
    assert_eq!((bench.phase("b1"), bench.backend("b1").limit), (Phase::Starting, 0));
    bench.heartbeat(&"b1".into(), READY);
    assert_eq!((bench.phase("b1"), bench.backend("b1").limit), (Phase::Ready, 100));
    bench.run(10_000);
    assert_eq!((bench.phase("b1"), bench.phase("b2")), (Phase::Dead, Phase::Dead));
    bench.alive.insert("b2".into(), READY);
    bench.run(2_000);
    assert_eq!((bench.phase("b1"), bench.phase("b2")), (Phase::Dead, Phase::Ready));
    let told = bench.notices(NoticeKind::Phase);
    assert!(told.iter().any(|m| m.contains("`b1` was ready and is suspect: no heartbeat for 3s")), "{told:?}");
    assert_eq!(bench.notices(NoticeKind::BackendAdded).len(), 2);
    assert!(bench.retired().is_empty(), "nobody stops what somebody else runs");
}

#[test]
fn capacity_is_the_lower_and_foreign_sessions_take_seats() {
    let mut bench = Bench::with(100, &[10, 0]);
    bench.alive.insert("b1".into(), Heartbeat { sessions: Some(7), capacity: Some(60), ..READY });
    bench.alive.insert("b2".into(), Heartbeat { capacity: Some(600), ..READY });
    bench.run(3_000);
    let b1 = bench.backend("b1");
    assert_eq!((b1.capacity, b1.foreign, b1.limit, b1.reported), (Some(60), 7, 53, Some(17)));
    assert_eq!(bench.backend("b2").limit, 100);
    bench.run(10_000);
    let told = bench.notices(NoticeKind::CountMismatch);
    assert!(told.len() == 1 && told[0].contains("reports 17 sessions and Holdline counts 10"), "{told:?}");
    // Capacity lowered below the count: nobody is closed, nobody is added.
    bench.alive.insert("b1".into(), Heartbeat { capacity: Some(3), ..READY });
    bench.run(3_000);
    assert_eq!((bench.backend("b1").limit, bench.used[&"b1".into()]), (3, 10));
}

#[test]
fn a_report_that_cannot_be_read_leaves_what_was_said_before() {
    let mut bench = Bench::with(100, &[10, 0]);
    bench.alive.insert("b1".into(), Heartbeat { sessions: Some(7), capacity: Some(60), ..READY });
    bench.run(3_000);
    let said = |bench: &Bench| {
        let b1 = bench.backend("b1");
        (b1.capacity, b1.foreign, b1.limit, b1.reported)
    };
    let before = said(&bench);
    bench.heartbeat(&"b1".into(), Heartbeat { unreadable: true, ..READY });
    assert_eq!(said(&bench), before);

    bench.alive.insert("b1".into(), DRAINING);
    bench.run(1_000);
    bench.heartbeat(&"b1".into(), Heartbeat { unreadable: true, ..READY });
    assert_eq!(
        (bench.backend("b1").phase, bench.backend("b1").limit),
        (Phase::Drained, 0),
        "it did not say that it is ready again"
    );
}

#[test]
fn a_pushed_replay_is_ignored() {
    let mut bench = Bench::with(100, &[0, 0]);
    let pushed = |seq, capacity| Heartbeat { seq: Some(seq), capacity: Some(capacity), ..READY };
    bench.heartbeat(&"b1".into(), pushed(5, 50));
    bench.heartbeat(&"b1".into(), pushed(4, 90));
    assert_eq!(bench.backend("b1").capacity, Some(50));
    bench.heartbeat(&"stranger".into(), pushed(9, 1));
}

#[test]
fn nothing_new_no_new_version() {
    let mut bench = Bench::with(100, &[10, 0]);
    bench.run(2_000);
    let before = bench.state.snapshot(bench.now).version;
    bench.report();
    bench.apply(Event::Tick);
    bench.apply(Event::HeartbeatMissed { fleet: fleet(), backend: "b1".into() });
    bench.apply(Event::Dial { fleet: fleet(), backend: "b1".into(), connected: true });
    assert_eq!(bench.state.snapshot(bench.now).version, before);
    bench.used.insert("b1".into(), 11);
    bench.report();
    assert!(bench.state.snapshot(bench.now).version > before);
}

#[test]
fn an_elastic_fleet_starts_its_minimum_and_replaces_what_crashes_with_backoff() {
    let mut bench = Bench::new(processes(2));
    assert_eq!(bench.starts(), ["chat-1", "chat-2"]);
    for (id, port) in [("chat-1", 1), ("chat-2", 2)] {
        started(&mut bench, id, port);
        bench.alive.insert(id.into(), READY);
    }
    bench.run(2_000);
    assert_eq!(bench.phase("chat-2"), Phase::Ready);
    bench.alive.remove(&"chat-2".into());
    bench.observed("chat-2", Observation::Exited { reason: "signal 9".to_owned() });
    assert!(bench.fleet().backend("chat-2").is_none());
    let told = bench.notices(NoticeKind::BackendFailed);
    assert!(told[0].contains("signal 9") && told[0].contains("1.0s"), "{told:?}");
    assert!(told[0].contains("look into its log file logs/chat-2.log;"), "{told:?}");
    assert_eq!(bench.starts().len(), 2, "not at once");
    bench.run(2_000);
    assert_eq!(bench.starts().last(), Some(&"chat-3"), "an id is never used again");
    bench.observed("chat-3", Observation::StartFailed { reason: "command not found".to_owned() });
    bench.run(1_000);
    assert_eq!(bench.starts().len(), 3);
    bench.run(2_000);
    assert_eq!(bench.starts().len(), 4);
}

#[test]
fn a_child_that_never_gets_ready_is_stopped_and_counted_as_failed() {
    let mut bench = Bench::new(processes(1));
    started(&mut bench, "chat-1", 1);
    bench.run(29_900);
    assert!(bench.retired().is_empty());
    bench.run(100);
    assert_eq!((bench.retired(), bench.phase("chat-1")), (vec!["chat-1"], Phase::Dead));
    let told = bench.notices(NoticeKind::BackendFailed)[0];
    assert!(told.contains("no good heartbeat within 30s of its start"), "{told}");
    assert!(
        told.contains("look into its log file logs/chat-1.log, or raise fleets.chat.backends.process.ready_timeout"),
        "{told}"
    );
    bench.observed("chat-1", Observation::Exited { reason: "signal 15".to_owned() });
    assert_eq!(bench.notices(NoticeKind::BackendFailed).len(), 1, "one failure, not two");
    bench.run(2_000);
    assert_eq!(bench.starts(), ["chat-1", "chat-2"]);
}

#[test]
fn a_knock_starts_a_fleet_of_zero_at_once_and_shutdown_starts_nothing() {
    let mut bench = Bench::new(processes(0));
    bench.run(3_000);
    assert!(bench.starts().is_empty());
    bench.no_backend = 1;
    bench.report();
    assert_eq!(bench.starts(), ["chat-1"]);
    bench.run(500);
    assert_eq!(bench.starts().len(), 1);
    let mut bench = Bench::new(processes(0));
    bench.apply(Event::Shutdown);
    bench.queued = 5;
    bench.run(3_000);
    assert!(bench.seen.is_empty() && bench.state.snapshot(bench.now).shutting_down);
    let text = bench.command(Command::Scale { fleet: fleet(), to: Some(1) }).unwrap_err().to_string();
    assert!(text.contains("stopping"), "{text}");
}

#[test]
fn a_fixed_number_is_kept_and_what_it_gives_up_is_drained_then_stopped() {
    let mut bench = Bench::new(processes(1));
    let scale = |to| Command::Scale { fleet: fleet(), to };
    bench.command(scale(Some(3))).unwrap();
    bench.run(100);
    assert_eq!(bench.starts(), ["chat-1", "chat-2", "chat-3"]);
    for (port, id) in ["chat-1", "chat-2", "chat-3"].into_iter().enumerate() {
        started(&mut bench, id, port as u16);
        bench.alive.insert(id.into(), READY);
        bench.used.insert(id.into(), 10 * (port as u32 + 1));
    }
    bench.run(2_000);
    bench.command(scale(Some(2))).unwrap();
    bench.run(100);
    assert_eq!(bench.phase("chat-1"), Phase::Draining);
    assert!(bench.retired().is_empty());
    bench.command(scale(Some(3))).unwrap();
    bench.run(100);
    assert_eq!((bench.phase("chat-1"), bench.starts().len()), (Phase::Ready, 3), "taken back before another is started");
    bench.command(scale(Some(2))).unwrap();
    bench.run(100);
    let Ok(Answer::Done { message }) = bench.undrain("chat-1") else { panic!("it is the autoscaler's drain") };
    assert!(message.starts_with("`chat-1` is ready; the autoscaler had given it up and may do so again"), "{message}");
    bench.run(5_000);
    assert_eq!((bench.retired(), bench.used[&"chat-1".into()]), (vec!["chat-1"], 0));
    bench.observed("chat-1", Observation::Exited { reason: "exit status 0".to_owned() });
    assert_eq!(bench.fleet().backends.len(), 2);
    assert!(bench.notices(NoticeKind::BackendFailed).is_empty());
    let text = bench.command(scale(Some(9))).unwrap_err().to_string();
    assert!(text.contains("scale.max = 5"), "{text}");
}

#[test]
fn a_static_fleet_only_advises() {
    let mut bench = Bench::with(10, &[10, 10]);
    bench.queued = 20;
    bench.run(3_000);
    assert!(bench.starts().is_empty() && bench.fleet().decision.desired > 2);
    assert!(bench.notices(NoticeKind::Scale)[0].contains("advice"));
    let text = bench.command(Command::Scale { fleet: fleet(), to: Some(1) }).unwrap_err().to_string();
    assert!(text.contains("is static"), "{text}");
}

#[test]
fn a_drain_without_room_scales_an_elastic_fleet_up_first() {
    let mut bench = Bench::new(processes(1));
    started(&mut bench, "chat-1", 1);
    bench.alive.insert("chat-1".into(), READY);
    bench.used.insert("chat-1".into(), 70);
    bench.run(2_000);
    let answer = bench.drain("chat-1", over(10)).unwrap();
    assert!(
        answer.warnings[0].contains("free seats for 0 of 70") && answer.warnings[0].contains("scaled up first"),
        "{answer:?}"
    );
    bench.run(3_000);
    assert_eq!((bench.starts(), bench.used[&"chat-1".into()]), (vec!["chat-1", "chat-2"], 70));
    started(&mut bench, "chat-2", 2);
    bench.alive.insert("chat-2".into(), READY);
    bench.run(15_000);
    assert_eq!((bench.phase("chat-1"), bench.used[&"chat-1".into()]), (Phase::Drained, 0));
    assert!(bench.retired().is_empty(), "an operator's drain stops nothing");
}

#[test]
fn hostile_reports_break_nothing() {
    let counts = [None, Some(0), Some(1), Some(u32::MAX - 1), Some(u32::MAX)];
    let reports = counts.iter().flat_map(|s| counts.iter().map(move |c| (*s, *c)));
    for (first, second) in reports.clone().flat_map(|a| reports.clone().map(move |b| (a, b))) {
        for capacity in [None, Some(100)] {
            let provider = fixed(3);
            let mut bench = Bench::with_policy(FleetPolicy { capacity, provider, ..policy() }, &[50, 20, 0]);
            for (id, (sessions, capacity)) in [("b1", first), ("b2", second)] {
                // As it stands, not on top of the sessions that are counted.
                let heartbeat = Heartbeat { sessions, capacity, counted: Some(0), seq: Some(u64::MAX), ..READY };
                for beat in 0..3 {
                    bench.heartbeat(&id.into(), Heartbeat { seq: Some(u64::MAX - 3 + beat), ..heartbeat });
                }
                bench.alive.remove(&id.into());
            }
            bench.queued = 3;
            bench.run(1_000);
            let request = MoveRequest { dry_run: true, ..MoveRequest::default() };
            let drain = bench.drain("b1", request).unwrap();
            assert!(drain.rate.is_finite(), "{drain:?}");
            let moves = bench.command(Command::Rebalance { fleet: fleet(), request: over(5) }).map(plan).unwrap();
            assert!(moves.sessions <= 70, "{moves:?}");
            // Two suspect backends, whose sessions the rest does without.
            bench.run(3_000);
            let fleet = bench.fleet();
            assert!(fleet.decision.desired <= 5 && fleet.decision.inputs.values().all(|v| v.is_finite()), "{:?}", fleet.decision);
            assert!(fleet.backends.iter().all(|b| b.capacity.is_none_or(|c| b.limit <= c)));
            bench.drain("b3", over(5)).unwrap();
            bench.run(3_000);
        }
    }
}

#[test]
fn a_time_in_which_holdline_cannot_ask_kills_no_child() {
    let mut bench = Bench::new(processes(1));
    started(&mut bench, "chat-1", 1);
    bench.heartbeat(&"chat-1".into(), READY);
    for _ in 0..60 {
        bench.apply(Event::HeartbeatNotAsked { fleet: fleet(), backend: "chat-1".into() });
        bench.run(1_000);
    }
    assert_eq!((bench.phase("chat-1"), bench.retired().len()), (Phase::Ready, 0));
    bench.run(4_000);
    assert_eq!(bench.phase("chat-1"), Phase::Suspect, "its own silence counts again");
}

#[test]
fn a_child_may_leave_on_its_own_wish_but_not_as_soon_as_it_runs() {
    let mut bench = Bench::new(processes(1));
    for (id, life_ms, failures) in [("chat-1", 12_000, 0), ("chat-2", 2_000, 1)] {
        started(&mut bench, id, 1);
        bench.alive = [(id.into(), READY)].into();
        bench.run(life_ms - 1_000);
        bench.alive.insert(id.into(), DRAINING);
        bench.run(1_000);
        bench.observed(id, Observation::Exited { reason: "exit status 0".to_owned() });
        assert_eq!(bench.notices(NoticeKind::BackendFailed).len(), failures, "{id}");
        bench.run(1_000);
    }
}

#[test]
fn after_a_standstill_backends_are_heard_before_they_are_judged_and_nobody_is_cut() {
    let mut bench = Bench::with(10, &[5, 0]);
    bench.deaf = true;
    bench.drain("b1", MoveRequest { over: Some(Duration::from_secs(4)), ..MoveRequest::default() }).unwrap();
    bench.run(1_000);
    let ordered = |bench: &Bench, of: DrainMode| -> u32 {
        let count = |e: &Effect| match e {
            Effect::EndSessions { order, .. } if order.ending.mode == of => order.count,
            _ => 0,
        };
        bench.seen.iter().map(count).sum()
    };
    let told = ordered(&bench, DrainMode::Close);
    let deadline = bench.backend("b1").drain.unwrap().deadline;
    bench.now = bench.now + Duration::from_secs(600);
    // The gateway's counts come first, as in each turn of the State task.
    bench.report();
    bench.apply(Event::Tick);
    assert_eq!((bench.phase("b1"), bench.phase("b2")), (Phase::Draining, Phase::Ready));
    assert!(ordered(&bench, DrainMode::Close) <= told + 1 && told < 5, "what a tick allows, and no more");
    assert_eq!(ordered(&bench, DrainMode::Cut), 0);
    let later = bench.backend("b1").drain.unwrap().deadline.since(deadline);
    assert!(later >= Duration::from_secs(600) && later <= Duration::from_secs(600) + TICK, "{later:?}");
    // What falls silent from then on is.
    bench.alive.clear();
    bench.run(3_500);
    assert_eq!(bench.phase("b2"), Phase::Suspect);
}

#[test]
fn a_process_that_is_gone_is_told_with_the_sessions_that_it_had() {
    let mut bench = Bench::new(FleetPolicy { capacity: Some(50), ..processes(1) });
    started(&mut bench, "chat-1", 1);
    bench.alive.insert("chat-1".into(), READY);
    // Long before, one was lost for another reason.
    bench.lost.insert("chat-1".into(), 1);
    bench.used.insert("chat-1".into(), 20);
    bench.run(5_000);
    // Its sockets fail first; then the provider hears of its end.
    bench.used.insert("chat-1".into(), 5);
    bench.lost.insert("chat-1".into(), 16);
    bench.run(700);
    bench.observed("chat-1", Observation::Exited { reason: "signal 9".to_owned() });
    let told = bench.notices(NoticeKind::BackendFailed)[0];
    assert!(told.contains("it exited by itself (signal 9) with 20 sessions"), "{told}");
}
