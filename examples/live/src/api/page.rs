//! The page and the browser's client, as they are in `web/`.

use axum::Router;
use axum::http::header;
use axum::routing::get;

const HTML: &str = "text/html; charset=utf-8";

/// Path, type, content.
const FILES: &[(&str, &str, &str)] = &[("/", HTML, include_str!("../../web/index.html"))];

pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, (path, kind, content)| {
        router.route(path, get(async || ([(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "no-cache")], *content)))
    })
}
