//! A client's socket under hyper: hands on one message at a time, and none that is refused.
//!
//! Instead of a head that is refused, hyper reads [`SUBSTITUTE`], which the connection's service answers with the reason. So the refusal
//! comes after the answers to earlier requests, and hyper closes the connection behind it. Inside of a body, whose head hyper has, a
//! refusal is a broken connection, and the request is answered as one that broke off.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use holdline_core::wire::guard::{Fed, Refused, Requests};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::clock::poll_elapsed;
use crate::gateway::upstream::interims::Interims;
use crate::net::socket::Socket;
use crate::net::tls::is_about_tls;

/// What hyper reads instead of a refused head.
const SUBSTITUTE: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// What a connection's tap and its service tell each other.
pub(crate) struct Between {
    /// hyper still has bytes that the client does not take.
    pub(crate) blocked: Cell<bool>,
    /// How long the client may take none.
    pub(crate) write_timeout: Cell<Duration>,
    /// Why the rest of what the client sent is not read. Of a head, hyper reads the substitute next.
    pub(crate) refused: Cell<Option<Refused>>,
    /// A session takes the socket, and with it all that is behind its head.
    pub(crate) is_taken: Cell<bool>,
    /// The TLS handshake or a record was not as it should be.
    pub(crate) tls_failed: Cell<bool>,
    /// An answer ends the connection whatever the client goes on to send.
    pub(crate) lingers: Cell<bool>,
    /// A request has come since this was last taken.
    pub(crate) asked: Cell<bool>,
    /// Interim responses, which hyper's server has no way to send. They go out while it has nothing to write.
    pub(crate) interims: Rc<Interims>,
    /// hyper's last bytes are out, and it wrote nothing since.
    is_flushed: Cell<bool>,
    /// Between two messages hyper asked for more, and there was not a byte anywhere.
    is_dry: Cell<bool>,
    /// Requests whose answers hyper has not done with.
    under_way: Cell<u32>,
}

/// A request is under way until this is dropped.
pub(crate) struct UnderWay(Rc<Between>);

impl UnderWay {
    pub(crate) fn new(between: &Rc<Between>) -> Self {
        between.asked.set(true);
        between.under_way.set(between.under_way.get() + 1);
        UnderWay(Rc::clone(between))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
    }
}

impl Between {
    pub(crate) fn new(write_timeout: Duration) -> Rc<Self> {
        Rc::new(Between {
            blocked: Cell::new(false),
            write_timeout: Cell::new(write_timeout),
            refused: Cell::new(None),
            is_taken: Cell::new(false),
            tls_failed: Cell::new(false),
            lingers: Cell::new(false),
            asked: Cell::new(false),
            interims: Rc::default(),
            is_flushed: Cell::new(true),
            is_dry: Cell::new(false),
            under_way: Cell::new(0),
        })
    }

    /// hyper is about to be given an answer. Behind an earlier one that is not out yet nobody could tell where it begins, so interim responses
    /// that would come before it are dropped.
    pub(crate) fn begin_answer(&self) {
        if !self.is_flushed.get() {
            drop(self.interims.take());
        }
    }

    /// Asked after hyper was polled: it has answered everything and holds nothing of the client's or for it.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_dry.get() && self.under_way.get() == 0 && !self.blocked.get()
    }
}

/// The socket under hyper. hyper has no limit for a client that does not read its answer: here it is.
pub(crate) struct Tap {
    stream: Socket,
    between: Rc<Between>,
    guard: Requests,
    /// Read and not handed on: a head that is not whole yet, or what is behind the end of a message. Mostly empty.
    held: BytesMut,
    /// So many bytes of `held` were judged: they are a head that goes on behind them.
    judged: usize,
    /// So many bytes of `held` may be handed on.
    free: usize,
    /// A message was handed on in part.
    is_within: bool,
    /// Interim responses that are being written.
    interims: Bytes,
    /// Runs while a write is blocked; made when the first one is.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Tap {
    /// `held` was read from the stream before; `head_max`: the longest head in bytes.
    pub(crate) fn new(stream: Socket, held: BytesMut, between: Rc<Between>, head_max: usize) -> Self {
        let guard = Requests::new(head_max);
        Tap { stream, between, guard, held, judged: 0, free: 0, is_within: false, interims: Bytes::new(), patience: None }
    }

    /// A head began and is not whole.
    pub(crate) fn is_in_head(&self) -> bool {
        self.judged > 0
    }

    /// The client may have sent more than hyper read: closed at once, the connection would be reset.
    pub(crate) fn lingers(&self) -> bool {
        self.is_within || !self.held.is_empty() || self.between.lingers.get()
    }

    /// The socket, and what was read behind the last message that was handed on.
    pub(crate) fn into_parts(self) -> (Socket, Bytes) {
        (self.stream, self.held.freeze())
    }

    /// Judges what is held. `Ok(true)`: some of it may be handed on now.
    fn judge_held(&mut self) -> io::Result<bool> {
        if self.judged == self.held.len() {
            return Ok(false);
        }
        match self.guard.feed(&self.held[self.judged..]) {
            Ok(Fed::Head) => {
                self.judged = self.held.len();
                return Ok(false);
            }
            Ok(Fed::Body) => {
                self.free = self.held.len();
                self.is_within = true;
            }
            Ok(Fed::End(n)) => {
                self.free = self.judged + n;
                self.is_within = false;
            }
            Err(refused) => self.refuse(refused)?,
        }
        self.judged = 0;
        Ok(true)
    }

    /// Judges `new`, which hyper has room for: how much of it hyper may have at once. The rest is held.
    fn judge_new(&mut self, new: &[u8]) -> io::Result<usize> {
        let pass = match self.guard.feed(new) {
            Ok(Fed::Head) => {
                self.judged = new.len();
                0
            }
            Ok(Fed::Body) => {
                self.is_within = true;
                new.len()
            }
            Ok(Fed::End(n)) => {
                self.is_within = false;
                n
            }
            Err(refused) => {
                self.refuse(refused)?;
                return Ok(0);
            }
        };
        self.held.extend_from_slice(&new[pass..]);
        Ok(pass)
    }

    /// From here on nothing of the client's is read.
    fn refuse(&mut self, refused: Refused) -> io::Result<()> {
        self.between.refused.set(Some(refused));
        self.held = BytesMut::new();
        self.judged = 0;
        if self.is_within {
            return Err(io::Error::new(io::ErrorKind::InvalidData, refused));
        }
        self.held.extend_from_slice(SUBSTITUTE);
        self.free = SUBSTITUTE.len();
        Ok(())
    }

    /// Hands on what may be.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.free.min(buf.remaining());
        buf.put_slice(&self.held[..n]);
        self.free -= n;
        self.held.advance(n);
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
    }

    fn watched(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.patience = None;
            self.between.blocked.set(false);
            return written;
        }
        self.between.blocked.set(true);
        let timeout = self.between.write_timeout.get();
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(poll_elapsed(patience.as_mut(), cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Tap {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.between.is_dry.set(false);
        loop {
            if this.between.is_taken.get() {
                // What is behind a session's head is no HTTP.
                return Poll::Pending;
            }
            if this.free > 0 || this.judge_held()? {
                this.hand_on(buf);
                return Poll::Ready(Ok(()));
            }
            if this.between.refused.get().is_some() {
                // Who answers the refusal ends the connection.
                return Poll::Pending;
            }
            let start = buf.filled().len();
            let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) else {
                this.between.is_dry.set(!this.is_within && this.held.is_empty() && this.stream.is_at_rest());
                return Poll::Pending;
            };
            if let Err(error) = read {
                // hyper takes an error before the first byte for an end like any other.
                this.between.tls_failed.set(is_about_tls(&error));
                return Poll::Ready(Err(error));
            }
            let new = &buf.filled()[start..];
            if new.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let pass = if this.held.is_empty() {
                this.judge_new(new)?
            } else {
                this.held.extend_from_slice(new);
                0
            };
            buf.set_filled(start + pass);
            if pass > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Tap {
    /// Writes the interim responses that there are.
    fn poll_interims(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.interims.is_empty() {
                self.interims = self.between.interims.take().into();
            }
            if self.interims.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.interims);
            match ready!(self.watched(cx, written))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.interims.advance(n),
            }
        }
    }

    /// Before hyper's next bytes: if it had nothing to write until now, these are of the answer, and interim responses come before it.
    fn poll_before_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.between.is_flushed.get() {
            ready!(self.poll_interims(cx))?;
            self.between.is_flushed.set(false);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_before_write(cx))?;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watched(cx, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_before_write(cx))?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when all of its own is written, and whenever it is polled.
        self.between.is_flushed.set(true);
        self.between.interims.listen(cx.waker());
        ready!(self.poll_interims(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
