//! A session over a WebSocket.

use std::time::Duration;

use axum::Error;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use futures_util::{SinkExt, Stream, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio_tungstenite::tungstenite;

use super::cursor::Heard;
use super::hub::Listener;
use super::problem::not_over_websocket;
use super::sessions::Guard;
use crate::problem::Problem;

/// The longest message of a client, in bytes.
const MESSAGE_MAX: usize = 4_096;

/// What a session holds to read into, in bytes: a client's messages are short.
const READ_BUFFER: usize = 512;

/// What is written at once, in bytes, if there is so much.
const WRITE_BUFFER: usize = 2_048;

/// A client that was sent Close has so long to answer it.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// With this message that is not understood the session ends.
const REFUSALS_MAX: u32 = 10;

/// The only message that a node takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ping {
    ping: u64,
}

/// Begins the session; it is counted until the socket closes.
pub(crate) fn begin(upgrade: WebSocketUpgrade, listener: Listener, node: String, guard: Guard) -> Response {
    let upgrade = upgrade.read_buffer_size(READ_BUFFER).write_buffer_size(WRITE_BUFFER);
    // A frame's too: there would be place made for as long a one as it says that it is.
    let upgrade = upgrade.max_message_size(MESSAGE_MAX).max_frame_size(MESSAGE_MAX);
    upgrade.on_upgrade(async move |mut socket| {
        let session = Session { node, listener, refusals: 0 };
        // What the client does not hear any more is nobody's loss.
        if let Err(Some(close)) = session.run(&mut socket).await {
            let _ = socket.send(Message::Close(Some(close))).await;
        }
        hear_out(&mut socket).await;
        // Counted out before the socket closes.
        drop(guard);
        drop(socket);
    })
}

/// Reads the client's answer to Close, and what it said meanwhile: a socket that closes with something unread tells the client nothing but that.
/// A client that never answers has [`ANSWER_WITHIN`].
async fn hear_out(said: impl Stream<Item = Result<Message, Error>> + Unpin) {
    let to_its_end = said.take_while(|said| std::future::ready(said.is_ok())).for_each(async |_| {});
    let _ = tokio::time::timeout(ANSWER_WITHIN, to_its_end).await;
}

struct Session {
    node: String,
    listener: Listener,
    refusals: u32,
}

/// The end of a session; with it the Close that the client is to be sent, if it has not said Close itself.
type End = Option<CloseFrame>;

impl Session {
    async fn run(mut self, socket: &mut WebSocket) -> Result<(), End> {
        loop {
            tokio::select! {
                said = socket.recv() => match said {
                    Some(Ok(Message::Text(text))) => self.answer(socket, text.as_str()).await?,
                    Some(Ok(Message::Binary(_))) => self.refuse(socket).await?,
                    Some(Ok(Message::Close(_))) | None => return Ok(()),
                    // axum answers a Ping with the next read.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(reason(error)),
                },
                heard = self.listener.next() => self.hand(socket, heard).await?,
            }
        }
    }

    async fn hand(&mut self, socket: &mut WebSocket, heard: Heard) -> Result<(), End> {
        match heard {
            Heard::Deltas(lines) => {
                for line in lines {
                    socket.feed(Message::Text(line.json().clone())).await.map_err(|_| None)?;
                }
                socket.flush().await.map_err(|_| None)
            }
            Heard::Hello { seq, presence } => {
                let room = self.listener.name();
                say(socket, json!({ "hello": { "node": self.node, "room": room, "seq": seq, "presence": presence } })).await
            }
            Heard::Resync { seq } => say(socket, json!({ "resync": { "seq": seq } })).await,
            Heard::Presence(presence) => say(socket, json!({ "presence": presence })).await,
            Heard::Refused(refusal) => {
                tell(socket, &Problem::from(refusal)).await?;
                Err(Some(close(close_code::POLICY, "see the error before this")))
            }
        }
    }

    async fn answer(&mut self, socket: &mut WebSocket, text: &str) -> Result<(), End> {
        match serde_json::from_str(text) {
            Ok(Ping { ping }) => say(socket, json!({ "pong": ping })).await,
            Err(_) => self.refuse(socket).await,
        }
    }

    async fn refuse(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        self.refusals += 1;
        tell(socket, &not_over_websocket()).await?;
        if self.refusals < REFUSALS_MAX { Ok(()) } else { Err(Some(close(close_code::POLICY, "a node takes no mutations"))) }
    }
}

async fn say(socket: &mut WebSocket, message: serde_json::Value) -> Result<(), End> {
    socket.send(Message::Text(message.to_string().into())).await.map_err(|_| None)
}

async fn tell(socket: &mut WebSocket, problem: &Problem) -> Result<(), End> {
    say(socket, json!({ "error": problem.value() })).await
}

/// The Close that tells a client what it did, if it is there to hear it.
fn reason(error: Error) -> End {
    match error.into_inner().downcast_ref::<tungstenite::Error>()? {
        tungstenite::Error::Capacity(_) => Some(close(close_code::SIZE, "a message has at most 4096 bytes")),
        tungstenite::Error::Protocol(_) => Some(close(close_code::PROTOCOL, "")),
        tungstenite::Error::Utf8(_) => Some(close(close_code::INVALID, "")),
        _ => None,
    }
}

fn close(code: u16, reason: &'static str) -> CloseFrame {
    CloseFrame { code, reason: Utf8Bytes::from_static(reason) }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_answers_close_is_waited_for_five_seconds() {
        let heard = tokio::spawn(hear_out(stream::iter([Ok(Message::Text("late".into()))]).chain(stream::pending())));
        tokio::time::sleep(ANSWER_WITHIN - Duration::from_millis(1)).await;
        assert!(!heard.is_finished());
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(heard.is_finished());
        hear_out(stream::iter([Err(Error::new("it broke"))]).chain(stream::pending())).await;
    }
}
