//! The three ways to hear deltas, as one: what comes, and how it ends.

mod cookies;
mod event_stream;
mod long_poll;
mod websocket;

use std::time::Duration;

use hyper::{HeaderMap, StatusCode};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

pub(super) use self::cookies::Cookies;
use self::event_stream::EventStream;
use self::long_poll::LongPoll;
use self::websocket::WebSocket;
use super::api::{Api, Problem, retry_after};
use crate::delta::Delta;

/// How long a handshake may take; it may have to wait for a seat.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(60);

/// What a client hears with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `/live/ws`
    WebSocket,
    /// `/live/events`
    EventStream,
    /// `/live/poll`
    LongPoll,
}

/// How a session ended, or why there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// What happened.
    pub how: How,
    /// How long the server wants the client to wait; zero if it did not say.
    pub asked: Duration,
}

/// What happened to a session, or to the attempt to have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// It was told to connect again: Close 1001 or 1012, or a proper end of its stream.
    Moved,
    /// There is no place for it now: 503, or Close 1013, or a stream that ends before it began.
    Busy,
    /// It was thrown out without a word, or nobody was there.
    Broken(String),
    /// The node does not know so new a delta.
    FromTheFuture,
    /// What was asked for cannot be had: asking again is of no use.
    Refused(String),
}

/// What begins a session.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Hello {
    /// Who holds it.
    pub node: String,
    /// The newest delta of the room.
    pub seq: u64,
    /// How many are in the room.
    #[serde(default)]
    pub presence: u64,
}

/// What comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Hello(Hello),
    Delta(Delta),
    Resync(u64),
    Presence(u64),
    /// It is there, and has nothing to say.
    Alive,
}

/// A connection that was opened, and has said nothing yet.
pub(super) enum Connection {
    WebSocket(Box<WebSocket>),
    EventStream(Box<EventStream>),
    LongPoll(Box<LongPoll>),
}

impl Connection {
    /// Opens one that wants the deltas after `after`.
    pub(super) async fn open(transport: Transport, api: Api, room: String, after: u64, cookies: Cookies) -> Result<Self, End> {
        let handshake = async {
            Ok(match transport {
                Transport::WebSocket => Self::WebSocket(Box::new(WebSocket::open(&api, &room, after, cookies).await?)),
                Transport::EventStream => Self::EventStream(Box::new(EventStream::open(&api, &room, after, cookies).await?)),
                Transport::LongPoll => Self::LongPoll(Box::new(LongPoll::open(api, room, after, cookies).await?)),
            })
        };
        tokio::time::timeout(HANDSHAKE_WITHIN, handshake)
            .await
            .unwrap_or_else(|_| Err(End::broken("the handshake was not answered")))
    }

    /// What comes next, or the end. May be dropped and asked again.
    pub(super) async fn next(&mut self) -> Result<Message, End> {
        match self {
            Connection::WebSocket(socket) => socket.next().await,
            Connection::EventStream(stream) => stream.next().await,
            Connection::LongPoll(polls) => polls.next().await,
        }
    }

    /// What the server gave to be recognised by.
    pub(super) fn cookies(&self) -> &Cookies {
        match self {
            Connection::WebSocket(socket) => &socket.cookies,
            Connection::EventStream(stream) => &stream.cookies,
            Connection::LongPoll(polls) => &polls.cookies,
        }
    }

    /// Leaves, with a goodbye if there is one.
    pub(super) async fn leave(self) {
        if let Connection::WebSocket(socket) = self {
            socket.leave().await;
        }
    }
}

impl End {
    fn of(how: How) -> Self {
        End { how, asked: Duration::ZERO }
    }

    fn broken(why: impl ToString) -> Self {
        End::of(How::Broken(why.to_string()))
    }

    /// A handshake that was answered with something else.
    fn answered(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let problem = Problem::read(body);
        let how = match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => How::Busy,
            _ if problem.is("from-the-future") => How::FromTheFuture,
            status if status.is_client_error() => How::Refused(format!("{status} {} {}", problem.kind, problem.detail)),
            status => How::Broken(format!("the handshake was answered with {status} {}", problem.kind)),
        };
        End { how, asked: retry_after(headers).unwrap_or_default() }
    }

    fn closed(code: Option<CloseCode>) -> Self {
        End::of(match code {
            Some(CloseCode::Restart | CloseCode::Away) => How::Moved,
            Some(CloseCode::Again) => How::Busy,
            other => How::Broken(format!("closed with {other:?}")),
        })
    }
}

/// The path of a room at a node.
fn path(kind: &str, room: &str, after: Option<u64>) -> String {
    match after {
        Some(after) => format!("/live/{kind}/{room}?after={after}"),
        None => format!("/live/{kind}/{room}"),
    }
}
