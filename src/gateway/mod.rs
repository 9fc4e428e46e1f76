//! The data plane: holds client connections, knows how many sessions each backend has, queues before it refuses.

mod admission;
mod client;
mod descriptors;
mod error;
mod fleets;
mod listener;
pub mod orders;
pub mod registry;
mod route;
pub mod scratch;
pub mod session;
pub mod timer;
pub mod tunnel;
