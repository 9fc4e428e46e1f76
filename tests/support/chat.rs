//! A chat inside the test: what anybody says in a room, by WebSocket or by a plain request, all who listen there hear, by WebSocket or event
//! stream. For clients that nobody here wrote.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast::{Receiver, Sender};

/// Messages that a reader may lag behind; no test says so many at once, and one that misses some fails.
const BACKLOG: usize = 64;

#[derive(Clone, Default)]
struct Chat {
    rooms: Arc<Mutex<HashMap<String, Sender<Arc<str>>>>>,
    sessions: Arc<AtomicU32>,
}

#[derive(Deserialize)]
struct Room {
    #[serde(default)]
    room: String,
}

/// Serves `/ws`, `/events`, `POST /say` and `/heartbeat` until the test's runtime ends.
pub(crate) async fn chat() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new()
        .route("/ws", get(websocket))
        .route("/events", get(events))
        .route("/say", post(say))
        .route("/heartbeat", get(heartbeat))
        .with_state(Chat::default());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

async fn websocket(State(chat): State<Chat>, Query(Room { room }): Query<Room>, upgrade: WebSocketUpgrade) -> Response {
    let say = chat.room(room);
    let hear = say.subscribe();
    let session = chat.enter();
    upgrade.on_upgrade(async move |mut socket| {
        talk(&mut socket, &say, hear).await;
        // Counted out before the socket closes: who sees the end must find the count lowered.
        drop(session);
    })
}

/// Whatever the member says goes to the room, itself included, which is how it knows that it was heard.
async fn talk(socket: &mut WebSocket, say: &Sender<Arc<str>>, mut hear: Receiver<Arc<str>>) {
    loop {
        tokio::select! {
            said = socket.recv() => match said {
                Some(Ok(Message::Text(text))) => {
                    say.send(Arc::from(text.as_str())).expect("the member itself listens");
                }
                // The answer to a Close goes out with the next reads; whatever the room says now would only fail before it.
                Some(Ok(Message::Close(_))) => {
                    while let Some(Ok(_)) = socket.recv().await {}
                    return;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            heard = hear.recv() => {
                let Ok(text) = heard else { return };
                if socket.send(Message::Text(text.as_ref().into())).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn events(State(chat): State<Chat>, Query(Room { room }): Query<Room>) -> impl IntoResponse {
    let hear = chat.room(room).subscribe();
    let heard = futures_util::stream::unfold((hear, chat.enter()), |(mut hear, session)| async move {
        let text = hear.recv().await.ok()?;
        Some((Ok::<_, Infallible>(Event::default().data(&*text)), (hear, session)))
    });
    Sse::new(heard)
}

async fn say(State(chat): State<Chat>, Query(Room { room }): Query<Room>, text: String) -> StatusCode {
    // Nobody may be there, which is no failure of who speaks.
    let _ = chat.room(room).send(text.into());
    StatusCode::NO_CONTENT
}

async fn heartbeat(State(chat): State<Chat>) -> Json<Value> {
    Json(json!({ "sessions": chat.sessions.load(Ordering::SeqCst), "state": "ready" }))
}

impl Chat {
    fn room(&self, name: String) -> Sender<Arc<str>> {
        self.rooms.lock().entry(name).or_insert_with(|| Sender::new(BACKLOG)).clone()
    }

    fn enter(&self) -> Session {
        self.sessions.fetch_add(1, Ordering::SeqCst);
        Session(Arc::clone(&self.sessions))
    }
}

/// One that is counted as long as it lives.
struct Session(Arc<AtomicU32>);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
