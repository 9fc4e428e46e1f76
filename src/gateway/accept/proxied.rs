//! Connections that begin with a PROXY header: it is read before anything else, and not a byte more.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::wire::forwarded::Trusted;
use holdline_core::wire::proxy::{BadHeader, Fed, Reader, Source};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::connection;
use crate::clock;
use crate::config::model::Listener;
use crate::gateway::context::thread::Thread;
use crate::gateway::limits::permit::ConnectionPermit;
use crate::gateway::peer::Peer;

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
pub(crate) async fn serve(
    thread: Rc<Thread>,
    mut socket: TcpStream,
    peer: Peer,
    listener: Arc<Listener>,
    permit: ConnectionPermit,
) {
    let served = thread.shared.served.load_full();
    let heard = tokio::select! {
        heard = hear_within(served.limits.head_timeout, &mut socket, peer, &served.trusted) => heard,
        () = thread.stopping() => return,
    };
    match heard {
        Ok(Some(peer)) => connection::begin(&thread, socket, peer, &listener, permit),
        // Health checks only connect: that is no error here either.
        Ok(None) => {}
        Err(rejected) => {
            tracing::debug!(peer = %peer.address, reason = %rejected, "a connection is closed before its first request");
            thread.shared.metrics.bad_input("proxy_protocol");
        }
    }
}

/// The peer as the header tells it; `None`: the connection ended before its first byte.
async fn hear_within(limit: Duration, socket: &mut TcpStream, peer: Peer, trusted: &Trusted) -> Result<Option<Peer>, Rejected> {
    clock::timeout(limit, hear(socket, peer, trusted)).await.unwrap_or(Err(Rejected::Late))
}

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
        Source::Client { from, to } => Peer { address: from, local: Some(to), ..peer },
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::clock::Clock;

    const LIMIT: Duration = Duration::from_secs(10);

    /// What is heard of these bytes, and whether the connection goes on behind them; then what is left of them.
    async fn heard(sent: &[u8], ends: bool) -> (Result<Option<Peer>, Rejected>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut client, (mut socket, address)) = (client.unwrap(), accepted.unwrap());
        client.write_all(sent).await.unwrap();
        if ends {
            client.shutdown().await.unwrap();
        }
        let peer = Peer { address, local: socket.local_addr().ok(), is_tls: false, is_unknown: false };
        let heard = hear_within(LIMIT, &mut socket, peer, &Trusted::new(&["127.0.0.0/8".parse().unwrap()])).await;
        drop(client);
        let mut left = Vec::new();
        socket.read_to_end(&mut left).await.unwrap();
        (heard, left)
    }

    #[tokio::test]
    async fn not_a_byte_more_is_read() {
        let long =
            [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x02\0\xcb\0\x71\x09\xc6\x33\x64\x01\x12\x67\x01\xbb".as_slice(), &[7; 500]].concat();
        for header in [b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n".as_slice(), &long] {
            let (peer, left) = heard(&[header, b"GET / HTTP/1.1\r\n"].concat(), false).await;
            let Peer { address, local, is_unknown, .. } = peer.unwrap().unwrap();
            assert_eq!(
                (address.to_string().as_str(), local.unwrap().to_string().as_str()),
                ("203.0.113.9:4711", "198.51.100.1:443")
            );
            assert!(!is_unknown && left == b"GET / HTTP/1.1\r\n", "{left:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_without_a_byte_is_told_from_one_that_breaks_off() {
        assert!(matches!(heard(b"", true).await.0, Ok(None)));
        assert!(matches!(heard(b"PROXY", true).await.0, Err(Rejected::Torn(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn it_may_take_as_long_as_a_head_and_no_longer() {
        for sent in [b"".as_slice(), b"PROXY TCP4 "] {
            let clock = Clock::start();
            assert!(matches!(heard(sent, false).await.0, Err(Rejected::Late)));
            assert_eq!(clock.now().since_start(), LIMIT);
        }
    }
}
