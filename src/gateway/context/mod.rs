//! What the tasks of a data thread share.

pub(crate) mod adoption;
pub(crate) mod listener;
pub(crate) mod route;
pub(crate) mod served;
pub(crate) mod shared;
pub(crate) mod thread;
