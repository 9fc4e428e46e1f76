//! Networks of proxies that are believed.

use std::net::IpAddr;

use holdline_core::wire::forwarded::Trusted;
use ipnet::{IpNet, Ipv4Net};

use super::super::located::At;
use super::check::Check;

/// IPv4 mapped into IPv6 has a prefix of so many bits.
const MAPPED_BITS: u8 = 96;

pub(super) fn trusted(check: &mut Check<'_>, raw: &At<Vec<At<String>>>) -> Trusted {
    Trusted::new(&raw.value.iter().filter_map(|at| network(check, at)).collect::<Vec<_>>())
}

fn network(check: &mut Check<'_>, at: &At<String>) -> Option<IpNet> {
    let text = at.value.as_str();
    let Some(network) = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)) else {
        let what = format!("trusted: `{text}` is not a network");
        check.wrong(
            at.line,
            what,
            "write one such as 10.0.0.0/8 or 2001:db8::/32, or the address of one host; names are not resolved",
        );
        return None;
    };
    if network.addr() != network.network() {
        let (whole, alone) = (network.trunc(), network.addr());
        let what = format!("trusted: `{text}` has bits set beyond its prefix");
        check.wrong(at.line, what, format!("write {whole} for the network, or {alone} for that host only"));
    }
    if let Some(v4) = unmapped(network) {
        check.wrong(at.line, format!("trusted: `{text}` is IPv4 mapped into IPv6"), format!("write {v4}"));
    }
    if network.prefix_len() == 0 {
        let what = format!("trusted: {text} matches every address");
        check.odd(
            at.line,
            what,
            "list only the networks of your proxies: a trusted peer sets the client address that is logged and limited",
        );
    }
    Some(network)
}

fn unmapped(network: IpNet) -> Option<Ipv4Net> {
    let IpAddr::V6(address) = network.network() else { return None };
    Ipv4Net::new(address.to_ipv4_mapped()?, network.prefix_len().checked_sub(MAPPED_BITS)?).ok()
}
