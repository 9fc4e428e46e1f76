//! Things that are shared by whoever names them, counted, and kept for a while after the last one has left.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// The things, by their names. The time is counted in calls of [`Lingering::sweep`].
pub(crate) struct Lingering<K, V> {
    kept: Mutex<HashMap<K, Kept<V>>>,
    /// The most things at once: names come from clients.
    max: usize,
    /// A thing goes with this sweep in a row that finds nobody at it.
    sweeps: u32,
}

struct Kept<V> {
    /// Shared by its users; what tells this thing from a later one of its name.
    value: Arc<V>,
    users: u64,
    idle: u32,
}

impl<K: Clone + Eq + Hash, V> Lingering<K, V> {
    pub(crate) fn new(max: usize, sweeps: u32) -> Arc<Self> {
        Arc::new(Lingering { kept: Mutex::default(), max, sweeps })
    }

    /// Uses the thing of this name, which is made if it is not there; `None`: there are too many.
    pub(crate) fn enter(self: &Arc<Self>, name: &K, make: impl FnOnce() -> V) -> Option<Stay<K, V>> {
        let mut kept = self.kept.lock();
        if !kept.contains_key(name) && kept.len() >= self.max {
            return None;
        }
        let thing = kept.entry(name.clone()).or_insert_with(|| Kept { value: Arc::new(make()), users: 0, idle: 0 });
        (thing.users, thing.idle) = (thing.users + 1, 0);
        Some(Stay { name: name.clone(), value: Arc::clone(&thing.value), of: Arc::clone(self) })
    }

    /// The thing of this name, without using it.
    pub(crate) fn get(&self, name: &K) -> Option<Arc<V>> {
        Some(Arc::clone(&self.kept.lock().get(name)?.value))
    }

    /// All of them, each with the number of its users.
    pub(crate) fn all(&self) -> Vec<(K, Arc<V>, u64)> {
        self.kept.lock().iter().map(|(name, thing)| (name.clone(), Arc::clone(&thing.value), thing.users)).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.lock().len()
    }

    /// Lets go of this thing now; whoever uses it still does.
    pub(crate) fn forget(&self, name: &K, value: &Arc<V>) {
        let mut kept = self.kept.lock();
        if kept.get(name).is_some_and(|thing| Arc::ptr_eq(&thing.value, value)) {
            kept.remove(name);
        }
    }

    /// To be called at equal intervals: lets go of what nobody has used for long enough.
    pub(crate) fn sweep(&self) {
        let mut gone = Vec::new();
        self.kept.lock().retain(|_, thing| {
            thing.idle += u32::from(thing.users == 0);
            let stays = thing.idle < self.sweeps;
            if !stays {
                gone.push(Arc::clone(&thing.value));
            }
            stays
        });
        // Dropped without the lock: their own Drop may want others.
        drop(gone);
    }
}

/// One use, until it is dropped.
pub(crate) struct Stay<K: Clone + Eq + Hash, V> {
    name: K,
    value: Arc<V>,
    of: Arc<Lingering<K, V>>,
}

impl<K: Clone + Eq + Hash, V> Stay<K, V> {
    pub(crate) fn name(&self) -> &K {
        &self.name
    }

    pub(crate) fn value(&self) -> &Arc<V> {
        &self.value
    }
}

impl<K: Clone + Eq + Hash, V> Drop for Stay<K, V> {
    fn drop(&mut self) {
        if let Some(thing) = self.of.kept.lock().get_mut(&self.name)
            && Arc::ptr_eq(&thing.value, &self.value)
        {
            thing.users -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shared_while_it_is_used_and_goes_after_so_many_sweeps() {
        let rooms = Lingering::new(10, 3);
        let (one, two) = (rooms.enter(&"a", || 1).unwrap(), rooms.enter(&"a", || 2).unwrap());
        assert_eq!((**one.value(), **two.value(), rooms.all()[0].2), (1, 1, 2));
        drop(one);
        for _ in 0..5 {
            rooms.sweep();
        }
        assert_eq!(rooms.all()[0].2, 1, "one is there still");
        drop(two);
        rooms.sweep();
        rooms.sweep();
        let back = rooms.enter(&"a", || 3).unwrap();
        assert_eq!(**back.value(), 1, "it was kept");
        drop(back);
        rooms.sweep();
        rooms.sweep();
        assert_eq!(rooms.len(), 1, "the time begins again, however short the use was");
        rooms.sweep();
        assert_eq!(rooms.len(), 0);
    }

    #[test]
    fn there_are_no_more_than_may_be() {
        let rooms = Lingering::new(2, 1);
        let (_a, b) = (rooms.enter(&"a", || ()).unwrap(), rooms.enter(&"b", || ()).unwrap());
        assert!(rooms.enter(&"c", || ()).is_none());
        assert!(rooms.enter(&"a", || ()).is_some());
        drop(b);
        rooms.sweep();
        assert!(rooms.enter(&"c", || ()).is_some());
    }

    #[test]
    fn who_leaves_a_forgotten_one_is_not_counted_at_its_successor() {
        let rooms = Lingering::new(2, 1);
        let old = rooms.enter(&"a", || 1).unwrap();
        rooms.forget(&"a", old.value());
        let new = rooms.enter(&"a", || 2).unwrap();
        rooms.forget(&"a", old.value());
        assert_eq!(*rooms.get(&"a").unwrap(), 2);
        drop(old);
        assert_eq!(rooms.all()[0].2, 1);
        drop(new);
        assert_eq!(rooms.all()[0].2, 0);
    }
}
