//! Moves entries from the log to the queue, in order. Each as often as needed: the queue takes each once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::queue::{Publish, QueueError};
use crate::store::{Refused, Store};

/// Entries to a publication.
const BATCH: usize = 500;

/// Without anything to publish, the queue is asked this often whether it is there: the first mutation after it went should not be the one that finds out.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// Whether deltas reach the nodes; `Err` says why not.
pub(crate) type State = Result<(), String>;

/// Publishes for ever.
pub(crate) async fn publish(store: Store, queue: Arc<dyn Publish>, state: watch::Sender<State>) {
    let mut backoff = Backoff::from_os();
    loop {
        let Err(failure) = follow(&store, &*queue, &state, &mut backoff).await;
        state.send_modify(|state| *state = Err(failure.to_string()));
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Until something fails: from what the queue has to what the log has, and on with each new entry.
async fn follow(
    store: &Store,
    queue: &dyn Publish,
    state: &watch::Sender<State>,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, Failure> {
    let mut newest = store.newest();
    loop {
        let mut pos = queue.newest().await?;
        let written = *newest.borrow_and_update();
        if pos > written {
            return Err(Failure::Foreign { pos, written });
        }
        while pos < written {
            let entries = match store.log(pos, written, BATCH).await {
                Ok(entries) => entries,
                // A queue that lost its entries begins with the oldest that the log has; nodes find that theirs are gone and load the rooms.
                Err(Refused::WindowPassed { oldest }) if oldest > pos + 1 => {
                    pos = oldest - 1;
                    continue;
                }
                Err(refused) => return Err(refused.into()),
            };
            queue.publish(&entries).await?;
            pos = entries.last().map_or(written, |entry| entry.pos);
            store.published(pos);
        }
        store.published(pos);
        backoff.reset();
        state.send_if_modified(|state| std::mem::replace(state, Ok(())).is_err());
        // The log's end is the store's own: it is there as long as this store is.
        let _ = tokio::time::timeout(ASKED_EVERY, newest.wait_for(|newest| *newest > pos)).await;
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Store(#[from] Refused),
    #[error(
        "the queue is at position {pos}, the log at {written}: they do not belong together; empty the queue or use the log's own"
    )]
    Foreign { pos: u64, written: u64 },
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use parking_lot::Mutex;

    use super::*;
    use crate::delta::Entry;
    use crate::store::{Bounds, Change, Mutation};
    use crate::wall::Recovery;

    /// A queue in the test's hands.
    #[derive(Default)]
    struct Double {
        has: Mutex<Vec<Entry>>,
        is_down: Mutex<bool>,
    }

    impl Double {
        fn answer<T>(&self, answer: T) -> Result<T, QueueError> {
            if *self.is_down.lock() {
                return Err(QueueError::Down { at: "here".into(), reason: "the test says so".into() });
            }
            Ok(answer)
        }

        fn positions(&self) -> Vec<u64> {
            self.has.lock().iter().map(|entry| entry.pos).collect()
        }
    }

    impl Publish for Double {
        fn newest(&self) -> BoxFuture<'_, Result<u64, QueueError>> {
            Box::pin(async { self.answer(self.has.lock().last().map_or(0, |entry| entry.pos)) })
        }

        fn publish<'a>(&'a self, entries: &'a [Entry]) -> BoxFuture<'a, Result<(), QueueError>> {
            Box::pin(async {
                self.answer(())?;
                self.has.lock().extend_from_slice(entries);
                Ok(())
            })
        }
    }

    struct Rig {
        store: Store,
        queue: Arc<Double>,
        state: watch::Receiver<State>,
        _dir: tempfile::TempDir,
    }

    impl Rig {
        async fn new(window: u64, queue: Double) -> Rig {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&dir.path().join("live.db"), Bounds { window, max_mib: None }).unwrap();
            store.make_room("r", Recovery::Strong {}).await.unwrap();
            let (sender, state) = watch::channel(Err("not yet".to_owned()));
            let queue = Arc::new(queue);
            tokio::spawn(publish(store.clone(), Arc::clone(&queue) as Arc<dyn Publish>, sender));
            Rig { store, queue, state, _dir: dir }
        }

        async fn write(&self, n: u64) {
            for _ in 0..n {
                let change = Change::Create { text: "x".into() };
                let mutation = Mutation { room: "r".into(), user: "ann".into(), change, key: None, now_s: 1 };
                self.store.change(mutation).await.unwrap();
            }
        }

        async fn until(&mut self, is_up: bool) {
            self.state.wait_for(|state| state.is_ok() == is_up).await.unwrap();
        }

        /// Once the queue has this position.
        async fn until_published(&self, pos: u64) {
            while self.queue.positions().last() != Some(&pos) {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn each_entry_once_and_in_order_also_when_the_queue_was_away() {
        let mut rig = Rig::new(10_000, Double::default()).await;
        rig.until(true).await;
        rig.write(5).await;
        rig.until_published(5).await;
        *rig.queue.is_down.lock() = true;
        // Found out without anything to publish, too.
        rig.until(false).await;
        rig.write(3).await;
        *rig.queue.is_down.lock() = false;
        rig.until(true).await;
        rig.write(2).await;
        rig.until_published(10).await;
        assert_eq!(rig.queue.positions(), (1..=10).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_queue_that_lost_everything_gets_what_the_log_still_has() {
        let mut rig = Rig::new(4, Double::default()).await;
        rig.until(true).await;
        rig.write(9).await;
        rig.until_published(9).await;
        // Whatever is trimmed was published before.
        rig.write(1).await;
        rig.until_published(10).await;
        rig.queue.has.lock().clear();
        rig.until_published(10).await;
        let positions = rig.queue.positions();
        assert!(positions[0] > 1 && positions.windows(2).all(|w| w[1] == w[0] + 1), "{positions:?}");
    }

    #[tokio::test]
    async fn a_queue_of_another_log_is_not_gone_on_with() {
        let delta =
            crate::delta::Delta { seq: 7, at: 1, action: crate::delta::Action::Like, comment: 1, user: "ann".into(), text: None };
        let foreign = Double { has: Mutex::new(vec![Entry { pos: 7, room: "r".into(), delta }]), ..Double::default() };
        let mut rig = Rig::new(10, foreign).await;
        let state = rig.state.wait_for(|state| state.as_ref().is_err_and(|reason| reason != "not yet")).await.unwrap().clone();
        assert!(state.unwrap_err().contains("do not belong together"));
    }
}
