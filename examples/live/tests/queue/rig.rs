//! A queue with a log before it, as the checks need it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use holdline_live::delta::Entry;
use holdline_live::queue::{Entries, QueueError, Subscribe};
use tokio::time::timeout;

/// Longer than anything should take; a test that meets it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A queue on trial.
pub(crate) trait Rig: Sized {
    /// With nothing in it.
    async fn start() -> Self;

    /// Writes a delta for each of these rooms and has it published, whatever happens to connections.
    async fn put(&mut self, rooms: &[&str]);

    /// All that was written.
    fn written(&self) -> &[Entry];

    /// Writes so much that the beginning is no longer kept.
    async fn outgrow(&mut self);

    fn subscriber(&self) -> Arc<dyn Subscribe>;

    /// Every connection to the queue is lost.
    async fn cut(&mut self);

    /// The queue's server goes without a word, and what it had is on its disk.
    fn kill(&mut self);

    fn restart(&mut self);
}

pub(crate) async fn next(entries: &mut Entries) -> Result<Entry, QueueError> {
    timeout(PATIENCE, entries.next()).await.expect("nothing came").expect("it ends with an error alone")
}

pub(crate) async fn take(entries: &mut Entries, count: usize) -> Vec<Entry> {
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(next(entries).await.unwrap());
    }
    taken
}
