//! A session over an event stream.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::cursor::Heard;
use super::hub::Listener;
use super::sessions::Guard;

/// A stream says something at least so often, so that whoever is between knows that it lives.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Begins the session; it is counted as long as somebody reads the stream.
pub(crate) fn begin(listener: Listener, node: String, guard: Guard) -> Response {
    let session = Session { node, listener, has_ended: false, _guard: guard };
    let head = stream::iter([Bytes::from_static(b"retry: 1000\n\n")]);
    let events = head.chain(stream::unfold(session, next).flat_map(stream::iter));
    let body = Body::from_stream(events.map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")], body).into_response()
}

struct Session {
    node: String,
    listener: Listener,
    has_ended: bool,
    _guard: Guard,
}

async fn next(mut session: Session) -> Option<(Vec<Bytes>, Session)> {
    if session.has_ended {
        return None;
    }
    let Ok(heard) = tokio::time::timeout(SILENCE_MAX, session.listener.next()).await else {
        return Some((vec![Bytes::from_static(b":\n\n")], session));
    };
    let said = match heard {
        Heard::Deltas(lines) => lines.iter().map(|line| line.event().clone()).collect(),
        Heard::Hello { seq, presence } => {
            let room = session.listener.name();
            vec![event("hello", &json!({ "node": session.node, "room": room, "seq": seq, "presence": presence }))]
        }
        Heard::Resync { seq } => vec![event("resync", &json!({ "seq": seq }))],
        Heard::Presence(presence) => vec![event("presence", &json!(presence))],
        // It ends, and whoever asks again is told why with the answer's status.
        Heard::Refused(_) => {
            session.has_ended = true;
            vec![]
        }
    };
    Some((said, session))
}

fn event(name: &str, data: &Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}
