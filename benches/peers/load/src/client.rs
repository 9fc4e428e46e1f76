//! One client: its connection, its handshake, its frames.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::Failure;

/// Bytes of a message: 128, so that its length takes the two-byte form.
pub(crate) const PAYLOAD: usize = 128;

/// Connections from one source address: its ports are never scarce, however long those of the dead linger.
const PER_SOURCE: u32 = 1_000;

/// For a whole handshake; one that takes longer is a failure of the run.
const PATIENCE: Duration = Duration::from_secs(20);

const REQUEST: &[u8] = b"GET /chat HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A masked binary message.
const FRAME: [u8; 8 + PAYLOAD] = {
    let mut frame = [0x5a; 8 + PAYLOAD];
    (frame[0], frame[1], frame[2], frame[3]) = (0x82, 0xfe, 0, PAYLOAD as u8);
    frame
};

/// Opens the `number`th session; its end is a reset, so that no port lingers.
pub(crate) async fn open(target: SocketAddr, number: u32) -> Result<TcpStream, Failure> {
    match tokio::time::timeout(PATIENCE, shake(target, number)).await {
        Ok(shaken) => shaken,
        Err(_) => Err(format!("no answer within {PATIENCE:?}").into()),
    }
}

async fn shake(target: SocketAddr, number: u32) -> Result<TcpStream, Failure> {
    let socket = TcpSocket::new_v4()?;
    // 127.64.0.1 and on: backends and proxies listen below.
    let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 64, 0, 1)) + number / PER_SOURCE);
    socket.bind((source, 0).into())?;
    socket.set_zero_linger()?;
    let mut stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    stream.write_all(REQUEST).await?;
    let answer = head(&mut stream).await?;
    match answer.split(' ').nth(1) {
        Some("101") => Ok(stream),
        _ => Err(format!("the handshake was answered with: {}", answer.trim_end().replace("\r\n", " | ")).into()),
    }
}

/// One message there and back.
pub(crate) async fn round_trip(stream: &mut TcpStream) -> io::Result<()> {
    let mut echo = [0; 4 + PAYLOAD];
    stream.write_all(&FRAME).await?;
    stream.read_exact(&mut echo).await?;
    Ok(())
}

/// A head up to its empty line; of an answer without 101 some of the body may be behind it.
pub(crate) async fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(512);
    while !bytes.windows(4).any(|w| w == b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await? == 0 || bytes.len() > 16_384 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
