//! The body of a plain request on its way to a backend.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use holdline_core::time::Moment;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::clock::Clock;

/// The body of a request to a backend.
pub(crate) enum RequestBody {
    /// None, so the request can be sent again.
    Empty,
    /// The client's.
    Client(Incoming, Progress),
}

/// Progress of a client's body, shared with the task that awaits the answer: while the body moves, the backend is not late.
#[derive(Clone)]
pub(crate) struct Progress {
    clock: Clock,
    moved: Rc<Cell<Moment>>,
    bytes: Rc<Cell<u64>>,
    stage: Rc<Cell<BodyState>>,
}

/// Who has the next move with a client's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyState {
    /// The backend: it was sent what the client sent, and has to take it.
    Sent,
    /// The client: more of it could be sent.
    Awaited,
    /// The backend: it has all of it.
    Whole,
    /// The client aborted, or what it sent is not a valid body.
    Broken,
}

impl Progress {
    pub(crate) fn new(clock: Clock, is_whole: bool) -> Self {
        let stage = if is_whole { BodyState::Whole } else { BodyState::Sent };
        Progress { clock, moved: Rc::new(Cell::new(clock.now())), bytes: Rc::default(), stage: Rc::new(Cell::new(stage)) }
    }

    /// When the body last moved, or the request was sent.
    pub(crate) fn moved(&self) -> Moment {
        self.moved.get()
    }

    /// Bytes of it that the backend was sent.
    pub(crate) fn sent(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.bytes)
    }

    /// The client sent all of it.
    pub(crate) fn is_whole(&self) -> bool {
        self.stage.get() == BodyState::Whole
    }

    /// The client will not send the rest.
    pub(crate) fn is_broken(&self) -> bool {
        self.stage.get() == BodyState::Broken
    }

    /// It is the client that keeps everybody waiting.
    pub(crate) fn is_awaited(&self) -> bool {
        self.stage.get() == BodyState::Awaited
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let RequestBody::Client(body, progress) = self.get_mut() else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
            progress.stage.set(BodyState::Awaited);
            return Poll::Pending;
        };
        progress.moved.set(progress.clock.now());
        let is_last = frame.as_ref().is_some_and(|f| f.as_ref().is_ok_and(Frame::is_trailers));
        let data = frame.as_ref().and_then(|f| f.as_ref().ok()?.data_ref());
        progress.bytes.set(progress.bytes.get() + data.map_or(0, |d| d.len() as u64));
        progress.stage.set(match frame {
            Some(Err(_)) => BodyState::Broken,
            None => BodyState::Whole,
            Some(Ok(_)) if is_last || body.is_end_stream() => BodyState::Whole,
            Some(Ok(_)) => BodyState::Sent,
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
