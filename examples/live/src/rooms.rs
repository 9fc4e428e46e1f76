//! Rooms: whatever one member says, all hear.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Mutex, broadcast};

/// Messages a slow member may lag behind before it misses some; 64 of at most [`MESSAGE_MAX`] bytes bound the memory of a room.
const BACKLOG: usize = 64;

/// The most rooms at once, so that clients' names cannot fill the memory.
const ROOMS_MAX: usize = 1000;

/// The longest message, in bytes.
pub(crate) const MESSAGE_MAX: usize = 4096;

/// All rooms that have members.
#[derive(Clone, Default)]
pub(crate) struct Rooms {
    rooms: Arc<Mutex<HashMap<String, broadcast::Sender<Arc<str>>>>>,
}

impl Rooms {
    /// The room's channel; `None` when there are too many rooms.
    pub(crate) async fn join(&self, name: &str) -> Option<(broadcast::Sender<Arc<str>>, broadcast::Receiver<Arc<str>>)> {
        let mut rooms = self.rooms.lock().await;
        if !rooms.contains_key(name) && rooms.len() >= ROOMS_MAX {
            rooms.retain(|_, room| room.receiver_count() > 0);
            if rooms.len() >= ROOMS_MAX {
                return None;
            }
        }
        let room = rooms.entry(name.to_owned()).or_insert_with(|| broadcast::Sender::new(BACKLOG));
        Some((room.clone(), room.subscribe()))
    }
}
