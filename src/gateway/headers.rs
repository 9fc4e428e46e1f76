//! Fields of plain requests and answers as they cross the gateway (RFC 9110 7.6); those of sessions are written by `core::wire::forward`.

use holdline_core::ids::SessionId;
use holdline_core::wire::fields::{Fields, is_reserved};
use http::{HeaderMap, HeaderValue, header};

use super::socket::Peer;

/// What the backend gets of a client's fields.
pub(super) fn request(from: &HeaderMap, host: &str, peer: Peer) -> HeaderMap {
    // hyper answered an Expect itself: the backend is sent the body in any case.
    let mut to = crossing(from, |name| name == header::EXPECT || name == header::HOST);
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            to.insert(name, value);
        }
    };
    if !host.is_empty() {
        set("host", host);
        set("x-forwarded-host", host);
    }
    set("x-forwarded-for", &peer.address.ip().to_canonical().to_string());
    set("x-forwarded-proto", peer.proto());
    to
}

/// Says which session a poll or its answer belongs to.
pub(super) fn name_session(headers: &mut HeaderMap, session: SessionId) {
    if let Ok(value) = HeaderValue::try_from(session.to_string()) {
        headers.insert("holdline-session", value);
    }
}

/// What the client gets of a backend's fields.
pub(super) fn response(from: &HeaderMap) -> HeaderMap {
    crossing(from, |_| false)
}

/// Fields but those of the connection, those that only Holdline may set, and `drop`.
fn crossing(from: &HeaderMap, drop: impl Fn(&header::HeaderName) -> bool) -> HeaderMap {
    let fields: Fields<'_> = from.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
    let kept = from.iter().filter(|(n, _)| !fields.stays_behind(n.as_str()) && !is_reserved(n.as_str()) && !drop(n));
    let mut to = HeaderMap::with_capacity(from.len() + 3);
    for (name, value) in kept {
        to.append(name, value.clone());
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_crosses_is_the_message_and_what_we_say_of_it() {
        let from: HeaderMap = [
            ("host", "a.example"),
            ("connection", "upgrade, x-user"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("x-user", "root"),
            ("x-forwarded-for", "6.6.6.6"),
            ("holdline-session", "forged"),
            ("expect", "100-continue"),
            ("cookie", "a=b"),
        ]
        .iter()
        .map(|(n, v)| (header::HeaderName::from_static(n), HeaderValue::from_static(v)))
        .collect();
        let to = request(&from, "a.example", Peer { address: "[::ffff:192.0.2.7]:1".parse().unwrap(), is_tls: false });
        let mut names: Vec<_> = to.iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
        names.sort();
        assert_eq!(
            names,
            ["cookie=a=b", "host=a.example", "x-forwarded-for=192.0.2.7", "x-forwarded-host=a.example", "x-forwarded-proto=http"]
        );
    }
}
