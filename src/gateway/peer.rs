//! Who is at the other end of a client's connection.

use std::net::SocketAddr;

/// What is known of the client behind a connection, before its first head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Where it connects from; behind a proxy that sends PROXY headers, as that one says.
    pub(crate) address: SocketAddr,
    /// Where it connected to, as the same one says.
    pub(crate) local: SocketAddr,
    /// It speaks TLS.
    pub(crate) is_tls: bool,
    /// A proxy made the connection for somebody of whom it says nothing: `address` is the proxy's, and what is sent is not.
    pub(crate) is_unknown: bool,
}

impl Peer {
    /// The scheme of its requests, as backends are told.
    pub(crate) fn proto(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }
}
