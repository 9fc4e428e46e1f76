//! A backend's answer to a handshake that became no session: its body, as it is, a piece at a time.

use std::io;

use holdline_core::policy::Timeouts;
use holdline_core::wire::head::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::client_gone;
use crate::clock;
use crate::gateway::session::reframe::{End, ROOM_AFTER, ROOM_BEFORE, Reframe};
use crate::net::socket::Socket;

/// Held at once, whatever the body's length.
const PIECE_MAX: usize = 16 << 10;

/// Copies the body from `backend` to `client`; `early` was read behind the head. `chunked`: how the client gets it, if its length is
/// not known.
///
/// # Errors
/// A side went away, broke the coding or passed a deadline: what the client has is not whole.
pub(crate) async fn body(
    backend: &mut Socket,
    client: &mut Socket,
    early: &[u8],
    body: Body,
    chunked: bool,
    timeouts: &Timeouts,
) -> io::Result<()> {
    let mut body = Reframe::new(body, chunked, false);
    let mut buffer = vec![0; ROOM_BEFORE + early.len().max(PIECE_MAX) + ROOM_AFTER];
    buffer[ROOM_BEFORE..][..early.len()].copy_from_slice(early);
    let mut filled = early.len();
    loop {
        let taken = body.take(&mut buffer, ROOM_BEFORE..ROOM_BEFORE + filled);
        write(client, &buffer[taken.out], timeouts).await?;
        match taken.end {
            None => {}
            Some(End::Complete) => return write(client, body.last(), timeouts).await,
            Some(End::Broken | End::Left) => return Err(io::ErrorKind::InvalidData.into()),
        }
        filled = tokio::select! {
            filled = read(backend, &mut buffer[ROOM_BEFORE..][..PIECE_MAX], timeouts) => filled?,
            () = client_gone(client.tcp()) => return Err(io::ErrorKind::ConnectionAborted.into()),
        };
        if filled == 0 {
            return match body.ends_with_connection() {
                true => write(client, body.last(), timeouts).await,
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
    }
}

async fn read(backend: &mut Socket, piece: &mut [u8], timeouts: &Timeouts) -> io::Result<usize> {
    match timeouts.idle {
        Some(idle) => clock::timeout(idle, backend.read(piece)).await?,
        None => backend.read(piece).await,
    }
}

async fn write(client: &mut Socket, bytes: &[u8], timeouts: &Timeouts) -> io::Result<()> {
    clock::timeout(timeouts.write, client.write_all(bytes)).await?
}
