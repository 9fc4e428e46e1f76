//! The data plane over real sockets on loopback.

mod admission;
mod affinity;
mod leaving;
mod long_poll;
mod plain;
mod sessions;
mod shutdown;
mod storm;
pub(super) mod support;
mod threads;
mod unasked;
