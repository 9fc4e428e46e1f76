//! Who is at the other end of a client's connection.

use std::net::SocketAddr;

use tokio::net::TcpStream;

/// What is known of the client behind a connection, before its first head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Where it connects from; behind a proxy that sends PROXY headers, as that one says.
    pub(crate) address: SocketAddr,
    /// Where it connected to, as the same one says; `None`: as the socket says, which is asked when somebody wants to know.
    pub(crate) local: Option<SocketAddr>,
    /// It speaks TLS.
    pub(crate) is_tls: bool,
    /// A proxy made the connection for a client that it does not name: `address` is the proxy's, the data is the client's.
    pub(crate) is_unknown: bool,
}

impl Peer {
    /// The same with where it connected to, if `socket` knows that.
    pub(crate) fn located(self, socket: &TcpStream) -> Peer {
        Peer { local: self.local.or_else(|| socket.local_addr().ok()), ..self }
    }

    /// The scheme of its requests, for `X-Forwarded-Proto`.
    pub(crate) fn proto(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }
}
