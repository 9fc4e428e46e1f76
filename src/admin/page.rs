//! The status page: static files in the binary; the page loads nothing from other hosts.
//!
//! The page shows `/v1/status` and `/v1/events`, and sends commands by the other calls.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::AdminState;

/// One file of the page.
struct File {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($path:literal: $kind:literal = $name:literal;)+) => {
        &[$(File { path: $path, kind: $kind, bytes: include_bytes!(concat!("page/", $name)) },)+]
    };
}

const FILES: &[File] = files! {
    "/": "text/html; charset=utf-8" = "index.html";
    "/favicon.svg": "image/svg+xml" = "favicon.svg";
    "/page/style.css": "text/css; charset=utf-8" = "style.css";
    "/page/app.js": "text/javascript; charset=utf-8" = "app.js";
    "/page/charts.js": "text/javascript; charset=utf-8" = "charts.js";
    "/page/dom.js": "text/javascript; charset=utf-8" = "dom.js";
    "/page/events.js": "text/javascript; charset=utf-8" = "events.js";
    "/page/fleet.js": "text/javascript; charset=utf-8" = "fleet.js";
    "/page/moves.js": "text/javascript; charset=utf-8" = "moves.js";
    "/page/words.js": "text/javascript; charset=utf-8" = "words.js";
};

/// The page may load its own files and call its own address only. No form submission, no framing.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// For responses other than the page.
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// The routes of the page's files.
pub(super) fn routes() -> Router<Arc<AdminState>> {
    FILES.iter().fold(Router::new(), |router, file| {
        let tag = tag(file.bytes);
        router.route(file.path, get(async move |headers: HeaderMap| answer(file, &tag, &headers)))
    })
}

/// Sets default headers on every response of the admin address.
pub(super) async fn protect(mut response: Response) -> Response {
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, DATA_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn answer(file: &File, tag: &HeaderValue, asked: &HeaderMap) -> Response {
    let headers = [
        // Cached, but revalidated: an upgrade of Holdline may have changed the page.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::ETAG, tag.clone()),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY)),
    ];
    if has_it(asked, tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, [(header::CONTENT_TYPE, HeaderValue::from_static(file.kind))], file.bytes).into_response()
}

/// RFC 9110 section 13.1.2; a weak comparison, and `*` is anything.
fn has_it(asked: &HeaderMap, tag: &HeaderValue) -> bool {
    let tags = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    tags.map(|t| t.trim().trim_start_matches("W/")).any(|t| t == "*" || t.as_bytes() == tag.as_bytes())
}

/// Stable for the same bytes within one build, which is enough for revalidation.
fn tag(bytes: &[u8]) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish())).expect("hexadecimal digits are a header value")
}
