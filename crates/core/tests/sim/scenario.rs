//! What a seed decides before the first step: the fleet's policy, and how rough the world is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::policy::*;
use rand::Rng;
use rand::rngs::SmallRng;

#[path = "../../../../tests/support/policy.rs"]
mod fleet;

/// A world to live in.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) policy: Arc<FleetPolicy>,
    /// Whether anything goes wrong or any operator does anything.
    pub(crate) rough: bool,
    /// Whether the rate of arrivals changes; else it is [`Scenario::arrivals_max`] all the time.
    pub(crate) waves: bool,
    /// Arrivals a second at the most.
    pub(crate) arrivals_max: f64,
    /// The longest that a client stays.
    pub(crate) stay_max: Duration,
    /// Whether backends push their heartbeats, with a sequence number, and some arrive twice.
    pub(crate) push: bool,
    /// Whether backends have sessions that did not come through Holdline.
    pub(crate) foreign: bool,
}

impl Scenario {
    /// Everything at random.
    pub(crate) fn random(rng: &mut SmallRng) -> Self {
        let elastic = rng.random_bool(0.6);
        let capacity = rng.random_range(4..=20);
        let policy = FleetPolicy {
            provider: if elastic { process() } else { fixed(rng.random_range(2..=5)) },
            capacity: Some(capacity),
            fill: rng.random_range(0.5..=1.0),
            balance: [Balance::LeastSessions, Balance::Packed, Balance::RandomOfTwo][rng.random_range(0..3)],
            queue: QueuePolicy { length: rng.random_range(0..40), timeout: Duration::from_secs(rng.random_range(1..12)) },
            admit_rate: rng.random_bool(0.3).then(|| rng.random_range(5.0..50.0)),
            drain: DrainPolicy {
                mode: if rng.random_bool(0.9) { DrainMode::Close } else { DrainMode::Cut },
                deadline: Duration::from_secs(rng.random_range(5..40)),
                rate_max: rng.random_bool(0.4).then(|| rng.random_range(0.5..20.0)),
            },
            scale: scale(rng.random_range(0..3), rng.random_range(3..8), Duration::from_secs(rng.random_range(5..40))),
            ..base()
        };
        Scenario {
            policy: Arc::new(policy),
            rough: true,
            waves: true,
            arrivals_max: f64::from(capacity) / rng.random_range(2.0..6.0),
            stay_max: Duration::from_secs(rng.random_range(10..90)),
            push: rng.random_bool(0.3),
            foreign: rng.random_bool(0.3),
        }
    }

    /// A process fleet under a load that does not change and a world in which nothing goes wrong.
    pub(crate) fn constant(rng: &mut SmallRng) -> Self {
        let policy = FleetPolicy {
            provider: process(),
            capacity: Some(20),
            scale: scale(1, 20, Duration::from_secs(300)),
            balance: [Balance::LeastSessions, Balance::Packed][rng.random_range(0..2)],
            ..base()
        };
        Scenario {
            policy: Arc::new(policy),
            rough: false,
            waves: false,
            arrivals_max: rng.random_range(0.5..4.0),
            stay_max: Duration::from_secs(40),
            push: false,
            foreign: false,
        }
    }
}

/// One fleet with the defaults of the contract, and timeouts that fit a short run.
pub(crate) fn base() -> FleetPolicy {
    let mut policy = fleet::fleet("chat", process());
    policy.capacity = Some(10);
    (policy.heartbeat.probe, policy.heartbeat.interval) = (Probe::Http, Duration::from_secs(1));
    policy.drain.deadline = Duration::from_secs(60);
    policy.scale = scale(1, 20, Duration::from_secs(300));
    policy
}

fn process() -> ProviderPolicy {
    let stop_timeout = Duration::from_secs(30);
    ProviderPolicy::Process(ProcessPolicy { stop_timeout, ..fleet::process(&["server"], (20_000, 20_999), Path::new("logs")) })
}

pub(crate) fn fixed(count: u16) -> ProviderPolicy {
    let backend = |n| StaticBackend {
        id: format!("static-{n}").into(),
        address: ([127, 0, 0, 1], 9_000 + n).into(),
        capacity: (n == 1).then_some(7),
    };
    ProviderPolicy::Static((0..count).map(backend).collect())
}

fn scale(min: u32, max: u32, stabilization: Duration) -> ScalePolicy {
    let rules = |stabilization| ScaleRules { stabilization, select: SelectPolicy::Max, policies: Vec::new() };
    ScalePolicy {
        min,
        max,
        buffer: Buffer::Backends(0),
        up: rules(Duration::ZERO),
        down: rules(stabilization),
        idle_to_zero_after: (min == 0).then_some(Duration::from_secs(15)),
    }
}
