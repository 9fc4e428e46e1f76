//! How many clients this server holds: a guard a session, so that the count is right on every path.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use super::follow::QueueState;

/// The server's own count, shared by all its handlers.
#[derive(Clone)]
pub(crate) struct Sessions {
    counts: Arc<watch::Sender<Counts>>,
    capacity: Option<u32>,
}

/// What the server counted.
#[derive(Clone, Copy, Default, Serialize)]
pub(crate) struct Counts {
    /// Sessions now.
    pub(crate) sessions: u32,
    /// The most there ever were at once.
    pub(crate) sessions_max: u32,
    /// All there ever were.
    pub(crate) sessions_total: u64,
    /// SIGTERM came.
    #[serde(skip)]
    pub(crate) draining: bool,
}

/// The body of a heartbeat.
#[derive(Serialize)]
pub(crate) struct Heartbeat {
    sessions: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<u32>,
    state: &'static str,
    queue: QueueState,
}

impl Sessions {
    pub(crate) fn new(capacity: Option<u32>) -> Self {
        Sessions { counts: Arc::new(watch::Sender::new(Counts::default())), capacity }
    }

    pub(crate) fn enter(&self) -> Guard {
        self.counts.send_modify(|c| {
            c.sessions += 1;
            c.sessions_total += 1;
            c.sessions_max = c.sessions_max.max(c.sessions);
        });
        Guard { sessions: self.clone() }
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    pub(crate) fn heartbeat(&self, queue: QueueState) -> Heartbeat {
        let counts = self.counts();
        let state = if counts.draining { "draining" } else { "ready" };
        Heartbeat { sessions: counts.sessions, capacity: self.capacity, state, queue }
    }

    pub(crate) fn drain(&self) {
        self.counts.send_modify(|c| c.draining = true);
    }

    /// Resolves once nobody is left.
    pub(crate) async fn empty(&self) {
        // The sender lives in `self`, so the channel is not closed.
        let _ = self.counts.subscribe().wait_for(|c| c.sessions == 0).await;
    }
}

/// One session, counted. Drop it before the socket: a client that saw the end must find the count lowered.
pub(crate) struct Guard {
    sessions: Sessions,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.sessions.counts.send_modify(|c| c.sessions -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_is_counted_once_and_the_most_are_remembered() {
        let sessions = Sessions::new(Some(50));
        let (first, second) = (sessions.enter(), sessions.enter());
        drop(first);
        let third = sessions.enter();
        let counts = sessions.counts();
        assert_eq!((counts.sessions, counts.sessions_max, counts.sessions_total), (2, 2, 3));
        drop((second, third));
        assert_eq!((sessions.counts().sessions, sessions.counts().sessions_max), (0, 2));
        sessions.empty().await;
    }

    #[test]
    fn the_heartbeat_is_what_holdline_reads() {
        let sessions = Sessions::new(Some(50));
        let _guard = sessions.enter();
        let text = |s: &Sessions, queue| serde_json::to_string(&s.heartbeat(queue)).unwrap();
        assert_eq!(text(&sessions, QueueState::Up), r#"{"sessions":1,"capacity":50,"state":"ready","queue":"up"}"#);
        sessions.drain();
        assert_eq!(text(&sessions, QueueState::Behind), r#"{"sessions":1,"capacity":50,"state":"draining","queue":"behind"}"#);
        assert_eq!(text(&Sessions::new(None), QueueState::Down), r#"{"sessions":0,"state":"ready","queue":"down"}"#);
    }
}
