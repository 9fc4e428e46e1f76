//! A connection with a client or a backend, whatever it speaks below HTTP.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::side::Transport;

/// What is known of the client behind a connection, before its first head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Where it connects from.
    pub(crate) address: SocketAddr,
}

impl Peer {
    /// The scheme of its requests, as backends are told.
    pub(crate) fn proto(&self) -> &'static str {
        "http"
    }
}

/// A connection. Not larger than the socket itself, so that an idle session does not pay for what it does not use.
#[derive(Debug)]
pub enum Socket {
    /// Plain TCP.
    Plain(TcpStream),
}

impl Socket {
    /// The TCP connection below.
    pub fn tcp(&self) -> &TcpStream {
        let Socket::Plain(tcp) = self;
        tcp
    }

    /// Whether the peer sent something that was not read. Asks the kernel: the runtime hears of it later.
    pub(crate) fn has_unread(&self) -> bool {
        let Socket::Plain(tcp) = self;
        let peeked = rustix::net::recv(tcp, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        matches!(peeked, Ok((1.., _)))
    }

    fn io(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        let Socket::Plain(tcp) = self.get_mut();
        Pin::new(tcp)
    }
}

impl Transport for Socket {
    fn reset_on_close(&self) {
        self.tcp().reset_on_close();
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.io().poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, buf)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.io().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }
}
