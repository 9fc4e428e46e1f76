//! A fleet's policy, and chance.

use std::time::Duration;

use holdline_core::policy::*;
use rand::Rng;
use rand::rngs::SmallRng;

/// A process fleet with the defaults of the contract, but for its bounds.
pub(crate) fn policy(capacity: Option<u32>, min: u32, max: u32) -> FleetPolicy {
    let step = |amount| ScaleStep { amount, period: Duration::from_secs(15) };
    FleetPolicy {
        name: "chat".into(),
        provider: ProviderPolicy::Process(ProcessPolicy {
            command: vec!["server".into()],
            ports: (20_000, 20_999),
            env: Vec::new(),
            ready_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(30),
            log_dir: "logs".into(),
        }),
        capacity,
        fill: 0.8,
        balance: Balance::LeastSessions,
        affinity: Affinity::None,
        queue: QueuePolicy { length: 1000, timeout: Duration::from_secs(10) },
        admit_rate: None,
        refuse: RefusePolicy { with: RefuseWith::Status, retry_after: Duration::from_secs(5) },
        heartbeat: HeartbeatPolicy {
            probe: Probe::Tcp,
            path: "/heartbeat".into(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            suspect_after: Duration::from_secs(3),
            dead_after: Duration::from_secs(10),
        },
        drain: DrainPolicy { mode: DrainMode::Close, deadline: Duration::from_secs(300), rate_max: None },
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            handshake: Duration::from_secs(10),
            response: Duration::from_secs(60),
            write: Duration::from_secs(30),
            idle: None,
            session: None,
        },
        keepalive: KeepalivePolicy { tcp: None, ping: None, timeout: Duration::from_secs(20) },
        proxy_protocol: ProxyProtocol::None,
        scale: ScalePolicy {
            min,
            max,
            buffer: Buffer::Backends(0),
            up: ScaleRules {
                stabilization: Duration::ZERO,
                select: SelectPolicy::Max,
                policies: vec![step(StepAmount::Share(1.0)), step(StepAmount::Backends(4))],
            },
            down: ScaleRules { stabilization: Duration::from_secs(300), select: SelectPolicy::Max, policies: Vec::new() },
            idle_to_zero_after: None,
        },
    }
}

/// Knuth's way: how many uniform factors until the product falls below e^−rate. Rates of a second are small here.
pub(crate) fn poisson(rng: &mut SmallRng, rate: f64) -> u32 {
    let (floor, mut product, mut k) = ((-rate).exp(), rng.random::<f64>(), 0);
    while product > floor {
        product *= rng.random::<f64>();
        k += 1;
    }
    k
}

/// By geometric gaps: as many draws as there are successes, and one.
pub(crate) fn binomial(rng: &mut SmallRng, n: u32, p: f64) -> u32 {
    if p >= 1.0 {
        return n;
    }
    let (mut at, mut successes) = (0.0, 0);
    loop {
        at += ((1.0 - rng.random::<f64>()).ln() / (1.0 - p).ln()).floor() + 1.0;
        if at > f64::from(n) {
            return successes;
        }
        successes += 1;
    }
}
