//! Routes, in their order of precedence.

use std::cmp::Reverse;

use holdline_core::policy::Affinity;

use super::super::located::{At, Entries};
use super::super::model::{FleetConfig, HostMatch, Route};
use super::super::raw;
use super::super::raw_fleet;
use super::super::units::Sessions;
use super::check::Check;

pub(super) fn routes(
    check: &mut Check<'_>,
    raw: &At<Vec<raw::Route>>,
    named: &Entries<raw_fleet::RawFleet>,
    fleets: &[FleetConfig],
) -> Vec<Route> {
    if raw.value.is_empty() {
        return only_route(check, raw, named, fleets);
    }
    let mut known: Vec<&str> = named.0.iter().map(|(name, _)| name.value.as_str()).collect();
    known.dedup();
    let mut found: Vec<(u64, Route)> = Vec::new();
    for route in &raw.value {
        if !known.contains(&route.fleet.value.as_str()) {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            check.wrong(route.fleet.line, format!("unknown fleet `{}`", route.fleet.value), format!("known fleets: {known}"));
        }
        let (host, path) = (host(check, route.host.as_ref()), path(check, &route.path));
        let Some(host) = host else { continue };
        if let Some((line, _)) = found.iter().find(|(_, other)| other.host == host && other.path == path) {
            let what = format!("the route to `{}` is for the same host and path as that of line {line}", route.fleet.value);
            check.wrong(route.fleet.line, what, "remove one: the second would never be used");
        }
        polls(check, route, fleets);
        let (fleet, sessions) = (route.fleet.value.as_str().into(), route.sessions.value);
        found.push((route.fleet.line, Route { host, path, fleet, sessions }));
    }
    let mut routes: Vec<Route> = found.into_iter().map(|(_, route)| route).collect();
    routes.sort_by_cached_key(precedence);
    shared_cookies(check, &routes, named, fleets);
    routes
}

/// With one fleet, everything goes there.
fn only_route(
    check: &mut Check<'_>,
    raw: &At<Vec<raw::Route>>,
    named: &Entries<raw_fleet::RawFleet>,
    fleets: &[FleetConfig],
) -> Vec<Route> {
    if let [(first, _), (second, _), ..] = named.0.as_slice() {
        let line = if raw.line == 0 { first.line } else { raw.line };
        let what = format!("there are {} fleets and no routes", named.0.len());
        let remedy = format!(
            "add routes, such as: routes: [ {{ path: /{second}, fleet: {second} }}, {{ path: /, fleet: {first} }} ]",
            first = first.value,
            second = second.value
        );
        check.wrong(line, what, remedy);
    }
    let to = |fleet: &FleetConfig| Route {
        host: HostMatch::Any,
        path: "/".to_owned(),
        fleet: fleet.policy.name.clone(),
        sessions: Sessions::Auto,
    };
    fleets.first().map(to).into_iter().collect()
}

/// Exact host, longer wildcards before shorter ones, any host; then the longest path.
fn precedence(route: &Route) -> (u8, Reverse<usize>, Reverse<usize>) {
    let (class, length) = match &route.host {
        HostMatch::Exact(_) => (0, 0),
        HostMatch::Below(suffix) => (1, suffix.len()),
        HostMatch::Any => (2, 0),
    };
    (class, Reverse(length), Reverse(route.path.len()))
}

fn host(check: &mut Check<'_>, raw: Option<&At<String>>) -> Option<HostMatch> {
    let Some(At { value, line }) = raw else { return Some(HostMatch::Any) };
    let host = value.to_ascii_lowercase();
    match host.strip_prefix("*.") {
        Some(rest) if is_host(rest) => Some(HostMatch::Below(format!(".{rest}"))),
        None if is_host(&host) => Some(HostMatch::Exact(host)),
        _ => {
            check.wrong(*line, format!("the host `{value}` is neither a name nor `*.` and a name"), host_remedy(&host));
            None
        }
    }
}

fn host_remedy(host: &str) -> String {
    match host.rsplit_once(':') {
        _ if host == "*" || host.is_empty() => "remove the key to match any host".to_owned(),
        _ if host.contains("://") => "write only the host, such as chat.example.com".to_owned(),
        Some((name, port)) if is_host(name) && port.bytes().all(|b| b.is_ascii_digit()) => {
            format!("write {name}: ports are not compared")
        }
        _ if !host.is_ascii() => "write the name as DNS has it, in its xn-- form".to_owned(),
        _ => "write chat.example.com, or *.example.com for all below it".to_owned(),
    }
}

/// A DNS name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

fn path(check: &mut Check<'_>, raw: &At<String>) -> String {
    let path = raw.value.as_str();
    if !path.starts_with('/') {
        check.wrong(raw.line, format!("the path `{path}` does not begin with /"), format!("write /{path}"));
    } else if let Some(odd) = path.chars().find(|c| matches!(c, '?' | '#' | '*') || c.is_whitespace() || c.is_control()) {
        check.wrong(
            raw.line,
            format!("the path `{path}` contains `{}`", odd.escape_debug()),
            "write a plain prefix, such as /poll",
        );
    }
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

/// Between two polls a client is known by its affinity alone.
fn polls(check: &mut Check<'_>, route: &raw::Route, fleets: &[FleetConfig]) {
    let named = fleets.iter().find(|f| f.policy.name.as_str() == route.fleet.value);
    if route.sessions.value == Sessions::Polls && named.is_some_and(|f| f.policy.affinity == Affinity::None) {
        let fleet = &route.fleet.value;
        let what = format!("the requests of this route are sessions, but fleets.{fleet}.affinity does not identify clients");
        check.wrong(
            route.sessions.line,
            what,
            format!("write fleets.{fleet}.affinity: {{ by: cookie }}, or by: header or by: query with a name"),
        );
    }
}

/// Two fleets that one browser may reach must not overwrite each other's cookie.
fn shared_cookies(check: &mut Check<'_>, routes: &[Route], named: &Entries<raw_fleet::RawFleet>, fleets: &[FleetConfig]) {
    let hosts =
        |fleet: &FleetConfig| routes.iter().filter(|r| r.fleet == fleet.policy.name).map(|r| r.host.clone()).collect::<Vec<_>>();
    for (n, fleet) in fleets.iter().enumerate() {
        let Affinity::Cookie { name, .. } = &fleet.policy.affinity else { continue };
        let shares = |other: &&FleetConfig| {
            other.policy.name != fleet.policy.name
                && matches!(&other.policy.affinity, Affinity::Cookie { name: theirs, .. } if theirs == name)
                && hosts(fleet).iter().any(|a| hosts(other).iter().any(|b| meet(a, b)))
        };
        if let Some(other) = fleets[..n].iter().find(shares) {
            let this = fleet.policy.name.as_str();
            let raw = named.0.iter().find(|(name, _)| name.value == this);
            let line = raw.map_or(0, |(key, raw)| raw.affinity.name.as_ref().map_or(key.line, |name| name.line));
            let what = format!(
                "fleets.{this}.affinity.name is `{name}`, as for fleet `{}`, which the same clients reach",
                other.policy.name
            );
            check.wrong(line, what, "give each fleet its own name: they would overwrite each other's cookie");
        }
    }
}

/// Whether a host can be meant by both.
fn meet(a: &HostMatch, b: &HostMatch) -> bool {
    match (a, b) {
        (HostMatch::Any, _) | (_, HostMatch::Any) => true,
        (HostMatch::Exact(a), HostMatch::Exact(b)) => a == b,
        (HostMatch::Exact(name), HostMatch::Below(suffix)) | (HostMatch::Below(suffix), HostMatch::Exact(name)) => {
            name.ends_with(suffix)
        }
        (HostMatch::Below(a), HostMatch::Below(b)) => a.ends_with(b.as_str()) || b.ends_with(a.as_str()),
    }
}
