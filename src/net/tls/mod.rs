//! TLS 1.2 and 1.3, to clients and to backends; an idle connection owns no buffer.
//!
//! [`engine`] runs rustls's state machine, [`records`] is a connection without its socket, [`Stream`] is one with it. [`store`] holds the
//! certificates of listeners and the trusted certificates for backends, which may change while connections are open.

mod choice;
mod engine;
mod records;
mod store;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use self::engine::PLAIN_MAX;
pub use self::engine::{Engine, Output};
pub use self::records::Records;
pub use self::store::{Connector, Store, StoreError};

/// What is read from the socket at once: a whole record of TLS 1.3 with some padding, so that a stream of large ones leaves little over.
const INPUT_MAX: usize = PLAIN_MAX + 512;

/// A whole record of ours, with what may have to go before it: the buffer of an [`Output`].
pub const OUTPUT_MAX: usize = PLAIN_MAX + 2048;

/// What went wrong with a connection's TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// What the peer sent, or what it is.
    #[error(transparent)]
    Protocol(#[from] rustls::Error),
    /// An unfinished message that is longer than any should be.
    #[error("a message does not end after {0} bytes")]
    TooLong(usize),
    /// Something was to be sent before the handshake was over.
    #[error("the handshake is not over")]
    TooEarly,
    /// The peer went in the middle of the handshake.
    #[error("the peer left before the handshake was over")]
    Left,
    /// It went wrong before.
    #[error("the connection has failed before")]
    Broken,
    /// rustls is in a state that should not be.
    #[error("unexpected state: {0}")]
    State(String),
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// Whether `error`, or what it came from, is about TLS.
pub(crate) fn is_about_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut error = Some(error);
    while let Some(e) = error {
        let inner = e.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if e.is::<TlsError>() || inner.is_some_and(|inner| inner.is::<TlsError>()) {
            return true;
        }
        error = e.source();
    }
    false
}

/// A TLS connection. An unfinished handshake continues with every read.
///
/// A write that is pending has sealed the front of its bytes: the next one must begin with the same. (All that writes here keeps what was
/// not taken, and offers it again.) So a byte counts as taken once the kernel has it, as over TCP, and nothing waits here unseen.
pub struct Stream {
    tcp: TcpStream,
    records: Records,
    unsent: Option<Box<Unsent>>,
    /// Our close_notify is sealed.
    is_closing: bool,
    /// Bytes of the peer have come.
    has_heard: bool,
}

/// Sealed bytes that the socket was not ready for.
#[derive(Default)]
struct Unsent {
    bytes: Vec<u8>,
    at: usize,
    /// How much plaintext of a pending write is in it.
    owed: usize,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

impl Stream {
    /// The server's side of `tcp`, before the handshake.
    ///
    /// # Errors
    /// `config` cannot be used, which it was checked for.
    pub(crate) fn server(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        let engine = Engine::Server(UnbufferedServerConnection::new(config)?);
        Ok(Self::new(tcp, engine))
    }

    /// The client's side of `tcp`, through the whole handshake.
    ///
    /// # Errors
    /// The socket's, or a [`TlsError`] within: the server's certificate among others.
    pub(crate) async fn client(tcp: TcpStream, connector: &Connector) -> io::Result<Self> {
        let address = tcp.peer_addr()?;
        let (config, name) = connector.target(address.ip());
        let engine = Engine::Client(UnbufferedClientConnection::new(config, name).map_err(TlsError::from)?);
        let mut stream = Self::new(tcp, engine);
        poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    fn new(tcp: TcpStream, engine: Engine) -> Self {
        Stream { tcp, records: Records::new(engine), unsent: None, is_closing: false, has_heard: false }
    }

    /// The connection below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// The handshake is over, and no byte waits here, sealed or not.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.unsent.is_none() && !self.records.holds_any() && !self.records.is_handshaking()
    }

    /// Until keys are agreed on and our part of the handshake is sent.
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.work(cx, |records, out| records.begin(out))?;
        loop {
            ready!(self.poll_unsent(cx))?;
            if !self.records.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_more(cx, None))?;
        }
    }

    /// Reads the socket once and takes in what came.
    fn poll_more(&mut self, cx: &mut Context<'_>, to: Option<&mut ReadBuf<'_>>) -> Poll<io::Result<()>> {
        with_buffers(|buffers| {
            let mut input = ReadBuf::new(&mut buffers.input);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut input))?;
            let input = input.filled_mut();
            if input.is_empty() {
                // Whoever only knocks has not begun a handshake.
                let left = self.has_heard && self.records.is_handshaking();
                // Without a close_notify the data may have been truncated.
                return Poll::Ready(Err(if left { TlsError::Left.into() } else { io::ErrorKind::UnexpectedEof.into() }));
            }
            self.has_heard = true;
            let mut out = Output::new(&mut buffers.output);
            let received = self.records.receive(input, to, &mut out);
            self.send(cx, &out);
            Poll::Ready(received.map_err(io::Error::from))
        })
    }

    /// Does something with the records that needs no bytes of the peer, and sends what came of it.
    fn work<T>(
        &mut self,
        cx: &mut Context<'_>,
        work: impl FnOnce(&mut Records, &mut Output<'_>) -> Result<T, TlsError>,
    ) -> Result<T, TlsError> {
        with_buffers(|buffers| {
            let mut out = Output::new(&mut buffers.output);
            let done = work(&mut self.records, &mut out);
            self.send(cx, &out);
            done
        })
    }

    /// Sends what the socket takes and keeps the rest, which is bounded: a record of a write, one answer to whatever number of KeyUpdates,
    /// and warnings of which rustls allows few. A socket that fails shows it at the next read or write.
    fn send(&mut self, cx: &mut Context<'_>, out: &Output<'_>) {
        for piece in out.pieces() {
            let mut at = 0;
            while self.unsent.is_none() && at < piece.len() {
                match Pin::new(&mut self.tcp).poll_write(cx, &piece[at..]) {
                    Poll::Ready(Ok(n)) => at += n,
                    Poll::Pending | Poll::Ready(Err(_)) => break,
                }
            }
            if at < piece.len() {
                self.unsent.get_or_insert_default().bytes.extend_from_slice(&piece[at..]);
            }
        }
    }

    /// Sends what was kept. Ready: there is nothing more; how much plaintext of a pending write that was.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.poll_sent(cx))?;
        Poll::Ready(Ok(self.unsent.take().map_or(0, |unsent| unsent.owed)))
    }

    /// Sends what was kept. A pending write is still to be told.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(unsent) = &mut self.unsent else { return Poll::Ready(Ok(())) };
        while unsent.at < unsent.bytes.len() {
            let n = ready!(Pin::new(&mut self.tcp).poll_write(cx, &unsent.bytes[unsent.at..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            unsent.at += n;
        }
        if unsent.owed == 0 {
            self.unsent = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        let before = buf.filled().len();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // Output that rustls produced by itself has no other writer. A socket that is not writable may still be readable.
        let _ = stream.poll_sent(cx);
        loop {
            if stream.records.holds_any() {
                stream.work(cx, |records, out| records.read_held(buf, out))?;
            }
            if buf.filled().len() > before || stream.records.is_at_end() {
                return Poll::Ready(Ok(()));
            }
            ready!(stream.poll_more(cx, Some(buf)))?;
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        let sent = ready!(stream.poll_unsent(cx))?;
        if sent > 0 || buf.is_empty() {
            debug_assert!(sent <= buf.len(), "a pending write is asked again with the same bytes");
            return Poll::Ready(Ok(sent));
        }
        if stream.is_closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let n = stream.work(cx, |records, out| records.seal(buf, out))?;
        match &mut stream.unsent {
            None => Poll::Ready(Ok(n)),
            Some(unsent) => {
                unsent.owed = n;
                // The socket's error, if that is what kept it.
                stream.poll_unsent(cx)
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_sent(cx)
    }

    /// Sends our close_notify, then our FIN. It waits as long as the peer does not read.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if !std::mem::replace(&mut stream.is_closing, true) {
            stream.work(cx, |records, out| records.close(out))?;
        }
        ready!(stream.poll_unsent(cx))?;
        Pin::new(&mut stream.tcp).poll_shutdown(cx)
    }
}

/// The thread's buffers for sealed bytes.
struct Buffers {
    input: [u8; INPUT_MAX],
    output: [u8; OUTPUT_MAX],
}

thread_local! {
    static BUFFERS: Cell<Option<Box<Buffers>>> = const { Cell::new(None) };
}

/// Lends the thread's buffers; their content is whatever the last user left. As in [`scratch`](crate::net::scratch), a second user at the same
/// time would get new ones.
fn with_buffers<R>(f: impl FnOnce(&mut Buffers) -> R) -> R {
    let mut buffers = BUFFERS.take().unwrap_or_else(|| Box::new(Buffers { input: [0; INPUT_MAX], output: [0; OUTPUT_MAX] }));
    let result = f(&mut buffers);
    BUFFERS.set(Some(buffers));
    result
}
