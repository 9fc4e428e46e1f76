//! A connection to a backend, for a request or a probe.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::socket::Socket;
use super::tls::{self, Connector};

/// Connects to a backend; `first` is sent before anything else, TLS included.
///
/// # Errors
/// An I/O error, or a TLS error inside one.
pub(crate) async fn connect(address: SocketAddr, connector: Option<&Arc<Connector>>, first: &[u8]) -> io::Result<Socket> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(first).await?;
    match connector {
        None => Ok(Socket::Plain(stream)),
        Some(connector) => Ok(Socket::Tls(Box::new(tls::Stream::client(stream, connector).await?))),
    }
}

/// Whether the failure is local: no descriptor, no port, no memory.
pub(crate) fn is_ours(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let ours = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| ours.iter().any(|e| e.raw_os_error() == code))
}
