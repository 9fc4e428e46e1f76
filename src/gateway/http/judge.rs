//! The route and kind of a request, decided from its head: one rule for both ways in which heads are parsed.

use holdline_core::wire::handshake::{self, Kind, Rejection, RequestHead};
use http::request::Parts;
use http::{StatusCode, Version, header};

use crate::gateway::context::route::{To, without_port};
use crate::gateway::context::thread::Thread;

/// Why a request goes nowhere.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// It is counted for `reason`, and the connection closes behind the answer.
    Bad { reason: &'static str, status: StatusCode, detail: &'static str },
    /// It asks about the server as a whole (RFC 9110 9.3.7), which is this gateway, and has no path that could be routed.
    AboutUs,
    /// No route leads anywhere.
    Astray,
    /// A WebSocket handshake that breaks the protocol.
    Handshake(Rejection),
}

/// Where the request goes, its host, and what it asks for.
///
/// # Errors
/// [`Unfit`].
pub(crate) fn judge(thread: &Thread, parts: &Parts) -> Result<(To, String, Kind), Unfit> {
    let bad = |reason, status, detail| Unfit::Bad { reason, status, detail };
    if parts.method == http::Method::CONNECT {
        return Err(bad("method", StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not served here"));
    }
    let host = host_of(parts).map_err(|detail| bad("host", StatusCode::BAD_REQUEST, detail))?;
    if expects_more(parts) {
        return Err(bad("expect", StatusCode::EXPECTATION_FAILED, "nothing but `100-continue` can be expected here"));
    }
    match parts.uri.path() {
        "*" if parts.method == http::Method::OPTIONS => return Err(Unfit::AboutUs),
        path if path.starts_with('/') => {}
        _ => return Err(bad("target", StatusCode::BAD_REQUEST, "the request target is neither a path nor a URL")),
    }
    let served = thread.shared.served.load();
    let to = served.routes.find(without_port(&host), parts.uri.path()).ok_or(Unfit::Astray)?;
    let kind = handshake::classify(&head_of(parts, &host)).map_err(Unfit::Handshake)?;
    Ok((to.clone(), host, kind))
}

/// Something else than `100-continue` is expected (RFC 9110 10.1.1). hyper knows that one, and HTTP/1.0 none.
fn expects_more(parts: &Parts) -> bool {
    let mut expected = parts.headers.get_all(header::EXPECT).iter().flat_map(|v| v.as_bytes().split(|b| *b == b','));
    parts.version == Version::HTTP_11 && expected.any(|e| !e.trim_ascii().eq_ignore_ascii_case(b"100-continue"))
}

/// The one host that a request is for (RFC 9112 3.2): exactly one `Host`, and the same as in an absolute target.
fn host_of(parts: &Parts) -> Result<String, &'static str> {
    let mut fields = parts.headers.get_all(header::HOST).iter();
    let (first, more) = (fields.next(), fields.next());
    if more.is_some() {
        return Err("there is more than one Host");
    }
    let field = match first {
        Some(value) => Some(value.to_str().map_err(|_| "Host is not a host name")?),
        None if parts.version == Version::HTTP_11 => return Err("Host is missing"),
        None => None,
    };
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    match (authority, field) {
        (Some(authority), Some(field)) if !authority.eq_ignore_ascii_case(field) => Err("Host differs from the request target"),
        (Some(host), _) | (None, Some(host)) if is_host(host) => Ok(host.to_owned()),
        (None, None) => Ok(String::new()),
        _ => Err("Host is not a host name"),
    }
}

/// No user info, no list, no path: what routes and backends read as one host must be one.
fn is_host(host: &str) -> bool {
    host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+;=".contains(&b))
}

/// The head of a request for `core::wire`.
pub(crate) fn head_of<'a>(parts: &'a Parts, host: &'a str) -> RequestHead<'a> {
    RequestHead {
        method: parts.method.as_str(),
        target: parts.uri.path_and_query().map_or("/", |p| p.as_str()),
        host,
        is_http11: parts.version == Version::HTTP_11,
        fields: parts.headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn host(target: &str, hosts: &[&str]) -> Result<String, &'static str> {
        let request = hosts.iter().fold(Request::builder().uri(target), |r, h| r.header("host", *h));
        host_of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn there_is_exactly_one_host() {
        assert_eq!(host("/", &["a.example:80"]).as_deref(), Ok("a.example:80"));
        assert_eq!(host("http://a.example/x", &["A.example"]).as_deref(), Ok("a.example"));
        assert!(host("/", &[]).is_err() && host("/", &["a", "a"]).is_err());
        assert!(host("http://a.example/x", &["b.example"]).is_err());
        assert!(host("/", &["a, b"]).is_err() && host("/", &["u@h"]).is_err() && host("/", &["a/b"]).is_err());
    }
}
