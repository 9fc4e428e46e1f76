//! The data plane over real sockets on loopback.

mod admission;
mod plain;
mod sessions;
mod storm;
mod support;
