//! An event stream in answer to a plain request. hyper carries its bytes, but it is a session like any: it holds a seat, is listed
//! and timed, and leaves between two events when its backend is drained.
//!
//! It obeys when hyper asks for more of the body. A client that does not read can hold that up until its connection ends.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use holdline_core::cause::{EndCause, RefuseCause};
use holdline_core::ids::SessionId;
use holdline_core::policy::DrainMode;
use holdline_core::wire::sse::Boundary;
use http::{HeaderMap, HeaderValue, header};
use rand::Rng;

use super::admission::SeatGuard;
use super::backend::Backend;
use super::fleets::Fleet;
use super::refuse::Refusal;
use super::registry::{EndOrder, Entered};
use super::room::Room;
use super::session::{Session, SessionKind};
use super::thread::Thread;
use super::timer::Due;

/// The stream's stay among the sessions.
pub(crate) struct Unasked {
    entered: Entered,
    /// `None`: the content is coded, and events cannot be seen.
    events: Option<Boundary>,
    leaving: Option<EndCause>,
    _room: Room,
}

/// What shall become of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    GoesOn,
    /// It ends here, properly.
    Ends,
    /// It breaks off.
    Breaks,
}

impl Unasked {
    /// Takes a seat on the backend that answers so, and enters the stream among the thread's sessions. Adds its id to `headers`.
    ///
    /// # Errors
    /// There is no seat, no room in this process, or too much of its address.
    pub(crate) fn enter(
        thread: &Rc<Thread>,
        fleet: &Arc<Fleet>,
        backend: &Backend,
        client: SocketAddr,
        headers: &mut HeaderMap,
    ) -> Result<Self, Refusal> {
        let room = Room::take(&thread.shared, client)?;
        let seat = backend.seats.reserve(thread.shared.clock.now()).map_err(|_| Refusal::busy(RefuseCause::Capacity))?;
        let seat = SeatGuard::new(seat, fleet);
        let id = SessionId(thread.rng.borrow_mut().random());
        if let Ok(value) = HeaderValue::try_from(id.to_string()) {
            headers.insert("holdline-session", value);
        }
        let events = (!headers.contains_key(header::CONTENT_ENCODING)).then(Boundary::default);
        let target = backend.target();
        // Its connection is hyper's, and counted there.
        let session = Session { id, kind: SessionKind::Sse, client, target, seat, stay: None };
        Ok(Unasked { entered: thread.registry.enter(session), events, leaving: None, _room: room })
    }

    /// To be asked before the body is polled.
    pub(crate) fn obey(&mut self, cx: &Context<'_>) -> Fate {
        let entry = self.entered.entry();
        entry.listen(cx.waker());
        let ordered = match (entry.take_due(), entry.order()) {
            (Some(Due::End(cause)), _) => Some(EndOrder { mode: DrainMode::Close, cause }),
            (_, order) => order,
        };
        let Some(EndOrder { mode, cause }) = ordered else { return Fate::GoesOn };
        match (mode, &self.events) {
            (DrainMode::Close, Some(events)) if events.is_at() => self.end(cause, Fate::Ends),
            (DrainMode::Close, Some(_)) => {
                self.leaving = Some(cause);
                Fate::GoesOn
            }
            // Where no event's end is seen, no end is proper.
            (DrainMode::Close, None) | (DrainMode::Cut, _) => self.end(cause, Fate::Breaks),
        }
    }

    /// Follows bytes on their way to the client; cuts them to the last whole event when the stream leaves.
    pub(crate) fn pass(&mut self, bytes: &mut Bytes) -> Fate {
        let boundary = self.events.as_mut().and_then(|events| events.feed(bytes));
        let fate = match (self.leaving, boundary) {
            (Some(cause), Some(whole)) => {
                bytes.truncate(whole);
                self.end(cause, Fate::Ends)
            }
            _ => Fate::GoesOn,
        };
        let entry = self.entered.entry();
        entry.count_out(bytes.len());
        entry.stamps.moved.set(self.entered.registry().now());
        fate
    }

    /// The backend ended it, properly or not.
    pub(crate) fn backend_ended(&mut self, whole: bool) {
        self.entered.settle(if whole { EndCause::BackendClosed } else { EndCause::BackendLost });
    }

    fn end(&mut self, cause: EndCause, fate: Fate) -> Fate {
        self.entered.settle(cause);
        fate
    }
}

impl Drop for Unasked {
    fn drop(&mut self) {
        // hyper drops a body before its end only when the client has gone.
        self.entered.settle(EndCause::ClientClosed);
    }
}
