//! For nodes alone: the embedded queue's stream, and presence.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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
    let body = Body::from_stream(follow(app.store, first, app.stop));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// Pages at the reader's own pace: one is read when the one before has been taken. It ends with the api, and when the window has passed over
/// what comes next: whoever reads hears so when it asks again.
fn follow(store: Store, first: Page, stop: CancellationToken) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let (newest, pos) = (store.newest(), first.last);
    let pages = stream::unfold((newest, pos), move |(mut newest, pos)| {
        let (store, stop) = (store.clone(), stop.clone());
        async move {
            let next = tokio::time::timeout(SILENCE, beyond(&mut newest, pos));
            let page = match stop.run_until_cancelled(next).await? {
                Ok(until) => lines(&store, pos, until?).await.ok()?,
                Err(_) => Page { text: "\n".into(), last: pos },
            };
            Some((page.text, (newest, page.last)))
        }
    });
    stream::once(async { first.text }).chain(pages).map(|text| Ok(Bytes::from(text)))
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

#[cfg(test)]
mod tests {
    use super::super::now;
    use super::*;
    use crate::store::Bounds;

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_and_the_stream_ends_with_the_api() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("live.db"), Bounds { window: 1, max_mib: None }).unwrap();
        let stop = CancellationToken::new();
        let first = lines(&store, 0, 0).await.unwrap();
        let mut stream = std::pin::pin!(follow(store, first, stop.clone()));
        assert_eq!(stream.next().await, Some(Ok(Bytes::new())));
        let started = now();
        for beat in 1..=3 {
            assert_eq!(stream.next().await, Some(Ok(Bytes::from("\n"))));
            assert_eq!(now() - started, SILENCE * beat);
        }
        stop.cancel();
        assert_eq!(stream.next().await, None);
    }
}
