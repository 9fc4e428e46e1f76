//! The data plane.

pub mod orders;
pub mod registry;
pub mod scratch;
pub mod session;
pub mod stream;
pub mod timer;
pub mod tunnel;
