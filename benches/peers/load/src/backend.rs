//! WebSocket servers that echo, and answer heartbeats.

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

/// Serves at `count` consecutive addresses from `first` on, until standard input ends.
pub(crate) async fn serve(first: SocketAddr, count: u32) -> Result<(), Failure> {
    let IpAddr::V4(ip) = first.ip() else { return Err("first= must be an IPv4 address".into()) };
    for i in 0..count {
        let address = SocketAddr::from((Ipv4Addr::from(u32::from(ip) + i), first.port()));
        let listener = listen(address).map_err(|e| format!("cannot listen on {address}: {e}"))?;
        tokio::spawn(accept(listener));
    }
    println!("ready");
    crate::load::stdin_ends().await;
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
            sessions.fetch_add(1, Ordering::Relaxed);
            let end = echo(stream).await;
            sessions.fetch_sub(1, Ordering::Relaxed);
            return end;
        }
        let body = format!("{{\"sessions\": {}}}", sessions.load(Ordering::Relaxed));
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// Every message of [`PAYLOAD`] bytes comes back unmasked; anything else, a Close among it, is the end.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    // An idle session shall not hold a buffer here either, so that the machine has room for the proxy's.
    while stream.readable().await.is_ok() {
        let mut frame = [0; 8 + PAYLOAD];
        stream.read_exact(&mut frame).await?;
        if frame[..2] != [0x82, 0xfe] {
            return Ok(());
        }
        let (header, payload) = frame.split_at_mut(8);
        payload.iter_mut().zip(header[4..8].iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        header[4..].copy_from_slice(&[0x82, 0x7e, 0, PAYLOAD as u8]);
        stream.write_all(&frame[4..]).await?;
    }
    Ok(())
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().filter_map(|line| line.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
}
