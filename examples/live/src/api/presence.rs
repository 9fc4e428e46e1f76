//! How many are in each room, over all nodes: what each node last said, for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// A node that was not heard of for this long counts no more: five of its reports were missed.
const KEPT: Duration = Duration::from_secs(10);

/// The most nodes, so that names that somebody makes up fill nothing.
const NODES_MAX: usize = 10_000;

/// What the nodes said.
#[derive(Default)]
pub(crate) struct Presence {
    nodes: BTreeMap<String, Said>,
}

struct Said {
    at: Instant,
    rooms: BTreeMap<String, u64>,
}

impl Presence {
    /// A node says who is with it, and hears the sums of its rooms.
    pub(crate) fn report(&mut self, node: &str, rooms: BTreeMap<String, u64>, now: Instant) -> BTreeMap<String, u64> {
        self.forget(now);
        let names: Vec<String> = rooms.keys().cloned().collect();
        if self.nodes.len() < NODES_MAX || self.nodes.contains_key(node) {
            self.nodes.insert(node.to_owned(), Said { at: now, rooms });
        }
        names.into_iter().map(|room| (room.clone(), self.sum(&room))).collect()
    }

    /// How many are in a room.
    pub(crate) fn of(&mut self, room: &str, now: Instant) -> u64 {
        self.forget(now);
        self.sum(room)
    }

    fn sum(&self, room: &str) -> u64 {
        self.nodes.values().filter_map(|said| said.rooms.get(room)).fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn forget(&mut self, now: Instant) {
        self.nodes.retain(|_, said| now.duration_since(said.at) < KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
        of.iter().map(|(room, n)| ((*room).to_owned(), *n)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_is_the_sum_over_the_nodes_that_are_heard_of() {
        let (mut presence, start) = (Presence::default(), super::super::now());
        assert_eq!(presence.report("n-1", rooms(&[("a", 3), ("b", 1)]), start), rooms(&[("a", 3), ("b", 1)]));
        let later = start + KEPT / 2;
        assert_eq!(presence.report("n-2", rooms(&[("a", 4)]), later), rooms(&[("a", 7)]));
        assert_eq!(presence.report("n-2", rooms(&[("a", 5)]), later), rooms(&[("a", 8)]), "the newest report counts");
        assert_eq!((presence.of("b", later), presence.of("c", later)), (1, 0));
        assert_eq!(presence.of("a", start + KEPT), 5, "n-1 was not heard of");
    }
}
