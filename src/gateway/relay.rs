//! A backend's answer to a handshake that became no session: its body, as it is, a piece at a time.

use std::io;

use holdline_core::policy::Timeouts;
use holdline_core::wire::chunk::{self, Decoder, Piece};
use holdline_core::wire::head::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::client_gone;

/// Held at once, whatever the body's length.
const PIECE_MAX: usize = 16 << 10;

/// Copies the body from `backend` to `client`; `early` was read behind the head. `chunked`: how the client gets it, if its length is
/// not known.
///
/// # Errors
/// A side went away, broke the coding or passed a deadline: what the client has is not whole.
pub(super) async fn body(
    backend: &mut TcpStream,
    client: &mut TcpStream,
    early: &[u8],
    body: Body,
    chunked: bool,
    timeouts: &Timeouts,
) -> io::Result<()> {
    let mut rest = Rest::of(body);
    let mut input = early.to_vec();
    let mut output = Vec::new();
    loop {
        let ended = rest.take(&input, chunked, &mut output)?;
        if ended && chunked {
            output.extend_from_slice(chunk::LAST);
        }
        tokio::time::timeout(timeouts.write, client.write_all(&output)).await??;
        if ended {
            return Ok(());
        }
        input.clear();
        output.clear();
        input.reserve(PIECE_MAX);
        let read = async {
            match timeouts.idle {
                Some(idle) => tokio::time::timeout(idle, backend.read_buf(&mut input)).await?,
                None => backend.read_buf(&mut input).await,
            }
        };
        let read = tokio::select! {
            read = read => read?,
            () = client_gone(client) => return Err(io::ErrorKind::ConnectionAborted.into()),
        };
        if read == 0 {
            return rest.at_end(client, chunked, timeouts).await;
        }
    }
}

/// What is still to come of a body.
enum Rest {
    Length(u64),
    Chunked(Decoder),
    UntilClose,
}

impl Rest {
    fn of(body: Body) -> Self {
        match body {
            Body::None => Rest::Length(0),
            Body::Length(bytes) => Rest::Length(bytes),
            Body::Chunked => Rest::Chunked(Decoder::default()),
            Body::UntilClose => Rest::UntilClose,
        }
    }

    /// Moves the body's part of `input` to `output`. True: the body ended, whatever else is in `input`.
    fn take(&mut self, input: &[u8], chunked: bool, output: &mut Vec<u8>) -> io::Result<bool> {
        let put = |data: &[u8], output: &mut Vec<u8>| match chunked {
            true => chunk::encode(data, output),
            false => output.extend_from_slice(data),
        };
        match self {
            Rest::Length(left) => {
                let part = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                put(&input[..part], output);
                *left -= part as u64;
                Ok(*left == 0)
            }
            Rest::Chunked(decoder) => {
                let mut input = input;
                loop {
                    match decoder.next(&mut input).map_err(io::Error::other)? {
                        Piece::Data(data) => put(data, output),
                        Piece::Hungry => return Ok(false),
                        Piece::End => return Ok(true),
                    }
                }
            }
            Rest::UntilClose => {
                put(input, output);
                Ok(false)
            }
        }
    }

    /// The backend ended.
    async fn at_end(&self, client: &mut TcpStream, chunked: bool, timeouts: &Timeouts) -> io::Result<()> {
        if !matches!(self, Rest::UntilClose) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if chunked {
            tokio::time::timeout(timeouts.write, client.write_all(chunk::LAST)).await??;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(body: Body, splits: &[&[u8]], chunked: bool) -> (String, bool) {
        let (mut rest, mut out, mut ended) = (Rest::of(body), Vec::new(), false);
        for split in splits {
            ended = rest.take(split, chunked, &mut out).unwrap();
        }
        (String::from_utf8(out).unwrap(), ended)
    }

    #[test]
    fn bodies_end_where_they_end() {
        assert_eq!(taken(Body::None, &[b"rubbish"], false), (String::new(), true));
        assert_eq!(taken(Body::Length(5), &[b"he", b"llo!"], false), ("hello".into(), true));
        assert_eq!(taken(Body::Chunked, &[b"2\r\nhe\r\n3", b"\r\nllo\r\n0\r\n\r\nx"], false), ("hello".into(), true));
        assert_eq!(taken(Body::UntilClose, &[b"he", b"llo"], true), ("2\r\nhe\r\n3\r\nllo\r\n".into(), false));
    }

    #[test]
    fn a_broken_chunk_is_an_error() {
        assert!(Rest::of(Body::Chunked).take(b"zz\r\n", false, &mut Vec::new()).is_err());
    }
}
