//! Follows the queue, through all its absences.

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::watch;

use super::hub::Hub;
use crate::backoff::Backoff;
use crate::queue::{QueueError, Subscribe};

/// Deltas that are taken in a row. Then clients have their turn: a node that catches up must not make its clients too slow.
const AT_ONCE: usize = 64;

/// How the queue is, as the heartbeat says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum QueueState {
    /// Each delta comes as it is written.
    Up,
    /// It is not connected.
    #[default]
    Down,
    /// It is connected and gives what was missed.
    Behind,
}

/// Where the node is in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The last position that was heard; `None` before the queue was ever reached, and after it lost the place.
    pub(crate) pos: Option<u64>,
    pub(crate) state: QueueState,
}

/// Follows `queue` for ever and gives its deltas to `hub`.
pub(crate) async fn follow(
    hub: Arc<Hub>,
    queue: Arc<dyn Subscribe>,
    place: watch::Sender<Place>,
    mut pauses: Backoff,
) -> Infallible {
    let mut was_told = false;
    loop {
        let Err(error) = hear(&hub, &*queue, &place, &mut pauses).await;
        // Told once for each absence, not for each attempt.
        let is_news = place.borrow().state != QueueState::Down || !was_told;
        was_told = true;
        if is_news {
            eprintln!("live: {error}; trying again");
        }
        let is_passed = matches!(error, QueueError::Passed { .. });
        place.send_modify(|place| *place = Place { pos: place.pos.filter(|_| !is_passed), state: QueueState::Down });
        tokio::time::sleep(pauses.next()).await;
    }
}

async fn hear(
    hub: &Arc<Hub>,
    queue: &dyn Subscribe,
    place: &watch::Sender<Place>,
    pauses: &mut Backoff,
) -> Result<Infallible, QueueError> {
    let newest = queue.newest().await?;
    // A queue that has less than was heard from it began anew.
    let known = place.borrow().pos.filter(|pos| *pos <= newest);
    let from = known.unwrap_or(newest);
    let mut entries = queue.subscribe(from).await?;
    pauses.reset();
    if known.is_none() {
        // From here on nothing is missed; what was before is in the rooms.
        hub.reload();
    }
    let state = |pos| if pos < newest { QueueState::Behind } else { QueueState::Up };
    place.send_replace(Place { pos: Some(from), state: state(from) });
    loop {
        for _ in 0..AT_ONCE {
            let Some(entry) = entries.next().await else {
                return Err(QueueError::Down { at: "its end".into(), reason: "it ended without a word".into() });
            };
            let entry = entry?;
            hub.apply(&entry);
            place.send_replace(Place { pos: Some(entry.pos), state: state(entry.pos) });
        }
        tokio::task::yield_now().await;
    }
}
