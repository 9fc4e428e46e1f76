//! One client: its handshake, its frames.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Failure;
use crate::stream::{Stream, Target};

/// Bytes of a small message: 128, so that its length takes the two-byte form.
pub(crate) const PAYLOAD: usize = 128;

/// Of its echo: the header is shorter by the mask.
pub(crate) const ECHO: usize = 4 + PAYLOAD;

/// For a whole handshake; one that takes longer is a failure of the run.
const PATIENCE: Duration = Duration::from_secs(20);

/// A masked binary message.
pub(crate) const FRAME: [u8; 8 + PAYLOAD] = {
    let mut frame = [0x5a; 8 + PAYLOAD];
    (frame[0], frame[1], frame[2], frame[3]) = (0x82, 0xfe, 0, PAYLOAD as u8);
    frame
};

/// What a client asks for.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    WebSocket,
    EventStream,
}

impl Kind {
    const fn request(self) -> &'static [u8] {
        match self {
            Kind::WebSocket => {
                b"GET /chat HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            }
            Kind::EventStream => b"GET /events HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n",
        }
    }

    const fn status(self) -> &'static str {
        match self {
            Kind::WebSocket => "101",
            Kind::EventStream => "200",
        }
    }
}

/// Opens the `number`th WebSocket.
pub(crate) async fn open(target: &Target, number: u32) -> Result<Stream, Failure> {
    open_as(Kind::WebSocket, target, number).await
}

/// Opens the `number`th session of this kind.
pub(crate) async fn open_as(kind: Kind, target: &Target, number: u32) -> Result<Stream, Failure> {
    let opening = async {
        let mut stream = target.connect(number).await?;
        shake(kind, &mut stream).await?;
        Ok(stream)
    };
    match tokio::time::timeout(PATIENCE, opening).await {
        Ok(opened) => opened,
        Err(_) => Err(format!("no answer within {PATIENCE:?}").into()),
    }
}

/// Sends the request of this kind and demands its session.
pub(crate) async fn shake(kind: Kind, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(), Failure> {
    stream.write_all(kind.request()).await?;
    let answer = head(stream).await?;
    if answer.split(' ').nth(1) == Some(kind.status()) {
        return Ok(());
    }
    Err(format!("the handshake was answered with: {}", answer.trim_end().replace("\r\n", " | ")).into())
}

/// A head up to its empty line; some of a body may be behind it.
pub(crate) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(512);
    while !bytes.windows(4).any(|w| w == b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await? == 0 || bytes.len() > 16_384 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
