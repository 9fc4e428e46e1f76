//! A client of the protocol, with the recovery rules of the page's (`web/live.js`): loads a room, follows it over one of three transports, loses its connection,
//! comes back, and recovers what it missed as the room says.
//!
//! What it decides is pure: [`Replica`] knows what to apply and what to ask for, [`Backoff`] how long to wait. [`Follower`] does what they say.

mod api;
mod backoff;
mod follower;
mod replica;
mod transport;

pub use api::{Api, ApiError, Change, Mutation, Problem};
pub use backoff::Backoff;
pub use follower::{Event, Follower, Way};
pub use replica::{Replica, Want};
pub use transport::{End, Hello, How, Transport};

#[cfg(test)]
mod tests;
