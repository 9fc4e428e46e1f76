//! Connections below HTTP, for the data plane and for probes: sockets and their options, TLS, and dialling.

mod connect;
pub(crate) mod options;
pub mod scratch;
pub mod socket;
pub mod tls;

pub(crate) use self::connect::{connect, is_ours};
