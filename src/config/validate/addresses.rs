//! Addresses of listeners and of the admin API.

use std::net::{Ipv4Addr, SocketAddr};

use super::super::located::At;
use super::super::model::Listener;
use super::super::raw;
use super::check::Check;
use super::tls;

/// Placeholder for an invalid address; the configuration is rejected then.
const UNREAD: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(super) fn listeners(check: &mut Check<'_>, raw: &At<Vec<raw::Listener>>, trusted: &At<Vec<At<String>>>) -> Vec<Listener> {
    if raw.value.is_empty() {
        check.wrong(raw.line, "no listeners", "add one: listeners: [ { address: \"0.0.0.0:8080\" } ]");
    }
    let mut found: Vec<(u64, Listener)> = Vec::new();
    for listener in &raw.value {
        let at = &listener.address;
        let Some(address) = address(check, "listeners.address", at) else { continue };
        if let Some((line, other)) = found.iter().find(|(_, other)| overlap(other.address, address)) {
            let other = other.address;
            check.wrong(at.line, format!("listener {address} overlaps {other} of line {line}"), "remove one, or change its port");
        }
        let tls = listener.tls.as_ref().map(|raw| tls::listener(check, &raw.value));
        let At { value: proxy_protocol, line } = listener.proxy_protocol;
        if proxy_protocol && trusted.value.is_empty() {
            check.wrong(
                line,
                format!("listener {address} expects PROXY headers, but trusted is empty: every connection would be rejected"),
                "add the networks of the proxies in front of it: trusted: [ \"10.0.0.0/8\" ]; or set proxy_protocol: false",
            );
        }
        found.push((at.line, Listener { address, tls, proxy_protocol }));
    }
    found.into_iter().map(|(_, listener)| listener).collect()
}

pub(super) fn admin(check: &mut Check<'_>, raw: &At<String>, listeners: &[Listener]) -> SocketAddr {
    let Some(address) = address(check, "admin.address", raw) else { return UNREAD };
    if !address.ip().is_loopback() {
        check.wrong(
            raw.line,
            format!("admin.address is {address}, which is not a loopback address"),
            format!("the admin API has neither TLS nor tokens: use 127.0.0.1:{} and connect through a tunnel", address.port()),
        );
    }
    for Listener { address: listener, .. } in listeners {
        if overlap(*listener, address) {
            check.wrong(raw.line, format!("admin.address {address} overlaps the listener {listener}"), "change one of the ports");
        }
    }
    address
}

/// Parses an IP address with a port.
pub(super) fn address(check: &mut Check<'_>, key: &str, raw: &At<String>) -> Option<SocketAddr> {
    let parsed = raw.value.parse().ok();
    if parsed.is_none() {
        check.wrong(raw.line, format!("{key} is `{}`, which is not an IP address with a port", raw.value), remedy(&raw.value));
    }
    parsed
}

fn remedy(text: &str) -> String {
    match text.rsplit_once(':') {
        Some(("", port)) => format!("write 0.0.0.0:{port}"),
        Some(("localhost", port)) => format!("write 127.0.0.1:{port}; names are not resolved"),
        Some((ip, port)) if ip.contains(':') && !ip.starts_with('[') && port.parse::<u16>().is_ok() => {
            format!("write [{ip}]:{port}")
        }
        Some((host, _)) if host.parse::<std::net::IpAddr>().is_err() && !host.contains(':') => {
            "write one such as 10.0.0.7:9001; names are not resolved".to_owned()
        }
        None if text.parse::<std::net::IpAddr>().is_ok() => format!("add the port: {text}:8080"),
        None if text.parse::<u16>().is_ok() => format!("add the address: 0.0.0.0:{text}"),
        _ => "write one such as 10.0.0.7:9001 or [::1]:9001".to_owned(),
    }
}

/// Whether both cannot be bound at once. Port 0 is a new port each time.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let wildcard = a.ip().is_unspecified() || b.ip().is_unspecified();
    // The IPv6 wildcard takes IPv4 clients too.
    let same_family = a.is_ipv4() == b.is_ipv4() || [a, b].iter().any(|x| x.is_ipv6() && x.ip().is_unspecified());
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || wildcard && same_family)
}

/// Whether a connect to `target` from this machine ends at `listener`.
pub(super) fn reaches(target: SocketAddr, listener: SocketAddr) -> bool {
    let here = target.ip().is_loopback() || target.ip().is_unspecified();
    listener.port() != 0
        && target.port() == listener.port()
        && (target.ip() == listener.ip()
            || here && (listener.ip().is_unspecified() || listener.ip().is_loopback() && target.ip().is_unspecified()))
}
