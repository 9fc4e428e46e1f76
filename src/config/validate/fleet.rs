//! Fleets, except the parts that have files of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::policy::*;

use super::super::located::{At, Entries};
use super::super::model::{self, Listener};
use super::super::raw_fleet as raw;
use super::super::units::{Count, OrNone, Rate};
use super::check::{Check, NAME_SHAPE, default_mark, is_name, later};
use super::process::{Ranges, process};
use super::{addresses, affinity, scale, tls};
use crate::files;

pub(super) fn fleets(
    check: &mut Check<'_>,
    named: &Entries<raw::RawFleet>,
    listeners: &[Listener],
    admin: SocketAddr,
) -> Vec<model::FleetConfig> {
    if named.0.is_empty() {
        check.wrong(
            0,
            "no fleets",
            "add one: fleets: { app: { backends: { static: [ { address: \"127.0.0.1:9001\" } ] }, capacity: 1000 } }",
        );
    }
    let own = listeners.iter().map(|l| l.address).chain([admin]).collect();
    let mut addresses = Addresses { own, backends: Vec::new() };
    let mut ranges = Ranges::default();
    let mut fleets = Vec::new();
    for (n, (name, raw)) in named.0.iter().enumerate() {
        check.home = name.line;
        if let Some((first, _)) = named.0[..n].iter().find(|(other, _)| other.value == name.value) {
            check.wrong(name.line, format!("the fleet `{}` is already on line {}", name.value, first.line), "rename one");
        }
        if !is_name(&name.value) {
            check.wrong(name.line, format!("`{}` is not a valid fleet name", name.value), NAME_SHAPE);
        }
        if let Some(process) = &raw.backends.process {
            ranges.add(check, &name.value, &process.value, &addresses.own);
        }
        fleets.push(fleet(check, &name.value, raw, &mut addresses));
    }
    check.home = 1;
    fleets
}

/// Addresses that a backend cannot have.
struct Addresses {
    /// Holdline's own.
    own: Vec<SocketAddr>,
    /// Those of other backends, with fleet and line.
    backends: Vec<(SocketAddr, String, u64)>,
}

fn fleet(check: &mut Check<'_>, name: &str, raw: &raw::RawFleet, addresses: &mut Addresses) -> model::FleetConfig {
    let (heartbeat, heartbeat_token) = heartbeat(check, name, &raw.heartbeat);
    let timeouts = timeouts(check, name, &raw.timeouts);
    let policy = FleetPolicy {
        name: name.into(),
        provider: provider(check, name, raw, addresses),
        capacity: capacity(check, name, raw),
        fill: fill(check, name, raw),
        balance: match raw.balance {
            raw::Balance::LeastSessions => Balance::LeastSessions,
            raw::Balance::Packed => Balance::Packed,
            raw::Balance::RandomOfTwo => Balance::RandomOfTwo,
        },
        affinity: affinity::affinity(check, name, &raw.affinity),
        queue: QueuePolicy {
            length: raw.queue.length.0,
            timeout: check.positive(&format!("fleets.{name}.queue.timeout"), &raw.queue.timeout),
        },
        admit_rate: per_second(raw.admit_rate),
        refuse: RefusePolicy {
            with: match raw.refuse.with {
                raw::RefuseWith::Status => RefuseWith::Status,
                raw::RefuseWith::Close => RefuseWith::Close,
            },
            retry_after: check.positive(&format!("fleets.{name}.refuse.retry_after"), &raw.refuse.retry_after),
        },
        heartbeat,
        drain: DrainPolicy {
            mode: match raw.drain.mode {
                raw::DrainMode::Close => DrainMode::Close,
                raw::DrainMode::Cut => DrainMode::Cut,
            },
            deadline: check.positive(&format!("fleets.{name}.drain.deadline"), &raw.drain.deadline),
            rate_max: per_second(raw.drain.rate_max),
        },
        keepalive: keepalive(check, name, &raw.keepalive, &raw.timeouts),
        timeouts,
        proxy_protocol: match raw.backends.proxy_protocol {
            raw::ProxyProtocol::None => ProxyProtocol::None,
            raw::ProxyProtocol::V2 => ProxyProtocol::V2,
        },
        scale: scale::scale(check, name, &raw.scale),
    };
    let tls = raw.backends.tls.as_ref().map(|raw| tls::backends(check, name, &raw.value, raw.line));
    model::FleetConfig { policy: Arc::new(policy), heartbeat_token, tls }
}

fn per_second(rate: OrNone<Rate>) -> Option<f64> {
    rate.0.map(|Rate(per_second)| per_second)
}

fn provider(check: &mut Check<'_>, name: &str, raw: &raw::RawFleet, addresses: &mut Addresses) -> ProviderPolicy {
    match (&raw.backends.static_, &raw.backends.process) {
        (Some(list), None) => ProviderPolicy::Static(static_backends(check, name, list, addresses)),
        (None, Some(child)) => ProviderPolicy::Process(process(check, name, child, &raw.scale)),
        (Some(list), Some(child)) => {
            let what = format!("fleets.{name}.backends has two providers, static and process");
            check.wrong(later(list, child), what, "keep one and move the other to a second fleet");
            ProviderPolicy::Static(Vec::new())
        }
        (None, None) => {
            let what = format!("fleets.{name}.backends has no provider");
            check.wrong(
                0,
                what,
                "add static: [ { address: \"127.0.0.1:9001\" } ], or process: { command: [server, --port, \"{port}\"] }",
            );
            ProviderPolicy::Static(Vec::new())
        }
    }
}

fn static_backends(
    check: &mut Check<'_>,
    name: &str,
    raw: &At<Vec<raw::StaticBackend>>,
    taken: &mut Addresses,
) -> Vec<StaticBackend> {
    let at = format!("fleets.{name}.backends.static");
    if raw.value.is_empty() {
        check.wrong(raw.line, format!("{at} is empty"), "add a backend: [ { address: \"127.0.0.1:9001\" } ]");
    }
    let mut found: Vec<(u64, StaticBackend)> = Vec::new();
    for backend in &raw.value {
        let line = backend.address.line;
        let Some(address) = addresses::address(check, &format!("{at}.address"), &backend.address) else { continue };
        if address.port() == 0 || address.ip().is_unspecified() {
            check.wrong(
                line,
                format!("{at}.address {address} is not a valid destination"),
                "write the address and port where the backend listens",
            );
        }
        if let Some(listener) = taken.own.iter().find(|l| addresses::reaches(address, **l)) {
            let what = format!("{at}.address {address} is an address where Holdline listens ({listener})");
            check.wrong(line, what, "write the backend's own address: sessions would loop");
        }
        let is_same =
            |other: &SocketAddr| other.port() == address.port() && other.ip().to_canonical() == address.ip().to_canonical();
        match taken.backends.iter().find(|(other, ..)| is_same(other)) {
            Some((_, fleet, other)) if fleet == name => check.wrong(
                line,
                format!("{at}: the address {address} is already on line {other}"),
                "remove one: its sessions would be counted twice",
            ),
            Some((_, fleet, other)) => check.wrong(
                line,
                format!("{at}: the address {address} belongs to fleet `{fleet}` too, on line {other}"),
                "keep it in one fleet, which counts its seats; several routes can use the same fleet",
            ),
            None => taken.backends.push((address, name.to_owned(), line)),
        }
        let id = backend.id.as_ref().map_or_else(|| address.to_string(), |id| id.value.clone());
        if let Some(id) = backend.id.as_ref().filter(|id| !is_name(&id.value)) {
            check.wrong(id.line, format!("{at}.id `{}` is not a valid backend id", id.value), NAME_SHAPE);
        }
        if let Some((other, _)) = found.iter().find(|(_, b)| b.id.as_str() == id && b.address != address) {
            let line = backend.id.as_ref().map_or(line, |id| id.line);
            check.wrong(line, format!("{at}: the id `{id}` is already on line {other}"), "rename one");
        }
        let capacity = backend.capacity.as_ref().map(|c| seats(check, &format!("{at}.capacity"), c.line, c.value));
        found.push((line, StaticBackend { id: id.into(), address, capacity }));
    }
    found.into_iter().map(|(_, backend)| backend).collect()
}

fn seats(check: &mut Check<'_>, key: &str, line: u64, Count(capacity): Count) -> u32 {
    if capacity == 0 {
        check.wrong(line, format!("{key} is 0"), "set the number of sessions it can take; to take it out of service, drain it");
    }
    capacity
}

fn capacity(check: &mut Check<'_>, name: &str, raw: &raw::RawFleet) -> Option<u32> {
    let elastic = raw.backends.process.is_some();
    let key = format!("fleets.{name}.capacity");
    match &raw.capacity {
        Some(At { value: OrNone(Some(count)), line }) => Some(seats(check, &key, *line, *count)),
        Some(At { value: OrNone(None), line }) if elastic => {
            check.wrong(*line, format!("{key} is none, but the fleet is scaled"), "set the sessions that one backend can take");
            None
        }
        None if elastic => {
            check.wrong(0, format!("{key} is missing"), "set the sessions that one backend can take; scaling depends on it");
            None
        }
        None if raw.backends.static_.as_ref().is_some_and(|list| list.value.iter().any(|b| b.capacity.is_none())) => {
            check.wrong(0, format!("{key} is missing"), "set the sessions that one backend can take, or none");
            None
        }
        _ => None,
    }
}

fn fill(check: &mut Check<'_>, name: &str, raw: &raw::RawFleet) -> f64 {
    let fill = raw.fill.value.ratio();
    if fill <= 0.0 || fill > 1.0 {
        check.wrong(raw.fill.line, format!("fleets.{name}.fill is {}", raw.fill.value), "write more than 0% and at most 100%");
    }
    fill
}

fn heartbeat(check: &mut Check<'_>, name: &str, raw: &raw::Heartbeat) -> (HeartbeatPolicy, Option<String>) {
    let at = format!("fleets.{name}.heartbeat");
    let (interval, suspect, dead) = (&raw.interval, &raw.suspect_after, &raw.dead_after);
    if interval.value >= suspect.value {
        let (a, b) = (default_mark(interval), default_mark(suspect));
        let what = format!("{at}.interval is {}{a}, not below suspect_after {}{b}", interval.value, suspect.value);
        check.wrong(later(interval, suspect), what, "raise suspect_after to several intervals: one late heartbeat is no failure");
    }
    if suspect.value >= dead.value {
        let (a, b) = (default_mark(suspect), default_mark(dead));
        let what = format!("{at}.suspect_after is {}{a}, not below dead_after {}{b}", suspect.value, dead.value);
        check.wrong(later(suspect, dead), what, "lower suspect_after or raise dead_after");
    }
    let path = raw.path.value.as_str();
    if !path.starts_with('/') || path.contains(|c: char| c.is_whitespace() || c.is_control() || !c.is_ascii() || c == '#') {
        check.wrong(raw.path.line, format!("{at}.path is `{path}`"), "write a path that begins with /, such as /heartbeat");
    }
    let policy = HeartbeatPolicy {
        probe: match raw.probe {
            raw::Probe::Tcp => Probe::Tcp,
            raw::Probe::Http => Probe::Http,
            raw::Probe::Push => Probe::Push,
        },
        path: path.to_owned(),
        interval: check.positive(&format!("{at}.interval"), interval),
        timeout: check.positive(&format!("{at}.timeout"), &raw.timeout),
        suspect_after: suspect.value.0,
        dead_after: dead.value.0,
    };
    (policy, token(check, &at, raw))
}

fn token(check: &mut Check<'_>, at: &str, raw: &raw::Heartbeat) -> Option<String> {
    let file = raw.token_file.as_ref()?;
    if raw.probe != raw::Probe::Push {
        check.wrong(file.line, format!("{at}.token_file is used with `probe: push` only"), "write probe: push, or remove it");
        return None;
    }
    let path = check.path(&file.value);
    match files::read_text(&path, files::SECRET_MAX).map(|text| text.trim().to_owned()) {
        Ok(token) if !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) => Some(token),
        Ok(_) => {
            check.wrong(
                file.line,
                format!("{at}.token_file {} holds no token", path.display()),
                "write one line of printable ASCII into it",
            );
            None
        }
        Err(error) => {
            check.wrong(
                file.line,
                format!("{at}.token_file {} cannot be read: {error}", path.display()),
                "correct the path or its permissions",
            );
            None
        }
    }
}

fn timeouts(check: &mut Check<'_>, name: &str, raw: &raw::Timeouts) -> Timeouts {
    let at = format!("fleets.{name}.timeouts");
    if raw.connect.value > raw.handshake.value {
        let (a, b) = (default_mark(&raw.connect), default_mark(&raw.handshake));
        let what = format!("{at}.connect is {}{a}, above handshake {}{b}", raw.connect.value, raw.handshake.value);
        check.wrong(later(&raw.connect, &raw.handshake), what, "lower connect or raise handshake, which includes every dial");
    }
    Timeouts {
        connect: check.positive(&format!("{at}.connect"), &raw.connect),
        handshake: check.positive(&format!("{at}.handshake"), &raw.handshake),
        response: check.positive(&format!("{at}.response"), &raw.response),
        write: check.positive(&format!("{at}.write"), &raw.write),
        idle: check.positive_or_none(&format!("{at}.idle"), &raw.idle),
        session: check.positive_or_none(&format!("{at}.session"), &raw.session),
    }
}

fn keepalive(check: &mut Check<'_>, name: &str, raw: &raw::Keepalive, timeouts: &raw::Timeouts) -> KeepalivePolicy {
    let at = format!("fleets.{name}.keepalive");
    if let (OrNone(Some(ping)), OrNone(Some(idle))) = (raw.ping.value, timeouts.idle.value)
        && ping >= idle
    {
        let what = format!("{at}.ping is {ping}, not below timeouts.idle {idle}");
        check.wrong(later(&raw.ping, &timeouts.idle), what, "lower ping or raise idle: no Ping would ever be sent");
    }
    let tcp = check.positive_or_none(&format!("{at}.tcp"), &raw.tcp);
    if let Some(tcp) = tcp.filter(|tcp| !tcp.is_zero() && *tcp < Duration::from_secs(1)) {
        check.wrong(raw.tcp.line, format!("{at}.tcp is {}ms", tcp.as_millis()), "write 1s or more: the kernel counts in seconds");
    }
    KeepalivePolicy {
        tcp,
        ping: check.positive_or_none(&format!("{at}.ping"), &raw.ping),
        timeout: check.positive(&format!("{at}.timeout"), &raw.timeout),
    }
}
