//! The SQLite file: rooms, comments, likes, and the log of deltas.
//!
//! One thread writes, a few connections read, each read in one transaction. A mutation's row, its delta and the answer to its Idempotency-Key
//! are stored in one transaction or not at all.

mod change;
mod keys;
mod query;
mod refused;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use thiserror::Error;
use tokio::sync::{Semaphore, watch};

pub use change::{Change, Done, Mutation};
pub use query::{From, PAGE_BYTES};
pub use refused::Refused;

use crate::delta::Entry;
use crate::wall::{Comment, Deltas, Recovery, Room, Snapshot};
use writer::Writer;

/// The most rooms, so that names that clients think of fill neither the file nor the list of rooms.
pub const ROOMS_MAX: u64 = 10_000;

/// Connections that read at once: more than cores would only wait for each other.
const READERS: usize = 4;

/// The store. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    writer: Writer,
    readers: Arc<Readers>,
    newest: watch::Receiver<u64>,
    published: Arc<AtomicU64>,
    window: u64,
}

/// What a store keeps.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The newest deltas that are kept of each room, from 1.
    pub window: u64,
    /// The most that the file may hold, in MiB.
    pub max_mib: Option<u32>,
}

/// Why the file cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It cannot be made, read or written.
    #[error("cannot use {path} as the database: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What SQLite or the system says.
        reason: String,
    },
    /// Two would each count positions of their own.
    #[error("another live api uses {0}: stop it, or name another file with --db")]
    InUse(PathBuf),
}

impl Store {
    /// Opens the file, or makes it. Blocks.
    ///
    /// # Errors
    /// It cannot be used, or another process uses it.
    pub fn open(path: &Path, bounds: Bounds) -> Result<Store, OpenError> {
        let unusable = |error: &dyn std::fmt::Display| OpenError::Unusable { path: path.into(), reason: error.to_string() };
        let lock = lock(path, unusable)?;
        let db = schema::writer(path, bounds.max_mib).map_err(|e| unusable(&e))?;
        let readers = (0..READERS).map(|_| schema::reader(path)).collect::<Result<Vec<_>, _>>().map_err(|e| unusable(&e))?;
        let pos = query::newest(&db).map_err(|e| unusable(&e))?;
        let (newest_sender, newest) = watch::channel(pos);
        let writer = Writer::start(db, newest_sender, lock).map_err(|e| unusable(&e))?;
        let readers = Arc::new(Readers { free: Mutex::new(readers), permits: Arc::new(Semaphore::new(READERS)) });
        Ok(Store { writer, readers, newest, published: Arc::default(), window: bounds.window })
    }

    /// The newest position in the log, as it grows.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }

    /// The queue has all up to here; from now on the window may pass over them.
    pub fn published(&self, pos: u64) {
        self.published.fetch_max(pos, Ordering::Relaxed);
    }

    /// Does what a user wants, and writes its delta to the log.
    ///
    /// # Errors
    /// The room or the comment is unknown, the user may not, the key was used for something else, or the database does not store.
    pub async fn change(&self, mutation: Mutation) -> Result<Done, Refused> {
        let (window, published) = (self.window, self.published.clone());
        self.writer.write(move |db| mutation.apply(db, window, published.load(Ordering::Relaxed))).await
    }

    /// Makes a room. `true`: it was not there.
    ///
    /// # Errors
    /// It is there with other settings, there are too many, or the database does not store.
    pub async fn make_room(&self, room: &str, recovery: Recovery) -> Result<(Room, bool), Refused> {
        let room = room.to_owned();
        self.writer.write(move |db| change::make_room(db, &room, recovery)).await
    }

    /// All rooms, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn rooms(&self) -> Result<Vec<Room>, Refused> {
        self.readers.read(|db| query::rooms(db)).await
    }

    /// A room with the newest `limit` of its comments before `before`; its presence is 0, which is none of the store's business.
    ///
    /// # Errors
    /// The room is unknown, or the database cannot be read.
    pub async fn snapshot(
        &self,
        room: &str,
        limit: usize,
        before: Option<u64>,
        user: Option<String>,
    ) -> Result<Snapshot, Refused> {
        let room = room.to_owned();
        self.readers.read(move |db| query::snapshot(db, &room, limit, before, user.as_deref())).await
    }

    /// One comment, with what `user` thinks of it.
    ///
    /// # Errors
    /// The room or the comment is unknown, or the database cannot be read.
    pub async fn comment(&self, room: &str, comment: u64, user: Option<String>) -> Result<Comment, Refused> {
        let room = room.to_owned();
        self.readers.read(move |db| query::comment(db, &room, comment, user.as_deref())).await
    }

    /// The first `limit` deltas of a room from some point on.
    ///
    /// # Errors
    /// The room is unknown, the point is in the future or before the window, or the database cannot be read.
    pub async fn deltas(&self, room: &str, from: From, limit: usize) -> Result<Deltas, Refused> {
        let room = room.to_owned();
        self.readers.read(move |db| query::deltas(db, &room, from, limit)).await
    }

    /// The log from after `after` to `until`: at most `limit` entries, and no more after [`PAGE_BYTES`] of text.
    ///
    /// # Errors
    /// [`Refused::WindowPassed`] with the first position from which on the log is whole, or the database cannot be read.
    pub async fn log(&self, after: u64, until: u64, limit: usize) -> Result<Vec<Entry>, Refused> {
        self.readers.read(move |db| query::log(db, after, until, limit)).await
    }
}

/// An advisory lock on a file beside the database. Not on the database itself: closing any handle of that would give up SQLite's own locks.
fn lock(path: &Path, unusable: impl Fn(&dyn std::fmt::Display) -> OpenError) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    let file = File::options().create(true).append(true).open(name).map_err(|e| unusable(&e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.into())),
        Err(TryLockError::Error(error)) => Err(unusable(&error)),
    }
}

/// Connections that read, each lent to one query at a time.
struct Readers {
    free: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// Runs a query on a thread where it may block; all that it reads is of one moment.
    async fn read<T, F>(self: &Arc<Self>, query: F) -> Result<T, Refused>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction) -> Result<T, Refused> + Send + 'static,
    {
        let closed = |_| Refused::Database("the store is closed".to_owned());
        let permit = self.permits.clone().acquire_owned().await.map_err(|e| closed(e.to_string()))?;
        let readers = self.clone();
        let work = move || {
            let mut db = readers.free.lock().pop().expect("a permit a connection");
            let answer = db
                .transaction_with_behavior(TransactionBehavior::Deferred)
                .map_err(Refused::from)
                .and_then(|transaction| query(&transaction));
            readers.free.lock().push(db);
            drop(permit);
            answer
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| closed(e.to_string()))?
    }
}
