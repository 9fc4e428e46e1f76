//! What a client is told that cannot have a session, or said what nobody can hear here.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::room::Refusal;

/// A problem (RFC 9457): an answer, or the value of an `error` message.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    /// The newest delta, where that helps.
    seq: Option<u64>,
}

impl Problem {
    pub(crate) fn invalid(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "invalid", "The request is not understood", detail)
    }

    /// The node cannot give what the client lacks up to `seq`.
    pub(crate) fn resync(seq: u64) -> Problem {
        let detail =
            format!("this node does not have all deltas that you lack; get those up to {seq} from the api and go on after it");
        Problem { seq: Some(seq), ..Problem::new(StatusCode::GONE, "resync", "Deltas are missing here", detail) }
    }

    /// The api has not answered yet.
    pub(crate) fn api_down() -> Problem {
        let detail = "nothing is known of this room, for the api gives no answer; try again";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "api-down", "The api gives no answer", detail)
    }

    /// A message that a node has no ear for.
    pub(crate) fn not_over_websocket() -> Problem {
        let detail = "a node takes {\"ping\":N} and nothing else; comments and likes go to the api: POST /api/rooms/ROOM/comments, \
                      PUT /api/rooms/ROOM/comments/ID/likes/USER";
        Problem::new(StatusCode::BAD_REQUEST, "not-over-websocket", "Mutations go over HTTP", detail)
    }

    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, kind, title, detail: detail.into(), seq: None }
    }

    /// `{"error":…}`, as a WebSocket's message.
    pub(crate) fn message(&self) -> String {
        json!({ "error": self.value() }).to_string()
    }

    fn value(&self) -> Value {
        let mut value = json!({
            "type": format!("urn:live:problem:{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(seq) = self.seq {
            value["seq"] = seq.into();
        }
        value
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        match refusal {
            Refusal::BadName => Problem::invalid("the name of a room is 1 to 32 of a-z A-Z 0-9 _ -"),
            Refusal::UnknownRoom => {
                let detail = "there is no such room; GET /api/rooms lists them, PUT /api/rooms/ROOM makes one";
                Problem::new(StatusCode::NOT_FOUND, "unknown-room", "There is no such room", detail)
            }
            Refusal::FromTheFuture { seq } => {
                let detail = format!("the newest delta of this room is {seq}");
                let problem = Problem::new(StatusCode::BAD_REQUEST, "from-the-future", "There is no such delta yet", detail);
                Problem { seq: Some(seq), ..problem }
            }
            Refusal::TooManyRooms => {
                let detail = "this node has as many rooms as it takes; try again later";
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-rooms", "Too many rooms", detail)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.value())).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
