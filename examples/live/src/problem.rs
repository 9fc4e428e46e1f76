//! Errors as `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::store::Refused;
use crate::wall::Recovery;

/// An error answer; README.md lists its kinds.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    members: Map<String, Value>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, kind, title, detail: detail.into(), members: Map::new() }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "invalid", "The request is not understood", detail)
    }

    pub(crate) fn too_large(size: usize, limit: usize) -> Problem {
        let detail = format!("a comment has at most {limit} bytes, this one has {size}");
        let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The comment is too long", detail);
        problem.with("limit", limit).with("size", size)
    }

    pub(crate) fn queue_down(reason: &str) -> Problem {
        let detail =
            format!("nothing was stored, since nobody would hear of it: {reason}; try again with the same Idempotency-Key");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "queue-down", "The queue cannot be reached", detail)
    }

    /// Another member of the object.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Problem {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// The object itself.
    pub(crate) fn value(&self) -> Value {
        let mut value = json!({
            "type": format!("urn:live:problem:{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        value.as_object_mut().expect("it is one").extend(self.members.clone());
        value
    }

    /// What the store refused in this room.
    pub(crate) fn of(refused: &Refused, room: &str) -> Problem {
        let detail = refused.to_string();
        let problem = |status, kind, title| Problem::new(status, kind, title, detail.clone());
        match refused {
            Refused::UnknownRoom(_) => {
                let detail = format!("{detail}: GET /api/rooms lists them, PUT /api/rooms/{room} makes it");
                Problem::new(StatusCode::NOT_FOUND, "unknown-room", "There is no such room", detail)
            }
            Refused::UnknownComment(_) => problem(StatusCode::NOT_FOUND, "unknown-comment", "There is no such comment"),
            Refused::NotTheAuthor { .. } => problem(StatusCode::FORBIDDEN, "not-the-author", "Not your comment"),
            Refused::RoomDiffers(recovery) => {
                let problem = problem(StatusCode::CONFLICT, "room-differs", "The room has other settings");
                match recovery {
                    Recovery::Strong {} => problem.with("recovery", "strong"),
                    Recovery::Eventual { refetch_s } => problem.with("recovery", "eventual").with("refetch_s", *refetch_s),
                }
            }
            Refused::TooManyRooms => problem(StatusCode::CONFLICT, "too-many-rooms", "There is no place for another room"),
            Refused::KeyReused => {
                problem(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused", "The Idempotency-Key was used before")
            }
            Refused::FromTheFuture { seq } => {
                problem(StatusCode::BAD_REQUEST, "from-the-future", "There is no such delta yet").with("seq", *seq)
            }
            Refused::WindowPassed { oldest } => problem(StatusCode::GONE, "window-passed", "These deltas are not kept")
                .with("oldest", *oldest)
                .with("refetch", format!("/api/rooms/{room}")),
            Refused::Full(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "disk-full", "There is no place to store it"),
            Refused::Database(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "database-down", "The database cannot be used"),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.value())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
