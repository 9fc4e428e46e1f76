//! Queues that take entries from whoever has some.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join;
use holdline_live::delta::{Action, Delta, Entry};
use holdline_live::queue::{Publish, Subscribe};
use tempfile::TempDir;

use crate::checks::rooms;
use crate::rig::{Rig, take};
use crate::server::Server;

/// A rig with such a queue.
pub(crate) trait Published: Rig {
    /// As `--queue` takes it.
    fn url(&self) -> String;

    fn publisher(&self) -> Box<dyn Publish>;
}

/// A server of this kind, in a directory of its own.
pub(crate) struct Served<K: Kind> {
    pub(crate) log: Log,
    pub(crate) publisher: K::Queue,
    pub(crate) server: Option<Server>,
    pub(crate) dir: TempDir,
    kind: K,
}

/// What distinguishes a kind of server.
pub(crate) trait Kind: Default {
    type Queue: Publish + Subscribe + 'static;

    /// As `--queue` takes it.
    fn url(dir: &Path) -> String;

    fn connect(url: &str) -> Self::Queue;

    /// Makes what the server needs in its directory.
    fn prepare(_dir: &Path) {}

    fn start(&self, dir: &Path) -> Server;

    /// Has the server end all connections.
    async fn cut(dir: &Path);
}

impl<K: Kind> Served<K> {
    pub(crate) fn new(kind: K) -> Self {
        let dir = tempfile::tempdir().unwrap();
        K::prepare(dir.path());
        let publisher = K::connect(&K::url(dir.path()));
        let server = Some(kind.start(dir.path()));
        Served { log: Log::default(), publisher, server, dir, kind }
    }

    fn connect(&self) -> K::Queue {
        K::connect(&self.url())
    }
}

impl<K: Kind> Rig for Served<K> {
    async fn start() -> Self {
        Self::new(K::default())
    }

    async fn put(&mut self, rooms: &[&str]) {
        self.log.write(rooms);
        self.log.publish(&self.publisher).await;
    }

    fn written(&self) -> &[Entry] {
        &self.log.entries
    }

    async fn outgrow(&mut self) {
        self.put(&vec!["lobby"; 101_000]).await;
    }

    fn subscriber(&self) -> Arc<dyn Subscribe> {
        Arc::new(self.connect())
    }

    async fn cut(&mut self) {
        K::cut(self.dir.path()).await;
    }

    fn kill(&mut self) {
        self.server = None;
    }

    fn restart(&mut self) {
        self.server = Some(self.kind.start(self.dir.path()));
    }
}

impl<K: Kind> Published for Served<K> {
    fn url(&self) -> String {
        K::url(self.dir.path())
    }

    fn publisher(&self) -> Box<dyn Publish> {
        Box::new(self.connect())
    }
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
