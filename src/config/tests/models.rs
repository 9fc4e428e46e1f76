//! What becomes of a file that is right.

use std::time::Duration;

use holdline_core::policy::*;

use super::model_of;
use crate::config::model::{HostMatch, Listener, LogFormat, Route};
use crate::config::units::Sessions;

/// A file with nothing but what has no default.
const LEAST: &str = r#"
listeners: [ { address: "127.0.0.1:0" } ]
fleets: { chat: { backends: { static: [ { address: "127.0.0.1:9001" } ] }, capacity: 1000 } }
"#;

#[test]
fn defaults_are_those_of_the_contract() {
    let s = Duration::from_secs;
    let config = model_of(LEAST);
    assert_eq!(config.listeners, [Listener { address: ([127, 0, 0, 1], 0).into(), tls: None, proxy_protocol: false }]);
    assert!(config.trusted.is_empty());
    assert_eq!(config.admin, ([127, 0, 0, 1], 9900).into());
    assert_eq!((config.log.format, config.log.level, config.log.access), (LogFormat::Text, tracing::Level::INFO, true));
    assert_eq!(config.routes, [Route { host: HostMatch::Any, path: "/".into(), fleet: "chat".into(), sessions: Sessions::Auto }]);
    assert_eq!((config.limits.head, config.limits.head_timeout), (16 * 1024, s(10)));
    let limits = (config.limits.sessions_per_address, config.limits.handshakes_per_address, config.limits.memory);
    assert_eq!(limits, (None, None, None));
    assert_eq!((config.threads, config.shutdown_deadline), (None, s(60)));
    let [fleet] = config.fleets.as_slice() else { panic!("{:?}", config.fleets) };
    assert_eq!(fleet.heartbeat_token, None);
    let address = ([127, 0, 0, 1], 9001).into();
    let expected = FleetPolicy {
        name: "chat".into(),
        provider: ProviderPolicy::Static(vec![StaticBackend { id: "127.0.0.1:9001".into(), address, capacity: None }]),
        capacity: Some(1000),
        fill: 0.8,
        balance: Balance::LeastSessions,
        affinity: Affinity::None,
        queue: QueuePolicy { length: 1000, timeout: s(10) },
        admit_rate: None,
        refuse: RefusePolicy { with: RefuseWith::Status, retry_after: s(5) },
        heartbeat: HeartbeatPolicy {
            probe: Probe::Tcp,
            path: "/heartbeat".into(),
            interval: s(1),
            timeout: s(1),
            suspect_after: s(3),
            dead_after: s(10),
        },
        drain: DrainPolicy { mode: DrainMode::Close, deadline: s(300), rate_max: None },
        timeouts: Timeouts { connect: s(2), handshake: s(10), response: s(60), write: s(30), idle: None, session: None },
        keepalive: KeepalivePolicy { tcp: Some(s(60)), ping: None, timeout: s(20) },
        proxy_protocol: ProxyProtocol::None,
        scale: ScalePolicy {
            min: 1,
            max: 20,
            buffer: Buffer::Backends(0),
            up: ScaleRules {
                stabilization: s(0),
                select: SelectPolicy::Max,
                policies: vec![
                    ScaleStep { amount: StepAmount::Share(1.0), period: s(15) },
                    ScaleStep { amount: StepAmount::Backends(4), period: s(15) },
                ],
            },
            down: ScaleRules { stabilization: s(300), select: SelectPolicy::Max, policies: vec![] },
            idle_to_zero_after: None,
        },
    };
    assert_eq!(*fleet.policy, expected);
}

#[test]
fn every_value_arrives() {
    let config = model_of(
        r#"
listeners: [ { address: "[::1]:8080" } ]
admin: { address: "[::1]:9900" }
log: { format: json, level: debug, access: false }
threads: 3
fleets:
  live:
    backends:
      process:
        command: [bin/live, --port, "{port}"]
        ports: 30000-30009
        env: { NAME: "{id}", MODE: 8 }
        ready_timeout: 250ms
        stop_timeout: 0s
        log_dir: ./log
    capacity: 50
    fill: 62.5%
    balance: random-of-two
    affinity: { by: cookie, name: sticky }
    admit_rate: 2.5/s
    refuse: { with: close }
    heartbeat: { probe: push }
    drain: { mode: cut, rate_max: 7/s }
    timeouts: { idle: 1h, session: 24h }
    keepalive: { tcp: none, ping: 5m }
    scale: { min: 0, max: 10, buffer: 10%, idle_to_zero_after: 5m, behavior: { up: { select: disabled, policies: [] }, down: { select: min, policies: [ { amount: 50%, period: 1m } ] } } }
"#,
    );
    let s = Duration::from_secs;
    assert_eq!((config.log.format, config.log.level, config.log.access), (LogFormat::Json, tracing::Level::DEBUG, false));
    assert_eq!(config.threads.map(|n| n.get()), Some(3));
    let policy = &config.fleets[0].policy;
    let ProviderPolicy::Process(process) = &policy.provider else { panic!("{policy:?}") };
    assert_eq!(process.command, ["/srv/holdline/bin/live", "--port", "{port}"]);
    assert_eq!(
        (process.ports, process.ready_timeout, process.stop_timeout),
        ((30_000, 30_009), Duration::from_millis(250), s(0))
    );
    assert_eq!(process.env, [("NAME".to_owned(), "{id}".to_owned()), ("MODE".to_owned(), "8".to_owned())]);
    assert_eq!(process.log_dir, std::path::Path::new("/srv/holdline/log"));
    assert_eq!((policy.fill, policy.balance, policy.admit_rate), (0.625, Balance::RandomOfTwo, Some(2.5)));
    assert_eq!(policy.affinity, Affinity::Cookie { name: "sticky".into(), keys: None });
    assert_eq!((policy.refuse.with, policy.heartbeat.probe), (RefuseWith::Close, Probe::Push));
    assert_eq!((policy.drain.mode, policy.drain.rate_max), (DrainMode::Cut, Some(7.0)));
    assert_eq!((policy.timeouts.idle, policy.timeouts.session), (Some(s(3600)), Some(s(86_400))));
    assert_eq!((policy.keepalive.tcp, policy.keepalive.ping), (None, Some(s(300))));
    let scale = &policy.scale;
    assert_eq!((scale.min, scale.max, scale.buffer, scale.idle_to_zero_after), (0, 10, Buffer::Share(0.1), Some(s(300))));
    assert_eq!((scale.up.select, scale.up.policies.len()), (SelectPolicy::Disabled, 0));
    assert_eq!(scale.down.policies, [ScaleStep { amount: StepAmount::Share(0.5), period: s(60) }]);
    assert_eq!((scale.down.select, scale.down.stabilization), (SelectPolicy::Min, s(300)));
}

#[test]
fn routes_stand_in_their_order_of_precedence() {
    let config = model_of(
        r#"
listeners: [ { address: "127.0.0.1:0" } ]
routes:
  - { path: /, fleet: a }
  - { path: /poll/, fleet: b }
  - { host: "*.example.com", path: /deep/path, fleet: a }
  - { host: "*.chat.example.com", fleet: b }
  - { host: "Chat.Example.COM", path: /x, fleet: a }
  - { host: "chat.example.com", path: /x/y, fleet: b }
  - { host: "[::1]", fleet: b }
fleets:
  a: { backends: { static: [ { address: "127.0.0.1:9001" } ] }, capacity: none }
  b: { backends: { static: [ { address: "127.0.0.1:9002", capacity: 5 } ] } }
"#,
    );
    let exact = |name: &str| HostMatch::Exact(name.into());
    let below = |suffix: &str| HostMatch::Below(suffix.into());
    let expected = [
        (exact("chat.example.com"), "/x/y", "b"),
        (exact("chat.example.com"), "/x", "a"),
        (exact("[::1]"), "/", "b"),
        (below(".chat.example.com"), "/", "b"),
        (below(".example.com"), "/deep/path", "a"),
        (HostMatch::Any, "/poll", "b"),
        (HostMatch::Any, "/", "a"),
    ];
    let found: Vec<_> = config.routes.iter().map(|r| (r.host.clone(), r.path.as_str(), r.fleet.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn one_cookie_name_is_fine_where_no_client_reaches_both() {
    let text = r#"
listeners: [ { address: "127.0.0.1:0" } ]
routes: [ { host: a.example.com, fleet: a }, { host: b.example.com, fleet: b } ]
fleets:
  a: { backends: { static: [ { address: "127.0.0.1:9001" } ] }, capacity: none, affinity: { by: cookie } }
  b: { backends: { static: [ { address: "127.0.0.1:9002" } ] }, capacity: none, affinity: { by: cookie } }
"#;
    assert_eq!(model_of(text).fleets.len(), 2);
}

#[test]
fn affinity_has_a_name_where_it_needs_one() {
    let affinity = |by: &str| {
        let text = format!(
            "listeners: [ {{ address: \"127.0.0.1:0\" }} ]\nfleets:\n  a: {{ backends: {{ static: [ {{ address: \"127.0.0.1:9001\" }} ] }}, \
             capacity: none, affinity: {{ {by} }} }}"
        );
        model_of(&text).fleets[0].policy.affinity.clone()
    };
    assert_eq!(affinity("by: none, name: x"), Affinity::None);
    assert_eq!(affinity("by: cookie"), Affinity::Cookie { name: "holdline".into(), keys: None });
    assert_eq!(affinity("by: header, name: X-User"), Affinity::Header { name: "x-user".into() });
    assert_eq!(affinity("by: query, name: User"), Affinity::Query { name: "User".into() });
    assert_eq!(affinity("by: address"), Affinity::Address);
}

#[test]
fn an_anchor_shares_a_part_between_fleets() {
    let config = model_of(
        r#"
listeners: [ { address: "127.0.0.1:0" } ]
routes: [ { path: /a, fleet: a }, { fleet: b } ]
fleets:
  a: { backends: { static: [ { address: "127.0.0.1:9001" } ] }, capacity: none, timeouts: &slow { response: 5m } }
  b: { backends: { static: [ { address: "127.0.0.1:9002" } ] }, capacity: none, timeouts: *slow }
"#,
    );
    assert_eq!(config.fleets[1].policy.timeouts.response, Duration::from_secs(300));
}

#[test]
fn limits_are_per_address_and_on_memory() {
    let limits =
        model_of(&format!("{LEAST}limits: {{ sessions_per_address: 100, handshakes_per_address: 2.5/s, memory: 2GiB }}\n"))
            .limits;
    assert_eq!(
        (limits.sessions_per_address, limits.handshakes_per_address, limits.memory),
        (Some(100), Some(2.5), Some(2 << 30))
    );
}
