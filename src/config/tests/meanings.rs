//! Files that can be read but not be meant, and exactly what is said about each: everything, in the order of the lines.

use std::path::Path;

use super::error_of;
use crate::config::{Programs, parse, parse_with};

#[test]
fn a_fleet_with_values_that_contradict() {
    for (fleet, expected) in FLEETS {
        let text = format!(
            r#"listeners: [ {{ address: "127.0.0.1:8080" }} ]
fleets:
  chat:
    backends: {{ static: [ {{ address: "127.0.0.1:9001" }} ] }}
    capacity: 100
    {fleet}
"#
        );
        assert_eq!(error_of(&text).as_str(), *expected, "of the file\n{text}");
    }
}

#[test]
fn all_problems_of_a_file_at_once() {
    for (text, expected) in FILES {
        assert_eq!(error_of(text).as_str(), expected.trim_end(), "of the file\n{text}");
    }
}

#[test]
fn a_program_must_be_executable_and_may_be_trusted() {
    let text = r#"
listeners: [ { address: "127.0.0.1:8080" } ]
fleets:
  live: { backends: { process: { command: [./Cargo.toml, "{port}"] } }, capacity: 5 }
"#;
    let base = Path::new(env!("CARGO_MANIFEST_DIR"));
    let error = parse(text, "holdline.yaml", base).unwrap_err().to_string();
    let program = base.join("Cargo.toml").display().to_string();
    let expected =
        format!("holdline.yaml:4: fleets.live.backends.process.command: {program} is not executable; chmod +x {program}");
    assert_eq!(error, expected);
    assert!(parse_with(text, "holdline.yaml", base, Programs::Trust).is_ok());
    assert!(parse(&text.replace("./Cargo.toml", "sh"), "holdline.yaml", base).is_ok());
}

/// Line 6 of the file above, text of the error.
const FLEETS: &[(&str, &str)] = &[
    (r#"scale: { min: 5, max: 3 }"#, r#"holdline.yaml:6: fleets.chat.scale.min is 5, above max 3; lower min or raise max"#),
    (
        r#"scale: { min: 25 }"#,
        r#"holdline.yaml:6: fleets.chat.scale.min is 25, above max 20 (the default); lower min or raise max"#,
    ),
    (
        r#"scale: { max: 0 }"#,
        r#"holdline.yaml:6: fleets.chat.scale.max is 0; write 1 or more; a fleet without backends cannot serve clients"#,
    ),
    (
        r#"scale: { idle_to_zero_after: 5m }"#,
        r#"holdline.yaml:6: fleets.chat.scale.idle_to_zero_after is 5m, but min is 1 (the default); set min: 0, or use none here"#,
    ),
    (
        r#"scale: { behavior: { down: { stabilization: 2h }, up: { policies: [ { amount: 0, period: 1h } ] } } }"#,
        r#"holdline.yaml:6: fleets.chat.scale.behavior.up.policies: amount is 0; write more than zero; select: disabled forbids every change
holdline.yaml:6: fleets.chat.scale.behavior.up.policies: period is 1h; write 30m or less
holdline.yaml:6: fleets.chat.scale.behavior.down.stabilization is 2h; write 1h or less"#,
    ),
    (
        r#"heartbeat: { suspect_after: 10s }"#,
        r#"holdline.yaml:6: fleets.chat.heartbeat.suspect_after is 10s, not below dead_after 10s (the default); lower suspect_after or raise dead_after"#,
    ),
    (
        r#"heartbeat: { interval: 3s }"#,
        r#"holdline.yaml:6: fleets.chat.heartbeat.interval is 3s, not below suspect_after 3s (the default); raise suspect_after to several intervals: one late heartbeat is no failure"#,
    ),
    (r#"heartbeat: { interval: 0s }"#, r#"holdline.yaml:6: fleets.chat.heartbeat.interval is 0s; use a duration above zero"#),
    (
        r#"heartbeat: { path: heartbeat }"#,
        r#"holdline.yaml:6: fleets.chat.heartbeat.path is `heartbeat`; write a path that begins with /, such as /heartbeat"#,
    ),
    (
        r#"heartbeat: { token_file: token }"#,
        r#"holdline.yaml:6: fleets.chat.heartbeat.token_file is used with `probe: push` only; write probe: push, or remove it"#,
    ),
    (
        r#"affinity: { by: address, key_file: a.key }"#,
        r#"holdline.yaml:6: fleets.chat.affinity.key_file is used with `by: cookie` only; write by: cookie, or remove it"#,
    ),
    (
        r#"heartbeat: { probe: push, token_file: missing.token }"#,
        r#"holdline.yaml:6: fleets.chat.heartbeat.token_file /srv/holdline/missing.token cannot be read: No such file or directory (os error 2); correct the path or its permissions"#,
    ),
    (r#"fill: 0%"#, r#"holdline.yaml:6: fleets.chat.fill is 0%; write more than 0% and at most 100%"#),
    (r#"fill: 120%"#, r#"holdline.yaml:6: fleets.chat.fill is 120%; write more than 0% and at most 100%"#),
    (
        r#"timeouts: { connect: 20s, idle: 0s }"#,
        r#"holdline.yaml:6: fleets.chat.timeouts.connect is 20s, above handshake 10s (the default); lower connect or raise handshake, which includes every dial
holdline.yaml:6: fleets.chat.timeouts.idle is 0s; use a duration above zero, or none"#,
    ),
    (
        r#"keepalive: { tcp: 500ms, ping: 5m }
    timeouts: { idle: 1m }"#,
        r#"holdline.yaml:6: fleets.chat.keepalive.tcp is 500ms; write 1s or more: the kernel counts in seconds
holdline.yaml:7: fleets.chat.keepalive.ping is 5m, not below timeouts.idle 1m; lower ping or raise idle: no Ping would ever be sent"#,
    ),
    (r#"queue: { timeout: 0s }"#, r#"holdline.yaml:6: fleets.chat.queue.timeout is 0s; use a duration above zero"#),
    (
        r#"affinity: { by: cookie, name: "a b" }"#,
        r#"holdline.yaml:6: fleets.chat.affinity.name `a b` is not a valid cookie name; write letters, digits, `-` and `_`"#,
    ),
    (
        r#"affinity: { by: header }"#,
        r#"holdline.yaml:6: fleets.chat.affinity.by is header, but name is missing; add one, such as name: X-User"#,
    ),
    (
        r#"affinity: { by: header, name: "X User" }"#,
        r#"holdline.yaml:6: fleets.chat.affinity.name `X User` is not a valid header name; write one such as X-User"#,
    ),
    (
        r#"affinity: { by: header, name: X-Forwarded-For }"#,
        r#"holdline.yaml:6: fleets.chat.affinity.name `X-Forwarded-For` is a header that Holdline sets and clients cannot; write one that clients send, such as X-User; for their address write by: address"#,
    ),
    (
        r#"affinity: { by: query }"#,
        r#"holdline.yaml:6: fleets.chat.affinity.by is query, but name is missing; add one, such as name: user"#,
    ),
    (
        r#"affinity: { by: query, name: "a=b" }"#,
        r#"holdline.yaml:6: fleets.chat.affinity.name `a=b` is not a valid parameter name; write the decoded name, such as user"#,
    ),
    (
        r#"affinity:
      by: address
      name: X-User"#,
        r#"holdline.yaml:8: fleets.chat.affinity.name is `X-User`, but the affinity is by address; remove the name, or write by: header or by: query"#,
    ),
    (r#"refuse: { retry_after: 0s }"#, r#"holdline.yaml:6: fleets.chat.refuse.retry_after is 0s; use a duration above zero"#),
];

/// Text of the file, text of the error.
const FILES: &[(&str, &str)] = &[
    (
        r#""#,
        r#"holdline.yaml:1: no listeners; add one: listeners: [ { address: "0.0.0.0:8080" } ]
holdline.yaml:1: no fleets; add one: fleets: { app: { backends: { static: [ { address: "127.0.0.1:9001" } ] }, capacity: 1000 } }"#,
    ),
    (
        r#"listeners: []
fleets: {}
"#,
        r#"holdline.yaml:1: no listeners; add one: listeners: [ { address: "0.0.0.0:8080" } ]
holdline.yaml:1: no fleets; add one: fleets: { app: { backends: { static: [ { address: "127.0.0.1:9001" } ] }, capacity: 1000 } }"#,
    ),
    (
        r#"listeners: [ { address: "127.0.0.1:8080" } ]
fleets:
  chat:
    backends: { static: [ { address: "127.0.0.1:9001" } ] }
    capacity: 100
  chat:
    backends: { static: [ { address: "127.0.0.1:9002" } ] }
    capacity: none
  "no good":
    capacity: 5
routes:
  - { path: /, fleet: chat }
  - { path: /a/, fleet: chta }
  - { path: /a, fleet: chat }
  - { host: "chat.*", path: b, fleet: chat }
  - { host: "https://chat.example.com", fleet: chat }
  - { host: "chat.example.com:80", fleet: chat }
  - { host: "*", path: "/a?b", fleet: chat }
"#,
        r#"holdline.yaml:6: the fleet `chat` is already on line 3; rename one
holdline.yaml:9: `no good` is not a valid fleet name; write letters, digits, `-`, `_` and `.`, at most 63, the first a letter or digit
holdline.yaml:9: fleets.no good.backends has no provider; add static: [ { address: "127.0.0.1:9001" } ], or process: { command: [server, --port, "{port}"] }
holdline.yaml:13: unknown fleet `chta`; known fleets: chat, no good
holdline.yaml:14: the route to `chat` is for the same host and path as that of line 13; remove one: the second would never be used
holdline.yaml:15: the host `chat.*` is neither a name nor `*.` and a name; write chat.example.com, or *.example.com for all below it
holdline.yaml:15: the path `b` does not begin with /; write /b
holdline.yaml:16: the host `https://chat.example.com` is neither a name nor `*.` and a name; write only the host, such as chat.example.com
holdline.yaml:17: the host `chat.example.com:80` is neither a name nor `*.` and a name; write chat.example.com: ports are not compared
holdline.yaml:18: the host `*` is neither a name nor `*.` and a name; remove the key to match any host
holdline.yaml:18: the path `/a?b` contains `?`; write a plain prefix, such as /poll"#,
    ),
    (
        r#"listeners:
  - { address: "0.0.0.0:8080" }
  - { address: "127.0.0.1:8080" }
  - { address: ":9000" }
  - { address: "localhost:9000" }
  - { address: "::1:9000" }
  - { address: "10.0.0.1" }
  - { address: "8080" }
  - { address: "example.com:80" }
admin: { address: "0.0.0.0:9900" }
threads: 0
limits: { head: 4KiB, head_timeout: 0s, sessions_per_address: 0, memory: 1MiB }
fleets:
  chat: { backends: { static: [ { address: "127.0.0.1:9001" } ] }, capacity: 100 }
  feed: { backends: { static: [ { address: "127.0.0.1:9002" } ] }, capacity: 100 }
"#,
        r#"holdline.yaml:3: listener 127.0.0.1:8080 overlaps 0.0.0.0:8080 of line 2; remove one, or change its port
holdline.yaml:4: listeners.address is `:9000`, which is not an IP address with a port; write 0.0.0.0:9000
holdline.yaml:5: listeners.address is `localhost:9000`, which is not an IP address with a port; write 127.0.0.1:9000; names are not resolved
holdline.yaml:6: listeners.address is `::1:9000`, which is not an IP address with a port; write [::1]:9000
holdline.yaml:7: listeners.address is `10.0.0.1`, which is not an IP address with a port; add the port: 10.0.0.1:8080
holdline.yaml:8: listeners.address is `8080`, which is not an IP address with a port; add the address: 0.0.0.0:8080
holdline.yaml:9: listeners.address is `example.com:80`, which is not an IP address with a port; write one such as 10.0.0.7:9001; names are not resolved
holdline.yaml:10: admin.address is 0.0.0.0:9900, which is not a loopback address; the admin API has neither TLS nor tokens: use 127.0.0.1:9900 and connect through a tunnel
holdline.yaml:11: threads is 0; write auto, or a number from 1 to 1024
holdline.yaml:12: limits.head is 4KiB; write 8KiB or more; browsers send heads of several KiB
holdline.yaml:12: limits.sessions_per_address is 0; write 1 or more, or none
holdline.yaml:12: limits.memory is 1MiB; write 32MiB or more, or none
holdline.yaml:12: limits.head_timeout is 0s; use a duration above zero
holdline.yaml:14: there are 2 fleets and no routes; add routes, such as: routes: [ { path: /feed, fleet: feed }, { path: /, fleet: chat } ]"#,
    ),
    (
        r#"listeners: [ { address: "127.0.0.1:8080" } ]
routes:
  - { path: /poll, fleet: chat, sessions: true }
  - { path: /feed, fleet: feed, sessions: true }
  - { path: /, fleet: chat, sessions: false }
fleets:
  chat: { backends: { static: [ { address: "10.0.0.1:9001" } ] }, capacity: 5 }
  feed: { backends: { static: [ { address: "10.0.0.1:9002" } ] }, capacity: 5, affinity: { by: query, name: sid } }
"#,
        r#"holdline.yaml:3: the requests of this route are sessions, but fleets.chat.affinity does not identify clients; write fleets.chat.affinity: { by: cookie }, or by: header or by: query with a name"#,
    ),
    (
        r#"listeners: [ { address: "127.0.0.1:8080" } ]
routes: [ { path: /, fleet: chat } ]
fleets:
  chat:
    backends: { static: [ { address: "10.0.0.1:9001" } ] }
    capacity: 5
  feed:
    backends:
      static:
        - { address: "10.0.0.2:9001" }
        - { address: "[::ffff:10.0.0.1]:9001" }
    capacity: 5
"#,
        r#"holdline.yaml:11: fleets.feed.backends.static: the address [::ffff:10.0.0.1]:9001 belongs to fleet `chat` too, on line 5; keep it in one fleet, which counts its seats; several routes can use the same fleet"#,
    ),
    (
        r#"listeners: [ { address: "127.0.0.1:8080" } ]
admin: { address: "127.0.0.1:8080" }
fleets:
  chat:
    capacity: 0
    backends:
      static:
        - { id: one, address: "10.0.0.1:9001" }
        - { id: one, address: "10.0.0.2:9001", capacity: 0 }
        - { address: "10.0.0.1:9001" }
        - { address: "127.0.0.1:8080" }
        - { address: "0.0.0.0:0" }
        - { id: "a/b", address: "backend:9001" }
        - { id: "a/b", address: "10.0.0.9:9001" }
"#,
        r#"holdline.yaml:2: admin.address 127.0.0.1:8080 overlaps the listener 127.0.0.1:8080; change one of the ports
holdline.yaml:5: fleets.chat.capacity is 0; set the number of sessions it can take; to take it out of service, drain it
holdline.yaml:9: fleets.chat.backends.static: the id `one` is already on line 8; rename one
holdline.yaml:9: fleets.chat.backends.static.capacity is 0; set the number of sessions it can take; to take it out of service, drain it
holdline.yaml:10: fleets.chat.backends.static: the address 10.0.0.1:9001 is already on line 8; remove one: its sessions would be counted twice
holdline.yaml:11: fleets.chat.backends.static.address 127.0.0.1:8080 is an address where Holdline listens (127.0.0.1:8080); write the backend's own address: sessions would loop
holdline.yaml:12: fleets.chat.backends.static.address 0.0.0.0:0 is not a valid destination; write the address and port where the backend listens
holdline.yaml:13: fleets.chat.backends.static.address is `backend:9001`, which is not an IP address with a port; write one such as 10.0.0.7:9001; names are not resolved
holdline.yaml:14: fleets.chat.backends.static.id `a/b` is not a valid backend id; write letters, digits, `-`, `_` and `.`, at most 63, the first a letter or digit"#,
    ),
    (
        r#"listeners: [ { address: "127.0.0.1:20005" } ]
routes: [ { path: /a, fleet: a }, { path: /, fleet: b } ]
fleets:
  a:
    backends: { process: { command: [no-such-server], ports: 20000-20009, env: { A: x, A: y, "B=": z } } }
    affinity: { by: cookie }
  b:
    backends: { process: { command: [] } }
    affinity: { by: cookie }
    capacity: none
  c:
    backends:
      static: []
      process: { command: [./server, --port, "{port}"], ports: 30000-30099, ready_timeout: 0s }
    capacity: 5
"#,
        r#"holdline.yaml:4: fleets.a.capacity is missing; set the sessions that one backend can take; scaling depends on it
holdline.yaml:5: fleets.a.backends.process.ports 20000-20009 contains the port of 127.0.0.1:20005, where Holdline listens; move the range or the port
holdline.yaml:5: fleets.a.backends.process.ports 20000-20009 has 10 ports, fewer than scale.max 20 (the default); widen the range or lower scale.max; every backend needs a port of its own
holdline.yaml:5: fleets.a.backends.process: neither command nor env contains {port}; pass the port to the child: command: [server, --port, "{port}"], or env: { PORT: "{port}" }
holdline.yaml:5: fleets.a.backends.process.command: `no-such-server` is not in PATH; install it, or write its path: ./bin/server starts at the directory of this file
holdline.yaml:5: fleets.a.backends.process.env: `A` is already on line 5; remove one
holdline.yaml:5: fleets.a.backends.process.env: `B=` is not a valid variable name; write a name without `=`
holdline.yaml:7: fleets.b.backends.process.ports 20000-20999 (the default) overlaps 20000-20009 of fleet `a`; give each fleet a range of its own
holdline.yaml:7: fleets.b.backends.process.ports 20000-20999 (the default) contains the port of 127.0.0.1:20005, where Holdline listens; move the range or the port
holdline.yaml:7: fleets.b.affinity.name is `holdline`, as for fleet `a`, which the same clients reach; give each fleet its own name: they would overwrite each other's cookie
holdline.yaml:8: fleets.b.backends.process.command is empty; write the program and its arguments: [server, --port, "{port}"]
holdline.yaml:10: fleets.b.capacity is none, but the fleet is scaled; set the sessions that one backend can take
holdline.yaml:14: fleets.c.backends has two providers, static and process; keep one and move the other to a second fleet"#,
    ),
    (
        r#"listeners: [ { address: "127.0.0.1:8080" } ]
routes: [ { fleet: a }, { path: /b, fleet: b } ]
fleets:
  a: { backends: { process: { command: [no-such-program-anywhere, "{port}"], ports: 20000-20099 } }, capacity: 5 }
  b: { backends: { process: { command: [./no-such-program, "{port}"], ports: 20100-20199 } }, capacity: 5 }
"#,
        r#"holdline.yaml:4: fleets.a.backends.process.command: `no-such-program-anywhere` is not in PATH; install it, or write its path: ./bin/server starts at the directory of this file
holdline.yaml:5: fleets.b.backends.process.command: no such program: /srv/holdline/no-such-program; correct the path (a relative one starts at the directory of this file), or build it first"#,
    ),
];
