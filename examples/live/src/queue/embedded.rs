//! The embedded queue: the log in the api's SQLite file, and lines over HTTP from `live api --internal`.

use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Response, StatusCode, Uri};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncRead;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use super::{Entries, Publish, QueueError, Subscribe};
use crate::delta::Entry;
use crate::store::Store;

/// The api says something every 5 s: three times that in silence, and it is gone.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// The longest line that is read, in bytes.
const LINE_MAX: usize = 1 << 20;

/// The api's side of the embedded queue: the log is the queue, so that what is stored is published.
pub struct Publisher {
    newest: tokio::sync::watch::Receiver<u64>,
}

impl Publisher {
    /// Of this log.
    #[must_use]
    pub fn new(store: &Store) -> Publisher {
        Publisher { newest: store.newest() }
    }
}

impl Publish for Publisher {
    fn newest(&self) -> BoxFuture<'_, Result<u64, QueueError>> {
        Box::pin(async { Ok(*self.newest.borrow()) })
    }

    fn publish<'a>(&'a self, _: &'a [Entry]) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A node's side of the embedded queue.
pub struct Subscriber {
    client: Client<HttpConnector, Empty<Bytes>>,
    base: String,
}

#[derive(Deserialize)]
struct Newest {
    pos: u64,
}

/// A position that the log does not go on from: what is after it was trimmed, or it is another log's.
#[derive(Deserialize)]
#[serde(untagged)]
enum NotThere {
    Trimmed { oldest: u64 },
    Future { seq: u64 },
}

impl Subscriber {
    /// Reads from `api`, the address of its internal side.
    #[must_use]
    pub fn new(api: &str) -> Subscriber {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Subscriber { client, base: api.trim_end_matches('/').to_owned() }
    }

    async fn get(&self, path: &str) -> Result<Response<Incoming>, QueueError> {
        let uri: Uri = format!("{}{path}", self.base).parse().map_err(|e| down(&self.base, e))?;
        in_time(&self.base, self.client.get(uri)).await?.map_err(|e| down(&self.base, told(&e)))
    }

    async fn json<T: DeserializeOwned>(&self, answer: Response<Incoming>) -> Result<T, QueueError> {
        let body = Limited::new(answer.into_body(), LINE_MAX).collect();
        let body = in_time(&self.base, body).await?.map_err(|e| down(&self.base, e))?.to_bytes();
        serde_json::from_slice(&body).map_err(|e| down(&self.base, e))
    }
}

impl Subscribe for Subscriber {
    fn newest(&self) -> BoxFuture<'_, Result<u64, QueueError>> {
        Box::pin(async {
            let answer = self.get("/internal/newest").await?;
            match answer.status() {
                StatusCode::OK => Ok(self.json::<Newest>(answer).await?.pos),
                status => Err(down(&self.base, status)),
            }
        })
    }

    fn subscribe(&self, after: u64) -> BoxFuture<'_, Result<Entries, QueueError>> {
        Box::pin(async move {
            let answer = self.get(&format!("/internal/stream?after={after}")).await?;
            match answer.status() {
                StatusCode::OK => {
                    let bytes = answer.into_body().into_data_stream().map_err(io::Error::other);
                    Ok(entries(self.base.clone(), StreamReader::new(bytes)))
                }
                StatusCode::GONE | StatusCode::BAD_REQUEST => {
                    let oldest = match self.json(answer).await? {
                        NotThere::Trimmed { oldest } => oldest,
                        NotThere::Future { seq } => seq + 1,
                    };
                    Err(QueueError::Passed { oldest })
                }
                status => Err(down(&self.base, status)),
            }
        })
    }
}

/// An entry a line; empty lines say that the api is there.
fn entries(at: String, reader: impl AsyncRead + Send + Unpin + 'static) -> Entries {
    let lines = FramedRead::new(reader, LinesCodec::new_with_max_length(LINE_MAX));
    let entries = stream::unfold(Some((at, lines)), async |open| {
        let (at, mut lines) = open?;
        let entry = loop {
            break match in_time(&at, lines.next()).await {
                Ok(Some(Ok(line))) if line.is_empty() => continue,
                Ok(Some(Ok(line))) => serde_json::from_str(&line).map_err(|e| down(&at, e)),
                Ok(Some(Err(error))) => Err(down(&at, told(&error))),
                Ok(None) => Err(down(&at, "the stream ended")),
                Err(silent) => Err(silent),
            };
        };
        let go_on = entry.is_ok().then_some((at, lines));
        Some((entry, go_on))
    });
    entries.boxed()
}

async fn in_time<T>(at: &str, answer: impl Future<Output = T>) -> Result<T, QueueError> {
    let answer = tokio::time::timeout(SILENCE_MAX, answer).await;
    answer.map_err(|_| down(at, format_args!("nothing came for {} s", SILENCE_MAX.as_secs())))
}

/// An error with what is behind it, which is where hyper has the reason.
fn told(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}

fn down(at: &str, reason: impl Display) -> QueueError {
    QueueError::Down { at: at.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    fn opened() -> (DuplexStream, Entries) {
        let (api, node) = duplex(1 << 21);
        (api, entries("there".to_owned(), node))
    }

    fn line(pos: u64) -> String {
        let delta = r#"{"seq":1,"at":1,"action":"like","comment":1,"user":"ann"}"#;
        format!("{{\"pos\":{pos},\"room\":\"r\",\"delta\":{delta}}}\n")
    }

    async fn reason(entries: &mut Entries) -> String {
        let failed = entries.next().await.unwrap().unwrap_err();
        assert!(entries.next().await.is_none(), "nothing after an error");
        failed.to_string()
    }

    #[expect(clippy::disallowed_methods, reason = "the test's own, paused")]
    fn now() -> Instant {
        Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_the_end_and_an_empty_line_is_no_silence() {
        let (mut api, mut entries) = opened();
        let started = now();
        let said = tokio::spawn(async move {
            for _ in 0..3 {
                tokio::time::sleep(SILENCE_MAX - Duration::from_millis(1)).await;
                api.write_all(b"\n").await.unwrap();
            }
            api
        });
        assert!(reason(&mut entries).await.contains("nothing came for 15 s"));
        assert_eq!(started.elapsed(), SILENCE_MAX * 4 - Duration::from_millis(3));
        drop(said.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_that_does_not_answer_is_down() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let queue = Subscriber::new(&format!("http://{}/", listener.local_addr().unwrap()));
        let started = now();
        assert!(matches!(queue.newest().await, Err(QueueError::Down { .. })));
        assert!(matches!(queue.subscribe(0).await.err(), Some(QueueError::Down { .. })));
        assert_eq!(started.elapsed(), SILENCE_MAX * 2);
    }

    #[tokio::test]
    async fn lines_are_taken_however_they_are_torn() {
        let (mut api, mut entries) = opened();
        let text = line(1) + "\n" + &line(2) + &line(3);
        let (front, back) = text.split_at(line(1).len() + 20);
        api.write_all(front.as_bytes()).await.unwrap();
        assert_eq!(entries.next().await.unwrap().unwrap().pos, 1);
        api.write_all(back.as_bytes()).await.unwrap();
        assert_eq!(entries.next().await.unwrap().unwrap().pos, 2);
        assert_eq!(entries.next().await.unwrap().unwrap().pos, 3);
        drop(api);
        assert!(reason(&mut entries).await.contains("the stream ended"));
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_not_kept() {
        let (mut api, mut entries) = opened();
        api.write_all(&vec![b'x'; LINE_MAX + 1]).await.unwrap();
        assert!(reason(&mut entries).await.contains("max line length exceeded"));
        let (mut api, mut entries) = opened();
        api.write_all(b"{}\n").await.unwrap();
        assert!(reason(&mut entries).await.contains("missing field"));
    }
}
