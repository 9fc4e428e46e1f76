//! Deltas over an event stream (Server-Sent Events).

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, COOKIE, HOST};
use hyper_util::rt::TokioIo;
use sse_stream::{Sse, SseByteStream};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::{Cookies, End, How, Message, path};
use crate::client::api::Api;

/// Longer than between two of a node's comment lines.
const GIVES_UP_AFTER: Duration = Duration::from_secs(40);
/// The longest `retry:` that is believed; the rest is the backoff's.
const RETRY_MAX: Duration = Duration::from_secs(3600);

pub(in super::super) struct EventStream {
    events: Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>,
    pub(super) cookies: Cookies,
    /// The last `retry:`.
    retry: Duration,
    began: bool,
    _connection: Aborted,
}

/// The task that moves the bytes goes with the stream.
struct Aborted(AbortHandle);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug, Error)]
enum Body {
    #[error("silence")]
    Silence,
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

impl EventStream {
    pub(super) async fn open(api: &Api, room: &str, after: u64, mut cookies: Cookies) -> Result<Self, End> {
        let stream = TcpStream::connect(api.authority()).await.map_err(End::broken)?;
        let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(End::broken)?;
        let connection = Aborted(tokio::spawn(connection).abort_handle());
        let mut request =
            Request::get(path("events", room, Some(after))).header(HOST, api.authority()).header(ACCEPT, "text/event-stream");
        if let Some(header) = cookies.header() {
            request = request.header(COOKIE, header);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(End::broken)?;
        let (head, body) = send.send_request(request).await.map_err(End::broken)?.into_parts();
        if !head.status.is_success() {
            let body = body.collect().await.map_err(End::broken)?.to_bytes();
            return Err(End::answered(head.status, &head.headers, &body));
        }
        cookies.take(&head.headers);
        let events = Box::pin(SseByteStream::new(Box::pin(bytes(body))));
        Ok(EventStream { events, cookies, retry: Duration::ZERO, began: false, _connection: connection })
    }

    pub(super) async fn next(&mut self) -> Result<Message, End> {
        loop {
            match self.events.next().await {
                Some(Ok(event)) => {
                    if let Some(ms) = event.retry {
                        self.retry = Duration::from_millis(ms).min(RETRY_MAX);
                    }
                    if let Some(message) = read(&event)? {
                        self.began = true;
                        return Ok(message);
                    }
                }
                Some(Err(error)) => return Err(self.ended(How::Broken(error.to_string()))),
                // A proper end. Before the hello it is a refusal: any status but 200 would stop an EventSource for ever.
                None => return Err(self.ended(if self.began { How::Moved } else { How::Busy })),
            }
        }
    }

    fn ended(&self, how: How) -> End {
        End { how, asked: self.retry }
    }
}

/// The body's bytes, up to a silence that is too long. Comment lines end a silence, and are seen here alone.
fn bytes(body: Incoming) -> impl Stream<Item = Result<Bytes, Body>> {
    futures_util::stream::try_unfold(body, |mut body| async move {
        loop {
            let frame = tokio::time::timeout(GIVES_UP_AFTER, body.frame()).await.map_err(|_| Body::Silence)?;
            match frame.transpose()?.map(|frame| frame.into_data()) {
                Some(Ok(bytes)) => return Ok(Some((bytes, body))),
                // Trailers, which say nothing here.
                Some(Err(_)) => {}
                None => return Ok(None),
            }
        }
    })
}

fn read(event: &Sse) -> Result<Option<Message>, End> {
    let Some(data) = event.data.as_deref() else { return Ok(None) };
    let message = match event.event.as_deref() {
        None | Some("message") => serde_json::from_str(data).map(Message::Delta),
        Some("hello") => serde_json::from_str(data).map(Message::Hello),
        Some("resync") => serde_json::from_str::<Seq>(data).map(|r| Message::Resync(r.seq)),
        Some("presence") => serde_json::from_str(data).map(Message::Presence),
        // Words that a later version may have.
        Some(_) => Ok(Message::Alive),
    };
    message.map(Some).map_err(End::broken)
}

#[derive(serde::Deserialize)]
struct Seq {
    seq: u64,
}
