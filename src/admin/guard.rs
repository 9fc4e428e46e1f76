//! Rejects requests of web pages. A browser on the operator's machine can reach a loopback address for any page it shows: by a foreign name
//! that resolves to 127.0.0.1 (DNS rebinding, caught by Host) or by a cross-site request (CSRF, caught by Origin and by the demand
//! for JSON, which a form cannot send).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Uri, header};

use super::{AdminState, Problem};

/// Middleware that rejects requests with a foreign Host or Origin.
pub(super) async fn check(State(state): State<Arc<AdminState>>, request: Request, next: Next) -> Result<Response, Problem> {
    if let Err(problem) = judge(request.headers(), request.uri(), state.address) {
        state.metrics.bad_input("admin_origin");
        return Err(problem);
    }
    Ok(next.run(request).await)
}

fn judge(headers: &HeaderMap, uri: &Uri, admin: SocketAddr) -> Result<(), Problem> {
    let host = host_of(headers, uri)?;
    if !is_ours(&host, admin) {
        let detail = format!("host `{host}` is not this admin API; use a loopback name or address, or {admin}");
        return Err(Problem::new(StatusCode::FORBIDDEN, "foreign-host", "Foreign host", detail));
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    if origins.any(|origin| !same_origin(origin.as_bytes(), &host)) {
        let detail = format!("requests from other web pages are refused; the origin must be http://{host}");
        return Err(Problem::new(StatusCode::FORBIDDEN, "foreign-origin", "Foreign origin", detail));
    }
    Ok(())
}

/// The Host of the request; RFC 9112 section 3.2 requires exactly one.
fn host_of(headers: &HeaderMap, uri: &Uri) -> Result<Authority, Problem> {
    let bad = || Problem::plain(StatusCode::BAD_REQUEST, "exactly one valid Host header is required");
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes()).map_err(|_| bad()),
        (None, None) => uri.authority().cloned().ok_or_else(bad),
        _ => Err(bad()),
    }
}

fn is_ours(host: &Authority, admin: SocketAddr) -> bool {
    if host.as_str().contains('@') {
        return false;
    }
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    match name.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || address == admin.ip(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

fn same_origin(origin: &[u8], host: &Authority) -> bool {
    origin.strip_prefix(b"http://").is_some_and(|rest| rest.eq_ignore_ascii_case(host.as_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(host: &'static str, origin: Option<&'static str>) -> u16 {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a header value"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().expect("a header value"));
        }
        let admin = "10.1.2.3:9900".parse().expect("an address");
        judge(&headers, &Uri::from_static("/v1/status"), admin).map_or_else(|p| p.status().as_u16(), |()| 200)
    }

    #[test]
    fn hosts_that_belong_here_pass() {
        for host in ["localhost", "LOCALHOST:9900", "127.0.0.1:9900", "127.8.8.8", "[::1]:9900", "10.1.2.3:9900"] {
            assert_eq!(verdict(host, None), 200, "{host}");
        }
    }

    #[test]
    fn foreign_hosts_do_not() {
        for host in ["evil.example", "127.0.0.1.evil.example", "10.1.2.4", "localhost@evil.example", "evil@localhost", "[::2]"] {
            assert_eq!(verdict(host, None), 403, "{host}");
        }
        assert_eq!(verdict("a b", None), 400);
    }

    #[test]
    fn an_origin_must_be_the_host_itself() {
        assert_eq!(verdict("localhost:9900", Some("http://localhost:9900")), 200);
        for origin in ["http://localhost:3000", "http://evil.example", "https://localhost:9900", "null", ""] {
            assert_eq!(verdict("localhost:9900", Some(origin)), 403, "{origin}");
        }
    }

    #[test]
    fn no_host_or_two_are_refused() {
        let admin = "127.0.0.1:9900".parse().expect("an address");
        let mut headers = HeaderMap::new();
        assert!(judge(&headers, &Uri::from_static("/"), admin).is_err());
        headers.append(header::HOST, "localhost".parse().expect("a header value"));
        headers.append(header::HOST, "localhost".parse().expect("a header value"));
        assert!(judge(&headers, &Uri::from_static("/"), admin).is_err());
    }
}
