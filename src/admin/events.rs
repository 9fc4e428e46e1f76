//! The event log as Server-Sent Events.
//!
//! Bounded whatever the reader does: events are fetched from the ring only as it takes them, one batch and one chunk are in memory,
//! a reader that takes nothing for [`STALL`] is let go, and there are so many readers at the most.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::channel::{Channel, Sender};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::api::EventBody;
use super::{Plane, Problem, Shared};

/// A comment is sent after so much silence: proxies keep the connection, and a reader that went is noticed.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A reader that takes nothing for so long is let go; it may come back with Last-Event-ID.
const STALL: Duration = Duration::from_secs(30);

/// Milliseconds after which an EventSource comes back.
const RETRY: &str = "retry: 2000\n\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    follow: Option<u8>,
}

pub(super) async fn events(
    State(state): Shared,
    query: Result<Query<EventsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|e| Problem::plain(StatusCode::BAD_REQUEST, e.body_text()))?;
    let follow = match query.follow {
        None | Some(1) => true,
        Some(0) => false,
        Some(other) => return Err(Problem::invalid(format!("follow is {other}; it must be 0 or 1"))),
    };
    let permit = state.event_readers.clone().try_acquire_owned().map_err(|_| {
        let detail = "as many read events as may; close another reader first";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-readers", "Too many readers", detail)
    })?;
    let from = resume_point(&headers, state.control.as_ref());
    let (sender, body) = Channel::<Bytes>::new(1);
    tokio::spawn(feed(Reader { sender, _permit: permit }, state.control.clone(), from, follow));

    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The id after which to go on. One that was never given here is from before a restart: all that is kept is new to that reader.
fn resume_point(headers: &HeaderMap, control: &dyn Plane) -> u64 {
    let asked = headers.get("last-event-id").and_then(|v| v.to_str().ok()).and_then(|v| v.trim().parse().ok()).unwrap_or(0);
    let newest = control.events_since(0).last().map_or(0, |e| e.id);
    if asked > newest { 0 } else { asked }
}

struct Reader {
    sender: Sender<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// False when the reader went or stalled.
    async fn take(&mut self, chunk: impl Into<Bytes>) -> bool {
        matches!(tokio::time::timeout(STALL, self.sender.send_data(chunk.into())).await, Ok(Ok(())))
    }
}

async fn feed(mut reader: Reader, control: Arc<dyn Plane>, mut last: u64, follow: bool) {
    if !reader.take(RETRY).await {
        return;
    }
    loop {
        for event in control.events_since(last) {
            if !reader.take(chunk(&event, last)).await {
                return;
            }
            last = event.id;
        }
        if !follow {
            return;
        }
        match tokio::time::timeout(KEEPALIVE, control.event_after(last)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) if reader.take(":\n\n").await => {}
            Err(_) => return,
        }
    }
}

/// One event; events that the ring dropped before it are owned up to.
fn chunk(event: &EventBody, last: u64) -> String {
    let dropped = event.id.saturating_sub(last + 1);
    let note = if dropped > 0 { format!(": {dropped} older events are no longer kept\n\n") } else { String::new() };
    // A `Notice` is plain data; serialising it does not fail.
    let data = serde_json::to_string(event).unwrap_or_default();
    format!("{note}id: {}\ndata: {data}\n\n", event.id)
}
