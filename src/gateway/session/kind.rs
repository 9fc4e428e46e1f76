//! The protocols of sessions.

use serde::Serialize;

/// The protocol of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// RFC 6455.
    WebSocket,
    /// Server-Sent Events.
    Sse,
    /// A client that asks again and again.
    #[serde(rename = "long_poll")]
    LongPoll,
}

impl SessionKind {
    /// The word in the API and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            SessionKind::WebSocket => "websocket",
            SessionKind::Sse => "sse",
            SessionKind::LongPoll => "long_poll",
        }
    }
}
