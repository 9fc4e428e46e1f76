//! Rooms: whatever one member says, all hear.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Mutex, broadcast};

/// Messages a slow member may lag behind before it misses some; 64 of at most [`MESSAGE_MAX`] bytes bound the memory of a room.
const BACKLOG: usize = 64;

/// The most rooms at once, so that the names clients think of cannot fill the memory.
const ROOMS_MAX: usize = 1000;

/// The longest name of a room, in bytes.
pub(crate) const NAME_MAX: usize = 64;

/// The longest message, in bytes.
pub(crate) const MESSAGE_MAX: usize = 4096;

/// All rooms that have members.
#[derive(Clone, Default)]
pub(crate) struct Rooms {
    rooms: Arc<Mutex<HashMap<String, Say>>>,
}

/// What a member says with.
pub(crate) type Say = broadcast::Sender<Arc<str>>;

/// What a member hears with.
pub(crate) type Hear = broadcast::Receiver<Arc<str>>;

/// Why somebody cannot join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// The name is longer than [`NAME_MAX`].
    LongName,
    /// There are [`ROOMS_MAX`] with members in them.
    TooMany,
}

impl Rooms {
    /// The room's channel.
    pub(crate) async fn join(&self, name: &str) -> Result<(Say, Hear), NoRoom> {
        if name.len() > NAME_MAX {
            return Err(NoRoom::LongName);
        }
        let mut rooms = self.rooms.lock().await;
        if !rooms.contains_key(name) && rooms.len() >= ROOMS_MAX {
            rooms.retain(|_, room| room.receiver_count() > 0);
            if rooms.len() >= ROOMS_MAX {
                return Err(NoRoom::TooMany);
            }
        }
        let room = rooms.entry(name.to_owned()).or_insert_with(|| broadcast::Sender::new(BACKLOG));
        Ok((room.clone(), room.subscribe()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_of_a_room_hear_and_nobody_else() {
        let rooms = Rooms::default();
        let (say, mut here) = rooms.join("a").await.expect("room");
        let (_, mut too) = rooms.join("a").await.expect("room");
        let (_, mut elsewhere) = rooms.join("b").await.expect("room");
        say.send("hello".into()).expect("somebody hears");
        assert_eq!((&*here.recv().await.unwrap(), &*too.recv().await.unwrap()), ("hello", "hello"));
        assert!(elsewhere.try_recv().is_err());
    }

    #[tokio::test]
    async fn empty_rooms_make_place_for_new_ones_and_full_ones_do_not() {
        let rooms = Rooms::default();
        let mut members = Vec::new();
        for n in 0..ROOMS_MAX {
            members.push(rooms.join(&n.to_string()).await.expect("room"));
        }
        assert!(rooms.join("one more").await.err() == Some(NoRoom::TooMany));
        assert!(rooms.join("0").await.is_ok(), "those that are there may be joined still");
        members.pop();
        let _last = rooms.join("one more").await.expect("room");
        assert!(rooms.join("and another").await.err() == Some(NoRoom::TooMany));
    }

    #[tokio::test]
    async fn names_are_bounded() {
        let rooms = Rooms::default();
        assert!(rooms.join(&"x".repeat(NAME_MAX)).await.is_ok());
        assert_eq!(rooms.join(&"x".repeat(NAME_MAX + 1)).await.err(), Some(NoRoom::LongName));
    }
}
