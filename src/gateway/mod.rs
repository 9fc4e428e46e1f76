//! The data plane.

pub mod orders;
mod pump;
pub mod registry;
pub mod scratch;
pub mod session;
pub mod side;
pub mod stream;
pub mod timer;
pub mod tunnel;
