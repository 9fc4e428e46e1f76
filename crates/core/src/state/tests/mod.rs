//! State is called synchronously: events and virtual time in, effects and snapshots out.

mod lifecycle;
mod moves;
mod plan;
mod reload;
mod shared;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::State;
use crate::cause::{EndCause, Phase};
use crate::drain::{EndOrder, Ending};
use crate::event::*;
use crate::ids::{BackendId, FleetName};
use crate::policy::*;
use crate::snapshot::{BackendView, FleetView};
use crate::time::Moment;
use crate::traffic::Totals;

const TICK: Duration = Duration::from_millis(100);

/// State among backends that do as they are told.
struct Bench {
    state: State,
    now: Moment,
    /// Backends that answer, and what they say; the count of sessions is filled in.
    alive: BTreeMap<BackendId, Heartbeat>,
    used: BTreeMap<BackendId, u32>,
    /// How sessions ended: told to go, cut.
    ended: BTreeMap<BackendId, (u64, u64)>,
    /// Sessions that were lost with their backend.
    lost: BTreeMap<BackendId, u64>,
    /// Nobody ends who is told to.
    deaf: bool,
    /// For how long those who are told to go keep their seats.
    holds: Duration,
    /// Those who were told, and until when they keep their seats.
    leaving: Vec<(Moment, BackendId, u32)>,
    queued: u32,
    no_backend: u64,
    /// Effects so far.
    seen: Vec<Effect>,
}

fn fleet() -> FleetName {
    "chat".into()
}

impl Bench {
    fn new(policy: FleetPolicy) -> Self {
        let state = State::new(vec![Arc::new(policy)], Moment::START);
        let (alive, used, ended, lost, leaving) = Default::default();
        let mut bench = Bench {
            state,
            now: Moment::START,
            alive,
            used,
            ended,
            lost,
            deaf: false,
            holds: Duration::ZERO,
            leaving,
            queued: 0,
            no_backend: 0,
            seen: Vec::new(),
        };
        bench.obey();
        bench
    }

    /// Static backends `b1`, `b2`, … that are up, with so many sessions.
    fn with(capacity: u32, sessions: &[u32]) -> Self {
        Self::with_policy(FleetPolicy { capacity: Some(capacity), provider: fixed(sessions.len()), ..policy() }, sessions)
    }

    fn with_policy(policy: FleetPolicy, sessions: &[u32]) -> Self {
        let mut bench = Bench::new(policy);
        for (n, sessions) in sessions.iter().enumerate() {
            let id = BackendId::from(format!("b{}", n + 1));
            bench.alive.insert(id.clone(), READY);
            bench.used.insert(id, *sessions);
        }
        bench.run(1_100);
        bench
    }

    /// So many milliseconds of ticks, reports and heartbeats.
    fn run(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            self.now = self.now + TICK;
            self.leave();
            if self.now.since_start().as_millis().is_multiple_of(1_000) {
                for (id, heartbeat) in self.alive.clone() {
                    let used = self.used.get(&id).copied().unwrap_or(0);
                    let sessions = heartbeat.sessions.map(|foreign| foreign + used);
                    self.heartbeat(&id, Heartbeat { sessions, counted: Some(used), ..heartbeat });
                }
            }
            self.report();
            self.apply(Event::Tick);
        }
    }

    fn report(&mut self) {
        let lines = self.used.iter().map(|(backend, used)| {
            let (moved_total, cut_total) = self.ended.get(backend).copied().unwrap_or_default();
            BackendCounts {
                backend: backend.clone(),
                used: *used,
                former: Vec::new(),
                requests: 0,
                moved_total,
                cut_total,
                lost_total: self.lost.get(backend).copied().unwrap_or_default(),
            }
        });
        self.counts(lines.collect());
    }

    fn counts(&mut self, backends: Vec<BackendCounts>) {
        let counts = FleetCounts {
            fleet: fleet(),
            backends,
            queued: self.queued,
            oldest_wait: Duration::ZERO,
            admitted_total: 0,
            ended_total: 0,
            refused_total: 0,
            no_backend_total: self.no_backend,
            requests: 0,
            totals: Totals::default(),
        };
        self.apply(Event::Report(GatewayReport { fleets: vec![counts] }));
    }

    fn heartbeat(&mut self, id: &BackendId, heartbeat: Heartbeat) {
        self.apply(Event::Heartbeat { fleet: fleet(), backend: id.clone(), heartbeat });
    }

    fn observed(&mut self, id: &str, observation: Observation) {
        self.apply(Event::Observed { fleet: fleet(), backend: id.into(), observation });
    }

    fn apply(&mut self, event: Event) {
        self.state.apply(event, self.now);
        self.obey();
    }

    fn command(&mut self, command: Command) -> Result<Answer, CommandError> {
        let answer = self.state.command(command, self.now);
        self.obey();
        answer
    }

    fn drain(&mut self, id: &str, request: MoveRequest) -> Result<MovePlan, CommandError> {
        self.command(Command::Drain { fleet: fleet(), backend: id.into(), request }).map(plan)
    }

    fn undrain(&mut self, id: &str) -> Result<Answer, CommandError> {
        self.command(Command::Undrain { fleet: fleet(), backend: id.into() })
    }

    /// Sessions that are told to go are gone before the next report, unless they hold on, and nobody reconnects. As at the gateway, one that
    /// was told is not told again.
    fn obey(&mut self) {
        for effect in self.state.take_effects() {
            if let Effect::EndSessions { backend, order: EndOrder { count, ending: Ending { mode, cause } }, .. } = &effect
                && !self.deaf
            {
                let used = self.used.get(backend).copied().unwrap_or_default();
                if *mode == DrainMode::Cut {
                    self.leaving.retain(|(_, id, _)| id != backend);
                }
                let told: u32 = self.leaving.iter().filter(|(_, id, _)| id == backend).map(|(.., n)| n).sum();
                let count = (*count).min(used.saturating_sub(told));
                let (moved, cut) = self.ended.entry(backend.clone()).or_default();
                *(if *cause == EndCause::Cut { cut } else { moved }) += u64::from(count);
                let until = if *mode == DrainMode::Cut { self.now } else { self.now + self.holds };
                self.leaving.push((until, backend.clone(), count));
                self.leave();
            }
            self.seen.push(effect);
        }
    }

    /// Seats whose time has come are free.
    fn leave(&mut self) {
        let (now, used) = (self.now, &mut self.used);
        self.leaving.retain(|(until, backend, count)| {
            if *until > now {
                return true;
            }
            used.entry(backend.clone()).and_modify(|used| *used -= count);
            false
        });
    }

    /// Sessions of a backend that were told to go and are still there.
    fn told(&self, id: &str) -> u32 {
        self.leaving.iter().filter(|(_, backend, _)| backend.as_str() == id).map(|(.., n)| n).sum()
    }

    fn fleet(&self) -> FleetView {
        self.state.snapshot(self.now).fleets.remove(0)
    }

    fn backend(&self, id: &str) -> BackendView {
        self.fleet().backend(id).cloned().unwrap_or_else(|| panic!("no backend {id}"))
    }

    fn phase(&self, id: &str) -> Phase {
        self.backend(id).phase
    }

    fn notices(&self, kind: NoticeKind) -> Vec<&str> {
        let notices = self.seen.iter().filter_map(|e| if let Effect::Notice(n) = e { Some(n) } else { None });
        notices.filter(|n| n.kind == kind).map(|n| n.message.as_str()).collect()
    }

    fn starts(&self) -> Vec<&str> {
        self.seen
            .iter()
            .filter_map(|e| if let Effect::Start { backend, .. } = e { Some(backend.as_str()) } else { None })
            .collect()
    }

    fn retired(&self) -> Vec<&str> {
        self.seen
            .iter()
            .filter_map(|e| if let Effect::Retire { backend, .. } = e { Some(backend.as_str()) } else { None })
            .collect()
    }
}

const READY: Heartbeat =
    Heartbeat { ready: true, draining: false, sessions: None, capacity: None, counted: None, unreadable: false, seq: None };
const DRAINING: Heartbeat = Heartbeat { ready: false, draining: true, ..READY };

fn plan(answer: Answer) -> MovePlan {
    match answer {
        Answer::Plan(plan) => plan,
        Answer::Done { message } => panic!("{message}"),
    }
}

fn over(seconds: u64) -> MoveRequest {
    MoveRequest { over: Some(Duration::from_secs(seconds)), ..MoveRequest::default() }
}

fn fixed(count: usize) -> ProviderPolicy {
    let backend = |n: usize| StaticBackend {
        id: format!("b{n}").into(),
        address: ([127, 0, 0, 1], 9_000 + n as u16).into(),
        capacity: None,
    };
    ProviderPolicy::Static((1..=count).map(backend).collect())
}

fn processes(min: u32) -> FleetPolicy {
    let seconds = Duration::from_secs;
    let process = ProcessPolicy {
        command: vec!["server".to_owned()],
        ports: (20_000, 20_999),
        env: Vec::new(),
        ready_timeout: seconds(30),
        stop_timeout: seconds(30),
        log_dir: "logs".into(),
    };
    let base = policy();
    let idle_to_zero_after = (min == 0).then_some(seconds(60));
    FleetPolicy {
        provider: ProviderPolicy::Process(process),
        scale: ScalePolicy { min, idle_to_zero_after, ..base.scale.clone() },
        ..base
    }
}

fn policy() -> FleetPolicy {
    let seconds = Duration::from_secs;
    let rules = |stabilization| ScaleRules { stabilization, select: SelectPolicy::Max, policies: Vec::new() };
    FleetPolicy {
        name: fleet(),
        provider: fixed(2),
        capacity: Some(100),
        fill: 0.8,
        balance: Balance::LeastSessions,
        affinity: Affinity::None,
        queue: QueuePolicy { length: 1000, timeout: seconds(10) },
        admit_rate: None,
        refuse: RefusePolicy { with: RefuseWith::Status, retry_after: seconds(5) },
        heartbeat: HeartbeatPolicy {
            probe: Probe::Http,
            path: "/heartbeat".to_owned(),
            interval: seconds(1),
            timeout: seconds(1),
            suspect_after: seconds(3),
            dead_after: seconds(10),
        },
        drain: DrainPolicy { mode: DrainMode::Close, deadline: seconds(300), rate_max: None },
        timeouts: Timeouts {
            connect: seconds(2),
            handshake: seconds(10),
            response: seconds(60),
            write: seconds(30),
            idle: None,
            session: None,
        },
        keepalive: KeepalivePolicy { tcp: None, ping: None, timeout: seconds(20) },
        proxy_protocol: ProxyProtocol::None,
        scale: ScalePolicy {
            min: 1,
            max: 5,
            buffer: Buffer::Backends(0),
            up: rules(Duration::ZERO),
            down: rules(seconds(300)),
            idle_to_zero_after: None,
        },
    }
}
