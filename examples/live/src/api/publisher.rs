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
