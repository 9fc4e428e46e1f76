//! The rooms that somebody listens to, and who brings them what: the queue its deltas, the api the state that they begin with.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::cursor::{Cursor, Heard};
use super::lingering::{Lingering, Stay};
use super::room::{Applied, Refusal, Room};
use super::upstream::{Api, Presence};
use crate::backoff::Backoff;
use crate::delta::Entry;
use crate::wall::is_name;

/// The most rooms at once: while the api is away, their names are what clients think of.
const ROOMS_MAX: usize = 10_000;

/// A room that nobody listens to any more is kept for so many sweeps, of a second each.
const ROOM_SWEEPS: u32 = 60;

/// How long a client waits at most for the api's word on its room before its session begins.
const WORD_WITHIN: Duration = Duration::from_secs(2);

/// Deltas that a client is given at once: few, for they cannot be let go of while it does not read.
const AT_ONCE: usize = 16;

/// All rooms of a node.
pub(crate) struct Hub {
    api: Arc<dyn Api>,
    rooms: Arc<Lingering<String, Shared>>,
}

/// A room that tells those who listen of every change.
type Shared = watch::Sender<Room>;

/// Somebody's place in a room, who counts as present until it is dropped.
pub(crate) type Member = Stay<String, Shared>;

impl Hub {
    pub(crate) fn new(api: Arc<dyn Api>) -> Arc<Hub> {
        Arc::new(Hub { api, rooms: Lingering::new(ROOMS_MAX, ROOM_SWEEPS) })
    }

    /// A place in a room, which is made if it is not here.
    ///
    /// # Errors
    /// No room can have this name, or there are too many.
    pub(crate) fn enter(&self, name: &str) -> Result<Member, Refusal> {
        if !is_name(name) {
            return Err(Refusal::BadName);
        }
        self.rooms.enter(&name.to_owned(), || Shared::new(Room::new())).ok_or(Refusal::TooManyRooms)
    }

    /// Listens, for somebody who has the deltas up to `after`; without it, for those from now on. It waits for the api's word, but not if the api
    /// is not there, nor longer than [`WORD_WITHIN`]: then the session begins, and hears `hello` once the word has come.
    ///
    /// # Errors
    /// There is no such room, or no such delta yet.
    pub(crate) async fn listen(self: &Arc<Self>, member: Arc<Member>, after: Option<u64>) -> Result<Listener, Refusal> {
        let room = member.value();
        let cursor = Cursor::new(after, &room.borrow());
        let is_asked = |room: &Room| after.is_none() && room.is_loading();
        let is_open = cursor.verdict(&room.borrow()).is_none() && !is_asked(&room.borrow());
        if is_open {
            self.want(member.name(), room);
        }
        let mut listener = Listener { changes: room.subscribe(), cursor, member };
        let word = listener.changes.wait_for(|room| room.is_unreachable() || listener.cursor.verdict(room).is_some());
        let verdict = match tokio::time::timeout(WORD_WITHIN, word).await {
            Ok(Ok(room)) => listener.cursor.verdict(&room),
            _ => None,
        };
        verdict.unwrap_or(Ok(())).map(|()| listener)
    }

    /// Takes a delta from the queue.
    pub(crate) fn apply(self: &Arc<Self>, entry: &Entry) {
        let Some(room) = self.rooms.get(&entry.room) else { return };
        let mut applied = Applied::Duplicate;
        room.send_if_modified(|room| {
            applied = room.apply(&entry.delta);
            applied == Applied::Next
        });
        if applied == Applied::Gap {
            self.want(&entry.room, &room);
        }
    }

    /// All rooms are asked for: deltas may have passed that nobody here heard.
    pub(crate) fn reload(self: &Arc<Self>) {
        for (name, room, _) in self.rooms.all() {
            self.want(&name, &room);
        }
    }

    /// Who is here; rooms that nobody listens to any more too, for somebody may come back and wants to know who is elsewhere.
    pub(crate) fn present(&self) -> Presence {
        Presence { rooms: self.rooms.all().into_iter().map(|(name, _, members)| (name, members)).collect() }
    }

    /// Who is anywhere.
    pub(crate) fn set_presence(&self, sums: &Presence) {
        for (name, room, _) in self.rooms.all() {
            let presence = sums.rooms.get(&name).copied().unwrap_or_default();
            room.send_if_modified(|room| room.set_presence(presence));
        }
    }

    /// How many rooms there are.
    pub(crate) fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// To be called every second: lets go of rooms that nobody listens to.
    pub(crate) fn sweep(&self) {
        self.rooms.sweep();
    }

    fn want(self: &Arc<Self>, name: &str, room: &Arc<Shared>) {
        let mut is_first = false;
        room.send_if_modified(|room| {
            is_first = room.want();
            false
        });
        if is_first {
            tokio::spawn(Arc::clone(self).load(name.to_owned(), Arc::clone(room)));
        }
    }

    /// Asks until all is known that was wanted, or nobody wants it any more.
    async fn load(self: Arc<Self>, name: String, room: Arc<Shared>) {
        let mut pauses = Backoff::from_os();
        while self.rooms.get(&name).is_some_and(|listed| Arc::ptr_eq(&listed, &room)) {
            let have = room.borrow().seq();
            match self.api.load(&name, have).await {
                Ok(Some(loaded)) => {
                    let mut again = false;
                    room.send_modify(|room| again = room.loaded(loaded));
                    if !again {
                        return;
                    }
                }
                Ok(None) => {
                    // Whoever comes next asks again: it may be made meanwhile.
                    self.rooms.forget(&name, &room);
                    room.send_modify(Room::unknown);
                    return;
                }
                Err(_) => {
                    room.send_if_modified(Room::unreachable);
                }
            }
            tokio::time::sleep(pauses.next()).await;
        }
    }
}

/// A client in a room.
pub(crate) struct Listener {
    changes: watch::Receiver<Room>,
    cursor: Cursor,
    member: Arc<Member>,
}

impl Listener {
    /// What the client hears next. Nothing is lost if this is dropped before it is ready.
    pub(crate) async fn next(&mut self) -> Heard {
        self.next_of(AT_ONCE).await
    }

    /// The same with at most `most` deltas.
    pub(crate) async fn next_of(&mut self, most: usize) -> Heard {
        loop {
            if let Some(heard) = self.cursor.next(&self.changes.borrow_and_update(), most) {
                return heard;
            }
            // The member holds the room, so it does not end.
            let _ = self.changes.changed().await;
        }
    }

    /// The room's name.
    pub(crate) fn name(&self) -> &str {
        self.member.name()
    }

    /// The room's newest delta, and who is there.
    pub(crate) fn room(&self) -> (u64, u64) {
        let room = self.changes.borrow();
        (room.seq(), room.presence())
    }
}
