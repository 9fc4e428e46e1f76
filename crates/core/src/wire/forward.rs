//! Heads that Holdline writes: a session's request to the backend, and the backend's answer to the client. Everything is written
//! anew, so that what leaves is unambiguous whatever came in.

use std::fmt::Display;
use std::net::IpAddr;

use super::fields::{Fields, is_reserved};
use super::forwarded;
use super::handshake::RequestHead;
use super::head::ResponseHead;
use crate::ids::SessionId;

/// What a session's exchange asks of the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// A 101 and the WebSocket protocol.
    WebSocket,
    /// An event stream, not compressed: its events must be visible.
    EventStream,
}

/// What Holdline knows of a request and the backend should.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Who sent it: the client, or a proxy before us.
    pub peer: IpAddr,
    /// `http` or `https`, as the peer spoke it.
    pub proto: &'a str,
    /// The peer is a trusted proxy: its `X-Forwarded-*` are handed on.
    pub is_trusted: bool,
    pub session: SessionId,
}

/// How the answer's body reaches the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyBody {
    /// A 101: what follows is the WebSocket protocol.
    Switch,
    /// In chunks.
    Chunked,
    /// So many bytes.
    Length(u64),
    /// Until the connection closes: for clients of HTTP/1.0.
    UntilClose,
    /// None: 204 and 304.
    None,
}

/// What Holdline adds to an answer.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// The body's framing; all but [`ReplyBody::Switch`] close the connection afterwards, since a session took it.
    pub body: ReplyBody,
    /// The session, unless the answer ended it.
    pub session: Option<SessionId>,
    /// An affinity cookie, as the value of `Set-Cookie`.
    pub set_cookie: Option<&'a str>,
}

/// The request head that a session's backend is sent, to the blank line.
pub fn request(head: &RequestHead<'_>, exchange: Exchange, origin: &Origin<'_>) -> Vec<u8> {
    let mut out = Writer::with_start(&[head.method.as_bytes(), b" ", head.target.as_bytes(), b" HTTP/1.1"]);
    out.field("Host", head.host);
    match exchange {
        Exchange::WebSocket => {
            out.field("Connection", "Upgrade");
            out.field("Upgrade", "websocket");
        }
        Exchange::EventStream => out.field("Connection", "close"),
    }
    let drop = |name: &str| {
        let kept = origin.is_trusted && forwarded::is_kept(name);
        let own = name.eq_ignore_ascii_case("host") || is_reserved(name) && !kept;
        // A session's request has no body: its length is zero, and there is nothing to expect.
        let body = name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("expect");
        own || body || (exchange == Exchange::EventStream && name.eq_ignore_ascii_case("accept-encoding"))
    };
    out.forward(&head.fields, drop);
    out.raw("X-Forwarded-For", &forwarded::chain(&head.fields, origin.peer, origin.is_trusted));
    for (name, own) in [("X-Forwarded-Proto", origin.proto), ("X-Forwarded-Host", head.host)] {
        if !(origin.is_trusted && head.fields.has(name)) {
            out.field(name, own);
        }
    }
    out.field("Holdline-Session", origin.session);
    out.finish()
}

/// The response head that a session's client is sent, to the blank line.
pub fn reply(head: &ResponseHead<'_>, reply: &Reply<'_>) -> Vec<u8> {
    let status = head.status.to_string();
    let mut out = Writer::with_start(&[b"HTTP/1.1 ", status.as_bytes(), b" ", head.reason.as_bytes()]);
    out.forward(&head.fields, |name| name.eq_ignore_ascii_case("content-length") || is_reserved(name));
    match reply.body {
        ReplyBody::Switch => {
            out.field("Connection", "Upgrade");
            out.field("Upgrade", "websocket");
        }
        ReplyBody::Chunked => out.field("Transfer-Encoding", "chunked"),
        ReplyBody::Length(bytes) => out.field("Content-Length", bytes),
        ReplyBody::UntilClose | ReplyBody::None => {}
    }
    if reply.body != ReplyBody::Switch {
        out.field("Connection", "close");
    }
    if let Some(session) = reply.session {
        out.field("Holdline-Session", session);
    }
    if let Some(cookie) = reply.set_cookie {
        out.field("Set-Cookie", cookie);
    }
    out.finish()
}

/// An interim response (RFC 9110 15.2) as the client is sent it, to the blank line.
pub fn interim(head: &ResponseHead<'_>) -> Vec<u8> {
    let status = head.status.to_string();
    let mut out = Writer::with_start(&[b"HTTP/1.1 ", status.as_bytes(), b" ", head.reason.as_bytes()]);
    out.forward(&head.fields, |name| name.eq_ignore_ascii_case("content-length") || is_reserved(name));
    out.finish()
}

/// A head under construction.
struct Writer(Vec<u8>);

impl Writer {
    fn with_start(parts: &[&[u8]]) -> Self {
        let mut out = Vec::with_capacity(1024);
        parts.iter().for_each(|part| out.extend_from_slice(part));
        out.extend_from_slice(b"\r\n");
        Writer(out)
    }

    fn field(&mut self, name: &str, value: impl Display) {
        self.raw(name, value.to_string().as_bytes());
    }

    fn raw(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.0.extend_from_slice(part);
        }
    }

    /// Copies what may cross a proxy and is not dropped.
    fn forward(&mut self, fields: &Fields<'_>, drop: impl Fn(&str) -> bool) {
        for (name, value) in fields.iter().filter(|(name, _)| !fields.stays_behind(name) && !drop(name)) {
            self.raw(name, value);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"\r\n");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head;

    const ORIGIN: Origin<'static> = Origin {
        peer: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)),
        proto: "http",
        is_trusted: false,
        session: SessionId(0xabc),
    };

    fn sent(fields: &[(&str, &[u8])], exchange: Exchange) -> String {
        sent_by(&ORIGIN, fields, exchange)
    }

    fn sent_by(origin: &Origin<'_>, fields: &[(&str, &[u8])], exchange: Exchange) -> String {
        let fields = fields.iter().copied().collect();
        let head = RequestHead { method: "GET", target: "/a?b", host: "chat.example", is_http11: true, fields };
        String::from_utf8(request(&head, exchange, origin)).unwrap()
    }

    #[test]
    fn a_websocket_request_is_rewritten() {
        let text = sent(
            &[
                ("host", b"other"),
                ("connection", b"keep-alive, Upgrade, x-secret, holdline-session"),
                ("upgrade", b"websocket, foo"),
                ("http2-settings", b"x"),
                ("sec-websocket-key", b"k"),
                ("x-secret", b"1"),
                ("X-Forwarded-For", b"6.6.6.6"),
                ("Holdline-Session", b"forged"),
                ("holdline_session", b"forged"),
                ("accept-encoding", b"gzip"),
                ("content-length", b"0"),
                ("cookie", b"a=b"),
                ("cookie", b"c=d"),
            ],
            Exchange::WebSocket,
        );
        assert_eq!(
            text,
            "GET /a?b HTTP/1.1\r\nHost: chat.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nsec-websocket-key: k\r\n\
             accept-encoding: gzip\r\ncookie: a=b\r\ncookie: c=d\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n\
             X-Forwarded-Host: chat.example\r\nHoldline-Session: 0000000000000abc\r\n\r\n"
        );
    }

    #[test]
    fn a_trusted_proxy_is_quoted() {
        let trusted = Origin { is_trusted: true, ..ORIGIN };
        let fields: &[(&str, &[u8])] = &[
            ("x-forwarded-for", b"203.0.113.9"),
            ("X-Forwarded-Proto", b"https"),
            ("x_forwarded_host", b"forged"),
            ("X-Forwarded-Port", b"443"),
            ("Connection", b"x-forwarded-for, x-forwarded-proto"),
            ("Forwarded", b"for=6.6.6.6"),
            ("Holdline-Session", b"forged"),
        ];
        assert_eq!(
            sent_by(&trusted, fields, Exchange::EventStream),
            "GET /a?b HTTP/1.1\r\nHost: chat.example\r\nConnection: close\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n\
             X-Forwarded-For: 203.0.113.9, 192.0.2.7\r\nX-Forwarded-Host: chat.example\r\nHoldline-Session: 0000000000000abc\r\n\r\n"
        );
    }

    #[test]
    fn a_stream_request_asks_for_no_compression() {
        let text = sent(&[("Accept-Encoding", b"gzip"), ("upgrade", b"h2c"), ("last-event-id", b"7")], Exchange::EventStream);
        assert!(text.contains("\r\nConnection: close\r\n") && text.contains("\r\nlast-event-id: 7\r\n"), "{text}");
        assert!(!text.to_lowercase().contains("encoding") && !text.contains("h2c"), "{text}");
    }

    #[test]
    fn an_answer_has_one_framing_and_our_own_fields() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive, x-b\r\n\
            Keep-Alive: timeout=5\r\nX-B: 1\r\nHoldline-Cause: forged\r\nSet-Cookie: s=1\r\n\r\n";
        let head = head::parse(bytes).unwrap().unwrap();
        let reply = |body| {
            let reply = Reply { body, session: Some(SessionId(1)), set_cookie: Some("holdline=x") };
            String::from_utf8(super::reply(&head, &reply)).unwrap()
        };
        let common = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nSet-Cookie: s=1\r\n";
        let own = "Connection: close\r\nHoldline-Session: 0000000000000001\r\nSet-Cookie: holdline=x\r\n\r\n";
        assert_eq!(reply(ReplyBody::Chunked), format!("{common}Transfer-Encoding: chunked\r\n{own}"));
        assert_eq!(reply(ReplyBody::Length(3)), format!("{common}Content-Length: 3\r\n{own}"));
        assert_eq!(reply(ReplyBody::UntilClose), format!("{common}{own}"));
    }

    #[test]
    fn an_interim_response_is_written_anew() {
        let bytes =
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-b\r\nX-B: 1\r\nContent-Length: 0\r\n\
            Holdline-Session: forged\r\n\r\n";
        let got = interim(&head::parse(bytes).unwrap().unwrap());
        assert_eq!(String::from_utf8(got).unwrap(), "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
    }

    #[test]
    fn a_101_keeps_what_the_backend_chose() {
        let bytes =
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nconnection: upgrade\r\nSec-WebSocket-Accept: a\r\n\
            Sec-WebSocket-Protocol: chat\r\nContent-Length: 0\r\n\r\n";
        let head = head::parse(bytes).unwrap().unwrap();
        let got = super::reply(&head, &Reply { body: ReplyBody::Switch, session: None, set_cookie: None });
        assert_eq!(
            String::from_utf8(got).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\nSec-WebSocket-Protocol: chat\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\n\r\n"
        );
    }
}
