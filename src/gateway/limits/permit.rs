//! What a connection and a session count for while they are there, and whether one more session may begin, before it is asked whether a
//! backend takes it: what this process can hold, and what the client's address may.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdline_core::cause::RefuseCause;

use super::addresses::{AddressPermit, Addresses};
use super::descriptors::{ClientSlot, Descriptors, SessionSlot};
use crate::clock::Clock;
use crate::gateway::refuse::Refusal;

/// A client's connection, counted: among the process's descriptors and on its thread.
pub(crate) struct ConnectionPermit {
    _slot: ClientSlot,
    /// Once it is a session.
    _session_permit: Option<SessionPermit>,
    connections: Arc<AtomicUsize>,
}

impl ConnectionPermit {
    /// `connections`: of its thread.
    pub(crate) fn new(slot: ClientSlot, connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        ConnectionPermit { _slot: slot, _session_permit: None, connections: Arc::clone(connections) }
    }

    /// That of a session, which is counted as one besides.
    pub(crate) fn of_session(mut self, session_permit: SessionPermit) -> Box<Self> {
        self._session_permit = Some(session_permit);
        Box::new(self)
    }

    /// Of a client on no thread.
    #[cfg(test)]
    pub(crate) fn alone() -> Box<Self> {
        Box::new(ConnectionPermit::new(Descriptors::within(8).client(), &Arc::default()))
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a session counts for: dropping it gives it back.
pub(crate) struct SessionPermit {
    _slot: SessionSlot,
    _place: AddressPermit,
}

impl SessionPermit {
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
    ) -> Result<SessionPermit, Refusal> {
        if !addresses.begin(client, clock) {
            return Err(Refusal::LIMITED);
        }
        if is_short_of_memory {
            return Err(Refusal::busy(RefuseCause::Limit));
        }
        let place = addresses.place(client).ok_or(Refusal::LIMITED)?;
        let slot = descriptors.session().ok_or(Refusal::busy(RefuseCause::Limit))?;
        Ok(SessionPermit { _slot: slot, _place: place })
    }

    /// Where nothing is short.
    #[cfg(test)]
    pub(crate) fn alone() -> Self {
        let slot = Descriptors::within(8).session();
        let place = Addresses::default().place(([127, 0, 0, 1], 1).into());
        slot.zip(place).map(|(slot, place)| SessionPermit { _slot: slot, _place: place }).unwrap()
    }
}
