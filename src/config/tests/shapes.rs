//! Files that are not YAML, or have a value of the wrong shape, and exactly what is said about each.

use super::error_of;

#[test]
fn the_first_error_is_told_with_its_place_and_a_snippet() {
    for (text, expected) in BROKEN {
        assert_eq!(error_of(text).as_str(), expected.trim_end(), "of the file\n{text}");
    }
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let error = error_of("threads: \"\\e[31m\"\n\"a\\u0007b\": 1\n");
    assert!(!error.contains(['\u{1b}', '\u{7}']), "{error:?}");
}

/// Text of the file, text of the error.
const BROKEN: &[(&str, &str)] = &[
    (
        r#"listeners: [ { address: "127.0.0.1:8080" }
fleets: {}
"#,
        r#"holdline.yaml:2:7: illegal placement of ':' indicator
  |
2 | fleets: {}
  |       ^"#,
    ),
    (
        r#"fleets:
	chat: {}
"#,
        r#"holdline.yaml:2:2: tabs disallowed within this context (block indentation)
  |
2 |  chat: {}
  |  ^^^^"#,
    ),
    (
        r#"listners: []
"#,
        r#"holdline.yaml:1:1: unknown key `listners`; did you mean `listeners`?
  |
1 | listners: []
  | ^^^^^^^^"#,
    ),
    (
        r#"tls: {}
"#,
        r#"holdline.yaml:1:1: unknown key `tls`; known keys: listeners, admin, trusted, log, routes, fleets, limits, threads, shutdown
  |
1 | tls: {}
  | ^^^"#,
    ),
    (
        r#"fleets:
  chat:
    heartbeat: { intervall: 1s }
"#,
        r#"holdline.yaml:3:18: unknown key `intervall`; did you mean `interval`?
  |
3 |     heartbeat: { intervall: 1s }
  |                  ^^^^^^^^^"#,
    ),
    (
        r#"listeners:
  - address: "0.0.0.0:8443"
    transparent: true
"#,
        r#"holdline.yaml:3:5: unknown key `transparent`; known keys: address, tls, proxy_protocol
  |
3 |     transparent: true
  |     ^^^^^^^^^^^"#,
    ),
    (
        r#"fleets:
  chat:
    balance: least-session
"#,
        r#"holdline.yaml:3:14: unknown value `least-session`, expected one of least-sessions, packed, random-of-two; did you mean `least-sessions`?
  |
3 |     balance: least-session
  |              ^^^^^^^^^^^^^"#,
    ),
    (
        r#"fleets:
  chat:
    affinity: { by: ip }
"#,
        r#"holdline.yaml:3:21: unknown value `ip`, expected one of none, cookie, header, query, address
  |
3 |     affinity: { by: ip }
  |                     ^^"#,
    ),
    (
        r#"fleets: { chat: { drain: { mode: handoff } } }
"#,
        r#"holdline.yaml:1:34: unknown value `handoff`, expected one of close, cut
  |
1 | fleets: { chat: { drain: { mode: handoff } } }
  |                                  ^^^^^^^"#,
    ),
    (
        r#"fleets:
  chat:
    timeouts: { connect: 2 }
"#,
        r#"holdline.yaml:3:26: `2` needs a unit: write 2ms, 2s, 2m or 2h
  |
3 |     timeouts: { connect: 2 }
  |                          ^"#,
    ),
    (
        r#"fleets:
  chat:
    admit_rate: 100
"#,
        r#"holdline.yaml:3:17: `100` needs a unit: write 100/s, or none
  |
3 |     admit_rate: 100
  |                 ^^^"#,
    ),
    (
        r#"limits: { head: 16384 }
"#,
        r#"holdline.yaml:1:17: `16384` needs a unit: write 16KiB
  |
1 | limits: { head: 16384 }
  |                 ^^^^^"#,
    ),
    (
        r#"fleets:
  chat:
    fill: 0.8
"#,
        r#"holdline.yaml:3:11: `0.8` needs a unit: write 80%
  |
3 |     fill: 0.8
  |           ^^^"#,
    ),
    (
        r#"shutdown:
  deadline: "60 sec"
"#,
        r#"holdline.yaml:2:13: `60 sec` is not a duration: a whole number and ms, s, m or h, such as 10s
  |
2 |   deadline: "60 sec"
  |             ^^^^^^^^"#,
    ),
    (
        r#"limits: { head: 16KB }
"#,
        r#"holdline.yaml:1:17: `16KB` is not a size: a whole number and B, KiB, MiB or GiB, such as 64KiB
  |
1 | limits: { head: 16KB }
  |                 ^^^^"#,
    ),
    (
        r#"fleets: { chat: { capacity: lots } }
"#,
        r#"holdline.yaml:1:29: `lots` is not a whole number, such as 100, or none
  |
1 | fleets: { chat: { capacity: lots } }
  |                             ^^^^"#,
    ),
    (
        r#"fleets: { chat: { scale: { min: -1 } } }
"#,
        r#"holdline.yaml:1:33: `-1` is not a whole number, such as 100
  |
1 | fleets: { chat: { scale: { min: -1 } } }
  |                                 ^^"#,
    ),
    (
        r#"fleets: { chat: { backends: { process: { ports: 20999-20000 } } } }
"#,
        r#"holdline.yaml:1:49: `20999-20000` is not a range of ports, the lower one first, such as 20000-20999
  |
1 | fleets: { chat: { backends: { process: { ports: 20999-20000 } } } }
  |                                                 ^^^^^^^^^^^"#,
    ),
    (
        r#"threads: all
"#,
        r#"holdline.yaml:1:10: `all` is not auto or a number of threads, such as 4
  |
1 | threads: all
  |          ^^^"#,
    ),
    (
        r#"log: { access: sometimes }
"#,
        r#"holdline.yaml:1:16: write true or false
  |
1 | log: { access: sometimes }
  |                ^^^^^^^^^"#,
    ),
    (
        r#"fleets: [ chat ]
"#,
        r#"holdline.yaml:1:9: write a mapping here, such as { key: value }
  |
1 | fleets: [ chat ]
  |         ^"#,
    ),
    (
        r#"listeners: { address: "127.0.0.1:8080" }
"#,
        r#"holdline.yaml:1:12: write a list here, such as [ value ]
  |
1 | listeners: { address: "127.0.0.1:8080" }
  |            ^"#,
    ),
    (
        r#"admin: "127.0.0.1:9900"
"#,
        r#"holdline.yaml:1:8: write a mapping here, such as { key: value }
  |
1 | admin: "127.0.0.1:9900"
  |        ^^^^^^^^^^^^^^^^"#,
    ),
    (
        r#"fleets: { chat: { timeouts: { idle: { after: 5m } } } }
"#,
        r#"holdline.yaml:1:37: write a single value here, not a list or a mapping
  |
1 | fleets: { chat: { timeouts: { idle: { after: 5m } } } }
  |                                     ^"#,
    ),
    (
        r#"fleets:
  chat:
    backends:
      process: { command: [server, --port, {port}] }
"#,
        r#"holdline.yaml:4:44: braces begin a mapping in YAML; write "{port}" or "{id}" in quotes
  |
4 |       process: { command: [server, --port, {port}] }
  |                                            ^^^^^"#,
    ),
    (
        r#"routes:
  - path: /
"#,
        r#"holdline.yaml:2:5: the key `fleet` is missing; add it
  |
2 |   - path: /
  |     ^^^^"#,
    ),
    (
        r#"shutdown:
  deadline:
"#,
        r#"holdline.yaml:2:11: the value is missing; add one or remove the key
  |
2 |   deadline:
  |           ^"#,
    ),
    (
        r#"routes:
  - host:
    fleet: chat
"#,
        r#"holdline.yaml:2:9: the value is missing; add one or remove the key
  |
2 |   - host:
  |         ^"#,
    ),
    (
        r#"log:
"#,
        r#"holdline.yaml:1:4: write a mapping here, such as { key: value }
  |
1 | log:
  |    ^"#,
    ),
    (
        r#"listeners:
"#,
        r#"holdline.yaml:1:10: write a list here, such as [ value ]
  |
1 | listeners:
  |          ^"#,
    ),
    (
        r#"fleets:
"#,
        r#"holdline.yaml:1:7: write a mapping here, such as { key: value }
  |
1 | fleets:
  |       ^"#,
    ),
    (
        r#"fleets: { chat: { backends: { static: } } }
"#,
        r#"holdline.yaml:1:37: write a list here, such as [ value ]
  |
1 | fleets: { chat: { backends: { static: } } }
  |                                     ^"#,
    ),
    (
        r#"fleets: { chat: { backends: { process: ~ } } }
"#,
        r#"holdline.yaml:1:40: write a mapping here, such as { key: value }
  |
1 | fleets: { chat: { backends: { process: ~ } } }
  |                                        ^"#,
    ),
    (
        r#"threads: 2
threads: 4
"#,
        r#"holdline.yaml:2:1: duplicate key `threads`; remove one
  |
2 | threads: 4
  | ^^^^^^^"#,
    ),
    (
        r#"fleets:
  chat:
    queue: { length: 1, length: 2 }
"#,
        r#"holdline.yaml:3:25: duplicate key `length`; remove one
  |
3 |     queue: { length: 1, length: 2 }
  |                         ^^^^^^"#,
    ),
    (
        r#"threads: 2
---
threads: 4
"#,
        r#"holdline.yaml:3:1: a second document begins here; remove the line `---` above and what follows it
  |
3 | threads: 4
  | ^^^^^^^"#,
    ),
    (
        r#"log: &a { level: loud }
"#,
        r#"holdline.yaml:1:18: unknown value `loud`, expected one of error, warn, info, debug, trace
  |
1 | log: &a { level: loud }
  |                  ^^^^"#,
    ),
    (
        r#"threads: *cores
"#,
        r#"holdline.yaml:1:10: alias references unknown anchor
  |
1 | threads: *cores
  |          ^^^^^^"#,
    ),
];
