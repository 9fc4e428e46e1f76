//! Mutations and queries over HTTP.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::http::response::Parts;
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use thiserror::Error;

use super::backoff::Backoff;
use crate::delta::Delta;
use crate::wall::{Comment, Deltas, Recovery, Room, Snapshot};

/// How long an answer may take. A mutation is asked for again with its key; a query costs nothing.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Comments of a room that are loaded with it.
const COMMENTS: u32 = 1_000;
/// Deltas in an answer.
const DELTAS: u32 = 1_000;

#[derive(Deserialize)]
struct Rooms {
    rooms: Vec<Room>,
}

/// Something to change, by somebody, in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The room.
    pub room: String,
    /// Who does it.
    pub user: String,
    /// What.
    pub what: Mutation,
}

/// What to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Write this.
    Create(String),
    /// Change the text of a comment.
    Edit(u64, String),
    /// Take a comment away.
    Delete(u64),
    /// Like a comment.
    Like(u64),
    /// Like it no more.
    Unlike(u64),
}

/// The members of a problem (RFC 9457) that a client decides by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// `urn:live:problem:KIND`, or what a proxy on the way writes there.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// For people.
    #[serde(default)]
    pub detail: String,
}

impl Problem {
    /// Whether it is this KIND of the README's table.
    pub fn is(&self, kind: &str) -> bool {
        self.kind.strip_prefix("urn:live:problem:") == Some(kind)
    }

    pub(super) fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }
}

/// Why there is no answer, or not the one that was wanted.
#[derive(Clone, Debug, Error)]
pub enum ApiError {
    /// Nobody answered, or what came is not of this protocol.
    #[error("no answer from the api: {0}")]
    NoAnswer(String),
    /// The answer is no.
    #[error("the api answered {status}: {} {}", problem.kind, problem.detail)]
    Refused {
        /// The status.
        status: StatusCode,
        /// Why.
        problem: Problem,
        /// When to ask again, if it said.
        retry_after: Option<Duration>,
    },
}

impl ApiError {
    /// Whether it is a problem of this KIND.
    pub fn is(&self, kind: &str) -> bool {
        matches!(self, ApiError::Refused { problem, .. } if problem.is(kind))
    }

    /// Whether the same question may be answered later.
    pub fn is_passing(&self) -> bool {
        match self {
            ApiError::NoAnswer(_) => true,
            ApiError::Refused { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// How long to wait before that.
    pub(super) fn pause(&self, backoff: &mut Backoff) -> Duration {
        let asked = if let ApiError::Refused { retry_after, .. } = self { *retry_after } else { None };
        backoff.pause(asked.is_some(), asked.unwrap_or_default())
    }
}

/// `live api`, from outside. Clones share their connections.
#[derive(Clone)]
pub struct Api {
    http: Client<HttpConnector, Full<Bytes>>,
    authority: String,
}

impl Api {
    /// `authority`: host and port, where `/api` and `/live` are served.
    pub fn new(authority: impl Into<String>) -> Self {
        Api { http: Client::builder(TokioExecutor::new()).build_http(), authority: authority.into() }
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Makes a room, or finds it as it should be.
    ///
    /// # Errors
    /// No answer; or the room is there with other settings.
    pub async fn make_room(&self, room: &str, recovery: Recovery) -> Result<(), ApiError> {
        self.ask(Method::PUT, &format!("/api/rooms/{room}"), None, Some(&json!(recovery))).await.map(drop)
    }

    /// All rooms.
    ///
    /// # Errors
    /// No answer.
    pub async fn rooms(&self) -> Result<Vec<Room>, ApiError> {
        let Rooms { rooms } = self.query("/api/rooms").await?;
        Ok(rooms)
    }

    /// A room and its newest comments.
    ///
    /// # Errors
    /// No answer, or there is no such room.
    pub async fn room(&self, room: &str) -> Result<Snapshot, ApiError> {
        self.query(&format!("/api/rooms/{room}?limit={COMMENTS}")).await
    }

    /// One comment; `None`: there is none with this id.
    ///
    /// # Errors
    /// No answer.
    pub async fn comment(&self, room: &str, id: u64) -> Result<Option<Comment>, ApiError> {
        match self.query(&format!("/api/rooms/{room}/comments/{id}")).await {
            Ok(comment) => Ok(Some(comment)),
            Err(error) if error.is("unknown-comment") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The log after this delta, or as much of it as one answer holds.
    ///
    /// # Errors
    /// No answer; or the log does not reach back that far, or not yet there.
    pub async fn deltas(&self, room: &str, after: u64) -> Result<Deltas, ApiError> {
        self.query(&format!("/api/rooms/{room}/deltas?after={after}&limit={DELTAS}")).await
    }

    /// Changes something, once, however often the same `key` asks for it. The delta; `None`: nothing changed.
    ///
    /// # Errors
    /// No answer, and then it may have happened: ask again with the same key. Or the answer is no.
    pub async fn mutate(&self, change: &Change, key: &str) -> Result<Option<Delta>, ApiError> {
        let Change { room, user, what } = change;
        let comments = format!("/api/rooms/{room}/comments");
        let text = |text: &str| Some(json!({ "user": user, "text": text }));
        let (method, path, body) = match what {
            Mutation::Create(words) => (Method::POST, comments, text(words)),
            Mutation::Edit(id, words) => (Method::PATCH, format!("{comments}/{id}"), text(words)),
            Mutation::Delete(id) => (Method::DELETE, format!("{comments}/{id}?user={user}"), None),
            Mutation::Like(id) => (Method::PUT, format!("{comments}/{id}/likes/{user}"), None),
            Mutation::Unlike(id) => (Method::DELETE, format!("{comments}/{id}/likes/{user}"), None),
        };
        let body = self.ask(method, &path, Some(key), body.as_ref()).await?;
        if body.is_empty() { Ok(None) } else { read(&body).map(Some) }
    }

    /// The same, asked again with the same key until there is an answer: whatever was lost on the way, it happens once.
    ///
    /// # Errors
    /// The answer is no.
    pub async fn mutate_until_answered(
        &self,
        change: &Change,
        key: &str,
        backoff: &mut Backoff,
    ) -> Result<Option<Delta>, ApiError> {
        loop {
            match self.mutate(change, key).await {
                Err(error) if error.is_passing() => tokio::time::sleep(error.pause(backoff)).await,
                answered => {
                    backoff.held();
                    return answered;
                }
            }
        }
    }

    async fn query<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        read(&self.ask(Method::GET, path, None, None).await?)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<&serde_json::Value>,
    ) -> Result<Bytes, ApiError> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.authority));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let bytes = body.map(|json| Bytes::from(json.to_string()));
        if bytes.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(bytes.unwrap_or_default())).map_err(no_answer)?;
        let (head, body) = tokio::time::timeout(ANSWER_WITHIN, self.send(request)).await.map_err(no_answer)??;
        if head.status.is_success() {
            return Ok(body);
        }
        Err(ApiError::Refused { status: head.status, problem: Problem::read(&body), retry_after: retry_after(&head.headers) })
    }

    /// One exchange over a connection of the pool.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<(Parts, Bytes), ApiError> {
        let (head, body) = self.http.request(request).await.map_err(no_answer)?.into_parts();
        Ok((head, body.collect().await.map_err(no_answer)?.to_bytes()))
    }
}

/// `Retry-After` in seconds (RFC 9110, 10.2.3; nobody here sends a date).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(no_answer)
}

/// With its causes: what hyper says alone helps nobody.
fn no_answer(error: impl std::error::Error) -> ApiError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    ApiError::NoAnswer(text)
}
