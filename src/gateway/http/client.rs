//! Detects the end of a client's connection without reading from it.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::TcpStream;

/// How often a client that sent early bytes is looked at: its socket stays readable, so its end wakes nobody.
const LOOK_EVERY: Duration = Duration::from_millis(100);

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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
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
        let mut gone = Box::pin(client_gone(&seen));
        assert!((&mut gone).now_or_never().is_none());
        drop(client);
        gone.await;
    }

    #[tokio::test]
    async fn an_end_behind_early_bytes_is_seen() {
        let (mut client, seen) = pair().await;
        client.write_all(b"early").await.unwrap();
        seen.readable().await.unwrap();
        let mut gone = Box::pin(client_gone(&seen));
        assert!((&mut gone).now_or_never().is_none());
        drop(client);
        gone.await;
        let mut left = [0; 8];
        assert_eq!(seen.try_read(&mut left).unwrap(), 5);
    }
}
