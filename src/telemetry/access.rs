//! The access log: one line for every session that ended and every plain request, under the target `access`.

use std::net::SocketAddr;
use std::time::Duration;

use holdline_core::cause::{EndCause, RefuseCause};
use holdline_core::ids::{BackendId, FleetName, SessionId};

/// The target of these lines; `log.access` switches it.
pub const TARGET: &str = "access";

/// A session that ended.
#[derive(Clone, Copy, Debug)]
pub struct SessionLine<'a> {
    pub id: SessionId,
    /// `websocket` or `sse`.
    pub kind: &'static str,
    pub fleet: &'a FleetName,
    /// The backend that held it last.
    pub backend: &'a BackendId,
    pub client: SocketAddr,
    /// Why it ended.
    pub cause: EndCause,
    /// Its duration.
    pub age: Duration,
    /// From the client.
    pub bytes_in: u64,
    /// To the client.
    pub bytes_out: u64,
}

/// A plain request that was answered, or a session that was refused.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// Its fleet; `None`: no route matched.
    pub fleet: Option<&'a FleetName>,
    /// The backend that answered; `None`: Holdline did.
    pub backend: Option<&'a BackendId>,
    pub client: SocketAddr,
    /// The request's method.
    pub method: &'a str,
    /// The request's path without its query, which may hold secrets.
    pub path: &'a str,
    /// The status that the client got.
    pub status: u16,
    /// Why it was refused, if it was.
    pub cause: Option<RefuseCause>,
    /// To the head of the answer.
    pub took: Duration,
}

/// Writes the line of an ended session.
pub fn session(line: &SessionLine<'_>) {
    tracing::info!(
        target: TARGET,
        id = %line.id,
        kind = line.kind,
        fleet = line.fleet.as_str(),
        backend = line.backend.as_str(),
        client = %line.client,
        cause = line.cause.as_str(),
        age_ms = line.age.as_millis() as u64,
        bytes_in = line.bytes_in,
        bytes_out = line.bytes_out,
        "session"
    );
}

/// Writes the line of a plain request.
pub fn request(line: &RequestLine<'_>) {
    tracing::info!(
        target: TARGET,
        method = line.method,
        path = line.path,
        status = line.status,
        ms = line.took.as_millis() as u64,
        fleet = line.fleet.map(FleetName::as_str),
        backend = line.backend.map(BackendId::as_str),
        client = %line.client,
        cause = line.cause.map(RefuseCause::as_str),
        "request"
    );
}

#[cfg(test)]
mod tests {
    use super::super::logs::tests::{TEXT, written};
    use super::*;
    use crate::config::model::{LogConfig, LogFormat};

    fn both() {
        session(&SessionLine {
            id: SessionId(0xab),
            kind: "websocket",
            fleet: &"chat".into(),
            backend: &"b-1".into(),
            client: ([127, 0, 0, 1], 4000).into(),
            cause: EndCause::ClientClosed,
            age: Duration::from_millis(1500),
            bytes_in: 7,
            bytes_out: 11,
        });
        request(&RequestLine {
            fleet: Some(&"chat".into()),
            backend: None,
            client: ([127, 0, 0, 1], 4001).into(),
            method: "GET",
            path: "/",
            status: 503,
            cause: Some(RefuseCause::QueueFull),
            took: Duration::from_millis(2),
        });
    }

    #[test]
    fn lines_have_their_fields() {
        let text = written(LogConfig { format: LogFormat::Json, ..TEXT }, both);
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let [session, request] = lines.as_slice() else { panic!("{text}") };
        assert_eq!(session["target"], "access");
        assert_eq!(session["id"], "00000000000000ab");
        assert_eq!((&session["cause"], &session["age_ms"]), (&"client_closed".into(), &1500.into()));
        assert_eq!((&session["bytes_in"], &session["bytes_out"]), (&7.into(), &11.into()));
        assert_eq!(
            (&request["status"], &request["cause"], &request["fleet"]),
            (&503.into(), &"queue_full".into(), &"chat".into())
        );
        assert!(request.get("backend").is_none());
    }

    #[test]
    fn the_switch_is_its_own() {
        assert_eq!(written(LogConfig { access: false, ..TEXT }, both), "");
        assert_eq!(written(LogConfig { level: tracing::Level::ERROR, ..TEXT }, both).lines().count(), 2);
    }
}
