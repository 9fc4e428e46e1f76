//! The way of a handshake past hyper: its head came in one piece and asks for a session.
//!
//! The guard has read it as it reads all heads, and [`judge`] decides on it as on all. What is anything else, is refused, or is in doubt
//! goes the way of plain requests, through hyper, whose answers are the only ones.

use std::mem::MaybeUninit;

use bytes::Bytes;
use holdline_core::policy::ProxyProtocol;
use holdline_core::wire::guard::{FIELDS_MAX, Fed, Requests};
use holdline_core::wire::handshake::Kind;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};

use super::judge::judge;
use super::opening::Asked;
use crate::gateway::context::route::To;
use crate::gateway::context::thread::Thread;
use crate::gateway::peer::Peer;
use crate::net::socket::Socket;

/// The session that `heard` asks for, which `peer` said on `socket` where a request may begin; and what is behind its head.
pub(crate) fn session(thread: &Thread, peer: Peer, socket: &Socket, heard: &Bytes) -> Option<(Asked, Bytes)> {
    let head_max = thread.shared.served.load().limits.head;
    let Ok(Fed::End(len)) = Requests::new(head_max).feed(heard) else { return None };
    let parts = parsed(&heard.slice(..len))?;
    let (To { fleet, .. }, host, kind) = judge(thread, &parts).ok().filter(|(_, _, kind)| *kind != Kind::Plain)?;
    let wants_local = fleet.policy.proxy_protocol == ProxyProtocol::V2;
    let peer = if wants_local { peer.located(socket.tcp()) } else { peer };
    Some((Asked::new(thread, parts, kind, fleet, host, peer), heard.slice(len..)))
}

/// A head that may ask for a session, as hyper would give it.
fn parsed(head: &Bytes) -> Option<Parts> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX as usize];
    let mut request = httparse::Request::new(&mut []);
    request.parse_with_uninit_headers(head, &mut fields).ok().filter(httparse::Status::is_complete)?;
    let target = request.path.filter(|target| target.starts_with('/'))?;
    if (request.method, request.version) != (Some("GET"), Some(1)) || !request.headers.iter().any(hints_at_session) {
        return None;
    }
    let mut parts = Request::new(()).into_parts().0;
    parts.uri = Uri::from_maybe_shared(head.slice_ref(target.as_bytes())).ok()?;
    parts.headers = HeaderMap::with_capacity(request.headers.len());
    for field in request.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        parts.headers.append(name, HeaderValue::from_maybe_shared(head.slice_ref(field.value)).ok()?);
    }
    Some(parts)
}

/// Most plain requests have no such field, and are parsed once, by hyper.
fn hints_at_session(field: &httparse::Header<'_>) -> bool {
    let names_stream = || field.value.windows(12).any(|part| part.eq_ignore_ascii_case(b"event-stream"));
    field.name.eq_ignore_ascii_case("upgrade") || field.name.eq_ignore_ascii_case("accept") && names_stream()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Option<Parts> {
        parsed(&Bytes::copy_from_slice(head.as_bytes()))
    }

    #[test]
    fn a_head_that_may_ask_for_a_session_is_read_as_it_stands() {
        let parts = parse("GET /a?b=c#d HTTP/1.1\r\nHost: x:1\r\nuPgrade:  websocket \r\nX-A: 1\r\nx-a: \u{fc}\r\n\r\n").unwrap();
        assert_eq!((parts.uri.path(), parts.uri.query(), parts.version), ("/a", Some("b=c"), http::Version::HTTP_11));
        let fields: Vec<_> = parts.headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        let expected: [(&str, &[u8]); 4] =
            [("host", b"x:1"), ("upgrade", b"websocket"), ("x-a", b"1"), ("x-a", "\u{fc}".as_bytes())];
        assert_eq!(fields, expected);
        assert!(parse("GET / HTTP/1.1\r\nAccept: text/html, text/Event-Stream;q=0\r\n\r\n").is_some());
    }

    #[test]
    fn whatever_is_not_plainly_one_is_left_to_hyper() {
        for head in [
            "GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n",
            "GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n",
            "POST / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
            "GET http://x/ HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
            "GET * HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
            "GET /\u{7f} HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
            "GET / HTTP/1.1\r\nUpgrade: websocket\r\n",
        ] {
            assert!(parse(head).is_none(), "{head}");
        }
        let long = format!("GET /{} HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", "x".repeat(usize::from(u16::MAX)));
        assert!(parse(&long).is_none());
    }
}
