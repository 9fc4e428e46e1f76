//! A backend's socket under hyper: hands on what answers a request, and nothing that is refused or that no request asked for.
//!
//! After the first such byte the connection is of no use: every read and write fails, and the pool does not keep it.
//!
//! Of an answer that is an event stream, hyper gets only the head: the sender of the request takes over the socket ([`CheckedSocket::take_stream`]).

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use holdline_core::wire::guard::{Answers, Fed, Refused};
use holdline_core::wire::head;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::Upstream;
use super::interims::{self, Interims};
use crate::gateway::session::seat::SeatGuard;
use crate::net::socket::Socket;
use crate::telemetry::Metrics;

/// A connection's socket, and its state as seen by the sender of requests.
pub(crate) struct CheckedSocket {
    /// `None`: it was taken.
    socket: RefCell<Option<Socket>>,
    /// The answer is an event stream.
    stream: RefCell<Option<EventStream>>,
    /// hyper has bytes that the backend does not take.
    is_blocked: Cell<bool>,
    /// Wants to hear of writes.
    waiting: Cell<Option<Waker>>,
    /// A request is about to be written.
    asked: Cell<Option<Ask>>,
    /// Why the connection is of no use any more.
    wrong: Cell<Option<Refused>>,
    /// Of the session that the answer is expected to begin.
    seat: RefCell<Option<SeatGuard>>,
    metrics: Arc<Metrics>,
}

/// What must be known of a request to read its answer.
pub(crate) struct Ask {
    /// It is a HEAD.
    pub(crate) is_head: bool,
    /// An answer that is an event stream is held back after its head.
    pub(crate) streams: bool,
    /// Where interim responses go; `None`: nowhere.
    pub(crate) interims: Option<Rc<Interims>>,
}

/// The beginning of an event stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EventStream {
    /// As the backend sent it.
    pub(crate) head: Vec<u8>,
    /// What was read behind it.
    pub(crate) early: Vec<u8>,
}

impl CheckedSocket {
    pub(crate) fn new(socket: Socket, metrics: &Arc<Metrics>) -> Rc<Self> {
        Self::of(Some(socket), metrics)
    }

    /// Of no connection.
    #[cfg(test)]
    pub(crate) fn alone() -> Rc<Self> {
        Self::of(None, &Metrics::new())
    }

    fn of(socket: Option<Socket>, metrics: &Arc<Metrics>) -> Rc<Self> {
        Rc::new(CheckedSocket {
            socket: RefCell::new(socket),
            stream: RefCell::default(),
            is_blocked: Cell::new(false),
            waiting: Cell::default(),
            asked: Cell::new(None),
            wrong: Cell::new(None),
            seat: RefCell::default(),
            metrics: Arc::clone(metrics),
        })
    }

    /// To be told before a request is given to hyper.
    pub(crate) fn ask(&self, ask: Ask) {
        self.asked.set(Some(ask));
    }

    /// Keeps a seat until it is taken back. If the connection is given up before, the seat is free when the backend's end was seen.
    pub(crate) fn keep_seat(&self, seat: SeatGuard) {
        self.seat.replace(Some(seat));
    }

    /// The seat that was kept.
    pub(crate) fn take_seat(&self) -> Option<SeatGuard> {
        self.seat.take()
    }

    /// The connection is given up.
    pub(super) fn part(&self) {
        if let Some(seat) = self.seat.take()
            && let Some(socket) = self.socket.take()
        {
            drop(Upstream::new(socket, seat));
        }
    }

    /// Why the connection is of no use any more.
    pub(crate) fn wrong(&self) -> Option<Refused> {
        self.wrong.get()
    }

    /// The answer is an event stream, and hyper gets no more of it.
    pub(crate) fn has_stream(&self) -> bool {
        self.stream.borrow().is_some()
    }

    /// The event stream and its socket, once. hyper's connection is to be dropped.
    pub(crate) fn take_stream(&self) -> Option<(Socket, EventStream)> {
        let stream = self.stream.take()?;
        Some((self.socket.take()?, stream))
    }

    /// Resolves when `is_so` and hyper has nothing more to send; both are looked at after each write.
    pub(crate) async fn written(&self, is_so: impl Fn() -> bool) {
        poll_fn(|cx| {
            if is_so() && !self.is_blocked.get() {
                return Poll::Ready(());
            }
            self.waiting.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    fn refuse(&self, refused: Refused) -> io::Error {
        self.metrics.bad_input("backend_answer");
        self.wrong.set(Some(refused));
        io::Error::new(io::ErrorKind::InvalidData, refused)
    }

    /// Does something with the socket, unless it was taken.
    fn with_socket<T>(&self, work: impl FnOnce(Pin<&mut Socket>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match self.socket.borrow_mut().as_mut() {
            Some(socket) => work(Pin::new(socket)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// The same for a write.
    fn write(&self, work: impl FnOnce(Pin<&mut Socket>) -> Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let written = self.with_socket(work);
        self.is_blocked.set(written.is_pending());
        if written.is_ready()
            && let Some(waker) = self.waiting.take()
        {
            waker.wake();
        }
        written
    }
}

/// The socket of a [`CheckedSocket`], with its answers checked.
pub(crate) struct Checked {
    watch: Rc<CheckedSocket>,
    answers: Answers,
    /// Streams are held back after their heads.
    streams: bool,
    interims: Option<Rc<Interims>>,
    /// What has come of a head that is not whole; mostly nothing.
    head: Vec<u8>,
}

impl Checked {
    /// `head_max`: the longest head of an answer in bytes.
    pub(crate) fn new(watch: Rc<CheckedSocket>, head_max: usize) -> Self {
        Checked { watch, answers: Answers::new(head_max), streams: true, interims: None, head: Vec::new() }
    }

    /// Before anything is written: if it is the beginning of a request, nothing may have come from the backend, for that would be
    /// read as the answer.
    fn begin(&mut self) -> io::Result<()> {
        if let Some(refused) = self.watch.wrong() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, refused));
        }
        if let Some(Ask { is_head, streams, interims }) = self.watch.asked.take() {
            if !self.answers.is_idle() || self.watch.socket.borrow().as_ref().is_some_and(Socket::has_unread) {
                return Err(self.watch.refuse(Refused::Unasked));
            }
            self.answers.ask(is_head);
            self.streams = streams;
            self.interims = interims;
        }
        Ok(())
    }

    /// How much of `new` hyper may have.
    fn judge(&mut self, new: &[u8]) -> io::Result<usize> {
        let fed = self.answers.feed(new).map_err(|refused| self.watch.refuse(refused))?;
        if fed == Fed::Head {
            self.head.extend_from_slice(new);
            let left = interims::pass(&self.head, self.interims.as_deref()).len();
            self.head.drain(..self.head.len() - left);
            return Ok(new.len());
        }
        let head_end = self.answers.head_end();
        if head_end > 0 {
            let mut heads = Cow::Borrowed(&new[..head_end]);
            if !self.head.is_empty() {
                let first = std::mem::take(&mut self.head);
                heads = Cow::Owned([&first, &new[..head_end]].concat());
            }
            let last = interims::pass(&heads, self.interims.take().as_deref());
            // Without a body there is nothing to be taken.
            let is_stream = self.streams && fed != Fed::End(head_end) && is_event_stream(last);
            if is_stream {
                let stream = EventStream { head: last.to_vec(), early: new[head_end..].to_vec() };
                self.watch.stream.replace(Some(stream));
                return Ok(head_end);
            }
        }
        match fed {
            Fed::End(n) => {
                if n < new.len() {
                    // The answer itself is whole and good.
                    let _ = self.watch.refuse(Refused::Unasked);
                }
                Ok(n)
            }
            Fed::Head | Fed::Body => Ok(new.len()),
        }
    }
}

/// Whether a head is that of an event stream. One that is longer than a session's may be is not looked at: its answer is relayed as any
/// other.
fn is_event_stream(head: &[u8]) -> bool {
    const TYPE: &[u8] = b"text/event-stream";
    // hyper parses every head; here few are.
    head.windows(TYPE.len()).any(|w| w.eq_ignore_ascii_case(TYPE))
        && head::parse(head).ok().flatten().is_some_and(|head| head.is_event_stream() && head.body().is_ok())
}

impl AsyncRead for Checked {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(refused) = this.watch.wrong() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refused)));
        }
        if this.watch.has_stream() {
            // hyper is not woken again: the new owner of the stream drops it.
            return Poll::Pending;
        }
        let start = buf.filled().len();
        ready!(this.watch.with_socket(|socket| socket.poll_read(cx, buf)))?;
        if buf.filled().len() > start {
            let judged = this.judge(&buf.filled()[start..]);
            buf.set_filled(start + *judged.as_ref().unwrap_or(&0));
            judged?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Checked {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.begin()?;
        self.watch.write(|socket| socket.poll_write(cx, buf))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.begin()?;
        self.watch.write(|socket| socket.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.watch.socket.borrow().as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch.with_socket(|socket| socket.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch.with_socket(|socket| socket.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Checked, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (ours, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let watch = CheckedSocket::new(Socket::Plain(ours.unwrap()), &Metrics::new());
        (Checked::new(watch, 1 << 10), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn row_15_no_request_is_written_behind_bytes_that_were_not_read() {
        let (mut checked, mut backend) = pair().await;
        backend.write_all(b"H").await.unwrap();
        poll_fn(|cx| {
            let watch = Rc::clone(&checked.watch);
            let socket = watch.socket.borrow();
            socket.as_ref().unwrap().tcp().poll_read_ready(cx)
        })
        .await
        .unwrap();
        checked.watch.ask(Ask { is_head: false, streams: true, interims: None });
        assert!(checked.write(b"GET / HTTP/1.1\r\n\r\n").await.is_err());
        assert_eq!(checked.watch.wrong(), Some(Refused::Unasked));
        assert!(checked.write(b"GET / HTTP/1.1\r\n\r\n").await.is_err() && checked.read(&mut [0; 9]).await.is_err());
        drop(checked);
        let mut seen = Vec::new();
        let _ = backend.read_to_end(&mut seen).await;
        assert!(seen.is_empty());
    }

    #[tokio::test]
    async fn an_answer_is_handed_on_and_what_follows_it_is_not() {
        let (mut checked, mut backend) = pair().await;
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        checked.watch.ask(Ask { is_head: false, streams: true, interims: None });
        checked.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        backend.write_all(&[&answer[..], b"more"].concat()).await.unwrap();
        let mut seen = vec![0; answer.len()];
        checked.read_exact(&mut seen).await.unwrap();
        assert_eq!(seen, answer);
        assert!(checked.read(&mut [0; 9]).await.is_err());
    }

    /// What is handed on of an answer to a request, which came in these pieces, and what was found to be a stream.
    fn judged(is_head: bool, pieces: &[&[u8]]) -> (Vec<u8>, Option<EventStream>) {
        let watch = CheckedSocket::alone();
        let mut checked = Checked::new(Rc::clone(&watch), 64 << 10);
        checked.answers.ask(is_head);
        let mut handed_on = Vec::new();
        for piece in pieces {
            let n = checked.judge(piece).unwrap();
            handed_on.extend_from_slice(&piece[..n]);
        }
        (handed_on, watch.stream.take())
    }

    #[test]
    fn of_an_event_stream_the_head_alone_is_handed_on_in_any_split() {
        let interim = b"HTTP/1.1 103 Early Hints\r\nLink: </text/event-stream>\r\n\r\n";
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\r\n";
        let bytes = [&interim[..], head, b"data: 1\n\n"].concat();
        let head_end = interim.len() + head.len();
        for cut in 1..bytes.len() {
            // hyper asks for no more once it has a stream's head.
            let pieces: &[&[u8]] = if cut < head_end { &[&bytes[..cut], &bytes[cut..]] } else { &[&bytes[..cut]] };
            let (handed_on, stream) = judged(false, pieces);
            assert_eq!(handed_on, bytes[..head_end], "{cut}");
            let early = if cut < head_end { &bytes[head_end..] } else { &bytes[head_end..cut] };
            assert_eq!(stream, Some(EventStream { head: head.to_vec(), early: early.to_vec() }), "{cut}");
        }
    }

    #[test]
    fn other_answers_are_no_streams() {
        for (is_head, answer) in [
            (true, &b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"[..]),
            (false, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n"),
            (false, b"HTTP/1.1 404 x\r\nContent-Type: text/event-stream\r\nContent-Length: 1\r\n\r\nx"),
            (false, b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\ntext/event-stream"),
            (false, b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; text/event-stream\r\nContent-Length: 1\r\n\r\nx"),
        ] {
            assert_eq!(judged(is_head, &[answer]), (answer.to_vec(), None), "{}", answer.escape_ascii());
        }
    }
}
