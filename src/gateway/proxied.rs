//! Connections that begin with a PROXY header: it is read before anything else, and not a byte more.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use holdline_core::wire::forwarded::Trusted;
use holdline_core::wire::proxy::{BadHeader, Fed, Reader, Source};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::socket::Peer;
use super::thread::{Stay, Thread, begin};
use crate::config::model::Listener;

/// What is looked at of the kernel's buffer at once. Nearly all headers are shorter.
const PIECE: usize = 128;

/// Why a connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
enum Rejected {
    #[error("it does not come from a trusted network; see `trusted`")]
    Untrusted,
    #[error(transparent)]
    Header(#[from] BadHeader),
    #[error("it ends within the PROXY header: {0}")]
    Torn(io::Error),
    #[error("the PROXY header does not come in time")]
    Late,
}

/// Reads the header of an accepted connection within `limits.head_timeout`, then serves it.
pub(super) async fn serve(thread: Rc<Thread>, mut socket: TcpStream, peer: Peer, listener: Arc<Listener>, stay: Stay) {
    let served = thread.shared.served.load_full();
    let heard = tokio::select! {
        heard = tokio::time::timeout(served.limits.head_timeout, hear(&mut socket, peer, &served.trusted)) => heard,
        () = thread.stopping() => return,
    };
    match heard.unwrap_or(Err(Rejected::Late)) {
        Ok(Some(peer)) => begin(&thread, socket, peer, &listener, stay),
        // Whoever only knocks, as health checks do, is as welcome as elsewhere.
        Ok(None) => {}
        Err(rejected) => {
            tracing::debug!(peer = %peer.address, reason = %rejected, "a connection is closed before its first request");
            thread.shared.metrics.bad_input("proxy_protocol");
        }
    }
}

/// The peer as the header tells it; `None`: the connection ended before its first byte.
async fn hear(socket: &mut TcpStream, peer: Peer, trusted: &Trusted) -> Result<Option<Peer>, Rejected> {
    let mut reader = Reader::default();
    let mut piece = [0; PIECE];
    loop {
        // What is behind the header must stay where TLS or HTTP will read it.
        let seen = match socket.peek(&mut piece).await {
            Ok(0) | Err(_) if !reader.has_begun() => return Ok(None),
            Ok(0) => return Err(Rejected::Torn(io::ErrorKind::UnexpectedEof.into())),
            Ok(seen) => seen,
            Err(error) => return Err(Rejected::Torn(error)),
        };
        if !trusted.contains(peer.address.ip()) {
            return Err(Rejected::Untrusted);
        }
        let (own, source) = match reader.feed(&piece[..seen])? {
            Fed::More => (seen, None),
            Fed::End(own, source) => (own, Some(source)),
        };
        socket.read_exact(&mut piece[..own]).await.map_err(Rejected::Torn)?;
        if let Some(source) = source {
            return Ok(Some(told(peer, source)));
        }
    }
}

fn told(peer: Peer, source: Source) -> Peer {
    match source {
        Source::Proxy => peer,
        Source::Unknown => Peer { is_unknown: true, ..peer },
        Source::Client { from, to } => Peer { address: from, local: to, ..peer },
    }
}
