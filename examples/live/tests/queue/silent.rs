//! A server that takes connections and says nothing, and URLs that name none.

use holdline_live::queue::{Publish, QueueError, server};
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
        let queue = server(&format!("{scheme}://somebody:secret@{address}/0")).unwrap();
        let begun = Instant::now();
        let newest = Publish::newest(&*queue).await.err();
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
    for url in ["", "redis", "amqp://127.0.0.1", "redis://127.0.0.1:notaport", "postgres://127.0.0.1:notaport/x", "postgres:///x"]
    {
        let error = server(url).err().unwrap_or_else(|| panic!("{url} was taken"));
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
    }
}
