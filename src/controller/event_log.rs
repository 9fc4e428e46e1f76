//! The event log (`holdline events`): the most recent notices, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use holdline_core::event::{Notice, NoticeKind};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

/// Entries kept: enough for a reader that reconnects after a scale-out of hundreds of backends.
const ENTRIES_MAX: usize = 1024;

/// A bounded ring buffer of notices. Clones share it.
#[derive(Clone, Debug)]
pub struct EventLog {
    entries: Arc<Mutex<VecDeque<LoggedEvent>>>,
    /// The id of the newest; zero: none yet.
    newest: Arc<watch::Sender<u64>>,
}

/// A notice with its id and time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoggedEvent {
    /// Consecutive, from 1.
    pub id: u64,
    /// Wall clock, milliseconds since 1970 (UTC).
    pub at_unix_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub notice: Notice,
}

impl Default for EventLog {
    fn default() -> Self {
        EventLog { entries: Arc::default(), newest: Arc::new(watch::Sender::new(0)) }
    }
}

impl EventLog {
    /// The entries after `id`, oldest first; all of them if `id` is higher than any, since it is then of an earlier run.
    pub fn since(&self, id: u64) -> Vec<LoggedEvent> {
        let entries = self.entries.lock();
        let newest = entries.back().map_or(0, |e| e.id);
        let after = if id > newest { 0 } else { id };
        let first = entries.front().map_or(0, |e| e.id);
        // Ids have no gaps, so the index follows from the id.
        entries.iter().skip((after + 1).saturating_sub(first) as usize).cloned().collect()
    }

    /// Wakes on every entry; the value is the newest id.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Adds an entry and writes it to the process log.
    pub(super) fn push(&self, notice: Notice, at_unix_ms: u64) {
        log(&notice);
        let mut entries = self.entries.lock();
        let id = entries.back().map_or(1, |e| e.id + 1);
        if entries.len() == ENTRIES_MAX {
            entries.pop_front();
        }
        entries.push_back(LoggedEvent { id, at_unix_ms, notice });
        drop(entries);
        self.newest.send_replace(id);
    }
}

fn log(notice: &Notice) {
    let fleet = notice.fleet.as_ref().map(tracing::field::display);
    let backend = notice.backend.as_ref().map(tracing::field::display);
    let event = notice.kind;
    match event {
        NoticeKind::BackendFailed | NoticeKind::CountMismatch | NoticeKind::ConfigRejected => {
            tracing::warn!(fleet, backend, %event, "{}", notice.message)
        }
        _ => tracing::info!(fleet, backend, %event, "{}", notice.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(message: &str) -> Notice {
        Notice { fleet: Some("chat".into()), backend: None, kind: NoticeKind::Scale, message: message.to_owned() }
    }

    fn ids(entries: &[LoggedEvent]) -> Vec<u64> {
        entries.iter().map(|e| e.id).collect()
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let log = EventLog::default();
        assert_eq!(log.since(0), []);
        for n in 0..3 {
            log.push(notice(&n.to_string()), 1_000 + n);
        }
        assert_eq!(ids(&log.since(0)), [1, 2, 3]);
        assert_eq!(ids(&log.since(2)), [3]);
        assert_eq!(ids(&log.since(3)), [] as [u64; 0]);
        assert_eq!(ids(&log.since(900)), [1, 2, 3], "an id of an earlier run");
        assert_eq!(log.since(2)[0].at_unix_ms, 1_002);
    }

    #[test]
    fn the_oldest_make_room() {
        let log = EventLog::default();
        for n in 0..ENTRIES_MAX as u64 + 10 {
            log.push(notice("x"), n);
        }
        let kept = log.since(0);
        assert_eq!((kept.len(), kept[0].id), (ENTRIES_MAX, 11));
        assert_eq!(log.since(5).len(), ENTRIES_MAX, "what is gone is skipped");
        assert_eq!(ids(&log.since(1_033)), [1_034]);
    }

    #[tokio::test]
    async fn a_follower_is_woken() {
        let log = EventLog::default();
        let mut newest = log.subscribe();
        log.push(notice("x"), 0);
        newest.changed().await.unwrap();
        assert_eq!(*newest.borrow_and_update(), 1);
    }

    #[test]
    fn an_entry_is_one_flat_object() {
        let log = EventLog::default();
        log.push(notice("up"), 7);
        let json = serde_json::to_string(&log.since(0)[0]).unwrap();
        assert!(NoticeKind::ALL.iter().all(|k| serde_json::to_value(k).unwrap() == k.as_str()), "the log says what the API says");
        assert_eq!(json, r#"{"id":1,"at_unix_ms":7,"fleet":"chat","backend":null,"kind":"scale","message":"up"}"#);
    }
}
