//! Which long-poll session a client's key has, for all threads.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::sync::Arc;

use holdline_core::affinity::Key;
use holdline_core::ids::BackendId;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::held::{InFlight, SharedPollSession};
use crate::gateway::refuse::Refusal;

/// Locks, so that threads seldom meet at one. A power of two.
const SHARDS: usize = 16;

/// The sessions of one fleet by key. Each holds a seat, and each that opens has a client that waits: so it is bounded as those are.
pub(crate) struct Table {
    shards: [Mutex<HashMap<Key, Slot>>; SHARDS],
    /// Clients choose their keys, but not where they lie.
    hasher: RandomState,
}

impl Default for Table {
    fn default() -> Self {
        Table { shards: Default::default(), hasher: RandomState::new() }
    }
}

enum Slot {
    /// Its first poll looks for a seat. What comes of it is told here: a refusal, or by the sender's end.
    Opening(watch::Receiver<Option<Refusal>>),
    Open(Arc<SharedPollSession>),
}

/// What a client's key has.
pub(crate) enum Found {
    /// A session, which took the poll.
    Open(InFlight),
    /// One that looks for its seat.
    Opening(watch::Receiver<Option<Refusal>>),
    /// None: it is for the poll to begin one.
    Nobody(Opener),
}

impl Table {
    /// What the client of `key` has. A session that is about to end gives its place to the next one.
    pub(crate) fn find(self: &Arc<Self>, key: Key) -> Found {
        let mut shard = self.shard(key);
        let entry = shard.entry(key);
        if let Entry::Occupied(slot) = &entry {
            match slot.get() {
                Slot::Opening(told) => return Found::Opening(told.clone()),
                Slot::Open(held) => {
                    if let Some(poll) = held.join() {
                        return Found::Open(poll);
                    }
                }
            }
        }
        let (told, waits) = watch::channel(None);
        entry.insert_entry(Slot::Opening(waits));
        Found::Nobody(Opener { table: Arc::clone(self), key, told })
    }

    /// The backend of the session of `key`.
    pub(crate) fn home(&self, key: Key) -> Option<BackendId> {
        match self.shard(key).get(&key)? {
            Slot::Open(held) if held.life.lock().takes_polls() => Some(held.backend.id.clone()),
            _ => None,
        }
    }

    /// `held` takes no more polls. Another may have its place already.
    pub(crate) fn leave(&self, held: &Arc<SharedPollSession>) {
        let Some(key) = held.key else { return };
        if let Entry::Occupied(slot) = self.shard(key).entry(key)
            && matches!(slot.get(), Slot::Open(other) if Arc::ptr_eq(other, held))
        {
            slot.remove();
        }
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.shards[self.hasher.hash_one(key) as usize % SHARDS].lock()
    }

    /// Sessions, open and opening.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().len()).sum()
    }
}

/// The poll that looks for its session's seat. Dropped, it makes room for another.
pub(crate) struct Opener {
    table: Arc<Table>,
    key: Key,
    told: watch::Sender<Option<Refusal>>,
}

impl Opener {
    pub(crate) fn key(&self) -> Key {
        self.key
    }

    /// The session has its seat; who waits may join.
    pub(crate) fn open(self, held: &Arc<SharedPollSession>) {
        self.table.shard(self.key).insert(self.key, Slot::Open(Arc::clone(held)));
    }

    /// There is no seat, and there would be none for those who wait.
    pub(crate) fn refuse(self, refusal: Refusal) {
        self.told.send_replace(Some(refusal));
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        if let Entry::Occupied(slot) = self.table.shard(self.key).entry(self.key)
            && matches!(slot.get(), Slot::Opening(waits) if waits.same_channel(&self.told.subscribe()))
        {
            slot.remove();
        }
    }
}
