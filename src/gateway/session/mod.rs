//! Sessions from their opening to their end: the tunnel of a WebSocket, event streams, and what a thread knows of each.

pub mod kind;
pub mod orders;
mod pump;
pub(crate) mod reframe;
pub mod registry;
pub(crate) mod seat;
pub mod side;
pub mod stream;
pub mod target;
pub mod timer;
pub mod tunnel;
