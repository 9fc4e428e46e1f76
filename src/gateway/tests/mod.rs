//! The data plane over real sockets on loopback.

mod admission;
mod affinity;
mod leaving;
mod long_poll;
mod messages;
mod plain;
mod sessions;
mod shutdown;
mod storm;
mod supervision;
pub(super) mod support;
mod threads;
mod unasked;
