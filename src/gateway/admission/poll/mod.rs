//! Long-poll sessions: a client that asks again and again keeps one seat, at one backend, for as long as it does.
//!
//! [`table`] knows which session a client's key has. What polls on all threads share of it is [`held`], and the [`keeper`] of the thread
//! where it began owns its seat and its place among the sessions. When it is over is decided by `core::poll`. How a poll goes is in
//! `http::poll`.

pub(crate) mod held;
pub(crate) mod keeper;
pub(crate) mod table;
