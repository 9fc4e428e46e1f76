//! An event stream: one future relays the backend's body, watches the client's end, and leaves between two events when it must.
//!
//! Like the tunnel it owns no buffer while nothing is held up, and sleeps until a socket, the thread's timer or an order wakes it.

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use holdline_core::cause::EndCause;
use holdline_core::drain::Ending;
use holdline_core::policy::DrainMode;
use holdline_core::wire::forward::{self, Reply, ReplyBody};
use holdline_core::wire::head::{self, ResponseHead};

use super::reframe::{End, Leave, ROOM_AFTER, ROOM_BEFORE, Reframe};
use super::registry::{Entered, Registry};
use super::side::{Side, Stall};
use super::target::Session;
use super::timer::{Due, ticks_past};
use super::tunnel::STEP_MAX;
use crate::net::scratch;
use crate::net::socket::Socket;
use crate::net::socket::Transport;

/// The middle of what clients are told to wait before they come back, spread by ±50 %. A drain has its own pace: this only keeps those
/// apart that left in the same moment.
const RETRY: Duration = Duration::from_secs(1);

/// What a client may send after its request, in bytes; it is read, to see its end, and dropped. There is nothing that it could have to say.
const CHATTER_MAX: usize = 64 << 10;

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

/// The relay of `session` between two sockets that are set up, from the head to the client on; to be spawned on its thread as a task of its own (`spawn_local`).
pub(crate) fn run(
    client: Socket,
    backend: Socket,
    start: Start<'_>,
    session: Session,
    registry: &Rc<Registry>,
) -> Stream<Socket, Socket> {
    let framing = if start.is_http11 { ReplyBody::Chunked } else { ReplyBody::UntilClose };
    let reply = Reply { body: framing, session: Some(session.id), set_cookie: start.set_cookie };
    let head = forward::reply(start.response, &reply);
    // Compressed though that was not asked for, it is passed on, but its events cannot be seen.
    let body = Reframe::new(start.body, start.is_http11, start.response.is_identity_coded());
    Stream::new(client, backend, head, body, start.early, registry.enter(session))
}

/// An event stream session, until both sockets are through.
pub struct Stream<C: Transport, B: Transport> {
    client: Side<C>,
    backend: Side<B>,
    body: Reframe,
    /// Bytes that the client sent.
    chatter: usize,
    /// The body has ended: the client gets no more than what waits for it, and both peers' ends are awaited.
    is_over: bool,
    /// Last, so that the sockets are closed before the seat is given back.
    entered: Entered,
}

impl<C: Transport, B: Transport> Future for Stream<C, B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let stream = self.get_mut();
        stream.entered.entry().listen(cx.waker());
        stream.work(cx);
        if let Some(due) = stream.entered.take_due() {
            stream.heed(due);
            stream.work(cx);
        }
        stream.watch_step();
        if stream.backend.over() {
            stream.entered.release();
        }
        if stream.backend.over() && stream.client.over() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<C: Transport, B: Transport> Stream<C, B> {
    /// `head` is the client's; `early` was read behind the backend's.
    fn new(client: C, backend: B, mut head: Vec<u8>, mut body: Reframe, early: &[u8], entered: Entered) -> Self {
        let bytes = ROOM_BEFORE..ROOM_BEFORE + early.len();
        let mut buffer = vec![0; bytes.end + ROOM_AFTER];
        buffer[bytes.clone()].copy_from_slice(early);
        let taken = body.take(&mut buffer, bytes);
        entered.entry().count_out(taken.out.len());
        head.extend_from_slice(&buffer[taken.out]);
        if taken.end == Some(End::Complete) {
            head.extend_from_slice(body.last());
        }
        let (client, backend) = (Side::new(client, &head), Side::new(backend, &[]));
        let mut stream = Stream { client, backend, body, chatter: 0, is_over: false, entered };
        if let Some(end) = taken.end {
            stream.end(stream.cause_of(end));
        }
        stream
    }

    /// Obeys orders and moves bytes, until there is nothing to do now.
    fn work(&mut self, cx: &mut Context<'_>) {
        self.obey(cx);
        // A client's end is looked for first: a FIN that came before a write failed is still a FIN.
        self.hear_client(cx);
        self.relay(cx);
        self.hear_out_backend(cx);
    }

    /// Does what the timer woke the session for.
    fn heed(&mut self, due: Due) {
        match due {
            Due::Deadline => self.deadline_passed(),
            Due::End(EndCause::WriteTimeout) => self.cut(EndCause::WriteTimeout),
            Due::End(cause) => self.end_in_time(cause),
            Due::SetUp => self.entered.set_up(&self.backend),
            Due::Ping => {}
        }
    }

    fn obey(&mut self, cx: &mut Context<'_>) {
        match self.entered.entry().order() {
            Some(Ending { mode: DrainMode::Cut, cause }) => self.cut(cause),
            Some(Ending { mode: DrainMode::Close, cause }) if !self.is_over => match self.body.leave() {
                Leave::Now => self.leave(cause, cx),
                Leave::AfterEvent => {}
                // No end of it is proper.
                Leave::Never => self.cut(cause),
            },
            _ => {}
        }
    }

    /// Reads what the client sends, for its end; the rest is dropped.
    fn hear_client(&mut self, cx: &mut Context<'_>) {
        while !self.client.ended() {
            let Poll::Ready(n) = scratch::with(|buffer| self.client.poll_read(cx, buffer)) else { return };
            self.chatter = self.chatter.saturating_add(n);
            if n == 0 {
                // A read that failed has closed the side.
                self.cut(if self.client.lost() { EndCause::ClientLost } else { EndCause::ClientClosed });
            } else if self.chatter > CHATTER_MAX {
                self.cut(EndCause::ProtocolError);
            }
        }
    }

    /// Moves bytes to the client until one side is not ready, or all was sent.
    fn relay(&mut self, cx: &mut Context<'_>) {
        loop {
            self.client.flush(cx, stall(&self.entered));
            if self.client.lost() && !self.client.ended() {
                self.cut(EndCause::ClientLost);
            }
            if self.is_over || self.client.waits() || self.relay_once(cx).is_pending() {
                return;
            }
        }
    }

    fn relay_once(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        scratch::with(|buffer| {
            let room = buffer.len() - ROOM_AFTER;
            let n = std::task::ready!(self.backend.poll_read(cx, &mut buffer[ROOM_BEFORE..room]));
            if n == 0 {
                self.backend_ended(cx);
                return Poll::Ready(());
            }
            let taken = self.body.take(buffer, ROOM_BEFORE..ROOM_BEFORE + n);
            self.entered.entry().stamps.moved.set(self.entered.registry().now());
            self.entered.entry().count_out(taken.out.len());
            self.client.send(cx, &buffer[taken.out], stall(&self.entered));
            match taken.end {
                None => {}
                Some(End::Left) => self.leave(self.cause_of(End::Left), cx),
                Some(end) => {
                    if end == End::Complete {
                        self.client.send(cx, self.body.last(), stall(&self.entered));
                    }
                    self.end(self.cause_of(end));
                }
            }
            Poll::Ready(())
        })
    }

    fn cause_of(&self, end: End) -> EndCause {
        match end {
            End::Complete => EndCause::BackendClosed,
            End::Left => self.entered.entry().order().map_or(EndCause::Cut, |order| order.cause),
            // The client can tell from the missing last chunk.
            End::Broken => EndCause::ProtocolError,
        }
    }

    /// The backend's connection ended before its body was known to: properly, or else in the middle of it. A client that has whole events
    /// is told when to come back; one that has half of one can tell from the missing last chunk.
    fn backend_ended(&mut self, cx: &mut Context<'_>) {
        if !self.backend.lost() && !self.backend.torn() && self.body.ends_with_connection() {
            self.client.send(cx, self.body.last(), stall(&self.entered));
            self.end(EndCause::BackendClosed);
        } else if self.body.leave() == Leave::Now {
            self.leave(EndCause::BackendLost, cx);
        } else {
            self.end(EndCause::BackendLost);
        }
    }

    /// Waits for the backend's end after ours. One that sends more instead did not take note, or cannot read: the reset tells it that
    /// nobody listens, as a client's own would.
    fn hear_out_backend(&mut self, cx: &mut Context<'_>) {
        if !self.is_over {
            return;
        }
        self.backend.flush(cx, stall(&self.entered));
        if self.backend.ended() {
            return;
        }
        if let Poll::Ready(1..) = scratch::with(|buffer| self.backend.poll_read(cx, buffer)) {
            self.backend.reset();
        }
    }
}

/// What makes it end.
impl<C: Transport, B: Transport> Stream<C, B> {
    /// Between two events: tells the client when to come back, and ends both sides.
    fn leave(&mut self, cause: EndCause, cx: &mut Context<'_>) {
        let random = u32::from_ne_bytes(self.entered.registry().mask());
        let retry = RETRY.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX));
        self.client.send(cx, &self.body.goodbye(retry), stall(&self.entered));
        self.end(cause);
    }

    /// Both sides get our end: the client's follows what waits for it.
    fn end(&mut self, cause: EndCause) {
        self.entered.settle(cause);
        let entry = self.entered.entry();
        entry.clear_order();
        entry.stamps.ending.set(true);
        self.client.finish();
        if self.backend.finish() {
            self.step_begins();
        }
        self.is_over = true;
    }

    /// The same, but the client is gone, or must go at once.
    fn cut(&mut self, cause: EndCause) {
        self.end(cause);
        self.client.close();
        self.entered.entry().stamps.client_stalled.set(0);
    }

    /// A timeout passed: the stream shall be left, but does not wait for the end of its event for ever. Called again every tick until then.
    fn end_in_time(&self, cause: EndCause) {
        let entry = self.entered.entry();
        if entry.order().is_none() {
            entry.set_order(Ending { mode: DrainMode::Close, cause });
        }
        if entry.stamps.deadline.get() == 0 {
            self.step_begins();
        }
    }

    fn step_begins(&self) {
        let until = self.entered.registry().now().saturating_add(ticks_past(STEP_MAX));
        self.entered.entry().stamps.deadline.set(until);
    }

    /// The present step took too long.
    fn deadline_passed(&mut self) {
        self.entered.entry().stamps.deadline.set(0);
        if !self.is_over {
            // Its event did not end in time.
            return self.cut(self.cause_of(End::Left));
        }
        if !self.backend.over() {
            self.backend.reset();
        }
        if self.client.finished() {
            self.client.close();
        }
    }

    /// A client that has got everything has time to close: if we closed first, what it sends would reset what it has not read yet.
    /// One that has not is given up for stalled writes only.
    fn watch_step(&self) {
        if self.is_over && self.client.finished() && !self.client.over() && self.entered.entry().stamps.deadline.get() == 0 {
            self.step_begins();
        }
    }
}

impl<C: Transport, B: Transport> Drop for Stream<C, B> {
    /// Dropped before its end (a panic, the thread's end), the backend must not go on counting a session whose seat is free again.
    fn drop(&mut self) {
        if self.entered.holds_seat() {
            self.backend.reset();
        }
    }
}

/// The clock of writes to the client. The backend is sent nothing but our end, which never waits.
fn stall(entered: &Entered) -> Stall<'_> {
    Stall { since: &entered.entry().stamps.client_stalled, now: entered.registry().now() }
}
