//! Server-Sent Events with bounded memory: chunks are produced only as the reader consumes them, one chunk is in memory, and a reader
//! that consumes nothing for [`STALL`] is disconnected.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};
use http_body_util::channel::{Channel, Sender};
use tokio::sync::OwnedSemaphorePermit;

use super::Problem;

/// A reader that consumes nothing for this time is disconnected; an EventSource reconnects.
const STALL: Duration = Duration::from_secs(30);

/// Reconnect delay of an EventSource, in ms.
pub(super) const RETRY: &str = "retry: 2000\n\n";

/// One reader of a stream, counted until it is dropped.
pub(super) struct Reader {
    sender: Sender<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// A reader and the response that it reads.
    pub(super) fn new(permit: OwnedSemaphorePermit) -> (Self, Response) {
        let (sender, body) = Channel::<Bytes>::new(1);
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        (Reader { sender, _permit: permit }, response)
    }

    /// False when the reader disconnected or stalled.
    pub(super) async fn take(&mut self, chunk: impl Into<Bytes>) -> bool {
        matches!(tokio::time::timeout(STALL, self.sender.send_data(chunk.into())).await, Ok(Ok(())))
    }
}

/// The query parameter `follow`: 1 keeps the stream open, 0 ends it after the current content.
pub(super) fn follows(asked: Option<u8>, default: bool) -> Result<bool, Problem> {
    match asked {
        None => Ok(default),
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        Some(other) => Err(Problem::invalid(format!("follow is {other}; it must be 0 or 1"))),
    }
}
