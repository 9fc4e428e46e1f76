//! Connections with backends: dialled for a session, or kept for plain requests.

pub(crate) mod checked;
pub(crate) mod dial;
pub(crate) mod exchange;
pub(crate) mod interims;
pub(crate) mod pool;
pub(crate) mod request_body;
