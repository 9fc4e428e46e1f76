//! What clients ask: queries and mutations, as README.md lists them.

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::App;
use super::input::{Body, Key, Query, Segments, name};
use crate::problem::Problem;
use crate::store::{Change, Done, From, Mutation};
use crate::wall::{Comment, Deltas, REFETCH_S_MAX, Recovery, Room, Snapshot};

/// Comments and deltas in an answer, at the most.
const PAGE_MAX: usize = 1_000;

/// Comments in an answer, unless it is said.
const COMMENTS: usize = 100;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/api/rooms", get(rooms))
        .route("/api/rooms/{room}", get(room).put(make_room))
        .route("/api/rooms/{room}/comments", post(create))
        .route("/api/rooms/{room}/comments/{comment}", patch(edit).get(comment).delete(delete))
        .route("/api/rooms/{room}/comments/{comment}/likes/{user}", put(like).delete(unlike))
        .route("/api/rooms/{room}/deltas", get(deltas))
        .method_not_allowed_fallback(async || {
            let detail = "this path exists, with another method; see the header Allow";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "invalid", "Not with this method", detail)
        })
}

#[derive(Serialize)]
struct Rooms {
    rooms: Vec<Room>,
}

async fn rooms(State(app): State<App>) -> Result<Json<Rooms>, Problem> {
    let rooms = app.store.rooms().await.map_err(|refused| Problem::of(&refused, "ROOM"))?;
    Ok(Json(Rooms { rooms }))
}

async fn make_room(
    State(app): State<App>,
    Segments(room): Segments<String>,
    Body(recovery): Body<Recovery>,
) -> Result<Response, Problem> {
    name("a room", &room)?;
    if let Recovery::Eventual { refetch_s } = recovery
        && !(1..=REFETCH_S_MAX).contains(&refetch_s)
    {
        return Err(Problem::invalid(format!("refetch_s is 1 to {REFETCH_S_MAX} seconds")));
    }
    let (made, is_new) = app.store.make_room(&room, recovery).await.map_err(|refused| Problem::of(&refused, &room))?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(made)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<usize>,
    before: Option<u64>,
    user: Option<String>,
}

async fn room(
    State(app): State<App>,
    Segments(room): Segments<String>,
    Query(page): Query<Page>,
) -> Result<Json<Snapshot>, Problem> {
    let limit = limit(page.limit, COMMENTS)?;
    let user = checked(page.user)?;
    let snapshot = app.store.snapshot(&room, limit, page.before, user).await;
    let mut snapshot = snapshot.map_err(|refused| Problem::of(&refused, &room))?;
    snapshot.presence = app.presence.lock().of(&room, super::now());
    Ok(Json(snapshot))
}

/// Who asks, if they say so.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asking {
    user: Option<String>,
}

fn checked(user: Option<String>) -> Result<Option<String>, Problem> {
    user.as_deref().map_or(Ok(()), |user| name("a user", user))?;
    Ok(user)
}

async fn comment(
    State(app): State<App>,
    Segments((room, comment)): Segments<(String, u64)>,
    Query(asking): Query<Asking>,
) -> Result<Json<Comment>, Problem> {
    let user = checked(asking.user)?;
    app.store.comment(&room, comment, user).await.map(Json).map_err(|refused| Problem::of(&refused, &room))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    after: Option<u64>,
    since: Option<u64>,
    limit: Option<usize>,
}

async fn deltas(
    State(app): State<App>,
    Segments(room): Segments<String>,
    Query(range): Query<Range>,
) -> Result<Json<Deltas>, Problem> {
    let from = match (range.after, range.since) {
        (Some(seq), None) => From::After(seq),
        (None, Some(time)) => From::Since(time),
        _ => return Err(Problem::invalid("either `after`, a seq, or `since`, in seconds since 1970, is needed")),
    };
    let limit = limit(range.limit, PAGE_MAX)?;
    app.store.deltas(&room, from, limit).await.map(Json).map_err(|refused| Problem::of(&refused, &room))
}

fn limit(asked: Option<usize>, otherwise: usize) -> Result<usize, Problem> {
    match asked.unwrap_or(otherwise) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        _ => Err(Problem::invalid(format!("`limit` is 1 to {PAGE_MAX}"))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    user: String,
    text: String,
}

async fn create(
    State(app): State<App>,
    Segments(room): Segments<String>,
    key: Key,
    Body(written): Body<Written>,
) -> Result<Response, Problem> {
    let text = app.text(written.text)?;
    let done = app.change(&room, written.user, Change::Create { text }, key).await?;
    let id = done.delta.as_ref().map_or(0, |delta| delta.comment);
    let location = [(header::LOCATION, format!("/api/rooms/{room}/comments/{id}"))];
    Ok((StatusCode::CREATED, location, answer(done)).into_response())
}

async fn edit(
    State(app): State<App>,
    Segments((room, comment)): Segments<(String, u64)>,
    key: Key,
    Body(written): Body<Written>,
) -> Result<Response, Problem> {
    let text = app.text(written.text)?;
    app.change(&room, written.user, Change::Edit { comment, text }, key).await.map(answer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct By {
    user: String,
}

async fn delete(
    State(app): State<App>,
    Segments((room, comment)): Segments<(String, u64)>,
    Query(By { user }): Query<By>,
    key: Key,
) -> Result<Response, Problem> {
    app.change(&room, user, Change::Delete { comment }, key).await.map(answer)
}

type OneLike = Segments<(String, u64, String)>;

async fn like(State(app): State<App>, Segments((room, comment, user)): OneLike, key: Key) -> Result<Response, Problem> {
    app.change(&room, user, Change::Like { comment }, key).await.map(answer)
}

async fn unlike(State(app): State<App>, Segments((room, comment, user)): OneLike, key: Key) -> Result<Response, Problem> {
    app.change(&room, user, Change::Unlike { comment }, key).await.map(answer)
}

fn answer(done: Done) -> Response {
    let mut response = match done.delta {
        Some(delta) => Json(delta).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    };
    if done.replayed {
        response.headers_mut().insert(HeaderName::from_static("idempotency-replayed"), header::HeaderValue::from_static("true"));
    }
    response
}

impl App {
    async fn change(&self, room: &str, user: String, change: Change, Key(key): Key) -> Result<Done, Problem> {
        name("a user", &user)?;
        if let Err(reason) = &*self.queue.borrow() {
            return Err(Problem::queue_down(reason));
        }
        let mutation = Mutation { room: room.to_owned(), user, change, key, now_s: super::now_s() };
        self.store.change(mutation).await.map_err(|refused| Problem::of(&refused, room))
    }

    fn text(&self, text: String) -> Result<String, Problem> {
        match text.len() {
            0 => Err(Problem::invalid("a comment has a text")),
            size if size > self.comment_max => Err(Problem::too_large(size, self.comment_max)),
            _ => Ok(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::*;
    use crate::store::{Bounds, Store};

    #[tokio::test]
    async fn without_its_queue_nothing_is_stored_and_all_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("live.db"), Bounds { window: 10, max_mib: None }).unwrap();
        store.make_room("r", Recovery::Strong {}).await.unwrap();
        let (queue, state) = watch::channel(Err("it is away".to_owned()));
        let app = App { store, queue: state, presence: Arc::default(), comment_max: 10, stop: Default::default() };
        let write = async || {
            let written = Written { user: "ann".into(), text: "x".into() };
            create(State(app.clone()), Segments("r".into()), Key(Some("k".into())), Body(written)).await.into_response()
        };
        let answer = write().await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[header::RETRY_AFTER], "1");
        let body = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["type"], "urn:live:problem:queue-down");
        assert!(problem["detail"].as_str().unwrap().contains("it is away"));
        let Json(Rooms { rooms }) = super::rooms(State(app.clone())).await.unwrap();
        assert_eq!(rooms[0].seq, 0);
        queue.send_modify(|state| *state = Ok(()));
        let answer = write().await;
        assert_eq!((answer.status(), answer.headers().get("idempotency-replayed")), (StatusCode::CREATED, None));
    }
}
