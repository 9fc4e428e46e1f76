//! The routes: `/ws` and `/events` are sessions, `POST /say` is a plain request, `/heartbeat` and `/stats` are for Holdline and for tests.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::Stream;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use super::rooms::{Hear, MESSAGE_MAX, NAME_MAX, NoRoom, Rooms, Say};
use super::sessions::{Counts, Guard, Heartbeat, Sessions};

#[derive(Clone)]
struct App {
    rooms: Rooms,
    sessions: Sessions,
}

#[derive(Deserialize)]
struct Room {
    #[serde(default = "lobby")]
    room: String,
}

fn lobby() -> String {
    "lobby".to_owned()
}

pub(crate) fn router(sessions: Sessions) -> Router {
    Router::new()
        .route("/", get(|| async { "A chat: WebSocket at /ws, event stream at /events, POST /say; ?room=NAME\n" }))
        .route("/ws", get(websocket))
        .route("/events", get(events))
        .route("/say", post(say))
        .route("/heartbeat", get(heartbeat))
        .route("/stats", get(stats))
        .with_state(App { rooms: Rooms::default(), sessions })
}

async fn websocket(State(app): State<App>, Query(Room { room }): Query<Room>, upgrade: WebSocketUpgrade) -> Response {
    let (say, hear) = match app.rooms.join(&room).await {
        Ok(member) => member,
        Err(none) => return none.into_response(),
    };
    let guard = app.sessions.enter();
    upgrade.max_message_size(MESSAGE_MAX).on_upgrade(async move |mut socket| {
        chat(&mut socket, say, hear).await;
        // Counted out before the socket closes.
        drop(guard);
        drop(socket);
    })
}

/// Whatever the member says goes to the room, itself included, which is how it knows that it was heard.
async fn chat(socket: &mut WebSocket, say: Say, mut hear: Hear) {
    loop {
        tokio::select! {
            said = socket.recv() => match said {
                Some(Ok(Message::Text(text))) => {
                    // Nobody listening is no failure: the member itself does.
                    let _ = say.send(Arc::from(text.as_str()));
                }
                // The answer goes out with the next reads; whatever the room says now would only fail before it.
                Some(Ok(Message::Close(_))) => {
                    while let Some(Ok(_)) = socket.recv().await {}
                    return;
                }
                // axum answers a Ping on the next read.
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            heard = hear.recv() => match heard {
                Ok(text) => {
                    if socket.send(Message::Text(text.as_ref().into())).await.is_err() {
                        return;
                    }
                }
                Err(RecvError::Lagged(_)) => {
                    let reason = CloseFrame { code: close_code::POLICY, reason: "too slow for this room".into() };
                    let _ = socket.send(Message::Close(Some(reason))).await;
                    return;
                }
                Err(RecvError::Closed) => return,
            },
        }
    }
}

async fn events(State(app): State<App>, Query(Room { room }): Query<Room>) -> Response {
    let (_, hear) = match app.rooms.join(&room).await {
        Ok(member) => member,
        Err(none) => return none.into_response(),
    };
    let guard = app.sessions.enter();
    let heard = futures_util::stream::unfold(hear, |mut hear| async move {
        loop {
            match hear.recv().await {
                Ok(text) => return Some((Ok::<_, Infallible>(Event::default().data(&*text)), hear)),
                // An event stream has no other way to say it: the newest messages go on.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    Sse::new(Counted { heard: Box::pin(heard), _guard: guard }).keep_alive(KeepAlive::default()).into_response()
}

/// A stream that is counted as long as somebody reads it.
struct Counted<S> {
    heard: Pin<Box<S>>,
    _guard: Guard,
}

impl<S: Stream> Stream for Counted<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.heard.as_mut().poll_next(cx)
    }
}

async fn say(State(app): State<App>, Query(Room { room }): Query<Room>, text: String) -> Response {
    if text.len() > MESSAGE_MAX || text.contains(['\r', '\n']) {
        return (StatusCode::BAD_REQUEST, format!("a message is one line of at most {MESSAGE_MAX} bytes\n")).into_response();
    }
    let (say, _hear) = match app.rooms.join(&room).await {
        Ok(member) => member,
        Err(none) => return none.into_response(),
    };
    let _ = say.send(text.into());
    StatusCode::NO_CONTENT.into_response()
}

async fn heartbeat(State(app): State<App>) -> Json<Heartbeat> {
    Json(app.sessions.heartbeat())
}

async fn stats(State(app): State<App>) -> Json<Counts> {
    Json(app.sessions.counts())
}

impl IntoResponse for NoRoom {
    fn into_response(self) -> Response {
        match self {
            NoRoom::LongName => {
                (StatusCode::BAD_REQUEST, format!("the name of a room has at most {NAME_MAX} bytes\n")).into_response()
            }
            NoRoom::TooMany => (StatusCode::SERVICE_UNAVAILABLE, "too many rooms; come back later\n").into_response(),
        }
    }
}
