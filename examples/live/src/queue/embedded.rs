//! The embedded queue: the log in the api's SQLite file, and lines over HTTP from `live api --internal`.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Response, StatusCode, Uri};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

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

#[derive(Deserialize)]
struct Gone {
    oldest: u64,
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
        let answer = tokio::time::timeout(SILENCE_MAX, self.client.get(uri)).await;
        let answer = answer.map_err(|e| down(&self.base, e))?.map_err(|e| down(&self.base, e))?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            StatusCode::GONE => Err(QueueError::Passed { oldest: self.json::<Gone>(answer).await?.oldest }),
            status => Err(down(&self.base, status)),
        }
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, answer: Response<Incoming>) -> Result<T, QueueError> {
        let body = Limited::new(answer.into_body(), LINE_MAX).collect();
        let body = tokio::time::timeout(SILENCE_MAX, body).await.map_err(|e| down(&self.base, e))?;
        let body = body.map_err(|e| down(&self.base, e))?.to_bytes();
        serde_json::from_slice(&body).map_err(|e| down(&self.base, e))
    }
}

impl Subscribe for Subscriber {
    fn newest(&self) -> BoxFuture<'_, Result<u64, QueueError>> {
        Box::pin(async move {
            let answer = self.get("/internal/newest").await?;
            let newest: Newest = self.json(answer).await?;
            Ok(newest.pos)
        })
    }

    fn subscribe(&self, after: u64) -> BoxFuture<'_, Result<Entries, QueueError>> {
        Box::pin(async move {
            let body = self.get(&format!("/internal/stream?after={after}")).await?.into_body();
            let lines = Lines { at: self.base.clone(), body, rest: Vec::new() };
            let entries = stream::unfold(Some(lines), async |lines| {
                let mut lines = lines?;
                let entry = lines.next().await;
                let go_on = entry.is_ok().then_some(lines);
                Some((entry, go_on))
            });
            Ok(entries.boxed())
        })
    }
}

struct Lines {
    at: String,
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    async fn next(&mut self) -> Result<Entry, QueueError> {
        loop {
            while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                if line.len() > 1 {
                    return serde_json::from_slice(&line).map_err(|e| down(&self.at, e));
                }
            }
            if self.rest.len() > LINE_MAX {
                return Err(down(&self.at, "a line without an end"));
            }
            let frame = tokio::time::timeout(SILENCE_MAX, self.body.frame()).await.map_err(|e| down(&self.at, e))?;
            let frame = frame.ok_or_else(|| down(&self.at, "it ended"))?.map_err(|e| down(&self.at, e))?;
            if let Ok(data) = frame.into_data() {
                self.rest.extend_from_slice(&data);
            }
        }
    }
}

fn down(at: &str, reason: impl ToString) -> QueueError {
    QueueError::Down { at: at.to_owned(), reason: reason.to_string() }
}
