//! A server that takes connections and says nothing, and URLs that name none.

use holdline_live::queue::{QueueError, open_subscriber};
use tokio::net::TcpListener;
use tokio::time::Instant;

const SCHEMES: &[&str] = &[
    #[cfg(feature = "redis")]
    "redis",
    #[cfg(feature = "postgres")]
    "postgres",
];

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "the paused clock")]
async fn a_server_that_says_nothing_is_down_after_two_seconds() {
    for scheme in SCHEMES {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let queue = open_subscriber(&format!("{scheme}://somebody:secret@{address}/0"), "").unwrap();
        let begun = Instant::now();
        let newest = queue.newest().await.err();
        assert_eq!(begun.elapsed().as_secs(), 2, "{scheme}");
        let subscribed = queue.subscribe(1).await.err();
        assert_eq!(begun.elapsed().as_secs(), 4, "{scheme}");
        for error in [newest, subscribed] {
            let Some(QueueError::Down { at, reason }) = error else { panic!("{error:?}") };
            assert_eq!((at, reason.as_str()), (address.to_string(), "no answer within 2 s"));
        }
    }
}

#[test]
fn a_url_of_no_queue_is_refused() {
    let urls = ["", "redis", "amqp://u:secret@h", "redis://u:secret@h:port", "postgres://u:secret@h:port/x", "postgres:///x"];
    for url in urls {
        let error = open_subscriber(url, "").err().unwrap_or_else(|| panic!("{url} was taken")).to_string();
        assert!(error.starts_with("--queue: ") && !error.contains("secret"), "{error}");
    }
}
