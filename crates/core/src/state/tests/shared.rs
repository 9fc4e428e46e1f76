//! Another id, fleet or address for a server that still has sessions: its seats are counted once.

use super::*;

/// State over fleets of static backends whose counts a test sets.
struct Fleets {
    state: State,
    now: Moment,
    /// By fleet and id: seats taken at its address, and at one before.
    used: BTreeMap<(&'static str, &'static str), (u32, Vec<AddressCount>)>,
    told: BTreeMap<BackendId, u32>,
}

type Written<'a> = (&'a str, &'a [(&'a str, u16)]);

impl Fleets {
    /// All of them answer.
    fn new(written: &[Written<'_>]) -> Self {
        let (used, told) = Default::default();
        let mut fleets = Fleets { state: State::new(policies(written), Moment::START), now: Moment::START, used, told };
        fleets.hear();
        fleets
    }

    fn set(&mut self, fleet: &'static str, id: &'static str, here: u32, former: &[(u16, u32)]) {
        let former = former.iter().map(|(port, used)| AddressCount { address: at(*port), used: *used }).collect();
        self.used.insert((fleet, id), (here, former));
    }

    fn configure(&mut self, written: &[Written<'_>]) {
        self.report();
        self.apply(Event::Configure(policies(written)));
        self.hear();
    }

    /// Every backend says that it is ready.
    fn hear(&mut self) {
        for fleet in self.state.snapshot(self.now).fleets {
            for b in &fleet.backends {
                let heartbeat = Heartbeat { ready: true, ..Heartbeat::default() };
                self.apply(Event::Heartbeat { fleet: fleet.name().clone(), backend: b.id.clone(), heartbeat });
            }
        }
    }

    fn tick(&mut self) {
        self.now = self.now + TICK;
        if self.now.since_start().as_millis().is_multiple_of(1_000) {
            self.hear();
        }
        self.report();
        self.apply(Event::Tick);
    }

    fn report(&mut self) {
        let line = |fleet: &FleetName| {
            let ours = self.used.iter().filter(|((f, _), _)| *f == fleet.as_str());
            let count = |((_, id), (here, former)): (&(_, &str), &(u32, Vec<AddressCount>))| BackendCounts {
                backend: (*id).into(),
                used: here + former.iter().map(|f| f.used).sum::<u32>(),
                former: former.clone(),
                requests: 0,
                moved_total: 0,
                lost_total: 0,
                cut_total: 0,
            };
            FleetCounts {
                fleet: fleet.clone(),
                backends: ours.map(count).collect(),
                queued: 0,
                oldest_wait: Duration::ZERO,
                admitted_total: 0,
                ended_total: 0,
                refused_total: 0,
                no_backend_total: 0,
                requests: 0,
                totals: Totals::default(),
            }
        };
        let fleets = self.state.snapshot(self.now).fleets.iter().map(|f| line(f.name())).collect();
        self.apply(Event::Report(GatewayReport { fleets }));
    }

    fn apply(&mut self, event: Event) {
        self.state.apply(event, self.now);
        for effect in self.state.take_effects() {
            if let Effect::EndSessions { backend, order, .. } = effect {
                *self.told.entry(backend).or_default() += order.count;
            }
        }
    }

    fn view(&self, fleet: &str, id: &str) -> BackendView {
        self.state.snapshot(self.now).fleet(fleet).and_then(|f| f.backend(id)).unwrap().clone()
    }

    /// Limit, own sessions and what others take.
    fn seats(&self, fleet: &str, id: &str) -> (u32, u32, u32) {
        let view = self.view(fleet, id);
        (view.limit, view.sessions, view.foreign)
    }
}

fn at(port: u16) -> std::net::SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Five seats each, and a drain that takes a minute.
fn policies(written: &[Written<'_>]) -> Vec<Arc<FleetPolicy>> {
    let backend = |(id, port): &(&str, u16)| StaticBackend { id: (*id).into(), address: at(*port), capacity: None };
    let drain = DrainPolicy { mode: DrainMode::Close, deadline: Duration::from_secs(60), rate_max: Some(1.0) };
    let policy = |(name, backends): &Written<'_>| FleetPolicy {
        name: (*name).into(),
        provider: ProviderPolicy::Static(backends.iter().map(backend).collect()),
        capacity: Some(5),
        drain,
        ..policy()
    };
    written.iter().map(|w| Arc::new(policy(w))).collect()
}

#[test]
fn a_renamed_backend_has_the_seats_that_the_old_id_leaves() {
    let mut fleets = Fleets::new(&[("chat", &[("a", 1)])]);
    fleets.set("chat", "a", 3, &[]);
    fleets.configure(&[("chat", &[("b", 1)])]);
    // Until a count that was taken after `a` was closed: a handshake may have been faster.
    assert_eq!(fleets.seats("chat", "b").0, 0);
    fleets.set("chat", "a", 4, &[]);
    fleets.tick();
    assert_eq!((fleets.seats("chat", "a"), fleets.seats("chat", "b")), ((0, 4, 0), (1, 0, 4)));
    assert_eq!(fleets.state.snapshot(fleets.now).fleets[0].free(), Some(1));
    fleets.set("chat", "b", 1, &[]);
    fleets.set("chat", "a", 2, &[]);
    fleets.tick();
    assert_eq!((fleets.seats("chat", "a"), fleets.seats("chat", "b")), ((0, 2, 0), (3, 1, 2)));
    fleets.set("chat", "a", 0, &[]);
    fleets.tick();
    fleets.tick();
    assert_eq!(fleets.seats("chat", "b"), (5, 1, 0));
    assert!(fleets.state.snapshot(fleets.now).fleets[0].backend("a").is_none());
}

#[test]
fn a_renamed_fleet_does_too() {
    let mut fleets = Fleets::new(&[("chat", &[("a", 1), ("b", 2)])]);
    fleets.set("chat", "a", 5, &[]);
    fleets.configure(&[("talk", &[("a", 1), ("b", 2)])]);
    fleets.tick();
    assert_eq!((fleets.seats("talk", "a"), fleets.seats("talk", "b")), ((0, 0, 5), (5, 0, 0)));
    assert_eq!(fleets.seats("chat", "a"), (0, 5, 0));
    // Back again before it is gone: now the other one goes.
    fleets.set("talk", "b", 2, &[]);
    fleets.configure(&[("chat", &[("a", 1), ("b", 2)])]);
    assert_eq!(fleets.seats("chat", "b").0, 0);
    fleets.tick();
    assert_eq!((fleets.seats("chat", "a"), fleets.seats("chat", "b")), ((5, 5, 0), (3, 0, 2)));
}

#[test]
fn sessions_of_a_full_server_make_room_for_themselves() {
    let mut fleets = Fleets::new(&[("chat", &[("a", 1)])]);
    fleets.set("chat", "a", 5, &[]);
    fleets.configure(&[("chat", &[("b", 1)])]);
    for told in 1..=5 {
        (0..10).for_each(|_| fleets.tick());
        let heard = fleets.told.get(&"a".into()).copied().unwrap_or(0);
        assert!(heard >= told - 1 && heard <= told, "{heard} were told after {told} s");
        fleets.set("chat", "a", 5 - heard, &[]);
        fleets.set("chat", "b", heard, &[]);
    }
}

#[test]
fn two_backends_that_change_places_count_what_they_left() {
    let mut fleets = Fleets::new(&[("chat", &[("a", 1), ("b", 2)])]);
    fleets.set("chat", "a", 4, &[]);
    fleets.set("chat", "b", 1, &[]);
    fleets.configure(&[("chat", &[("a", 2), ("b", 1)])]);
    assert_eq!((fleets.seats("chat", "a").0, fleets.seats("chat", "b").0), (0, 0));
    fleets.set("chat", "a", 0, &[(1, 4)]);
    fleets.set("chat", "b", 0, &[(2, 1)]);
    fleets.tick();
    // `a` has 4 of its 5 seats at the address that `b` has now, where 4 are taken.
    assert_eq!((fleets.seats("chat", "a"), fleets.seats("chat", "b")), ((0, 4, 1), (0, 1, 4)));
    fleets.set("chat", "a", 0, &[]);
    fleets.tick();
    assert_eq!((fleets.seats("chat", "a"), fleets.seats("chat", "b")), ((4, 0, 1), (4, 1, 0)));
}

#[test]
fn what_a_server_reports_is_compared_with_all_its_sessions() {
    let mut fleets = Fleets::new(&[("chat", &[("a", 1)])]);
    fleets.set("chat", "a", 3, &[]);
    fleets.configure(&[("chat", &[("b", 1)])]);
    fleets.set("chat", "b", 1, &[]);
    fleets.tick();
    for _ in 0..3 {
        for backend in ["a", "b"] {
            let heartbeat = Heartbeat { ready: true, sessions: Some(4), ..Heartbeat::default() };
            fleets.apply(Event::Heartbeat { fleet: "chat".into(), backend: backend.into(), heartbeat });
        }
    }
    fleets.tick();
    assert_eq!((fleets.seats("chat", "a"), fleets.seats("chat", "b")), ((0, 3, 0), (2, 1, 3)));
}
