//! Queues that take entries from whoever has some.

use std::collections::BTreeMap;

use futures_util::future::join;
use holdline_live::delta::{Action, Delta, Entry};
use holdline_live::queue::Publish;

use crate::checks::rooms;
use crate::rig::{Rig, take};

/// A rig with such a queue.
pub(crate) trait Published: Rig {
    /// As `--queue` takes it.
    fn url(&self) -> String;

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

pub(crate) async fn two_publishers_publish_each_entry_once<R: Published>() {
    let mut rig = R::start().await;
    let (one, other) = (rig.publisher(), rig.publisher());
    rig.put(&["lobby"]).await;
    let mut log = Log::default();
    log.write(&rooms(2_000));
    // The first entry is the rig's own, and stays as it is.
    log.entries[0] = rig.written()[0].clone();
    let publish = async |queue: Box<dyn Publish>, batch| {
        for entries in log.entries.chunks(batch) {
            queue.publish(entries).await.unwrap();
        }
    };
    join(publish(one, 7), publish(other, 31)).await;
    assert_eq!(rig.subscriber().newest().await.unwrap(), 2_000);
    let mut entries = rig.subscriber().subscribe(0).await.unwrap();
    assert_eq!(take(&mut entries, 2_000).await, log.entries);
    // Once more, from the middle on: not one of them comes.
    rig.publisher().publish(&log.entries[1_000..]).await.unwrap();
    log.write(&["bar"]);
    rig.publisher().publish(&log.entries[1_999..]).await.unwrap();
    assert_eq!(take(&mut entries, 1).await, log.entries[2_000..]);
}
