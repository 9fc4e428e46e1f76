//! An event stream: one future relays the backend's body, watches the client's end, and leaves between two events when it must.

mod body;
#[cfg(test)]
mod tests;

use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use holdline_core::cause::EndCause;
use holdline_core::policy::DrainMode;
use holdline_core::wire::forward::{self, Reply, ReplyBody};
use holdline_core::wire::head::{self, ResponseHead};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use self::body::{Body, End, Leave, ROOM_AFTER, ROOM_BEFORE};
use super::registry::{EndOrder, Entered, Registry};
use super::scratch;
use super::session::Session;
use super::timer::{Due, ticks_past};

/// For a backend to end after we did, for a client to close after its last byte, and for the end of an event after a timeout.
const END_MAX: Duration = Duration::from_secs(5);

/// The middle of what clients are told to wait before they come back, spread by ±50 %. A drain has its own pace: this only keeps those
/// apart that left in the same moment.
const RETRY: Duration = Duration::from_secs(1);

/// What a client may send after its request, in bytes; it is read, to see its end, and dropped. There is nothing that it could have to say.
const CHATTER_MAX: u32 = 64 << 10;

/// What the head exchange with the backend came to.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The backend's head: [`ResponseHead::is_event_stream`].
    pub response: &'a ResponseHead<'a>,
    /// Its [`ResponseHead::body`].
    pub body: head::Body,
    /// The client speaks HTTP/1.1 and gets chunks; else its body ends with the connection.
    pub is_http11: bool,
    /// An affinity cookie for the client, as the value of `Set-Cookie`.
    pub set_cookie: Option<&'a str>,
    /// Bytes that were read behind the backend's head.
    pub early: &'a [u8],
}

/// The relay of `session`, from the head to the client on; to be spawned on its thread as a task of its own (`spawn_local`).
pub fn run(
    client: TcpStream,
    backend: TcpStream,
    start: Start<'_>,
    session: Session,
    registry: &Rc<Registry>,
) -> impl Future<Output = ()> + 'static {
    let framing = if start.is_http11 { ReplyBody::Chunked } else { ReplyBody::UntilClose };
    let reply = Reply { body: framing, session: Some(session.id), set_cookie: start.set_cookie };
    let mut stream = Stream {
        pending: forward::reply(start.response, &reply),
        written: 0,
        body: Body::new(start.body, start.is_http11, start.response.is_identity_coded()),
        client: Client { socket: Some(client), is_told_all: false, is_lingering: false, chatter: 0 },
        backend: Backend { socket: Some(backend), is_ending: false },
        entered: registry.enter(session),
    };
    stream.take_early(start.early);
    stream
}

/// A session; done when both sockets are gone.
struct Stream {
    client: Client,
    backend: Backend,
    body: Body,
    /// Bytes that the client was not ready for; empty while it keeps up. No more is read from the backend until they are written.
    pending: Vec<u8>,
    /// Of `pending`.
    written: usize,
    entered: Entered,
}

struct Client {
    socket: Option<TcpStream>,
    /// `pending` is the last that it gets.
    is_told_all: bool,
    /// It got everything and our FIN, its own is awaited: closing with its bytes unread would reset what it has not read yet.
    is_lingering: bool,
    /// Bytes that it sent.
    chatter: u32,
}

struct Backend {
    socket: Option<TcpStream>,
    /// We ended; its end is awaited, and what it still sends is dropped.
    is_ending: bool,
}

impl Future for Stream {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.get_mut();
        me.entered.entry().listen(cx.waker());
        me.obey();
        // A client's end is looked for first: a FIN that came before a write failed is still a FIN.
        me.watch_client(cx);
        me.relay(cx);
        me.await_backend(cx);
        if me.client.socket.is_none() && me.backend.socket.is_none() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// What makes it end.
impl Stream {
    /// Does what the timer or an order woke it for.
    fn obey(&mut self) {
        match self.entered.entry().take_due() {
            Some(Due::Deadline) => self.overdue(),
            Some(Due::End(EndCause::WriteTimeout)) => self.cut(EndCause::WriteTimeout),
            Some(Due::End(cause)) => self.end_in_time(cause),
            Some(Due::Ping) | None => {}
        }
        match self.entered.entry().order() {
            Some(EndOrder { mode: DrainMode::Cut, cause }) => self.cut(cause),
            Some(EndOrder { mode: DrainMode::Close, cause }) if !self.client.is_told_all => match self.body.leave() {
                Leave::Now => self.leave(cause),
                Leave::AfterEvent => {}
                // No end of it is proper.
                Leave::Never => self.cut(cause),
            },
            _ => {}
        }
    }

    /// A timeout passed: the stream shall be left, and does not wait for the end of its event for ever. Called again every tick until then.
    fn end_in_time(&self, cause: EndCause) {
        let entry = self.entered.entry();
        if entry.order().is_none() {
            entry.set_order(EndOrder { mode: DrainMode::Close, cause });
        }
        if entry.stamps.deadline.get() == 0 {
            self.set_deadline();
        }
    }

    /// The present step of the end took too long.
    fn overdue(&mut self) {
        self.entered.entry().stamps.deadline.set(0);
        if self.backend.is_ending {
            self.backend_ended(true);
        }
        if self.client.is_lingering {
            self.client.socket = None;
        } else if !self.client.is_told_all {
            // Its event did not end in time.
            self.cut(self.ordered_cause());
        }
    }

    fn ordered_cause(&self) -> EndCause {
        self.entered.entry().order().map_or(EndCause::Cut, |order| order.cause)
    }

    /// Between two events: tells the client to come back, and ends both sides.
    fn leave(&mut self, cause: EndCause) {
        let random = u32::from_ne_bytes(self.entered.registry().mask());
        let retry = RETRY.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX));
        self.body.say_goodbye(retry, &mut self.pending);
        self.tell_all(cause);
    }

    /// Nothing more comes for the client than what is pending.
    fn tell_all(&mut self, cause: EndCause) {
        self.settle(cause);
        self.client.is_told_all = true;
        self.end_backend();
    }

    /// The client is gone, or must go at once.
    fn cut(&mut self, cause: EndCause) {
        self.settle(cause);
        self.client.socket = None;
        self.client.is_told_all = true;
        self.pending = Vec::new();
        self.written = 0;
        self.entered.entry().stamps.client_stalled.set(0);
        self.end_backend();
    }

    fn settle(&mut self, cause: EndCause) {
        self.entered.settle(cause);
        let entry = self.entered.entry();
        entry.stamps.ending.set(true);
        entry.clear_order();
    }

    fn end_backend(&mut self) {
        if let Some(socket) = self.backend.socket.as_ref().filter(|_| !self.backend.is_ending) {
            // If it fails, the connection is reset and the next read says so.
            let _ = SockRef::from(socket).shutdown(Shutdown::Write);
            self.backend.is_ending = true;
            self.set_deadline();
        }
    }

    /// The backend's end was seen, or its time is over: then it is reset. Either way the seat is free.
    fn backend_ended(&mut self, by_reset: bool) {
        if let Some(socket) = self.backend.socket.take().filter(|_| by_reset) {
            // If it fails, the connection is gone already.
            let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        }
        self.backend.is_ending = false;
        self.entered.release();
    }

    fn set_deadline(&self) {
        self.entered.entry().stamps.deadline.set(self.entered.registry().now().saturating_add(ticks_past(END_MAX)));
    }
}

/// The client's side.
impl Stream {
    /// Reads what the client sends, for its end; the rest is dropped.
    fn watch_client(&mut self, cx: &mut Context<'_>) {
        while let Some(socket) = &mut self.client.socket {
            match read(socket, cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(0)) => self.cut(EndCause::ClientClosed),
                Poll::Ready(Err(_)) => self.cut(EndCause::ClientLost),
                Poll::Ready(Ok(n)) => {
                    self.client.chatter = self.client.chatter.saturating_add(n as u32);
                    if self.client.chatter > CHATTER_MAX {
                        self.cut(EndCause::ProtocolError);
                    }
                }
            }
        }
    }

    /// Writes what is pending; whether all of it is written.
    fn flush(&mut self, cx: &mut Context<'_>) -> bool {
        while self.written < self.pending.len() {
            let Some(socket) = &mut self.client.socket else { return false };
            match Pin::new(socket).poll_write(cx, &self.pending[self.written..]) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.written += n;
                    self.wrote(n);
                }
                Poll::Ready(_) => {
                    self.cut(EndCause::ClientLost);
                    return false;
                }
                Poll::Pending => {
                    self.stalled();
                    return false;
                }
            }
        }
        self.pending = Vec::new();
        self.written = 0;
        true
    }

    /// Writes the client's bytes; what it does not take now is pending.
    fn write(&mut self, cx: &mut Context<'_>, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(socket) = &mut self.client.socket else { return };
            match Pin::new(socket).poll_write(cx, bytes) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.wrote(n);
                    bytes = &bytes[n..];
                }
                Poll::Ready(_) => return self.cut(EndCause::ClientLost),
                Poll::Pending => {
                    self.pending.extend_from_slice(bytes);
                    return self.stalled();
                }
            }
        }
    }

    fn wrote(&self, n: usize) {
        let (entry, now) = (self.entered.entry(), self.entered.registry().now());
        entry.count_out(n);
        entry.stamps.moved.set(now);
        entry.stamps.client_stalled.set(0);
    }

    fn stalled(&self) {
        let stalled = &self.entered.entry().stamps.client_stalled;
        if stalled.get() == 0 {
            stalled.set(self.entered.registry().now());
        }
    }

    /// All is written: our FIN, then the client's is awaited.
    fn linger(&mut self) {
        if let Some(socket) = self.client.socket.as_ref().filter(|_| !self.client.is_lingering) {
            // If it fails, the connection is reset and the next read says so.
            let _ = SockRef::from(socket).shutdown(Shutdown::Write);
            self.client.is_lingering = true;
            // The backend's end may be awaited already; its time is not prolonged.
            if self.entered.entry().stamps.deadline.get() == 0 {
                self.set_deadline();
            }
        }
    }
}

/// The backend's side.
impl Stream {
    fn take_early(&mut self, early: &[u8]) {
        let bytes = ROOM_BEFORE..ROOM_BEFORE + early.len();
        let mut buffer = vec![0; bytes.end + ROOM_AFTER];
        buffer[bytes.clone()].copy_from_slice(early);
        let taken = self.body.take(&mut buffer, bytes);
        self.pending.extend_from_slice(&buffer[taken.out]);
        self.ended(taken.end);
    }

    /// Moves bytes to the client until one side is not ready.
    fn relay(&mut self, cx: &mut Context<'_>) {
        while self.flush(cx) {
            if self.client.is_told_all {
                return self.linger();
            }
            if self.read_backend(cx).is_pending() {
                return;
            }
        }
    }

    fn read_backend(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        scratch::with(|buffer| {
            let Some(socket) = self.backend.socket.as_mut() else { return Poll::Pending };
            let room = buffer.len() - ROOM_AFTER;
            let mut free = ReadBuf::new(&mut buffer[ROOM_BEFORE..room]);
            let result = std::task::ready!(Pin::new(socket).poll_read(cx, &mut free));
            let bytes = ROOM_BEFORE..ROOM_BEFORE + free.filled().len();
            if result.is_err() || bytes.is_empty() {
                self.backend_closed(result.is_ok() && self.body.ends_with_connection());
            } else {
                self.entered.entry().stamps.moved.set(self.entered.registry().now());
                let taken = self.body.take(buffer, bytes);
                self.write(cx, &buffer[taken.out]);
                self.ended(taken.end);
            }
            Poll::Ready(())
        })
    }

    /// The body ended, in whatever way.
    fn ended(&mut self, end: Option<End>) {
        match end {
            Some(End::Complete) => {
                self.body.finish(&mut self.pending);
                self.tell_all(EndCause::BackendClosed);
            }
            Some(End::Left) => {
                self.leave(self.ordered_cause());
            }
            // The client can tell from the missing last chunk.
            Some(End::Broken) => self.tell_all(EndCause::ProtocolError),
            None => {}
        }
    }

    /// The backend's connection ended before ours: properly, or else in the middle of its body.
    fn backend_closed(&mut self, properly: bool) {
        if properly {
            self.body.finish(&mut self.pending);
        }
        self.settle(if properly { EndCause::BackendClosed } else { EndCause::BackendLost });
        self.client.is_told_all = true;
        self.backend_ended(false);
    }

    /// Reads what an ending backend still sends, for its end.
    fn await_backend(&mut self, cx: &mut Context<'_>) {
        while let Some(socket) = self.backend.socket.as_mut().filter(|_| self.backend.is_ending) {
            match read(socket, cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(_) => self.backend_ended(false),
            }
        }
    }
}

/// Reads and forgets; how many bytes.
fn read(socket: &mut TcpStream, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
    scratch::with(|buffer| {
        let mut free = ReadBuf::new(buffer);
        std::task::ready!(Pin::new(socket).poll_read(cx, &mut free))?;
        Poll::Ready(Ok(free.filled().len()))
    })
}
