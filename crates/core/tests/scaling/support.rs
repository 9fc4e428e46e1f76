//! A fleet's policy, and chance.

use std::path::Path;
use std::time::Duration;

use holdline_core::policy::*;
use rand::Rng;
use rand::rngs::SmallRng;

#[path = "../../../../tests/support/policy.rs"]
mod fleet;

/// A process fleet with the defaults of the contract, but for its bounds.
pub(crate) fn policy(capacity: Option<u32>, min: u32, max: u32) -> FleetPolicy {
    let step = |amount| ScaleStep { amount, period: Duration::from_secs(15) };
    let process = fleet::process(&["server"], (20_000, 20_999), Path::new("logs"));
    let mut policy = fleet::fleet("chat", ProviderPolicy::Process(process));
    policy.capacity = capacity;
    policy.heartbeat.interval = Duration::from_secs(1);
    policy.scale.up.policies = vec![step(StepAmount::Share(1.0)), step(StepAmount::Backends(4))];
    policy.scale.down.stabilization = Duration::from_secs(300);
    (policy.scale.min, policy.scale.max) = (min, max);
    policy
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
