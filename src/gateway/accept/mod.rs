//! Connections of clients, from the accept to their first request.

pub(crate) mod acceptor;
pub(crate) mod connection;
pub(crate) mod data_thread;
mod head_timer;
pub(crate) mod listeners;
pub(crate) mod proxied;
pub(crate) mod tasks;
