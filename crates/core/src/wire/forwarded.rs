//! `X-Forwarded-*`: what proxies before us say of a client, how much of it is believed, and what backends are told.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::fields::Fields;

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";

/// The networks of proxies that are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    /// They do not overlap, and stand in the order of their addresses: a search is quick however many there are.
    networks: Vec<IpNet>,
}

impl Trusted {
    /// Those in `networks`.
    pub fn new(networks: &[IpNet]) -> Self {
        let mut networks = IpNet::aggregate(&networks.to_vec());
        networks.sort_unstable_by_key(IpNet::network);
        Trusted { networks }
    }

    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether `address` is in one of them; IPv4 mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let behind = self.networks.partition_point(|network| network.network() <= address);
        behind.checked_sub(1).is_some_and(|last| self.networks[last].contains(&address))
    }
}

/// The client of a request that a trusted proxy sent: read from the right, the first address that is not trusted, for what stands further
/// left is what that one said. All of them trusted: the leftmost. What is no address ends the walk, and the last one before it counts.
/// `None`: there is none, and the proxy itself is the client. Port 0: it is not told.
pub fn client(fields: &Fields<'_>, trusted: &Trusted) -> Option<SocketAddr> {
    let mut client = None;
    for member in fields.list(FOR).rev() {
        let Some(address) = address(member) else { break };
        client = Some(address);
        if !trusted.contains(address.ip()) {
            break;
        }
    }
    client
}

/// An address as proxies write it: alone, or with its port as some do (`192.0.2.7:1234`, `[2001:db8::7]:1234`, `[2001:db8::7]`).
fn address(text: &[u8]) -> Option<SocketAddr> {
    let text = str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).filter(|t| t.contains(':')).unwrap_or(text);
    let found = bare.parse().map(|ip: IpAddr| SocketAddr::new(ip, 0)).or_else(|_| text.parse()).ok()?;
    Some(SocketAddr::new(found.ip().to_canonical(), found.port()))
}

/// Whether a trusted proxy says that the client speaks TLS to it, or to the first of several.
pub fn is_https(fields: &Fields<'_>) -> Option<bool> {
    fields.list(PROTO).next().map(|proto| proto.eq_ignore_ascii_case(b"https"))
}

/// The value of `X-Forwarded-For` for the backend: `peer`, which sent the request, behind what it said if it is trusted.
pub fn chain(fields: &Fields<'_>, peer: IpAddr, is_trusted: bool) -> Vec<u8> {
    let mut chain = Vec::new();
    for value in fields.all(FOR).filter(|value| is_trusted && !value.is_empty()) {
        chain.extend_from_slice(value);
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.to_canonical().to_string().as_bytes());
    chain
}

/// Whether a trusted proxy's field is handed on as it is. Spelled with underscores it is not: proxies forget to remove what their clients
/// spell so.
pub fn is_kept(name: &str) -> bool {
    const PREFIX: &str = "x-forwarded-";
    let begins = name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    begins && !name.contains('_') && !name.eq_ignore_ascii_case(FOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(networks: &[&str]) -> Trusted {
        Trusted::new(&networks.iter().map(|n| n.parse().unwrap()).collect::<Vec<_>>())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn fields<'a>(values: &[&'a str]) -> Fields<'a> {
        values.iter().map(|value| ("X-Forwarded-For", value.as_bytes())).collect()
    }

    fn client_of(values: &[&str]) -> Option<String> {
        client(&fields(values), &trusted(&["10.0.0.0/8", "fd00::/8"])).map(|a| a.to_string())
    }

    #[test]
    fn networks_hold_their_addresses() {
        let many = trusted(&["192.0.2.0/25", "10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "198.51.100.7/32", "192.0.2.128/25"]);
        for inside in ["10.0.0.0", "10.255.255.255", "10.1.2.3", "192.0.2.0", "192.0.2.255", "198.51.100.7", "2001:db8:ffff::1"] {
            assert!(many.contains(ip(inside)), "{inside}");
        }
        for outside in
            ["9.255.255.255", "11.0.0.0", "192.0.1.255", "192.0.3.0", "198.51.100.6", "198.51.100.8", "2001:db9::", "::1"]
        {
            assert!(!many.contains(ip(outside)), "{outside}");
        }
        assert!(many.contains(ip("::ffff:10.0.0.1")) && !many.contains(ip("::10.0.0.1")));
        assert_eq!(many, trusted(&["198.51.100.7/32", "2001:db8::/32", "192.0.2.0/24", "10.0.0.0/8"]));
        let nobody = Trusted::default();
        assert!(nobody.is_empty() && !nobody.contains(ip("127.0.0.1")));
        assert!(trusted(&["0.0.0.0/0"]).contains(ip("0.0.0.0")) && !trusted(&["0.0.0.0/0"]).contains(ip("::")));
    }

    #[test]
    fn the_rightmost_that_is_not_trusted_is_the_client() {
        let is = |values: &[&str], client: &str| assert_eq!(client_of(values).as_deref(), Some(client), "{values:?}");
        is(&["203.0.113.9"], "203.0.113.9:0");
        is(&["6.6.6.6, 203.0.113.9, 10.0.0.2"], "203.0.113.9:0");
        is(&["6.6.6.6", "203.0.113.9", "10.0.0.2,fd00::1"], "203.0.113.9:0");
        is(&["10.0.0.9, 10.0.0.2"], "10.0.0.9:0");
        is(&["203.0.113.9:4711"], "203.0.113.9:4711");
        is(&["[2001:db8::9]:4711"], "[2001:db8::9]:4711");
        is(&["2001:db8::9 ,\t[fd00::2]"], "[2001:db8::9]:0");
        is(&["::ffff:203.0.113.9, ::ffff:10.0.0.1"], "203.0.113.9:0");
        is(&["203.0.113.9, , 10.0.0.2,"], "203.0.113.9:0");
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        assert_eq!(client_of(&[]), None);
        assert_eq!(client_of(&["", " , "]), None);
        for junk in
            ["unknown", "_hidden", "10.0.0", "010.0.0.1", "10.0.0.1:", "10.0.0.1:99999", "[10.0.0.1]", "fe80::1%eth0", "a\u{fc}"]
        {
            assert_eq!(client_of(&[&format!("203.0.113.9, {junk}")]), None, "{junk}");
            assert_eq!(client_of(&[&format!("203.0.113.9, {junk}, 10.0.0.2")]).as_deref(), Some("10.0.0.2:0"), "{junk}");
            assert_eq!(client_of(&[&format!("{junk}, 203.0.113.9, 10.0.0.2")]).as_deref(), Some("203.0.113.9:0"), "{junk}");
        }
    }

    #[test]
    fn the_chain_is_appended_to_for_trusted_peers_alone() {
        let said = fields(&["6.6.6.6", "", "7.7.7.7, 8.8.8.8"]);
        assert_eq!(chain(&said, ip("10.0.0.1"), true), b"6.6.6.6, 7.7.7.7, 8.8.8.8, 10.0.0.1");
        assert_eq!(chain(&said, ip("::ffff:192.0.2.7"), false), b"192.0.2.7");
        assert_eq!(chain(&fields(&[]), ip("10.0.0.1"), true), b"10.0.0.1");
    }

    #[test]
    fn what_is_handed_on_is_spelled_as_it_should_be() {
        for kept in ["X-Forwarded-Proto", "x-forwarded-host", "X-FORWARDED-Port"] {
            assert!(is_kept(kept), "{kept}");
        }
        for not in ["X-Forwarded-For", "X_Forwarded_Proto", "x-forwarded-pro_to", "Forwarded", "x-forwarded", "holdline-session"]
        {
            assert!(!is_kept(not), "{not}");
        }
    }

    #[test]
    fn the_first_of_several_protos_is_the_clients() {
        let proto = |value: &str| is_https(&[("x-forwarded-proto", value.as_bytes())].into_iter().collect());
        assert_eq!((proto("HTTPS"), proto("https, http"), proto("http"), proto("")), (Some(true), Some(true), Some(false), None));
    }
}
