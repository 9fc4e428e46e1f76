//! The head exchange with a session's backend: ours, because hyper's client reads into the body and keeps the chunk state.

use std::io;
use std::time::Duration;

use holdline_core::wire::head::{self, HEAD_MAX, HeadError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;

use super::interims::Interims;
use crate::gateway::session::seat::SeatGuard;
use crate::net::socket::Socket;
use crate::net::socket::Transport;

/// Interim responses before the answer; more are a way to keep us busy.
const INTERIMS_MAX: u32 = 8;

/// How long a backend has to end its side after ours; then we reset it.
const FAREWELL: Duration = Duration::from_secs(5);

/// Most answers to a handshake fit.
const READ_AT_ONCE: usize = 2 << 10;

/// A connected backend and the seat that goes with it. Dropped on the way (the client left, a deadline passed), it gives the seat
/// back only when the backend's end was seen, because until then the backend may count a session.
pub(crate) struct Upstream {
    inner: Option<(Socket, SeatGuard)>,
}

/// Why a backend gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// It went away.
    #[error("the backend went away before its answer: {0}")]
    Lost(#[source] io::Error),
    /// It broke the protocol.
    #[error(transparent)]
    Invalid(HeadError),
    /// It sent interim responses without end.
    #[error("the backend sent more than {INTERIMS_MAX} interim responses")]
    Endless,
}

impl Upstream {
    pub(crate) fn new(stream: Socket, seat: SeatGuard) -> Self {
        Upstream { inner: Some((stream, seat)) }
    }

    /// Both, for a new owner.
    pub(crate) fn into_parts(mut self) -> Option<(Socket, SeatGuard)> {
        self.inner.take()
    }

    /// Sends `request` and reads until a whole head that is not interim has come; those that are go to `passed`. Returns all that was read
    /// from that head on.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub(crate) async fn exchange(&mut self, request: &[u8], passed: Option<&Interims>) -> Result<Vec<u8>, ExchangeError> {
        let Some((stream, _)) = &mut self.inner else { return Err(lost(io::ErrorKind::NotConnected)) };
        stream.write_all(request).await.map_err(ExchangeError::Lost)?;
        let mut read = Vec::with_capacity(READ_AT_ONCE);
        let mut interims = 0;
        loop {
            while let Some(head) = head::parse(&read).map_err(ExchangeError::Invalid)? {
                if !head.is_interim() {
                    return Ok(read);
                }
                interims += 1;
                if interims > INTERIMS_MAX {
                    return Err(ExchangeError::Endless);
                }
                if let Some(passed) = passed {
                    passed.push(&head);
                }
                let len = head.len;
                read.drain(..len);
            }
            read.reserve(READ_AT_ONCE);
            debug_assert!(read.len() <= HEAD_MAX + READ_AT_ONCE, "the parser bounds what it waits for");
            if stream.read_buf(&mut read).await.map_err(ExchangeError::Lost)? == 0 {
                return Err(lost(io::ErrorKind::UnexpectedEof));
            }
        }
    }
}

fn lost(kind: io::ErrorKind) -> ExchangeError {
    ExchangeError::Lost(kind.into())
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some((stream, seat)) = self.inner.take() {
            spawn_local(part(stream, seat));
        }
    }
}

/// Ends our side, waits for the backend's end, then gives the seat back.
async fn part(mut stream: Socket, seat: SeatGuard) {
    if tokio::time::timeout(FAREWELL, end(&mut stream)).await.is_err() {
        reset(&stream);
    }
    drop(stream);
    drop(seat);
}

/// Ends our side, and reads and forgets until the peer's end.
async fn end(stream: &mut Socket) {
    // Over TLS it waits for a peer that does not read. If it fails, the connection is gone, which the read shows.
    let _ = stream.shutdown().await;
    // A plain array in the future would make every task as large; this one lives for a moment.
    let mut sink = vec![0; 4 << 10];
    while matches!(stream.read(&mut sink).await, Ok(1..)) {}
}

/// Makes the coming close a reset: the peer is not to wait for us any more.
pub(crate) fn reset(stream: &Socket) {
    stream.reset_on_close();
}

/// Closes a client's connection after our last words: reads on until its end, within bounds, since a close with unread bytes is a
/// reset that may destroy what we said (RFC 9112 9.6).
pub(crate) async fn close_lingering(mut stream: Socket) {
    const LINGER: Duration = Duration::from_secs(2);
    let _ = tokio::time::timeout(LINGER, end(&mut stream)).await;
}
