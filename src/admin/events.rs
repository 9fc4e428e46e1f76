//! The event log as Server-Sent Events.
//!
//! Events are fetched from the ring buffer only as the reader consumes them: one batch and one chunk are in memory, and the number of
//! readers is bounded.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::api::EventBody;
use super::stream::{RETRY, Reader, follows};
use super::{Plane, Problem, Shared};

/// Interval of comments on an idle stream: proxies keep the connection open, and a closed one is detected.
const KEEPALIVE: Duration = Duration::from_secs(15);

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
    let follow = follows(query.follow, true)?;
    let permit = state.event_readers.clone().try_acquire_owned().map_err(|_| {
        let detail = "too many readers of events; close one first";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-readers", "Too many readers", detail)
    })?;
    let from = resume_point(&headers, state.control.as_ref());
    let (reader, response) = Reader::new(permit);
    tokio::spawn(feed(reader, state.control.clone(), from, follow));
    Ok(response)
}

/// The id after which to continue. An id higher than any is from before a restart, so the reader gets all that is kept.
fn resume_point(headers: &HeaderMap, control: &dyn Plane) -> u64 {
    let asked = headers.get("last-event-id").and_then(|v| v.to_str().ok()).and_then(|v| v.trim().parse().ok()).unwrap_or(0);
    let newest = control.events_since(0).last().map_or(0, |e| e.id);
    if asked > newest { 0 } else { asked }
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

/// One event, after a comment about events that the ring buffer dropped before it.
fn chunk(event: &EventBody, last: u64) -> String {
    let dropped = event.id.saturating_sub(last + 1);
    let note = if dropped > 0 { format!(": {dropped} older events dropped\n\n") } else { String::new() };
    // A `Notice` is plain data; serialising it does not fail.
    let data = serde_json::to_string(event).unwrap_or_default();
    format!("{note}id: {}\ndata: {data}\n\n", event.id)
}
