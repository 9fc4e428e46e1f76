//! What the tasks of a data thread share.

pub(crate) mod listener;
pub(crate) mod route;
pub(crate) mod served;
pub(crate) mod thread;
