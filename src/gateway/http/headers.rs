//! Fields of plain requests and answers as they cross the gateway (RFC 9110 7.6); those of sessions are written by `core::wire::forward`.

use holdline_core::ids::SessionId;
use holdline_core::wire::fields::{Fields, is_reserved, may_trail};
use holdline_core::wire::forwarded;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Version, header};

use super::caller::Caller;

/// Whether a client takes trailers (RFC 9110 10.1.4).
pub(crate) fn takes_trailers(request: &Parts) -> bool {
    let fields: Fields<'_> = request.headers.get_all(header::TE).iter().map(|value| ("te", value.as_bytes())).collect();
    request.version == Version::HTTP_11 && fields.lists("te", "trailers")
}

/// What the backend gets of a client's fields.
pub(crate) fn request(from: &HeaderMap, host: &str, caller: &Caller, takes_trailers: bool) -> HeaderMap {
    // hyper answered an Expect itself: the backend is sent the body in any case.
    let kept = |name: &str| caller.is_trusted && forwarded::is_kept(name);
    let mut to = crossing(from, |name| name == header::EXPECT || name == header::HOST, kept);
    let mut set = |name: &'static str, value: &[u8]| {
        // What is there by now was said by a trusted proxy.
        if let (header::Entry::Vacant(entry), Ok(value)) = (to.entry(name), HeaderValue::from_bytes(value)) {
            entry.insert(value);
        }
    };
    if !host.is_empty() {
        set("host", host.as_bytes());
        set("x-forwarded-host", host.as_bytes());
    }
    let fields = from.get_all("x-forwarded-for").iter().map(|value| ("x-forwarded-for", value.as_bytes())).collect();
    set("x-forwarded-for", &forwarded::chain(&fields, caller.peer.address.ip(), caller.is_trusted));
    set("x-forwarded-proto", caller.peer.proto().as_bytes());
    announce_trailers(from, &mut to);
    if takes_trailers {
        to.insert(header::TE, HeaderValue::from_static("trailers"));
        to.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    to
}

/// Says which session a poll or its answer belongs to.
pub(crate) fn name_session(headers: &mut HeaderMap, session: SessionId) {
    if let Ok(value) = HeaderValue::try_from(session.to_string()) {
        headers.insert("holdline-session", value);
    }
}

/// What the client gets of a backend's fields.
pub(crate) fn response(from: &HeaderMap, takes_trailers: bool) -> HeaderMap {
    let mut to = crossing(from, |_| false, |_| false);
    if takes_trailers {
        announce_trailers(from, &mut to);
    }
    to
}

/// Says which trailers come behind a message, of those that it said and that may cross: hyper sends these and no others.
fn announce_trailers(from: &HeaderMap, to: &mut HeaderMap) {
    if !from.contains_key(header::TRANSFER_ENCODING) {
        return;
    }
    let fields: Fields<'_> = from.get_all(header::TRAILER).iter().map(|value| ("trailer", value.as_bytes())).collect();
    let names: Vec<&[u8]> = fields.list("trailer").filter(|name| std::str::from_utf8(name).is_ok_and(may_trail)).collect();
    if let (false, Ok(value)) = (names.is_empty(), HeaderValue::from_bytes(&names.join(&b", "[..]))) {
        to.insert(header::TRAILER, value);
    }
}

/// Fields but those of the connection, those that only Holdline may set save what is `kept`, and `drop`.
fn crossing(from: &HeaderMap, drop: impl Fn(&header::HeaderName) -> bool, kept: impl Fn(&str) -> bool) -> HeaderMap {
    let fields: Fields<'_> = from.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
    let reserved = |name: &str| is_reserved(name) && !kept(name);
    let kept = from.iter().filter(|(n, _)| !fields.stays_behind(n.as_str()) && !reserved(n.as_str()) && !drop(n));
    let mut to = HeaderMap::with_capacity(from.len() + 3);
    for (name, value) in kept {
        to.append(name, value.clone());
    }
    to
}

#[cfg(test)]
mod tests {
    use holdline_core::wire::forwarded::Trusted;

    use super::*;
    use crate::gateway::peer::Peer;

    #[test]
    fn what_crosses_is_the_message_and_what_we_say_of_it() {
        let from: HeaderMap = [
            ("host", "a.example"),
            ("connection", "upgrade, x-user"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("x-user", "root"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("x_forwarded_host", "forged"),
            ("holdline-session", "forged"),
            ("expect", "100-continue"),
            ("cookie", "a=b"),
        ]
        .iter()
        .map(|(n, v)| (header::HeaderName::from_static(n), HeaderValue::from_static(v)))
        .collect();
        let peer = Peer {
            address: "[::ffff:192.0.2.7]:1".parse().unwrap(),
            local: "192.0.2.1:80".parse().ok(),
            is_tls: false,
            is_unknown: false,
        };
        let told = |trusted: &[&str]| {
            let trusted = Trusted::new(&trusted.iter().map(|t| t.parse().unwrap()).collect::<Vec<_>>());
            let to = request(&from, "a.example", &Caller::new(&from, peer, &trusted), false);
            let mut told: Vec<_> = to.iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
            told.sort();
            told
        };
        let (cookie, host) = ("cookie=a=b", "host=a.example");
        let own = ["x-forwarded-for=192.0.2.7", "x-forwarded-host=a.example", "x-forwarded-proto=http"];
        assert_eq!(told(&[]), [&[cookie, host][..], &own].concat());
        let quoted = [
            "x-forwarded-for=6.6.6.6, 192.0.2.7",
            "x-forwarded-host=a.example",
            "x-forwarded-port=443",
            "x-forwarded-proto=https",
        ];
        assert_eq!(told(&["192.0.2.0/24"]), [&[cookie, host][..], &quoted].concat());
    }
}
