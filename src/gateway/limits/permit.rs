//! What a connection and a session count for while they are there, and whether one more session may begin, before it is asked whether a
//! backend takes it: what this process can hold, and what the client's address may.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdline_core::cause::RefuseCause;

use super::addresses::{Addresses, Place};
use super::descriptors::{ClientSlot, Descriptors, SessionSlot};
use crate::clock::Clock;
use crate::gateway::refuse::Refusal;

/// A client's connection, counted: among the process's descriptors and on its thread.
pub(crate) struct Stay {
    _slot: ClientSlot,
    /// Once it is a session.
    _room: Option<Room>,
    connections: Arc<AtomicUsize>,
}

impl Stay {
    /// `connections`: of its thread.
    pub(crate) fn new(slot: ClientSlot, connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Stay { _slot: slot, _room: None, connections: Arc::clone(connections) }
    }

    /// The stay of a session, which is counted as one besides.
    pub(crate) fn of_session(mut self, room: Room) -> Box<Self> {
        self._room = Some(room);
        Box::new(self)
    }

    /// Of a client on no thread.
    #[cfg(test)]
    pub(crate) fn alone() -> Box<Self> {
        Box::new(Stay::new(Descriptors::within(8).client(), &Arc::default()))
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A session's room. Dropping it gives it back.
pub(crate) struct Room {
    _slot: SessionSlot,
    _place: Place,
}

impl Room {
    /// For a session of `client`, counted as one that began.
    ///
    /// # Errors
    /// The address begins or holds as many as it may (429); this process has no memory or descriptors for another (503).
    pub(crate) fn take(
        addresses: &Addresses,
        descriptors: &Arc<Descriptors>,
        is_short_of_memory: bool,
        client: SocketAddr,
        clock: Clock,
    ) -> Result<Room, Refusal> {
        if !addresses.begin(client, clock) {
            return Err(Refusal::LIMITED);
        }
        if is_short_of_memory {
            return Err(Refusal::busy(RefuseCause::Limit));
        }
        let place = addresses.place(client).ok_or(Refusal::LIMITED)?;
        let slot = descriptors.session().ok_or(Refusal::busy(RefuseCause::Limit))?;
        Ok(Room { _slot: slot, _place: place })
    }

    /// Where there is room enough.
    #[cfg(test)]
    pub(crate) fn alone() -> Self {
        let slot = Descriptors::within(8).session();
        let place = Addresses::default().place(([127, 0, 0, 1], 1).into());
        slot.zip(place).map(|(slot, place)| Room { _slot: slot, _place: place }).unwrap()
    }
}
