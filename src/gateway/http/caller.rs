//! Who a request comes from, when proxies stand between.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use holdline_core::policy::{FleetPolicy, ProxyProtocol};
use holdline_core::wire::fields::Fields;
use holdline_core::wire::forwarded::{self, Trusted};
use holdline_core::wire::proxy;
use http::HeaderMap;

use crate::gateway::peer::Peer;

/// Whose a request is, as far as trusted proxies are believed. Found once for each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    /// The client: the peer, or whom a trusted proxy names. Port 0: not known.
    pub(crate) address: SocketAddr,
    /// It speaks TLS, to us or to a trusted proxy.
    pub(crate) is_secure: bool,
    /// The peer is a trusted proxy: what it says of the client is handed on.
    pub(crate) is_trusted: bool,
    /// Who sent the request.
    pub(crate) peer: Peer,
}

impl Caller {
    /// Of a request with these fields that came from `peer`.
    pub(crate) fn new(headers: &HeaderMap, peer: Peer, trusted: &Trusted) -> Self {
        let unproxied = Caller { address: peer.address, is_secure: peer.is_tls, is_trusted: false, peer };
        if peer.is_unknown || !trusted.contains(peer.address.ip()) {
            return unproxied;
        }
        let fields: Fields<'_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        Caller {
            address: forwarded::client(&fields, trusted).unwrap_or(peer.address),
            is_secure: forwarded::is_https(&fields).unwrap_or(peer.is_tls),
            is_trusted: true,
            peer,
        }
    }

    /// What a backend of the fleet is told before anything else; empty: nothing. With it, the connection is this client's alone.
    pub(crate) fn introduction(&self, policy: &FleetPolicy) -> Vec<u8> {
        match policy.proxy_protocol {
            ProxyProtocol::None => Vec::new(),
            ProxyProtocol::V2 => proxy::encode(self.address, self.peer.local.unwrap_or_else(|| unknown(self.address))),
        }
    }
}

/// In the place of an address that is not known, beside `other`.
fn unknown(other: SocketAddr) -> SocketAddr {
    let ip: IpAddr = if other.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(ip, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(peer: &str, is_unknown: bool) -> Caller {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-forwarded-for", "203.0.113.9, 10.0.0.2"), ("x-forwarded-proto", "https")] {
            headers.insert(name, value.parse().unwrap());
        }
        let peer = Peer { address: peer.parse().unwrap(), local: "10.0.0.3:80".parse().ok(), is_tls: false, is_unknown };
        Caller::new(&headers, peer, &Trusted::new(&["10.0.0.0/8".parse().unwrap()]))
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        let told = |c: Caller| (c.address.to_string(), c.is_secure, c.is_trusted);
        assert_eq!(told(caller("10.0.0.1:5", false)), ("203.0.113.9:0".to_owned(), true, true));
        assert_eq!(told(caller("192.0.2.7:5", false)), ("192.0.2.7:5".to_owned(), false, false));
        // Somebody speaks through it, and nobody knows who.
        assert_eq!(told(caller("10.0.0.1:5", true)), ("10.0.0.1:5".to_owned(), false, false));
    }

    #[test]
    fn a_backend_is_told_of_the_client_if_it_wants_to_be() {
        let mut policy = crate::gateway::admission::fleet::tests::policy("chat");
        assert!(caller("10.0.0.1:5", false).introduction(&policy).is_empty());
        policy.proxy_protocol = ProxyProtocol::V2;
        let written = caller("10.0.0.1:5", false).introduction(&policy);
        let source = proxy::Source::Client { from: "203.0.113.9:0".parse().unwrap(), to: "10.0.0.3:80".parse().unwrap() };
        assert_eq!(proxy::Reader::default().feed(&written), Ok(proxy::Fed::End(28, source)));
    }
}
