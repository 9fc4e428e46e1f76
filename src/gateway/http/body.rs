//! Bodies of answers to plain requests, and what they hold on to while they are on their way.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use crate::clock::poll_elapsed;
use crate::gateway::admission::poll::held::InFlight;
use crate::gateway::upstream::pool::PooledConnection;
use crate::gateway::upstream::request_body::Progress;

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
    pooled: Option<PooledConnection>,
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
        pooled: PooledConnection,
        request: Progress,
        idle: Option<Duration>,
        poll: Option<Box<InFlight>>,
        in_flight: [Counted; 2],
    ) -> Self {
        // A session has timers of its own.
        let idle = idle.filter(|_| poll.is_none()).map(|d| (d, Box::pin(tokio::time::sleep(d))));
        Relayed { body, pooled: Some(pooled), request, idle, end: None, poll, _in_flight: in_flight }
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
                ready!(poll_elapsed(sleep.as_mut(), cx));
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
            // hyper asks for nothing behind trailers.
            Some(Ok(frame)) if frame.is_trailers() => Some(End::Whole),
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
        if let Some(pooled) = self.pooled.take().filter(|_| whole && self.request.is_whole()) {
            pooled.give_back();
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
        // Whoever sees the lower number sees the seat of a session that the request became.
        self.of.value().fetch_sub(1, Ordering::Release);
    }
}
