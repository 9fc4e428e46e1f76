//! Errors as `application/problem+json` (RFC 9457).

use axum::Json;
use axum::response::{IntoResponse, Response};
use holdline_core::event::CommandError;
use http::{HeaderValue, StatusCode, header};

use super::api::ProblemBody;
use crate::controller::{ControlError, Stopped};

/// An error answer. `kind` becomes the last part of its type URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    kind: Option<&'static str>,
    title: &'static str,
    detail: String,
}

impl Problem {
    /// A problem with a type of its own, `urn:holdline:problem:KIND`.
    pub fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Problem { status, kind: Some(kind), title, detail: detail.into() }
    }

    /// A problem that its HTTP status describes sufficiently (`about:blank`, RFC 9457 section 4.2.1).
    pub fn plain(status: StatusCode, detail: impl Into<String>) -> Self {
        Problem { status, kind: None, title: status.canonical_reason().unwrap_or("Error"), detail: detail.into() }
    }

    pub(super) fn no_such_call() -> Self {
        let calls = "/ (the status page), /healthz, /readyz, /metrics, /v1/status, /v1/sessions, /v1/events, /v1/fleets/FLEET/{scale,rebalance,heartbeats}, \
                     /v1/fleets/FLEET/backends/ID/drain";
        Problem::plain(StatusCode::NOT_FOUND, format!("unknown path; the calls are {calls}"))
    }

    pub(super) fn wrong_method() -> Self {
        Problem::plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed here; see the header Allow")
    }

    pub(super) fn unknown_fleet(error: &CommandError) -> Self {
        Problem::new(StatusCode::NOT_FOUND, "unknown-fleet", "Unknown fleet", error.to_string())
    }

    /// The HTTP status it is sent with.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Stopped> for Problem {
    fn from(stopped: Stopped) -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "Holdline is stopping", stopped.to_string())
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        match &error {
            CommandError::UnknownFleet { .. } => Problem::unknown_fleet(&error),
            CommandError::UnknownBackend { .. } => {
                Problem::new(StatusCode::NOT_FOUND, "unknown-backend", "Unknown backend", error.to_string())
            }
            CommandError::WrongPhase { .. } => {
                Problem::new(StatusCode::CONFLICT, "wrong-phase", "Not possible in this phase", error.to_string())
            }
            CommandError::Invalid(_) => Problem::invalid(error.to_string()),
        }
    }
}

impl Problem {
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid value", detail)
    }
}

impl From<ControlError> for Problem {
    fn from(failure: ControlError) -> Self {
        match failure {
            ControlError::Refused(error) => error.into(),
            ControlError::Stopped(stopped) => stopped.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            kind: self.kind.map_or_else(|| "about:blank".into(), |k| format!("urn:holdline:problem:{k}")),
            title: self.title.into(),
            status: self.status.as_u16(),
            detail: self.detail,
        };
        let mut response = (self.status, Json(body)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
