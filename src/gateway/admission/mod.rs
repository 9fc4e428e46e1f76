//! Fleets and their backends as the data plane knows them, and who gets a seat.

pub(crate) mod admit;
pub(crate) mod affinity;
pub(crate) mod backend;
pub(crate) mod fleet;
pub(crate) mod handshake;
pub(crate) mod poll;
pub(crate) mod waiter;
