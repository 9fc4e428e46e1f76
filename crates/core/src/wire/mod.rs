//! Bytes: what the standards say about heads, frames and tokens. Parsers are small state machines fed any split.

pub mod close;
pub mod ws;
