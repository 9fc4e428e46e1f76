//! The status as it changes, as Server-Sent Events.
//!
//! A frame is the whole status, so a slow watcher may skip frames without missing a change. All watchers share the encoded frames.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use holdline_core::snapshot::Snapshot;
use holdline_core::time::Moment;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::stream::{RETRY, Reader};
use super::{AdminState, Problem, view};

/// Concurrent watchers; an open status page is one. Together with the readers of events they stay below the connection limit of the
/// admin address.
const WATCHERS_MAX: usize = 64;

/// Minimum interval of frames: a fleet of a thousand backends is 400 KiB of JSON each time.
const FRAME_EVERY: Duration = Duration::from_millis(250);

/// Interval of frames while only ages change. A watcher that receives nothing for a few of these has lost its connection.
const STILL_EVERY: Duration = Duration::from_secs(1);

/// What all watchers share.
pub(super) struct Live {
    watchers: Arc<Semaphore>,
    latest: Mutex<Option<Frame>>,
}

/// One status, encoded.
#[derive(Clone, Debug)]
struct Frame {
    at: Moment,
    version: u64,
    data: Bytes,
}

impl Default for Live {
    fn default() -> Self {
        Live { watchers: Arc::new(Semaphore::new(WATCHERS_MAX)), latest: Mutex::default() }
    }
}

impl Live {
    /// The frame for `snapshot`: the last one while it is recent enough.
    fn frame(&self, snapshot: &Snapshot, encode: impl FnOnce() -> Bytes) -> Frame {
        let mut latest = self.latest.lock();
        match &*latest {
            Some(last) if !is_due(last, snapshot) => last.clone(),
            _ => latest.insert(Frame { at: snapshot.at, version: snapshot.version, data: encode() }).clone(),
        }
    }
}

fn is_due(last: &Frame, snapshot: &Snapshot) -> bool {
    let age = snapshot.at.since(last.at);
    age >= if snapshot.version == last.version { STILL_EVERY } else { FRAME_EVERY }
}

/// `GET /v1/status?follow=1`.
pub(super) fn follow(state: &Arc<AdminState>) -> Result<Response, Problem> {
    let permit = state.live.watchers.clone().try_acquire_owned().map_err(|_| {
        let detail = format!("the limit of {WATCHERS_MAX} status watchers is reached; close an unused status page");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-readers", "Too many readers", detail)
    })?;
    let (reader, response) = Reader::new(permit);
    tokio::spawn(feed(reader, state.clone(), state.control.watch()));
    Ok(response)
}

async fn feed(mut reader: Reader, state: Arc<AdminState>, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    if !reader.take(RETRY).await {
        return;
    }
    snapshots.mark_unchanged();
    let Ok(mut snapshot) = state.control.fresh().await else { return };
    let mut sent = None;
    loop {
        let frame = state.live.frame(&snapshot, || encode(&snapshot, &state));
        // A change within the minimum interval is sent when that has passed; otherwise only ages are updated.
        let wait = if frame.version == snapshot.version { STILL_EVERY } else { FRAME_EVERY };
        if sent != Some(frame.at) {
            sent = Some(frame.at);
            if !reader.take(frame.data).await {
                return;
            }
        }
        let next = tokio::select! {
            changed = snapshots.changed() => changed.map(|()| Arc::clone(&snapshots.borrow_and_update())).ok(),
            () = tokio::time::sleep(wait) => state.control.fresh().await.ok(),
        };
        let Some(next) = next else { return };
        snapshot = next;
    }
}

fn encode(snapshot: &Snapshot, state: &AdminState) -> Bytes {
    // The body is plain data; serialising it does not fail.
    let json = serde_json::to_string(&view::status_body(snapshot, &state.gateway_id, state.clock.now())).unwrap_or_default();
    format!("data: {json}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::super::doubles::{chat, snapshot};
    use super::*;

    fn at(version: u64, ms: u64) -> Snapshot {
        Snapshot { version, at: Moment::from_millis(ms), ..snapshot(vec![chat()]) }
    }

    #[test]
    fn however_many_watch_a_status_is_encoded_four_times_a_second_at_most() {
        let live = Live::default();
        let mut encoded = 0;
        for ms in (0..10_000).step_by(100) {
            for _watcher in 0..WATCHERS_MAX {
                let frame = live.frame(&at(ms, ms), || {
                    encoded += 1;
                    Bytes::new()
                });
                assert!(ms - frame.version < 250, "and nobody sees one older than that");
            }
        }
        assert!((30..=40).contains(&encoded), "{encoded}");
    }

    #[test]
    fn while_nothing_changes_ages_go_on_once_a_second() {
        let live = Live::default();
        let frames = (0..50).map(|tick| live.frame(&at(7, tick * 100), Bytes::new).at);
        let mut seen: Vec<Moment> = frames.collect();
        seen.dedup();
        assert_eq!(seen, [0, 1_000, 2_000, 3_000, 4_000].map(Moment::from_millis));
    }
}
