//! Refusals of sessions: a status, or a proper end of the requested protocol.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use holdline_core::cause::RefuseCause;
use holdline_core::policy::{RefusePolicy, RefuseWith};
use holdline_core::wire::close;
use holdline_core::wire::fields::Fields;
use holdline_core::wire::handshake::Kind;
use http::{HeaderValue, Response, StatusCode, header};
use rand::Rng;

use crate::net::is_ours;

/// A refusal of a session, as the bytes that go onto its socket before it is closed.
pub(crate) fn session(kind: &Kind, fields: &Fields<'_>, policy: RefusePolicy, refusal: Refusal, rng: &mut impl Rng) -> Vec<u8> {
    let wait = jittered(policy.retry_after, rng);
    match (policy.with, kind) {
        (RefuseWith::Close, Kind::WebSocket { accept }) => close_websocket(accept, fields, refusal.cause),
        (RefuseWith::Close, Kind::EventStream) => end_stream(wait, refusal.cause),
        _ => written(refusal.response(wait)),
    }
}

/// A refusal of a plain request.
pub(crate) fn request(policy: RefusePolicy, refusal: Refusal, rng: &mut impl Rng) -> Response<Bytes> {
    refusal.response(jittered(policy.retry_after, rng))
}

/// A refusal as sent to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) cause: RefuseCause,
}

impl Refusal {
    /// For a cause that passes: 503.
    pub(crate) fn busy(cause: RefuseCause) -> Self {
        Refusal { status: StatusCode::SERVICE_UNAVAILABLE, cause }
    }

    /// The client's address does more than it may: 429 (RFC 6585 4).
    pub(crate) const LIMITED: Refusal = Refusal { status: StatusCode::TOO_MANY_REQUESTS, cause: RefuseCause::Limit };
    /// The backend broke the protocol: 502.
    pub(crate) const INVALID: Refusal = Refusal { status: StatusCode::BAD_GATEWAY, cause: RefuseCause::BackendInvalid };
    /// No backend could be reached, or it went away before its answer: 502.
    pub(crate) const UNREACHABLE: Refusal = Refusal { status: StatusCode::BAD_GATEWAY, cause: RefuseCause::BackendUnreachable };
    /// The backend did not answer in time: 504.
    pub(crate) const LATE: Refusal = Refusal { status: StatusCode::GATEWAY_TIMEOUT, cause: RefuseCause::BackendUnreachable };

    /// After dials that failed: at the backend, or for want of a port or descriptor of ours.
    pub(crate) fn not_connected(error: &io::Error) -> Self {
        if is_ours(error) { Refusal::busy(RefuseCause::Limit) } else { Refusal::UNREACHABLE }
    }

    fn response(self, wait: Duration) -> Response<Bytes> {
        let mut response = problem(self.status, self.explain());
        let headers = response.headers_mut();
        headers.insert("holdline-cause", HeaderValue::from_static(self.cause.as_str()));
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs_f64().round().max(1.0) as u64));
        }
        response
    }

    fn explain(self) -> &'static str {
        match self.cause {
            RefuseCause::Capacity => "every backend is full",
            RefuseCause::QueueFull => "every backend is full, and so is the queue",
            RefuseCause::QueueTimeout => "no seat became free in time",
            RefuseCause::NoBackend => "no backend takes sessions",
            RefuseCause::BackendUnreachable => "no backend can be reached, or it does not answer",
            RefuseCause::BackendInvalid => "the backend's answer is not valid",
            RefuseCause::Limit if self == Refusal::LIMITED => "this address holds or begins as many sessions as it may",
            RefuseCause::Limit => "this gateway holds as many sessions as it may",
            RefuseCause::Draining => "this gateway is stopping, or what the request is for was taken out of its configuration",
        }
    }
}

/// An error of ours (RFC 9457).
pub(crate) fn problem(status: StatusCode, detail: &str) -> Response<Bytes> {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = serde_json::json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

/// ±50 %, so that those who were refused together do not come back together.
fn jittered(middle: Duration, rng: &mut impl Rng) -> Duration {
    middle.mul_f64(rng.random_range(0.5..1.5))
}

/// A browser cannot read the status of a failed handshake, but it can read a Close. Without the subprotocol that it offered it
/// would fail the handshake and show 1006.
fn close_websocket(accept: &str, fields: &Fields<'_>, cause: RefuseCause) -> Vec<u8> {
    let mut out = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\
         Holdline-Cause: {cause}\r\n"
    )
    .into_bytes();
    if let Some(offer) = fields.list("sec-websocket-protocol").next() {
        out.extend_from_slice(b"Sec-WebSocket-Protocol: ");
        out.extend_from_slice(offer);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&close::frame(close::TRY_AGAIN_LATER, cause.as_str(), None));
    out
}

/// An EventSource stops for ever at any status but 200; at the end of a stream it comes back after `retry`.
fn end_stream(wait: Duration, cause: RefuseCause) -> Vec<u8> {
    let body = format!("retry: {}\n\n", wait.as_millis());
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nContent-Length: {}\r\nConnection: close\r\n\
         Holdline-Cause: {cause}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A whole response for a socket that is closed afterwards.
pub(crate) fn written(response: Response<Bytes>) -> Vec<u8> {
    let (parts, body) = response.into_parts();
    let mut out = format!("HTTP/1.1 {}\r\n", parts.status).into_bytes();
    for (name, value) in &parts.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(&body);
    out
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn refused(with: RefuseWith, kind: &Kind, fields: &[(&str, &[u8])]) -> String {
        let policy = RefusePolicy { with, retry_after: Duration::from_secs(10) };
        let fields = fields.iter().copied().collect();
        let bytes = session(kind, &fields, policy, Refusal::busy(RefuseCause::QueueFull), &mut SmallRng::seed_from_u64(1));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn a_status_says_when_to_come_back_and_why() {
        let text = refused(RefuseWith::Status, &Kind::EventStream, &[]);
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{text}");
        assert!(text.contains("\r\nholdline-cause: queue_full\r\n") && text.contains("\r\nConnection: close\r\n"), "{text}");
        let after: u64 = text.split("retry-after: ").nth(1).unwrap().split('\r').next().unwrap().parse().unwrap();
        assert!((5..=15).contains(&after));
    }

    #[test]
    fn an_address_over_its_limit_is_told_when_to_come_back() {
        let mut rng = SmallRng::seed_from_u64(1);
        let response =
            request(RefusePolicy { with: RefuseWith::Close, retry_after: Duration::from_secs(10) }, Refusal::LIMITED, &mut rng);
        assert_eq!(
            (response.status().as_u16(), &response.headers()["holdline-cause"]),
            (429, &HeaderValue::from_static("limit"))
        );
        assert!(response.headers().contains_key(header::RETRY_AFTER));
        assert!(String::from_utf8_lossy(response.body()).contains("this address"));
    }

    #[test]
    fn waits_are_spread_by_half() {
        let mut rng = SmallRng::seed_from_u64(1);
        let waits: Vec<_> = (0..1000).map(|_| jittered(Duration::from_secs(10), &mut rng).as_secs_f64()).collect();
        let (least, most) = waits.iter().fold((99.0f64, 0.0f64), |(l, m), w| (l.min(*w), m.max(*w)));
        assert!((5.0..5.1).contains(&least) && (14.9..15.0).contains(&most), "{least} {most}");
    }

    #[test]
    fn a_browser_gets_the_first_subprotocol_and_a_close() {
        let kind = Kind::WebSocket { accept: "abc".into() };
        let text = refused(RefuseWith::Close, &kind, &[("Sec-WebSocket-Protocol", b"v2, v1")]);
        assert!(text.starts_with("HTTP/1.1 101 ") && text.contains("\r\nSec-WebSocket-Protocol: v2\r\n"), "{text}");
        assert!(text.ends_with("queue_full"));
    }

    #[test]
    fn an_event_source_gets_its_retry_and_the_end() {
        let text = refused(RefuseWith::Close, &Kind::EventStream, &[]);
        assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("\r\n\r\nretry: ") && text.ends_with("\n\n"), "{text}");
    }
}
