//! A connection to a backend, for a request or a probe.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Type};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;

use super::socket::Socket;
use super::tls::{self, Connector};

/// Connects to a backend; `first` is sent before anything else, TLS included.
///
/// # Errors
/// An I/O error, or a TLS error inside one.
pub(crate) async fn connect(address: SocketAddr, connector: Option<&Arc<Connector>>, first: &[u8]) -> io::Result<Socket> {
    let mut stream = connect_tcp(address).await?;
    stream.write_all(first).await?;
    match connector {
        None => Ok(Socket::Plain(stream)),
        Some(connector) => Ok(Socket::Tls(Box::new(tls::Stream::client(stream, connector).await?))),
    }
}

/// Connects without delay. Unlike tokio's own, it asks the kernel for an error (SO_ERROR) only when the poller reports one.
async fn connect_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => return Err(error),
        _ => {}
    }
    let stream = TcpStream::from_std(socket.into())?;
    let ready = stream.ready(Interest::WRITABLE | Interest::ERROR).await?;
    if ready.is_error() || ready.is_write_closed() {
        return Err(stream.take_error()?.unwrap_or_else(|| io::ErrorKind::NotConnected.into()));
    }
    Ok(stream)
}

/// Whether the failure is local: no descriptor, no port, no memory.
pub(crate) fn is_ours(error: &io::Error) -> bool {
    let ours = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| ours.iter().any(|e| e.raw_os_error() == code))
}
