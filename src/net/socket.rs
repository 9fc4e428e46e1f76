//! A connection with a client or a backend, plain or over TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use holdline_core::policy::KeepalivePolicy;
use rustix::net::RecvFlags;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::net::{options, tls};

/// A byte stream to a peer.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Makes close send a reset, so that the peer notices the end even if it does not read.
    fn reset_on_close(&self);

    /// Sets up what only a session that lasts needs of the connection with its backend; nothing where there is no TCP below.
    fn set_up_backend(&self, _keepalive: &KeepalivePolicy) {}
}

impl Transport for TcpStream {
    fn reset_on_close(&self) {
        // Fails only on a socket that is already dead.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    fn set_up_backend(&self, keepalive: &KeepalivePolicy) {
        options::backend(self, keepalive);
    }
}

/// A connection. TLS is boxed: a plain session does not pay for its size.
#[derive(Debug)]
pub enum Socket {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<tls::Stream>),
}

impl Socket {
    /// The TCP connection below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Socket::Plain(tcp) => tcp,
            Socket::Tls(stream) => stream.tcp(),
        }
    }

    /// Nothing of the peer waits here, and nothing for it: whatever comes next is to be seen at the TCP connection.
    pub(crate) fn is_at_rest(&self) -> bool {
        match self {
            Socket::Plain(_) => true,
            Socket::Tls(stream) => stream.is_at_rest(),
        }
    }

    /// Whether the peer sent something that was not read. Asks the kernel: the runtime hears of it later. Of TLS it is not known before
    /// it is read, since records need not carry any (RFC 8446 4.6).
    pub(crate) fn has_unread(&self) -> bool {
        let Socket::Plain(tcp) = self else { return false };
        let peeked = rustix::net::recv(tcp, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        matches!(peeked, Ok((1.., _)))
    }
}

impl Transport for Socket {
    fn reset_on_close(&self) {
        self.tcp().reset_on_close();
    }

    fn set_up_backend(&self, keepalive: &KeepalivePolicy) {
        self.tcp().set_up_backend(keepalive);
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Socket::Plain(tcp) => tcp.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_large_as_plain_tcp() {
        assert_eq!(size_of::<Socket>(), size_of::<TcpStream>());
    }
}
