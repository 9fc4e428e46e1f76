//! Another configuration: what differs between two lists of fleets, and what follows.

use super::*;

impl Bench {
    fn configure(&mut self, policies: &[&FleetPolicy]) {
        self.apply(Event::Configure(policies.iter().map(|p| Arc::new((*p).clone())).collect()));
    }

    fn ids(&self) -> Vec<String> {
        self.fleet().backends.iter().map(|b| b.id.to_string()).collect()
    }
}

fn static_of(list: &[(&str, u16, Option<u32>)]) -> ProviderPolicy {
    let backend = |(id, port, capacity): &(&str, u16, Option<u32>)| StaticBackend {
        id: (*id).into(),
        address: ([127, 0, 0, 1], *port).into(),
        capacity: *capacity,
    };
    ProviderPolicy::Static(list.iter().map(backend).collect())
}

fn command(program: &str) -> ProviderPolicy {
    let ProviderPolicy::Process(process) = processes(1).provider else { panic!("they are processes") };
    ProviderPolicy::Process(ProcessPolicy { command: vec![program.to_owned()], ..process })
}

#[test]
fn a_lower_capacity_closes_nobody_and_adds_nobody() {
    let mut bench = Bench::with(10, &[8, 2]);
    let before = FleetPolicy { capacity: Some(10), provider: fixed(2), ..policy() };
    bench.configure(&[&FleetPolicy { capacity: Some(5), ..before }]);
    assert_eq!((bench.backend("b1").limit, bench.backend("b1").sessions, bench.backend("b2").limit), (5, 8, 5));
    bench.run(5_000);
    assert_eq!((bench.used[&"b1".into()], bench.phase("b1")), (8, Phase::Ready));
}

#[test]
fn a_backend_that_went_is_drained_by_the_old_rules_and_then_gone() {
    let provider = static_of(&[("b1", 9_001, None), ("b2", 9_002, None)]);
    let drain = DrainPolicy { mode: DrainMode::Close, deadline: Duration::from_secs(40), rate_max: None };
    let old = FleetPolicy { capacity: Some(10), provider, drain, ..policy() };
    let mut bench = Bench::with_policy(old.clone(), &[3, 4]);
    let drain = DrainPolicy { deadline: Duration::from_secs(7), ..drain };
    bench.configure(&[&FleetPolicy { provider: static_of(&[("b2", 9_002, Some(20))]), drain, ..old }]);
    let going = bench.backend("b1");
    assert_eq!((going.phase, going.limit), (Phase::Draining, 0));
    let drain = going.drain.unwrap();
    assert_eq!(drain.deadline.since(drain.started), Duration::from_secs(40));
    assert_eq!(bench.backend("b2").limit, 20);
    assert!(bench.undrain("b1").unwrap_err().to_string().contains("put it back"));
    bench.run(5_000);
    assert_eq!(bench.ids(), ["b2"]);
    assert_eq!(bench.notices(NoticeKind::BackendRemoved).len(), 1);
}

#[test]
fn what_comes_back_before_it_is_gone_stays() {
    let old = FleetPolicy { capacity: Some(10), provider: fixed(2), ..policy() };
    let mut bench = Bench::with_policy(old.clone(), &[3, 4]);
    bench.deaf = true;
    bench.configure(&[]);
    assert!(bench.fleet().leaving);
    bench.run(1_000);
    bench.configure(&[&old]);
    let fleet = bench.fleet();
    assert!(!fleet.leaving && fleet.backends.iter().all(|b| b.phase == Phase::Ready && b.limit == 10), "{fleet:#?}");
}

#[test]
fn a_backend_at_another_address_is_a_new_one_that_keeps_its_sessions() {
    let old = FleetPolicy { capacity: Some(10), provider: static_of(&[("b1", 9_001, None)]), ..policy() };
    let mut bench = Bench::with_policy(old.clone(), &[3]);
    bench.configure(&[&FleetPolicy { provider: static_of(&[("b1", 9_999, None)]), ..old }]);
    let moved = bench.backend("b1");
    assert_eq!((moved.phase, moved.sessions, moved.address.map(|a| a.port())), (Phase::Starting, 3, Some(9_999)));
    bench.run(1_100);
    assert_eq!((bench.phase("b1"), bench.used[&"b1".into()]), (Phase::Ready, 3));
}

#[test]
fn a_fleet_that_went_tells_everybody_though_there_is_no_room_and_is_gone() {
    let mut bench = Bench::with(10, &[8, 9]);
    let version = bench.state.snapshot(bench.now).version;
    bench.configure(&[]);
    assert!(bench.state.snapshot(bench.now).version > version);
    let refused = bench.command(Command::Scale { fleet: fleet(), to: Some(1) }).unwrap_err();
    assert!(refused.to_string().contains("not in the configuration"), "{refused}");
    bench.run(4_000);
    let after = bench.state.snapshot(bench.now);
    assert!(after.fleets.is_empty() && after.version > version, "{after:#?}");
    assert!(bench.used.values().all(|n| *n == 0));
}

#[test]
fn children_of_a_fleet_that_went_are_stopped_when_they_are_empty_and_no_id_is_used_again() {
    let mut bench = Bench::new(processes(1));
    bench.observed("chat-1", Observation::Started { address: ([127, 0, 0, 1], 20_000).into() });
    bench.alive.insert("chat-1".into(), READY);
    bench.used.insert("chat-1".into(), 2);
    bench.run(1_100);
    bench.deaf = true;
    bench.configure(&[]);
    bench.run(2_000);
    assert!(bench.retired().is_empty(), "it has sessions");
    bench.used.insert("chat-1".into(), 0);
    bench.run(200);
    assert_eq!(bench.retired(), ["chat-1"]);
    bench.observed("chat-1", Observation::Exited { reason: "exit status 0".to_owned() });
    assert!(bench.state.snapshot(bench.now).fleets.is_empty());
    bench.configure(&[&processes(1)]);
    assert_eq!(bench.starts(), ["chat-1", "chat-2"]);
}

#[test]
fn a_fleet_whose_provider_changed_drains_the_old_ones_and_begins_with_the_new() {
    let old = FleetPolicy { capacity: Some(10), provider: fixed(1), ..policy() };
    let mut bench = Bench::with_policy(old.clone(), &[2]);
    bench.configure(&[&FleetPolicy { provider: command("server"), ..old.clone() }]);
    assert_eq!((bench.ids(), bench.phase("b1")), (vec!["b1".to_owned(), "chat-1".to_owned()], Phase::Draining));
    bench.observed("chat-1", Observation::Started { address: ([127, 0, 0, 1], 20_000).into() });
    bench.alive.insert("chat-1".into(), READY);
    bench.run(4_000);
    assert_eq!(bench.ids(), ["chat-1"]);
    bench.configure(&[&old]);
    bench.run(1_100);
    assert_eq!((bench.retired(), bench.phase("b1")), (vec!["chat-1"], Phase::Ready));
}

#[test]
fn children_whose_command_changed_are_replaced_one_after_the_other_the_new_one_first() {
    let old = FleetPolicy { provider: command("old"), scale: ScalePolicy { min: 2, max: 3, ..policy().scale }, ..policy() };
    let mut bench = Bench::new(old.clone());
    let up = |bench: &mut Bench, id: &str| {
        bench.observed(id, Observation::Started { address: ([127, 0, 0, 1], 20_000).into() });
        bench.alive.insert(id.into(), READY);
        bench.run(1_100);
    };
    up(&mut bench, "chat-1");
    up(&mut bench, "chat-2");
    bench.configure(&[&FleetPolicy { provider: command("new"), ..old }]);
    bench.run(3_000);
    assert_eq!(bench.starts(), ["chat-1", "chat-2", "chat-3"], "one more than there were, and no more");
    assert!(bench.fleet().backends.iter().all(|b| b.phase != Phase::Draining), "the old ones serve until it is ready");
    up(&mut bench, "chat-3");
    assert_eq!((bench.retired(), bench.starts().len()), (vec!["chat-1"], 4));
    bench.alive.remove(&"chat-1".into());
    bench.observed("chat-1", Observation::Exited { reason: "exit status 0".to_owned() });
    up(&mut bench, "chat-4");
    assert_eq!(bench.retired(), ["chat-1", "chat-2"]);
    bench.alive.remove(&"chat-2".into());
    bench.observed("chat-2", Observation::Exited { reason: "exit status 0".to_owned() });
    bench.run(5_000);
    assert_eq!((bench.ids(), bench.starts().len()), (vec!["chat-3".to_owned(), "chat-4".to_owned()], 4));
}

#[test]
fn a_new_command_that_does_not_start_leaves_the_old_children_in_service() {
    let old = FleetPolicy { provider: command("old"), ..policy() };
    let mut bench = Bench::new(old.clone());
    bench.observed("chat-1", Observation::Started { address: ([127, 0, 0, 1], 20_000).into() });
    bench.alive.insert("chat-1".into(), READY);
    bench.run(1_100);
    bench.configure(&[&FleetPolicy { provider: command("typo"), ..old.clone() }]);
    bench.run(200);
    bench.observed("chat-2", Observation::StartFailed { reason: "command not found".to_owned() });
    bench.run(300);
    assert_eq!((bench.ids(), bench.phase("chat-1")), (vec!["chat-1".to_owned()], Phase::Ready));
    bench.configure(&[&old]);
    bench.run(5_000);
    assert_eq!(bench.starts(), ["chat-1", "chat-2"], "the old command is back, so nothing is outdated");
}

#[test]
fn a_drain_under_way_goes_on_over_a_reload() {
    let old = FleetPolicy { capacity: Some(20), provider: fixed(3), ..policy() };
    let mut bench = Bench::with_policy(old.clone(), &[10, 2, 12]);
    bench.drain("b1", over(20)).unwrap();
    bench.run(2_000);
    let before = bench.backend("b1").drain.unwrap();
    bench.configure(&[&FleetPolicy { fill: 0.5, capacity: Some(30), ..old }]);
    let after = bench.backend("b1").drain.unwrap();
    assert_eq!((after.started, after.deadline, after.total), (before.started, before.deadline, before.total));
    bench.run(30_000);
    assert_eq!((bench.phase("b1"), bench.ids().len()), (Phase::Drained, 3));
}

#[test]
fn a_rebalance_under_way_goes_on_over_a_reload() {
    let old = FleetPolicy { capacity: Some(30), provider: fixed(3), ..policy() };
    let mut bench = Bench::with_policy(old.clone(), &[24, 0, 0]);
    bench.command(Command::Rebalance { fleet: fleet(), request: over(10) }).unwrap();
    bench.run(3_000);
    let before = bench.fleet().rebalance.unwrap();
    assert!(before.remaining > 0 && before.remaining < 16, "{before:?}");
    let drain = DrainPolicy { deadline: Duration::from_secs(5), ..old.drain };
    bench.configure(&[&FleetPolicy { fill: 0.5, capacity: Some(40), drain, ..old }]);
    let after = bench.fleet().rebalance.unwrap();
    assert_eq!((after.started, after.deadline, after.total), (before.started, before.deadline, before.total));
    bench.run(10_000);
    assert!(bench.fleet().rebalance.is_none());
    assert_eq!(bench.used[&"b1".into()], 8, "as many moved as were asked to");
    assert_eq!(bench.notices(NoticeKind::RebalanceEnded).len(), 1);
    assert_eq!(bench.backend("b1").limit, 40, "and nothing is held back any more");
}

#[test]
fn a_rebalance_goes_on_without_a_backend_that_a_reload_takes_away() {
    let old = FleetPolicy { capacity: Some(30), provider: fixed(3), ..policy() };
    let mut bench = Bench::with_policy(old.clone(), &[24, 18, 0]);
    bench.command(Command::Rebalance { fleet: fleet(), request: over(10) }).unwrap();
    bench.run(1_000);
    let ProviderPolicy::Static(all) = fixed(3) else { panic!("they are static") };
    let rest = all.into_iter().filter(|b| b.id.as_str() != "b2").collect();
    bench.configure(&[&FleetPolicy { provider: ProviderPolicy::Static(rest), ..old }]);
    assert_eq!(bench.phase("b2"), Phase::Draining);
    bench.run(15_000);
    assert_eq!((bench.ids(), bench.used[&"b1".into()]), (vec!["b1".to_owned(), "b3".to_owned()], 14));
    assert!(bench.fleet().rebalance.is_none());
}

#[test]
fn what_an_operator_fixed_stays_within_the_new_bounds_and_a_stopping_holdline_takes_nothing() {
    let mut bench = Bench::new(processes(1));
    bench.command(Command::Scale { fleet: fleet(), to: Some(4) }).unwrap();
    bench.configure(&[&FleetPolicy { scale: ScalePolicy { min: 1, max: 2, ..policy().scale }, ..processes(1) }]);
    assert_eq!(bench.fleet().scale_to, Some(2));
    bench.apply(Event::Shutdown);
    bench.configure(&[]);
    assert_eq!(bench.state.snapshot(bench.now).fleets.len(), 1);
}
