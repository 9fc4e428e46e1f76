//! What all threads share of one long-poll session, and its polls.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use holdline_core::affinity::Key;
use holdline_core::ids::SessionId;
use holdline_core::poll::Life;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::keeper::Bell;
use crate::clock::Clock;
use crate::gateway::admission::backend::Backend;
use crate::gateway::admission::fleet::Fleet;
use crate::gateway::http::body::Progress;
use crate::gateway::http::plain::Failure;
use crate::gateway::limits::permit::Room;
use crate::telemetry::names::handshake as handshake_result;

/// One session.
pub(super) struct Held {
    pub(super) id: SessionId,
    pub(super) backend: Arc<Backend>,
    /// `None`: it is not in the table, and has one poll.
    pub(super) key: Option<Key>,
    /// Never locked while its shard of the table is waited for: the table locks in the other order.
    pub(super) life: Mutex<Life>,
    cut: Cut,
    /// Given back by the keeper, or at once by the last poll of a session that is over with it: its client may begin another right away.
    room: Mutex<Option<Room>>,
    pub(super) moved: Moved,
    clock: Clock,
    /// Where it stands with its keeper, and how that is told.
    place: usize,
    bell: Arc<Bell>,
}

/// Who keeps a session.
pub(super) struct By {
    pub(super) clock: Clock,
    /// Where it stands there.
    pub(super) place: usize,
    pub(super) bell: Arc<Bell>,
}

/// Whether polls are to break off, and the bell for those that wait.
#[derive(Debug, Default)]
struct Cut {
    is_set: AtomicBool,
    told: Notify,
}

/// What went through since the keeper last asked.
#[derive(Debug, Default)]
pub(super) struct Moved {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    polled: AtomicBool,
}

impl Moved {
    /// Bytes of the client and of the backend, and whether anything happened; from now on they count from zero.
    pub(super) fn take(&self) -> (usize, usize, bool) {
        let [bytes_in, bytes_out] = [&self.bytes_in, &self.bytes_out].map(|n| n.swap(0, Ordering::Relaxed) as usize);
        let polled = self.polled.swap(false, Ordering::Relaxed);
        (bytes_in, bytes_out, polled || bytes_in + bytes_out > 0)
    }
}

impl Held {
    /// With its first poll in flight.
    pub(super) fn new(id: SessionId, backend: Arc<Backend>, key: Option<Key>, room: Room, by: By) -> Arc<Self> {
        let By { clock, place, bell } = by;
        let now = clock.now();
        let life = Mutex::new(if key.is_some() { Life::new(now) } else { Life::of_one_poll(now) });
        let (cut, moved, room) = (Cut::default(), Moved::default(), Mutex::new(Some(room)));
        Arc::new(Held { id, backend, key, life, cut, room, moved, clock, place, bell })
    }

    /// Gives its room back.
    pub(super) fn leave_room(&self) {
        drop(self.room.lock().take());
    }

    /// Breaks its polls off. To be said until they are: one that begins to wait just now does not hear it.
    pub(super) fn cut(&self) {
        self.cut.is_set.store(true, Ordering::Release);
        self.cut.told.notify_waiters();
    }

    /// Another poll; `None`: it takes none any more.
    pub(super) fn join(self: &Arc<Self>) -> Option<InFlight> {
        let joined = self.life.lock().join();
        joined.then(|| InFlight::new(Arc::clone(self), None))
    }
}

/// A poll of a session, from the moment that it is known where it goes to the end of its answer.
pub(crate) struct InFlight {
    held: Arc<Held>,
    /// Of the poll that began the session, until its answer.
    handshake: Option<Handshake>,
    /// Of its body.
    progress: Option<Progress>,
    is_whole: bool,
    cut: Pin<Box<dyn Future<Output = ()>>>,
}

impl InFlight {
    fn new(held: Arc<Held>, handshake: Option<Handshake>) -> Self {
        let of = Arc::clone(&held);
        let cut = Box::pin(async move { of.cut.told.notified().await });
        held.moved.polled.store(true, Ordering::Relaxed);
        InFlight { held, handshake, progress: None, is_whole: false, cut }
    }

    /// The poll that began the session.
    pub(super) fn first(held: Arc<Held>, handshake: Handshake) -> Self {
        Self::new(held, Some(handshake))
    }

    /// Its session.
    pub(crate) fn session(&self) -> SessionId {
        self.held.id
    }

    pub(super) fn backend(&self) -> &Arc<Backend> {
        &self.held.backend
    }

    /// Whether its backend is one of the fleet's, at the address that it had.
    pub(super) fn is_served(&self, fleet: &Fleet) -> bool {
        let own = &self.held.backend;
        own.serves_its_own() && fleet.backend(&own.id).is_some_and(|b| Arc::ptr_eq(&b, own))
    }

    /// The body that goes with it.
    pub(super) fn carries(&mut self, body: &Progress) {
        self.progress = Some(body.clone());
    }

    /// Resolves when it is to break off.
    pub(super) async fn cut(&mut self) {
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
    pub(super) fn answered(&mut self, status: StatusCode) {
        let is_error = status.is_client_error() || status.is_server_error();
        if !is_error {
            self.held.life.lock().answered();
        }
        if let Some(handshake) = self.handshake.take() {
            handshake.settle(if is_error { handshake_result::ANSWERED } else { handshake_result::OPENED });
        }
    }

    /// Its backend gave no answer.
    pub(super) fn fails(&mut self, failure: Failure) -> Failure {
        if let Some(handshake) = self.handshake.take() {
            handshake.settle(handshake_result::REFUSED);
        }
        failure
    }

    /// Its backend cannot be reached.
    pub(super) fn lose(&mut self) {
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
        if let Some(progress) = &self.progress {
            held.moved.bytes_in.fetch_add(progress.bytes(), Ordering::Relaxed);
        }
        let is_due = {
            let mut life = held.life.lock();
            life.left(self.is_whole, held.clock.now());
            life.is_due()
        };
        if is_due {
            held.leave_room();
            held.bell.ring(held.place);
        }
    }
}

/// The beginning of a session, counted once: if nobody says how it went, its client left.
pub(super) struct Handshake(Option<Arc<Fleet>>);

impl Handshake {
    pub(super) fn begin(fleet: &Arc<Fleet>) -> Self {
        Handshake(Some(Arc::clone(fleet)))
    }

    /// How it went.
    pub(super) fn settle(mut self, result: &'static str) {
        if let Some(fleet) = self.0.take() {
            fleet.metrics.handshake(result);
        }
    }

    /// Another takes its place.
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        if let Some(fleet) = self.0.take() {
            fleet.metrics.handshake(handshake_result::GONE);
        }
    }
}
