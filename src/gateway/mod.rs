//! The data plane.

mod admission;
mod client;
mod descriptors;
mod error;
mod fleets;
mod listener;
mod route;
