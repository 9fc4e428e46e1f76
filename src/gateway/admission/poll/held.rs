//! What all threads share of one long-poll session, and its polls.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use holdline_core::affinity::Key;
use holdline_core::ids::SessionId;
use holdline_core::poll::PollSession;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::gateway::admission::backend::Backend;
use crate::gateway::admission::handshake::Handshake;
use crate::gateway::limits::permit::SessionPermit;
use crate::telemetry::names::handshake as handshake_result;

/// One session.
pub(crate) struct SharedPollSession {
    pub(crate) id: SessionId,
    pub(crate) backend: Arc<Backend>,
    /// `None`: it is not in the table, and has one poll.
    pub(crate) key: Option<Key>,
    /// Never locked while its shard of the table is waited for: the table locks in the other order.
    pub(crate) life: Mutex<PollSession>,
    cut: Cut,
    /// Given back by the keeper, or at once by the last poll of a session that is over with it: its client may begin another right away.
    permit: Mutex<Option<SessionPermit>>,
    pub(crate) moved: Moved,
    clock: Clock,
    /// Where it stands with its keeper, and how that is told.
    place: usize,
    due_sessions: Arc<DueSessions>,
}

/// Who keeps a session.
pub(crate) struct By {
    pub(crate) clock: Clock,
    /// Where it stands there.
    pub(crate) place: usize,
    pub(crate) due_sessions: Arc<DueSessions>,
}

/// Sessions that are due, as polls on any thread report them.
#[derive(Debug, Default)]
pub(crate) struct DueSessions {
    /// Places; a session is here once or twice, for it is due only when its last poll is over.
    pub(super) due: Mutex<Vec<usize>>,
    pub(super) changed: Notify,
}

impl DueSessions {
    pub(super) fn push(&self, place: usize) {
        self.due.lock().push(place);
        self.changed.notify_one();
    }
}

/// Whether polls are to break off, and what those wait for that have to be told.
#[derive(Debug, Default)]
struct Cut {
    is_set: AtomicBool,
    told: Notify,
}

/// What went through since the keeper last asked.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    polled: AtomicBool,
}

impl Moved {
    /// Bytes of the client and of the backend, and whether anything happened; from now on they count from zero.
    pub(crate) fn take(&self) -> (usize, usize, bool) {
        let [bytes_in, bytes_out] = [&self.bytes_in, &self.bytes_out].map(|n| n.swap(0, Ordering::Relaxed) as usize);
        let polled = self.polled.swap(false, Ordering::Relaxed);
        (bytes_in, bytes_out, polled || bytes_in + bytes_out > 0)
    }
}

impl SharedPollSession {
    /// With its first poll in flight.
    pub(crate) fn new(id: SessionId, backend: Arc<Backend>, key: Option<Key>, permit: SessionPermit, by: By) -> Arc<Self> {
        let By { clock, place, due_sessions } = by;
        let now = clock.now();
        let life = Mutex::new(if key.is_some() { PollSession::new(now) } else { PollSession::of_one_poll(now) });
        let (cut, moved, permit) = (Cut::default(), Moved::default(), Mutex::new(Some(permit)));
        Arc::new(SharedPollSession { id, backend, key, life, cut, permit, moved, clock, place, due_sessions })
    }

    /// Gives its permit back.
    pub(crate) fn release_permit(&self) {
        drop(self.permit.lock().take());
    }

    /// Breaks its polls off. To be said until they are: one that begins to wait just now does not hear it.
    pub(crate) fn cut(&self) {
        self.cut.is_set.store(true, Ordering::Release);
        self.cut.told.notify_waiters();
    }

    /// Another poll; `None`: it takes none any more.
    pub(crate) fn join(self: &Arc<Self>) -> Option<InFlight> {
        let joined = self.life.lock().join();
        joined.then(|| InFlight::new(Arc::clone(self), None))
    }
}

/// A poll of a session, from the moment that it is known where it goes to the end of its answer.
pub(crate) struct InFlight {
    held: Arc<SharedPollSession>,
    /// Of the poll that began the session, until its answer.
    handshake: Option<Handshake>,
    /// Bytes of its body that the backend was sent.
    sent: Option<Rc<Cell<u64>>>,
    is_whole: bool,
    cut: Pin<Box<dyn Future<Output = ()>>>,
}

impl InFlight {
    fn new(held: Arc<SharedPollSession>, handshake: Option<Handshake>) -> Self {
        let of = Arc::clone(&held);
        let cut = Box::pin(async move { of.cut.told.notified().await });
        held.moved.polled.store(true, Ordering::Relaxed);
        InFlight { held, handshake, sent: None, is_whole: false, cut }
    }

    /// The poll that began the session.
    pub(crate) fn first(held: Arc<SharedPollSession>, handshake: Handshake) -> Self {
        Self::new(held, Some(handshake))
    }

    pub(crate) fn session(&self) -> SessionId {
        self.held.id
    }

    pub(crate) fn backend(&self) -> &Arc<Backend> {
        &self.held.backend
    }

    /// Bytes of its body that the backend was sent, counted elsewhere.
    pub(crate) fn carries(&mut self, sent: Rc<Cell<u64>>) {
        self.sent = Some(sent);
    }

    /// Resolves when it is to break off.
    pub(crate) async fn cut(&mut self) {
        poll_fn(|cx| self.poll_cut(cx)).await;
    }

    /// Ready when it is to break off; not to be asked again then.
    pub(crate) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.held.cut.is_set.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.cut.as_mut().poll(cx)
    }

    /// `n` bytes of the answer went to the client.
    pub(crate) fn count_out(&self, n: usize) {
        self.held.moved.bytes_out.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// How its answer ended.
    pub(crate) fn ends(&mut self, whole: bool) {
        self.is_whole = whole;
    }

    /// The backend broke its answer off. That ends no session but one that is this answer.
    pub(crate) fn breaks(&self) {
        if self.held.key.is_none() {
            self.held.life.lock().lose();
        }
    }

    /// Its backend answered.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        let is_error = status.is_client_error() || status.is_server_error();
        if !is_error {
            self.held.life.lock().answered();
        }
        if let Some(handshake) = self.handshake.take() {
            handshake.settle(if is_error { handshake_result::ANSWERED } else { handshake_result::OPENED });
        }
    }

    /// Its backend gave no answer.
    pub(crate) fn fails(&mut self) {
        if let Some(handshake) = self.handshake.take() {
            handshake.settle(handshake_result::REFUSED);
        }
    }

    /// Its backend cannot be reached.
    pub(crate) fn lose(&mut self) {
        self.held.life.lock().lose();
        // It goes on elsewhere.
        if let Some(handshake) = self.handshake.take() {
            handshake.forget();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let held = &self.held;
        if let Some(sent) = &self.sent {
            held.moved.bytes_in.fetch_add(sent.get(), Ordering::Relaxed);
        }
        let is_due = {
            let mut life = held.life.lock();
            life.left(self.is_whole, held.clock.now());
            life.is_due()
        };
        if is_due {
            held.release_permit();
            held.due_sessions.push(held.place);
        }
    }
}
