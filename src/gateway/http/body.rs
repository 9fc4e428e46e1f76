//! Bodies that cross the gateway with plain requests, and what they hold on to while they do.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use holdline_core::time::Moment;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::poll::InFlight;
use crate::clock::Clock;
use crate::gateway::upstream::pool::Lease;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer to a client.
pub(crate) enum AnswerBody {
    /// Our own words.
    Own(Option<Bytes>),
    /// A backend's.
    Relayed(Box<Relayed>),
}

impl From<Bytes> for AnswerBody {
    fn from(bytes: Bytes) -> Self {
        AnswerBody::Own((!bytes.is_empty()).then_some(bytes))
    }
}

/// A backend's body on its way, with the connection that it comes from: whole, the connection can be used again; else it is closed.
pub(crate) struct Relayed {
    body: Incoming,
    lease: Option<Lease>,
    request: Progress,
    idle: Option<(Duration, Pin<Box<Sleep>>)>,
    end: Option<End>,
    /// It answers a poll of a session.
    poll: Option<Box<InFlight>>,
    _in_flight: [Counted; 2],
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// All of it was read: its connection can be used again.
    Whole,
    /// We ended it, or the backend broke off.
    Early,
}

impl Relayed {
    /// `idle`: the longest silence of the backend. `in_flight` is counted until the body is over.
    pub(crate) fn new(
        body: Incoming,
        lease: Lease,
        request: Progress,
        idle: Option<Duration>,
        poll: Option<Box<InFlight>>,
        in_flight: [Counted; 2],
    ) -> Self {
        // A session has timers of its own.
        let idle = idle.filter(|_| poll.is_none()).map(|d| (d, Box::pin(tokio::time::sleep(d))));
        Relayed { body, lease: Some(lease), request, idle, end: None, poll, _in_flight: in_flight }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        if self.poll.as_mut().is_some_and(|poll| poll.poll_cut(cx).is_ready()) {
            return self.breaks("the session was cut");
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => self.passed(frame),
            Poll::Pending => {
                let Some((_, sleep)) = &mut self.idle else { return Poll::Pending };
                ready!(sleep.as_mut().poll(cx));
                self.breaks("the backend was silent for too long")
            }
        }
    }

    fn passed(&mut self, frame: Option<hyper::Result<Frame<Bytes>>>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some((limit, sleep)) = &mut self.idle {
            *sleep = Box::pin(tokio::time::sleep(*limit));
        }
        match (&frame, &self.poll) {
            (Some(Ok(frame)), Some(poll)) => poll.count_out(frame.data_ref().map_or(0, Bytes::len)),
            (Some(Err(_)), Some(poll)) => poll.breaks(),
            _ => {}
        }
        self.end = match &frame {
            Some(Ok(_)) => None,
            Some(Err(_)) => Some(End::Early),
            None => Some(End::Whole),
        };
        Poll::Ready(frame.map(|f| f.map_err(Into::into)))
    }

    fn breaks(&mut self, why: &'static str) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.end = Some(End::Early);
        Poll::Ready(Some(Err(why.into())))
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        // hyper does not poll a body past its announced length.
        let whole = self.end == Some(End::Whole) || (self.end.is_none() && self.body.is_end_stream());
        if let Some(poll) = &mut self.poll {
            poll.ends(whole);
        }
        // What is left of the request would come before the next one.
        if let Some(lease) = self.lease.take().filter(|_| whole && self.request.is_whole()) {
            lease.give_back();
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            AnswerBody::Own(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            AnswerBody::Relayed(relayed) => relayed.poll_next(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnswerBody::Own(bytes) => bytes.is_none(),
            // After an early end hyper is to hear of it from `poll_frame`, as what it is.
            AnswerBody::Relayed(relayed) => relayed.end.is_none() && relayed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            AnswerBody::Relayed(relayed) => relayed.body.size_hint(),
        }
    }
}

/// The body of a request to a backend.
pub(crate) enum RequestBody {
    /// None, so the request can be sent again.
    Empty,
    /// The client's.
    Client(Incoming, Progress),
}

/// How far a client's body has come, shared with whoever waits for the answer: while it moves, the backend is not late.
#[derive(Clone)]
pub(crate) struct Progress {
    clock: Clock,
    moved: Rc<Cell<Moment>>,
    bytes: Rc<Cell<u64>>,
    stage: Rc<Cell<Stage>>,
}

/// Who has the next move with a client's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The backend: it was sent what the client sent, and has to take it.
    Sent,
    /// The client: more of it could be sent.
    Awaited,
    /// The backend: it has all of it.
    Whole,
    /// Nobody: the client broke off, or what it sent is no body.
    Broken,
}

impl Progress {
    pub(crate) fn new(clock: Clock, is_whole: bool) -> Self {
        let stage = if is_whole { Stage::Whole } else { Stage::Sent };
        Progress { clock, moved: Rc::new(Cell::new(clock.now())), bytes: Rc::default(), stage: Rc::new(Cell::new(stage)) }
    }

    /// When the body last moved, or the request was sent.
    pub(crate) fn moved(&self) -> Moment {
        self.moved.get()
    }

    /// Bytes of it that the backend was sent.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// The client sent all of it.
    pub(crate) fn is_whole(&self) -> bool {
        self.stage.get() == Stage::Whole
    }

    /// The client will not send the rest.
    pub(crate) fn is_broken(&self) -> bool {
        self.stage.get() == Stage::Broken
    }

    /// It is the client that keeps everybody waiting.
    pub(crate) fn is_awaited(&self) -> bool {
        self.stage.get() == Stage::Awaited
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let RequestBody::Client(body, progress) = self.get_mut() else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
            progress.stage.set(Stage::Awaited);
            return Poll::Pending;
        };
        progress.moved.set(progress.clock.now());
        let data = frame.as_ref().and_then(|f| f.as_ref().ok()?.data_ref());
        progress.bytes.set(progress.bytes.get() + data.map_or(0, |d| d.len() as u64));
        progress.stage.set(match frame {
            Some(Err(_)) => Stage::Broken,
            None => Stage::Whole,
            Some(Ok(_)) if body.is_end_stream() => Stage::Whole,
            Some(Ok(_)) => Stage::Sent,
        });
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Client(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Client(body, _) => body.size_hint(),
        }
    }
}

/// One in a counter that many share.
pub(crate) struct Counted {
    of: Counter,
}

/// Whose counter it is.
pub(crate) enum Counter {
    Fleet(Arc<crate::gateway::admission::fleet::Fleet>),
    Backend(Arc<crate::gateway::admission::backend::Backend>),
}

impl Counter {
    fn value(&self) -> &AtomicU32 {
        match self {
            Counter::Fleet(fleet) => &fleet.requests,
            Counter::Backend(backend) => &backend.requests,
        }
    }
}

impl Counted {
    pub(crate) fn new(of: Counter) -> Self {
        of.value().fetch_add(1, Ordering::Relaxed);
        Counted { of }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.of.value().fetch_sub(1, Ordering::Relaxed);
    }
}
