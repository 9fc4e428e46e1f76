//! The client's socket while nobody reads it: seen to its end without taking a byte.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How often a client that sent early bytes is looked at: its socket stays readable, so its end wakes nobody.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Keepalive probes that may go unanswered.
const KEEPALIVE_PROBES: u32 = 3;

/// Bytes that the kernel keeps unsent for a session: more would only hide that the peer does not read.
const NOTSENT_MAX_BYTES: u32 = 16 << 10;

/// Resolves when the client closed, half-closed or reset its connection. Early bytes stay in the kernel.
pub(crate) async fn client_gone(client: &TcpStream) {
    let mut byte = [0; 1];
    // An error of `peek` is the connection's own.
    if let Ok(1..) = client.peek(&mut byte).await {
        while !hung_up(client) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn hung_up(client: &TcpStream) -> bool {
    let ends = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let mut fds = [PollFd::new(client, ends)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..)) && fds[0].revents().intersects(ends)
}

/// What every session's socket has: no delay, a small unsent queue, and kernel probes that find half-open peers. Not
/// TCP_USER_TIMEOUT, which kills peers that are alive and slow.
///
/// # Errors
/// The kernel's; the socket is dead then.
pub(crate) fn prepare(socket: &TcpStream, keepalive: Option<Duration>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let raw = SockRef::from(socket);
    raw.set_tcp_notsent_lowat(NOTSENT_MAX_BYTES)?;
    if let Some(idle) = keepalive {
        let interval = (idle / KEEPALIVE_PROBES).max(Duration::from_secs(1));
        let probes = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(KEEPALIVE_PROBES);
        raw.set_tcp_keepalive(&probes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn an_end_is_seen_and_no_byte_is_taken() {
        let (client, seen) = pair().await;
        prepare(&seen, Some(Duration::from_secs(60))).unwrap();
        let mut gone = Box::pin(client_gone(&seen));
        assert!(futures_util::poll!(&mut gone).is_pending());
        drop(client);
        gone.await;
    }

    #[tokio::test]
    async fn an_end_behind_early_bytes_is_seen() {
        let (mut client, seen) = pair().await;
        client.write_all(b"early").await.unwrap();
        seen.readable().await.unwrap();
        let mut gone = Box::pin(client_gone(&seen));
        assert!(futures_util::poll!(&mut gone).is_pending());
        drop(client);
        gone.await;
        let mut left = [0; 8];
        assert_eq!(seen.try_read(&mut left).unwrap(), 5);
    }
}
