//! What a client's head asks for, and whether a backend's 101 may be believed (RFC 6455 section 4).

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use sha1::{Digest, Sha1};

use super::fields::Fields;
use super::head::ResponseHead;

/// A key is checked for its length only: encoders that leave bits behind in the last digit are out there.
const KEY: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// RFC 6455 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A client's request head, borrowed from whoever parsed it.
#[derive(Clone, Debug)]
pub struct RequestHead<'a> {
    /// In its own case.
    pub method: &'a str,
    /// In origin form: path and query.
    pub target: &'a str,
    /// The request's host, from the target's authority or the `Host` field.
    pub host: &'a str,
    /// HTTP/1.1; else HTTP/1.0.
    pub is_http11: bool,
    pub fields: Fields<'a>,
}

/// What a client's head asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A WebSocket: a session.
    WebSocket {
        /// The `Sec-WebSocket-Accept` that answers its key.
        accept: String,
    },
    /// An event stream: a session.
    EventStream,
    /// A plain request. Whatever `Upgrade` it carries is to be dropped.
    Plain,
}

/// A head that is refused here and never reaches a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Rejection {
    /// The status: 400 or 426. A 426 carries `Sec-WebSocket-Version: 13` and `Upgrade: websocket` (RFC 6455 4.4).
    pub status: u16,
    /// For people, and for the body of the answer.
    pub reason: &'static str,
    /// What follows the head cannot be told to be HTTP: close after the answer.
    pub closes: bool,
}

/// Tells what a head asks for. Only an Upgrade to `websocket` by HTTP/1.1 with `Connection: upgrade` is one; all others are ignored, as
/// RFC 9110 7.8 allows.
///
/// # Errors
/// A [`Rejection`] of a WebSocket handshake that breaks RFC 6455 4.2.1.
pub fn classify(head: &RequestHead<'_>) -> Result<Kind, Rejection> {
    let fields = &head.fields;
    if head.is_http11 && fields.lists("connection", "upgrade") && fields.lists("upgrade", "websocket") {
        return upgrade(head).map(|accept| Kind::WebSocket { accept });
    }
    // A request with a body is left to the plain path, which reads it.
    let streams = head.method == "GET" && !has_body(fields) && accepts_event_stream(fields);
    Ok(if streams { Kind::EventStream } else { Kind::Plain })
}

fn upgrade(head: &RequestHead<'_>) -> Result<String, Rejection> {
    let bad = |reason| Err(Rejection { status: 400, reason, closes: true });
    if head.method != "GET" {
        return bad("a WebSocket handshake is a GET request");
    }
    if has_body(&head.fields) {
        return bad("a WebSocket handshake has no body");
    }
    if head.fields.single("sec-websocket-version") != Some(b"13") {
        return Err(Rejection { status: 426, reason: "only version 13 of the WebSocket protocol is spoken here", closes: false });
    }
    let Some(key) = head.fields.single("sec-websocket-key") else {
        return bad("a WebSocket handshake has exactly one Sec-WebSocket-Key");
    };
    let mut decoded = [0; 18];
    if key.len() != 24 || KEY.decode_slice(key, &mut decoded) != Ok(16) {
        return bad("a Sec-WebSocket-Key is 16 bytes in base64");
    }
    Ok(accept(key))
}

fn has_body(fields: &Fields<'_>) -> bool {
    fields.has("transfer-encoding") || fields.all("content-length").any(|length| length != b"0")
}

/// Whether `text/event-stream` is named with a weight above zero (RFC 9110 12.5.1); `*/*` names nothing.
fn accepts_event_stream(fields: &Fields<'_>) -> bool {
    accepted(fields).any(is_event_stream)
}

/// Whether a client accepts nothing but an event stream.
pub fn accepts_only_event_stream(fields: &Fields<'_>) -> bool {
    accepted(fields).next().is_some() && accepted(fields).all(is_event_stream)
}

/// Media ranges with a weight above zero, without their parameters.
fn accepted<'a>(fields: &Fields<'a>) -> impl Iterator<Item = &'a [u8]> {
    fields.list("accept").filter_map(|range| {
        let mut parts = range.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let media = parts.next()?;
        (!parts.any(is_weight_zero)).then_some(media)
    })
}

fn is_event_stream(media: &[u8]) -> bool {
    media.eq_ignore_ascii_case(b"text/event-stream")
}

fn is_weight_zero(parameter: &[u8]) -> bool {
    let Some((b'q' | b'Q', rest)) = parameter.split_first() else { return false };
    let Some((b'=', weight)) = rest.trim_ascii().split_first() else { return false };
    matches!(weight.trim_ascii(), b"0" | b"0." | b"0.0" | b"0.00" | b"0.000")
}

/// The `Sec-WebSocket-Accept` that answers `key` (RFC 6455 4.2.2).
pub fn accept(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Why a backend's 101 is not believed: the connection is no WebSocket, or not the one that the client asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSwitch {
    /// Not HTTP/1.1, or no 101 at all.
    #[error("expected `HTTP/1.1 101`, the backend answered HTTP/1.{minor} {status}")]
    Status {
        /// The minor version.
        minor: u8,
        status: u16,
    },
    /// `Upgrade` is missing, or names another protocol.
    #[error("the backend's 101 must say `Upgrade: websocket` and nothing else there")]
    Upgrade,
    /// `Connection` lacks `upgrade`.
    #[error("the backend's 101 must say `Connection: upgrade`")]
    Connection,
    /// `Sec-WebSocket-Accept` is missing, doubled or does not answer the key.
    #[error("the backend's 101 does not answer the client's key: Sec-WebSocket-Accept must be `{expected}`")]
    Accept {
        /// What the key asks for.
        expected: String,
    },
    /// An extension that the client did not offer.
    #[error("the backend chose the extension `{0}`, which the client did not offer")]
    Extension(String),
    /// A subprotocol that the client did not offer, or more than one.
    #[error("the backend chose the subprotocol `{0}`, which the client did not offer")]
    Subprotocol(String),
}

/// Checks a backend's 101 as a client must (RFC 6455 4.1). `accept` is that of [`Kind::WebSocket`].
///
/// # Errors
/// The first thing that is wrong.
pub fn check_switch(request: &Fields<'_>, accept: &str, response: &ResponseHead<'_>) -> Result<(), BadSwitch> {
    if (response.minor, response.status) != (1, 101) {
        return Err(BadSwitch::Status { minor: response.minor, status: response.status });
    }
    let fields = &response.fields;
    if !fields.single("upgrade").is_some_and(|token| token.eq_ignore_ascii_case(b"websocket")) {
        return Err(BadSwitch::Upgrade);
    }
    if !fields.lists("connection", "upgrade") {
        return Err(BadSwitch::Connection);
    }
    if fields.single("sec-websocket-accept") != Some(accept.as_bytes()) {
        return Err(BadSwitch::Accept { expected: accept.to_owned() });
    }
    check_choice(request, fields)
}

fn check_choice(request: &Fields<'_>, response: &Fields<'_>) -> Result<(), BadSwitch> {
    let name = |extension: &'_ [u8]| extension.split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let offered: Vec<_> = request.list("sec-websocket-extensions").map(name).collect();
    if let Some(other) = response.list("sec-websocket-extensions").map(name).find(|chosen| !offered.contains(chosen)) {
        return Err(BadSwitch::Extension(String::from_utf8_lossy(&other).into_owned()));
    }
    if response.has("sec-websocket-protocol") {
        let chosen = response.single("sec-websocket-protocol").unwrap_or_default();
        if !request.list("sec-websocket-protocol").any(|offer| offer == chosen) {
            return Err(BadSwitch::Subprotocol(String::from_utf8_lossy(chosen).into_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head;

    const KEY_SAMPLE: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT_SAMPLE: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn get<'a>(fields: &[(&'a str, &'a [u8])]) -> RequestHead<'a> {
        RequestHead { method: "GET", target: "/", host: "h", is_http11: true, fields: fields.iter().copied().collect() }
    }

    fn websocket<'a>() -> Vec<(&'a str, &'a [u8])> {
        vec![
            ("Connection", b"keep-alive, Upgrade"),
            ("Upgrade", b"WebSocket"),
            ("Sec-WebSocket-Version", b"13"),
            ("Sec-WebSocket-Key", KEY_SAMPLE),
        ]
    }

    #[test]
    fn who_accepts_nothing_else_expects_a_stream() {
        let only = |values: &[&'static str]| {
            accepts_only_event_stream(&values.iter().map(|value| ("accept", value.as_bytes())).collect())
        };
        assert!(only(&["text/event-stream"]) && only(&["Text/Event-Stream; q=0.5", ", application/json;q=0"]));
        for other in ["application/json, text/event-stream", "text/event-stream, */*", "text/event-stream;q=0", "", "text/html"] {
            assert!(!only(&[other]), "{other}");
        }
        assert!(!only(&[]));
    }

    #[test]
    fn the_sample_of_the_rfc() {
        assert_eq!(accept(KEY_SAMPLE), ACCEPT_SAMPLE);
        assert_eq!(classify(&get(&websocket())), Ok(Kind::WebSocket { accept: ACCEPT_SAMPLE.into() }));
    }

    #[test]
    fn a_broken_handshake_is_refused() {
        type Break = fn(&mut RequestHead<'_>, &mut Vec<(&str, &[u8])>);
        let cases: &[(u16, bool, Break)] = &[
            (400, true, |head, _| head.method = "POST"),
            (400, true, |_, f| f.push(("content-length", b"5"))),
            (400, true, |_, f| f.push(("Transfer-Encoding", b"chunked"))),
            (426, false, |_, f| f[2].1 = b"8"),
            (426, false, |_, f| f.push(("sec-websocket-version", b"13"))),
            (426, false, |_, f| f.truncate(2)),
            (400, true, |_, f| f.truncate(3)),
            (400, true, |_, f| f.push(("sec-websocket-key", KEY_SAMPLE))),
            (400, true, |_, f| f[3].1 = b"c2hvcnQ="),
            (400, true, |_, f| f[3].1 = b"!!!!IHNhbXBsZSBub25jZQ=="),
        ];
        for (i, (status, closes, spoil)) in cases.iter().enumerate() {
            let mut fields = websocket();
            let mut head = get(&[]);
            spoil(&mut head, &mut fields);
            head.fields = fields.into_iter().collect();
            let got = classify(&head).unwrap_err();
            assert_eq!((got.status, got.closes), (*status, *closes), "case {i}: {got}");
        }
    }

    #[test]
    fn what_asks_for_no_websocket_is_plain() {
        let mut old = get(&websocket());
        old.is_http11 = false;
        assert_eq!(classify(&old), Ok(Kind::Plain));
        for (name, value) in [("Connection", &b"keep-alive"[..]), ("Upgrade", b"h2c"), ("Upgrade", b"websocket/8")] {
            let fields: Vec<_> = websocket().into_iter().map(|(n, v)| (n, if n == name { value } else { v })).collect();
            assert_eq!(classify(&get(&fields)), Ok(Kind::Plain), "{name}");
        }
        let empty_body: Vec<_> = websocket().into_iter().chain([("content-length", &b"0"[..])]).collect();
        assert!(matches!(classify(&get(&empty_body)), Ok(Kind::WebSocket { .. })));
    }

    #[test]
    fn an_event_stream_is_named_with_a_weight() {
        let kind = |accept: &'static str| classify(&get(&[("accept", accept.as_bytes())])).unwrap();
        for accept in ["text/event-stream", "text/html, Text/Event-Stream;q=0.5", "text/event-stream; charset=utf-8; q=0.001"] {
            assert_eq!(kind(accept), Kind::EventStream, "{accept}");
        }
        for accept in ["*/*", "text/*", "text/event-stream;q=0", "text/event-stream; Q = 0.000", "text/event-streams"] {
            assert_eq!(kind(accept), Kind::Plain, "{accept}");
        }
        let with_body = get(&[("accept", b"text/event-stream"), ("content-length", b"3")]);
        assert_eq!(classify(&with_body), Ok(Kind::Plain));
    }

    #[test]
    fn a_backends_101_is_believed_only_when_it_answers_the_offer() {
        let mut offer = websocket();
        offer.extend([("Sec-WebSocket-Protocol", &b"chat, v2"[..]), ("sec-websocket-extensions", b"permessage-deflate; a=1")]);
        let request = get(&offer).fields;
        let check = |change: &[(&str, &str)]| {
            let mut fields = vec![("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", ACCEPT_SAMPLE)];
            for (name, value) in change {
                fields.retain(|(n, _)| n != name || value.starts_with('+'));
                fields.push((name, value.trim_start_matches('+')));
            }
            let lines: String = fields.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
            let bytes = format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n");
            let response = head::parse(bytes.as_bytes()).unwrap().unwrap();
            check_switch(&request, ACCEPT_SAMPLE, &response)
        };
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[("Sec-WebSocket-Protocol", "v2"), ("Sec-WebSocket-Extensions", "permessage-deflate")]), Ok(()));
        assert_eq!(check(&[("Upgrade", "foo")]), Err(BadSwitch::Upgrade));
        assert_eq!(check(&[("Upgrade", "+foo")]), Err(BadSwitch::Upgrade));
        assert_eq!(check(&[("Connection", "close")]), Err(BadSwitch::Connection));
        assert!(matches!(check(&[("Sec-WebSocket-Accept", "AAAA")]), Err(BadSwitch::Accept { .. })));
        assert!(matches!(check(&[("Sec-WebSocket-Accept", "+AAAA")]), Err(BadSwitch::Accept { .. })));
        assert_eq!(check(&[("Sec-WebSocket-Extensions", "x-foo")]), Err(BadSwitch::Extension("x-foo".into())));
        assert_eq!(check(&[("Sec-WebSocket-Protocol", "v3")]), Err(BadSwitch::Subprotocol("v3".into())));
        assert!(matches!(check(&[("Sec-WebSocket-Protocol", "chat, v2")]), Err(BadSwitch::Subprotocol(_))));
    }
}
