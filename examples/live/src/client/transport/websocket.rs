//! Deltas over a WebSocket.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::header::COOKIE;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message as Frame};

use super::{Cookies, End, Hello, Message, path};
use crate::client::api::{Api, Problem};
use crate::delta::Delta;

/// After so much silence it asks whether anybody is there.
const ASKS_AFTER: Duration = Duration::from_secs(20);
/// And gives up after so much more.
const GIVES_UP_AFTER: Duration = Duration::from_secs(10);
/// A Close is answered within this, or not at all.
const GOODBYE_WITHIN: Duration = Duration::from_secs(5);

pub(in super::super) struct WebSocket {
    socket: WebSocketStream<TcpStream>,
    pub(super) cookies: Cookies,
    silence: Pin<Box<Sleep>>,
    asked: bool,
    /// The Close that came: the rest is read until the connection ends.
    closed: Option<Option<CloseCode>>,
}

/// What a node says.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Delta(Delta),
    Other(Other),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Other {
    Hello(Hello),
    Resync { seq: u64 },
    Presence(u64),
    Error(Problem),
}

impl WebSocket {
    pub(super) async fn open(api: &Api, room: &str, after: u64, mut cookies: Cookies) -> Result<Self, End> {
        let stream = TcpStream::connect(api.authority()).await.map_err(End::broken)?;
        let url = format!("ws://{}{}", api.authority(), path("ws", room, Some(after)));
        let mut request = url.into_client_request().map_err(End::broken)?;
        if let Some(header) = cookies.header() {
            request.headers_mut().insert(COOKIE, header);
        }
        let (socket, answer) = match tokio_tungstenite::client_async(request, stream).await {
            Ok(opened) => opened,
            Err(Error::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                return Err(End::answered(answer.status(), answer.headers(), body));
            }
            Err(error) => return Err(End::broken(error)),
        };
        cookies.take(answer.headers());
        Ok(WebSocket { socket, cookies, silence: Box::pin(sleep(ASKS_AFTER)), asked: false, closed: None })
    }

    pub(super) async fn next(&mut self) -> Result<Message, End> {
        loop {
            if let Some(code) = self.closed {
                return Err(self.ended(code).await);
            }
            tokio::select! {
                frame = self.socket.next() => match frame {
                    Some(Ok(Frame::Close(frame))) => self.closed = Some(frame.map(|f| f.code)),
                    Some(Ok(frame)) => {
                        self.silence.set(sleep(ASKS_AFTER));
                        self.asked = false;
                        if let Frame::Text(text) = frame {
                            return read(&text);
                        }
                    }
                    Some(Err(error)) => return Err(End::broken(error)),
                    None => return Err(End::broken("the connection ended without a Close")),
                },
                () = &mut self.silence => {
                    if self.asked {
                        return Err(End::broken("silence"));
                    }
                    self.silence.set(sleep(GIVES_UP_AFTER));
                    self.asked = true;
                    self.socket.send(Frame::text(r#"{"ping":1}"#)).await.map_err(End::broken)?;
                }
            }
        }
    }

    /// The answer to a Close goes out while the rest is read.
    async fn ended(&mut self, code: Option<CloseCode>) -> End {
        let rest = async { while let Some(Ok(_)) = self.socket.next().await {} };
        // Whoever does not end the connection has its end all the same.
        let _ = tokio::time::timeout(GOODBYE_WITHIN, rest).await;
        End::closed(code)
    }

    /// The answer to the Close is awaited, as a browser does.
    pub(super) async fn leave(mut self) {
        let goodbye = async {
            if self.socket.close(None).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        };
        // A server that does not answer has been told.
        let _ = tokio::time::timeout(GOODBYE_WITHIN, goodbye).await;
    }
}

fn read(text: &str) -> Result<Message, End> {
    Ok(match serde_json::from_str(text) {
        Ok(Said::Delta(delta)) => Message::Delta(delta),
        Ok(Said::Other(Other::Hello(hello))) => Message::Hello(hello),
        Ok(Said::Other(Other::Resync { seq })) => Message::Resync(seq),
        Ok(Said::Other(Other::Presence(n))) => Message::Presence(n),
        Ok(Said::Other(Other::Error(problem))) => {
            return Err(End::broken(format!("the node answered {} {}", problem.kind, problem.detail)));
        }
        // A pong, and words that a later version may have.
        Err(_) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => Message::Alive,
        Err(error) => return Err(End::broken(error)),
    })
}
