//! The connections of the admin API: bounded in number, and still there is always room for one more, so that probes and scrapes are answered
//! whoever else is connected. The one that has been silent the longest makes room; those that are being answered go last.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Connections at the same time. Enough for scrapers, readers of events and a backend pushing from each of a hundred processes, and far
/// below any descriptor limit.
const CONNECTIONS_MAX: usize = 256;

/// Cloning shares them.
#[derive(Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    next: u64,
    by_number: BTreeMap<u64, Entry>,
}

struct Entry {
    /// Answers under way. Pipelined requests wait for each other, so it is 0 or 1.
    answers: u32,
    /// When an answer last began or ended, in answers and connections of all.
    turn: u64,
    /// Dropping it closes the connection.
    _close: oneshot::Sender<()>,
}

impl Connections {
    /// One more. When there are too many, the one that can be spared most is closed for it.
    pub(super) fn open(&self) -> Connection {
        let (close, closed) = oneshot::channel();
        let mut open = self.0.lock();
        if open.by_number.len() >= CONNECTIONS_MAX {
            let spared = open.by_number.iter().min_by_key(|(_, entry)| (entry.answers, entry.turn)).map(|(number, _)| *number);
            spared.and_then(|number| open.by_number.remove(&number));
        }
        let number = open.turn();
        open.by_number.insert(number, Entry { answers: 0, turn: number, _close: close });
        Connection { place: Place { number, all: self.clone() }, closed }
    }
}

impl Open {
    fn turn(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// An open connection; dropping it makes room.
pub(super) struct Connection {
    place: Place,
    closed: oneshot::Receiver<()>,
}

impl Connection {
    /// What notes its answers.
    pub(super) fn answers(&self) -> Answers {
        Answers { number: self.place.number, all: self.place.all.clone() }
    }

    /// Resolves when another one needs its place.
    pub(super) async fn closed(&mut self) {
        // The sender is only ever dropped.
        let _ = (&mut self.closed).await;
    }
}

struct Place {
    number: u64,
    all: Connections,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.0.lock().by_number.remove(&self.number);
    }
}

/// Notes when a connection is being answered.
#[derive(Clone)]
pub(super) struct Answers {
    number: u64,
    all: Connections,
}

impl Answers {
    /// An answer is under way until the guard is dropped.
    pub(super) fn begin(&self) -> Answering {
        self.note(|entry| entry.answers += 1);
        Answering(self.clone())
    }

    fn note(&self, change: impl FnOnce(&mut Entry)) {
        let mut open = self.all.0.lock();
        let turn = open.turn();
        if let Some(entry) = open.by_number.get_mut(&self.number) {
            change(entry);
            entry.turn = turn;
        }
    }
}

/// An answer under way.
pub(super) struct Answering(Answers);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.note(|entry| entry.answers -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn is_closed(connection: &mut Connection) -> bool {
        connection.closed.try_recv() == Err(TryRecvError::Closed)
    }

    #[test]
    fn the_one_that_was_silent_the_longest_makes_room() {
        let all = Connections::default();
        let mut open: Vec<_> = (0..CONNECTIONS_MAX).map(|_| all.open()).collect();
        let answer = open[0].answers().begin();
        drop(open[1].answers().begin());
        let _newest: Vec<_> = (0..2).map(|_| all.open()).collect();
        let closed: Vec<_> = (0..CONNECTIONS_MAX).filter(|n| is_closed(&mut open[*n])).collect();
        assert_eq!(closed, [2, 3], "0 is being answered, and 1 was a moment ago");
        drop(answer);
        drop(open.pop());
        let _last = all.open();
        assert!((0..open.len()).filter(|n| is_closed(&mut open[*n])).count() == 2, "there was room");
    }

    #[test]
    fn when_all_are_being_answered_the_oldest_goes() {
        let all = Connections::default();
        let mut open: Vec<_> = (0..CONNECTIONS_MAX).map(|_| all.open()).collect();
        let answers: Vec<_> = open.iter().map(|c| c.answers().begin()).collect();
        let _newest = all.open();
        assert!(is_closed(&mut open[0]) && !is_closed(&mut open[1]));
        drop(answers);
        drop(open);
        assert_eq!(all.0.lock().by_number.len(), 1);
    }
}
