//! A queue with a log before it, as the checks need it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use holdline_live::delta::{Action, Delta, Entry};
use holdline_live::queue::{Entries, Publish, QueueError, Subscribe};
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

/// A rig whose queue takes entries from whoever has some.
pub(crate) trait Published: Rig {
    fn publisher(&self) -> Box<dyn Publish>;
}

/// What `live api` has in its file: the log that is published.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) entries: Vec<Entry>,
    seqs: BTreeMap<String, u64>,
}

impl Log {
    pub(crate) fn write(&mut self, rooms: &[&str]) {
        for room in rooms {
            let seq = self.seqs.entry((*room).to_owned()).or_default();
            *seq += 1;
            let pos = self.entries.len() as u64 + 1;
            let text = Some(format!("\"{room}\" ☂ {pos}"));
            let delta = Delta { seq: *seq, at: 1_764_000_000, action: Action::Create, comment: *seq, user: "ann".into(), text };
            self.entries.push(Entry { pos, room: (*room).to_owned(), delta });
        }
    }

    /// As `live api` does it: on from what the queue has, which is asked again after every failure.
    pub(crate) async fn publish(&self, queue: &dyn Publish) {
        // A cut costs one failure; more are none of the test's.
        for _ in 0..5 {
            let Ok(newest) = queue.newest().await else { continue };
            if queue.publish(&self.entries[newest as usize..]).await.is_ok() {
                return;
            }
        }
        panic!("not published: {:?}", queue.newest().await);
    }
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
