//! The page and the browser's client, as they are in `web/`.

use axum::Router;
use axum::http::header;
use axum::routing::get;

/// The files that the page is made of, each at the path of its name.
macro_rules! files {
    ($($name:literal: $kind:literal),* $(,)?) => {
        &[$((concat!("/", $name), $kind, include_str!(concat!("../../web/", $name)))),*]
    };
}

/// Path, type, content.
const FILES: &[(&str, &str, &str)] = files! {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "api.js": "text/javascript; charset=utf-8",
    "backoff.js": "text/javascript; charset=utf-8",
    "choice.js": "text/javascript; charset=utf-8",
    "comment.js": "text/javascript; charset=utf-8",
    "connection.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "eventstream.js": "text/javascript; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "replica.js": "text/javascript; charset=utf-8",
    "transports.js": "text/javascript; charset=utf-8",
    "words.js": "text/javascript; charset=utf-8",
};

/// What the page may do: load from here, and talk to here.
const POLICY: &str =
    "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let index = FILES.iter().find(|(path, ..)| *path == "/index.html").map(|(_, kind, content)| ("/", *kind, *content));
    FILES.iter().copied().chain(index).fold(Router::new(), |router, (path, kind, content)| {
        let headers =
            [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache"), (header::CONTENT_SECURITY_POLICY, POLICY)];
        router.route(path, get(async move || (headers, content)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_page_is_forgotten() {
        let web = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/web")).unwrap();
        let files = web.map(|file| file.unwrap()).filter(|file| file.file_type().unwrap().is_file());
        for name in files.map(|file| format!("/{}", file.file_name().to_str().unwrap())) {
            assert!(FILES.iter().any(|(path, ..)| *path == name), "{name}");
        }
    }
}
