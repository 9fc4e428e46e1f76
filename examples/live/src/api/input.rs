//! What comes in: every word that is not known is refused, with what was expected.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use crate::problem::Problem;
use crate::wall::is_name;

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match axum::Json::from_request(request, state).await {
            Ok(axum::Json(body)) => Ok(Body(body)),
            Err(JsonRejection::BytesRejection(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                let detail = format!("a request has at most {} bytes", super::BODY_MAX);
                let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too long", detail);
                Err(problem.with("limit", super::BODY_MAX))
            }
            Err(rejection) => Err(Problem::invalid(rejection.body_text())),
        }
    }
}

/// The query.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<axum::extract::Query<T>, QueryRejection> = axum::extract::Query::from_request_parts(parts, state).await;
        query.map(|axum::extract::Query(query)| Query(query)).map_err(|rejection| Problem::invalid(rejection.body_text()))
    }
}

/// The parts of the path that vary.
pub(crate) struct Segments<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(path)| Segments(path)).map_err(|rejection| Problem::invalid(rejection.body_text()))
    }
}

/// The request's Idempotency-Key.
pub(crate) struct Key(pub(crate) Option<String>);

/// The longest, in bytes.
const KEY_MAX: usize = 64;

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        key(&parts.headers).map(Key)
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let text = key.to_str().ok().filter(|key| (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()));
    match text {
        Some(key) if keys.next().is_none() => Ok(Some(key.to_owned())),
        _ => Err(Problem::invalid(format!("an Idempotency-Key is one, of 1 to {KEY_MAX} visible ASCII characters"))),
    }
}

/// A name of a room, a user or a node; `what` it should be.
pub(crate) fn name(what: &str, name: &str) -> Result<(), Problem> {
    if is_name(name) {
        return Ok(());
    }
    Err(Problem::invalid(format!("the name of {what} is 1 to 32 of a-z A-Z 0-9 _ -")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_and_short_and_visible() {
        let of = |keys: &[&str]| {
            let mut headers = HeaderMap::new();
            for one in keys {
                headers.append("idempotency-key", one.parse().unwrap());
            }
            key(&headers).map_err(|_| ())
        };
        let longest = "k".repeat(KEY_MAX);
        assert_eq!((of(&[]), of(&["a-1"]), of(&[&longest])), (Ok(None), Ok(Some("a-1".into())), Ok(Some(longest.clone()))));
        for bad in [&[""][..], &["a b"], &[&format!("{longest}k")], &["a", "a"]] {
            assert_eq!(of(bad), Err(()), "{bad:?}");
        }
    }
}
