//! What a node asks the api: rooms, and who is there.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request, StatusCode, Uri, header};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::room::{KEPT_MAX, Loaded};
use crate::wall::{Deltas, Snapshot};

/// Deltas to a page: with the longest comments that an api may allow, and every character escaped, a page is still below [`BODY_MAX`].
const PAGE: u64 = 128;

/// The longest answer that is read, in bytes.
const BODY_MAX: usize = 64 << 20;

/// Rooms that are loaded at once: a crowd that comes back to a new node must not be a crowd at the api.
const LOADS_MAX: usize = 8;

/// An answer that takes longer than this is none.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The api, as a node needs it.
pub(crate) trait Api: Send + Sync {
    /// The newest deltas of a room, from after `have` on if they are kept; `None`: there is no such room.
    fn load<'a>(&'a self, room: &'a str, have: u64) -> BoxFuture<'a, Result<Option<Loaded>, ApiError>>;

    /// Tells who is here, and learns who is anywhere.
    fn report<'a>(&'a self, here: &'a Presence) -> BoxFuture<'a, Result<Presence, ApiError>>;
}

/// Clients to a room; none is as good as not named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Presence {
    pub(crate) rooms: BTreeMap<String, u64>,
}

/// Why the api did not answer.
#[derive(Debug, Error)]
#[error("the api at {at} gives no answer: {reason}")]
pub(crate) struct ApiError {
    pub(crate) at: String,
    pub(crate) reason: String,
}

/// The api over HTTP.
pub(crate) struct HttpApi {
    client: Client<HttpConnector, Full<Bytes>>,
    /// Without a slash at its end.
    base: String,
    /// What it reports presence as.
    node: String,
    loads: Semaphore,
}

impl HttpApi {
    /// # Errors
    /// `base` is no `http://` address.
    pub(crate) fn new(base: &str, node: &str) -> std::io::Result<HttpApi> {
        let is_http = base.parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
        if !is_http {
            let text = format!("--api {base} is no address of an api; it is like http://127.0.0.1:9101");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, text));
        }
        let base = base.trim_end_matches('/').to_owned();
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(HttpApi { client, base, node: node.to_owned(), loads: Semaphore::new(LOADS_MAX) })
    }

    /// The answer's body; `None`: 404, or 410 and 400, where what was asked for is not there.
    async fn ask<T: DeserializeOwned>(&self, method: Method, path: String, body: String) -> Result<Option<T>, ApiError> {
        match tokio::time::timeout(ANSWER_WITHIN, self.exchange(method, path, body)).await {
            Ok(Ok((status, _))) if matches!(status.as_u16(), 400 | 404 | 410) => Ok(None),
            Ok(Ok((status, body))) if status.is_success() => serde_json::from_slice(&body).map(Some).map_err(|e| self.error(e)),
            Ok(Ok((status, _))) => Err(self.error(status)),
            Ok(Err(error)) => Err(self.error(error)),
            Err(_) => Err(self.error(format!("nothing for {ANSWER_WITHIN:?}"))),
        }
    }

    async fn exchange(&self, method: Method, path: String, body: String) -> Result<(StatusCode, Bytes), Failure> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body))?;
        let answer = self.client.request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), BODY_MAX).collect().await?;
        Ok((status, body.to_bytes()))
    }

    fn error(&self, reason: impl ToString) -> ApiError {
        ApiError { at: self.base.clone(), reason: reason.to_string() }
    }

    async fn get<T: DeserializeOwned>(&self, path: String) -> Result<Option<T>, ApiError> {
        self.ask(Method::GET, path, String::new()).await
    }

    async fn load_room(&self, room: &str, have: u64) -> Result<Option<Loaded>, ApiError> {
        let _turn = self.loads.acquire().await.expect("it is never closed");
        let Some(Snapshot { seq, oldest, presence, .. }) = self.get(format!("/api/rooms/{room}?limit=1")).await? else {
            return Ok(None);
        };
        let mut loaded = Loaded { seq, presence, deltas: Vec::new() };
        // Who has more than the api asks for what the api has.
        let have = if have > seq { 0 } else { have };
        let mut after = have.max(seq.saturating_sub(KEPT_MAX as u64)).max(oldest.saturating_sub(1));
        while after < loaded.seq {
            let page: Option<Deltas> = self.get(format!("/api/rooms/{room}/deltas?after={after}&limit={PAGE}")).await?;
            // The window went past it meanwhile: the room is asked for again.
            let page = page.ok_or_else(|| self.error("deltas that were there a moment ago are gone"))?;
            let is_next = page.deltas.iter().zip(after + 1..).all(|(delta, seq)| delta.seq == seq);
            let Some(last) = page.deltas.last().filter(|_| is_next) else {
                return Err(self.error(format!("deltas of {room} after {after} are missing")));
            };
            after = last.seq;
            loaded.seq = loaded.seq.max(after);
            loaded.deltas.extend(page.deltas);
        }
        Ok(Some(loaded))
    }
}

/// Whatever kept an exchange from its end.
type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Api for HttpApi {
    fn load<'a>(&'a self, room: &'a str, have: u64) -> BoxFuture<'a, Result<Option<Loaded>, ApiError>> {
        Box::pin(self.load_room(room, have))
    }

    fn report<'a>(&'a self, here: &'a Presence) -> BoxFuture<'a, Result<Presence, ApiError>> {
        Box::pin(async move {
            let body = serde_json::to_string(here).expect("names and numbers are JSON");
            let sums = self.ask(Method::PUT, format!("/internal/presence/{}", self.node), body).await?;
            sums.ok_or_else(|| self.error("it takes no presence"))
        })
    }
}
