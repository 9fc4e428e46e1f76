//! Request bodies: JSON, small, and soon.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::Problem;

/// The largest body there is any use for, many times over.
const BODY_MAX: usize = 64 * 1024;

/// For the whole body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON request body. None at all counts as `{}`.
pub(super) struct JsonBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let declared_json = is_json(request.headers());
        let declared = request.headers().contains_key(header::CONTENT_TYPE);
        if declared && !declared_json {
            return Err(wrong_type());
        }
        let bytes = read(request).await?;
        if bytes.is_empty() {
            return parse(b"{}").map(JsonBody);
        }
        if !declared_json {
            return Err(wrong_type());
        }
        parse(&bytes).map(JsonBody)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(|v| v.to_str()) else { return false };
    value.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn wrong_type() -> Problem {
    Problem::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the body with `Content-Type: application/json`")
}

async fn read(request: Request) -> Result<Bytes, Problem> {
    let collected = Limited::new(request.into_body(), BODY_MAX).collect();
    match tokio::time::timeout(BODY_TIMEOUT, collected).await {
        Err(_) => Err(Problem::plain(StatusCode::REQUEST_TIMEOUT, format!("the body took more than {BODY_TIMEOUT:?}"))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Problem::plain(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {BODY_MAX} bytes")))
        }
        Ok(Err(error)) => Err(Problem::plain(StatusCode::BAD_REQUEST, format!("the body could not be read: {error}"))),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde would take `[]` for an object whose keys are all left out.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::plain(StatusCode::BAD_REQUEST, "the body is not a JSON object; send one, such as {}"));
    }
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Data => Problem::invalid(format!("the body does not fit: {error}")),
        Category::Io | Category::Syntax | Category::Eof => {
            Problem::plain(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}"))
        }
    })
}
