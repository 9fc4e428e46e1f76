//! Servers that echo WebSocket messages, keep event streams open, and answer heartbeats.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use holdline_core::wire::handshake;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Failure;
use crate::client::{PAYLOAD, head};

/// Longest queue of connections that were not accepted yet: a storm must not meet a full one.
const BACKLOG: i32 = 65_535;

/// A large message passes through a buffer of this size, which goes when the message has passed.
const CHUNK: usize = 64 * 1024;

/// Serves at `count` consecutive addresses from `first` on, until standard input ends.
pub(crate) async fn serve(first: SocketAddr, count: u32) -> Result<(), Failure> {
    let IpAddr::V4(ip) = first.ip() else { return Err("first= must be an IPv4 address".into()) };
    for i in 0..count {
        let address = SocketAddr::from((Ipv4Addr::from(u32::from(ip) + i), first.port()));
        let listener = listen(address).map_err(|e| format!("cannot listen on {address}: {e}"))?;
        tokio::spawn(accept(listener));
    }
    println!("ready");
    crate::hold::stdin_ends().await;
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

async fn accept(listener: TcpListener) {
    let sessions = Arc::new(AtomicU32::new(0));
    loop {
        // An accept fails for want of descriptors only, and then the script sees sessions missing.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let sessions = Arc::clone(&sessions);
        tokio::spawn(async move {
            // A connection that ends in an error has just ended.
            let _ = answer(stream, &sessions).await;
        });
    }
}

/// Heartbeats, then perhaps a session.
async fn answer(mut stream: TcpStream, sessions: &AtomicU32) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let request = head(&mut stream).await?;
        if let Some(key) = field(&request, "sec-websocket-key") {
            let accept = handshake::accept(key.as_bytes());
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await?;
            return counted(sessions, echo(stream)).await;
        }
        if field(&request, "accept") == Some("text/event-stream") {
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n\
                d\r\ndata: hello\n\n\r\n";
            stream.write_all(answer.as_bytes()).await?;
            return counted(sessions, async { stream.read(&mut [0]).await.map(drop) }).await;
        }
        let body = format!("{{\"sessions\": {}}}", sessions.load(Ordering::Relaxed));
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await?;
    }
}

async fn counted(sessions: &AtomicU32, session: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    sessions.fetch_add(1, Ordering::Relaxed);
    let end = session.await;
    sessions.fetch_sub(1, Ordering::Relaxed);
    end
}

/// Every masked binary message of [`PAYLOAD`] bytes comes back unmasked, and every larger one with the long length and a mask of zero;
/// anything else, a Close among it, is the end.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    // An idle session shall not hold a buffer here either, so that the machine has room for the proxy's.
    let mut frame = [0; 8 + PAYLOAD];
    loop {
        stream.read_exact(&mut frame).await?;
        let small = [0x82, 0xfe, 0, PAYLOAD as u8];
        if frame[..4] == small {
            let (header, payload) = frame.split_at_mut(8);
            payload.iter_mut().zip(header[4..8].iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            header[4..].copy_from_slice(&[0x82, 0x7e, 0, PAYLOAD as u8]);
            stream.write_all(&frame[4..]).await?;
        } else if frame[..2] == [0x82, 0xff] && frame[10..14] == [0; 4] {
            Box::pin(echo_large(&mut stream, &frame)).await?;
        } else {
            return Ok(());
        }
    }
}

/// `start`: the header and the payload's first bytes.
async fn echo_large(stream: &mut TcpStream, start: &[u8]) -> io::Result<()> {
    let (header, payload) = start.split_at(14);
    let length = header[2..10].iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
    stream.write_all(&[&[0x82, 0x7f], &header[2..10], payload].concat()).await?;
    let mut left = length.saturating_sub(payload.len() as u64);
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let most = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = stream.read(&mut chunk[..most]).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        stream.write_all(&chunk[..n]).await?;
        left -= n as u64;
    }
    Ok(())
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().filter_map(|line| line.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
}
