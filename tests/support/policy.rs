//! Fleets to test with.

use std::path::Path;
use std::time::Duration;

use holdline_core::policy::{
    Affinity, Balance, Buffer, DrainMode, DrainPolicy, FleetPolicy, HeartbeatPolicy, KeepalivePolicy, Probe, ProcessPolicy,
    ProviderPolicy, ProxyProtocol, QueuePolicy, RefusePolicy, RefuseWith, ScalePolicy, ScaleRules, SelectPolicy, Timeouts,
};

/// A fleet with the defaults of the configuration, save short heartbeats.
pub(crate) fn fleet(name: &str, provider: ProviderPolicy) -> FleetPolicy {
    let rules = ScaleRules { stabilization: Duration::ZERO, select: SelectPolicy::Max, policies: Vec::new() };
    FleetPolicy {
        name: name.into(),
        provider,
        capacity: Some(20),
        fill: 0.8,
        balance: Balance::LeastSessions,
        affinity: Affinity::None,
        queue: QueuePolicy { length: 1000, timeout: Duration::from_secs(10) },
        admit_rate: None,
        refuse: RefusePolicy { with: RefuseWith::Status, retry_after: Duration::from_secs(5) },
        heartbeat: HeartbeatPolicy {
            probe: Probe::Tcp,
            path: "/heartbeat".into(),
            interval: Duration::from_millis(100),
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
            min: 1,
            max: 20,
            buffer: Buffer::Backends(0),
            up: rules.clone(),
            down: rules,
            idle_to_zero_after: None,
        },
    }
}

/// Children that run `command` on `ports`, the first and the last, with their logs in `log_dir`.
pub(crate) fn process(command: &[&str], ports: (u16, u16), log_dir: &Path) -> ProcessPolicy {
    ProcessPolicy {
        command: command.iter().map(|part| (*part).to_owned()).collect(),
        ports,
        env: Vec::new(),
        ready_timeout: Duration::from_secs(30),
        stop_timeout: Duration::from_secs(10),
        log_dir: log_dir.to_owned(),
    }
}
