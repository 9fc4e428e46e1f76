//! The status page, and what keeps foreign pages out.

use super::*;

#[tokio::test]
async fn the_page_and_its_files_are_there_with_what_protects_them() {
    let api = Api::new();
    let index = api.send(request("GET", "/", None)).await;
    let policy = index.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    let html = text(index).await;
    assert!(!html.contains(" style=") && !html.contains("<style") && !html.contains(" onclick"), "nothing inline");
    let files = html.split('"').filter(|part| part.starts_with('/') && part.contains('.'));
    for path in files {
        let found = api.send(request("GET", path, None)).await;
        assert_eq!(found.status(), 200, "{path}");
        assert_eq!(found.headers()["x-content-type-options"], "nosniff");
        let mut again = request("GET", path, None);
        again.headers_mut().insert("if-none-match", found.headers()["etag"].clone());
        let again = api.send(again).await;
        assert_eq!(again.status(), 304, "{path}");
        assert!(text(again).await.is_empty());
        let head = api.send(request("HEAD", path, None)).await;
        assert_eq!((head.status(), text(head).await.len()), (StatusCode::OK, 0));
    }
}

#[tokio::test]
async fn answers_of_the_api_are_neither_kept_nor_shown_as_a_page() {
    let answer = Api::new().send(request("GET", "/v1/status", None)).await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
    let mut foreign = request("GET", "/", None);
    foreign.headers_mut().insert("host", "evil.example".parse().expect("a header value"));
    assert_eq!(Api::new().send(foreign).await.status(), 403);
}

#[tokio::test]
async fn foreign_pages_unknown_calls_and_wrong_methods_get_problems() {
    let api = Api::new();
    let mut foreign = request("GET", "/v1/status", None);
    foreign.headers_mut().insert("host", "evil.example".parse().expect("a header value"));
    assert_eq!(read(api.send(foreign).await).await.0, 403);
    let mut cross = request("POST", "/v1/fleets/chat/rebalance", Some("{}"));
    cross.headers_mut().insert("origin", "http://evil.example".parse().expect("a header value"));
    assert_eq!(read(api.send(cross).await).await.0, 403);
    let metrics = text(api.send(request("GET", "/metrics", None)).await).await;
    assert!(metrics.contains("holdline_bad_input_total{reason=\"admin_origin\"} 2\n"), "{metrics}");
    assert_eq!(api.get("/v1/nope").await.0, 404);
    assert_eq!(api.get("/page/nope.js").await.0, 404);
    let wrong = api.send(request("DELETE", "/v1/status", None)).await;
    assert!(wrong.headers().contains_key("allow"));
    assert_eq!(read(wrong).await.0, 405);
    assert!(api.plane.commands.lock().is_empty());
}
