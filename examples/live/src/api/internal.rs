//! For nodes alone: the embedded queue's stream, and presence.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::App;
use super::input::{Body as JsonBody, Query, Segments, name};
use crate::problem::Problem;
use crate::store::{Refused, Store};

/// An empty line after this much silence: nodes take three times as long for the end.
const SILENCE: Duration = Duration::from_secs(5);

/// Entries that are read at once; a page is also bounded in bytes.
const PAGE: usize = 500;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/internal/stream", get(entries))
        .route("/internal/newest", get(newest))
        .route("/internal/presence/{node}", put(presence))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    after: u64,
}

#[derive(Serialize)]
struct Newest {
    pos: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rooms {
    rooms: BTreeMap<String, u64>,
}

async fn newest(State(app): State<App>) -> Json<Newest> {
    let pos = *app.store.newest().borrow();
    Json(Newest { pos })
}

async fn presence(
    State(app): State<App>,
    Segments(node): Segments<String>,
    JsonBody(said): JsonBody<Rooms>,
) -> Result<Json<Rooms>, Problem> {
    name("a node", &node)?;
    let rooms = app.presence.lock().report(&node, said.rooms, super::now());
    Ok(Json(Rooms { rooms }))
}

async fn entries(State(app): State<App>, Query(After { after }): Query<After>) -> Result<Response, Problem> {
    let newest = *app.store.newest().borrow();
    if after > newest {
        return Err(Problem::of(&Refused::FromTheFuture { seq: newest }, ""));
    }
    // The first page tells whether the log has what comes next, while there still is a status to say so.
    let first = lines(&app.store, after, newest).await.map_err(|refused| match refused {
        Refused::WindowPassed { oldest } => {
            let detail = format!("the log is whole from position {oldest} on: load the rooms anew");
            Problem::new(StatusCode::GONE, "window-passed", "These entries are not kept", detail).with("oldest", oldest)
        }
        other => Problem::of(&other, ""),
    })?;
    Ok(([("content-type", "application/x-ndjson")], Body::from_stream(follow(app.store, first))).into_response())
}

/// Pages at the reader's own pace: one is read when the one before has been taken.
fn follow(store: Store, first: Page) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let newest = store.newest();
    stream::unfold((store, newest, Some(first), 0), async |(store, mut newest, ready, mut pos)| {
        let page = match ready {
            Some(page) => page,
            None => match tokio::time::timeout(SILENCE, beyond(&mut newest, pos)).await {
                // Whoever reads finds the end, and what it lacks when it asks again.
                Ok(until) => lines(&store, pos, until?).await.ok()?,
                Err(_) => Page { text: "\n".into(), last: pos },
            },
        };
        pos = pos.max(page.last);
        // An empty page would end nothing, but need not be sent.
        let text = if page.text.is_empty() { "\n".into() } else { page.text };
        Some((Ok(Bytes::from(text)), (store, newest, None, pos)))
    })
}

/// The log's newest position, once it is after `pos`.
async fn beyond(newest: &mut watch::Receiver<u64>, pos: u64) -> Option<u64> {
    newest.wait_for(|newest| *newest > pos).await.ok().map(|newest| *newest)
}

struct Page {
    text: String,
    last: u64,
}

async fn lines(store: &Store, after: u64, until: u64) -> Result<Page, Refused> {
    let entries = if after < until { store.log(after, until, PAGE).await? } else { Vec::new() };
    let mut text = String::new();
    for entry in &entries {
        text += &serde_json::to_string(entry).expect("numbers and texts");
        text.push('\n');
    }
    Ok(Page { text, last: entries.last().map_or(after, |entry| entry.pos) })
}
