//! Connections of clients, from the accept to their first request.

pub(crate) mod connection;
pub(crate) mod doors;
pub(crate) mod proxied;
