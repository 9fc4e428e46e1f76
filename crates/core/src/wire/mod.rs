//! Bytes: what the standards say about heads, frames and tokens. Parsers are small state machines fed any split.
//!
//! A session's handshake runs through here: [`handshake::classify`] the client's head, [`forward::request`] it to the
//! backend, [`head::parse`] the answer, check a 101 with [`handshake::check_switch`], and [`forward::reply`] to the client.
//! Then [`ws`] follows a WebSocket's frames, [`chunk`] and [`sse`] an event stream. What hyper parses goes past [`guard`] first.
//! [`proxy`] and [`forwarded`] say who the client is when proxies stand before us.

pub mod chunk;
pub mod close;
pub mod fields;
pub mod forward;
pub mod forwarded;
pub mod guard;
pub mod handshake;
pub mod head;
pub mod proxy;
pub mod sse;
pub mod token;
pub mod ws;
