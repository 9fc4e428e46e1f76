//! Whether one more session may begin here, before it is asked whether a backend takes it: what this process can hold, and what the
//! client's address may.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use holdline_core::cause::RefuseCause;

use super::addresses::Place;
use super::descriptors::SessionSlot;
use crate::gateway::context::thread::Shared;
use crate::gateway::refuse::Refusal;

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
    pub(crate) fn take(shared: &Shared, client: SocketAddr) -> Result<Room, Refusal> {
        let served = shared.served.load();
        if !served.addresses.begin(client, shared.clock) {
            return Err(Refusal::LIMITED);
        }
        if shared.is_short_of_memory.load(Ordering::Relaxed) {
            return Err(Refusal::busy(RefuseCause::Limit));
        }
        let place = served.addresses.place(client).ok_or(Refusal::LIMITED)?;
        let slot = shared.descriptors.session().ok_or(Refusal::busy(RefuseCause::Limit))?;
        Ok(Room { _slot: slot, _place: place })
    }

    /// Where there is room enough.
    #[cfg(test)]
    pub(crate) fn alone() -> Self {
        let slot = super::descriptors::Descriptors::within(8).session();
        let place = super::addresses::Addresses::default().place(([127, 0, 0, 1], 1).into());
        slot.zip(place).map(|(slot, place)| Room { _slot: slot, _place: place }).unwrap()
    }
}
