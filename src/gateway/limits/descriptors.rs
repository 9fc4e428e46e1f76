//! Open files: the one resource whose end would take the whole gateway down. A session needs two.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::Notify;

/// Kept for what is not a client's or a session's: listeners, admin, probes, pooled connections, logs, children's pipes. A small limit
/// keeps a quarter of itself instead; of 20,000 files 9,500 sessions remain.
const RESERVE: usize = 1_000;

/// How many client connections and sessions this process may hold, and holds.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// Client connections at most, sessions or not.
    clients_max: usize,
    /// Sessions at most: each has a socket to the backend too.
    sessions_max: usize,
    clients: AtomicUsize,
    sessions: AtomicUsize,
    freed: Notify,
}

impl Descriptors {
    /// Raises the soft limit of open files to the hard one and works within it.
    pub(crate) fn raise() -> Arc<Self> {
        let mut limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
            match setrlimit(Resource::Nofile, raised) {
                Ok(()) => limit = raised,
                Err(error) => {
                    tracing::warn!(%error, "cannot raise the limit of open files; sessions are bounded by the soft limit")
                }
            }
        }
        // `None` is "unlimited".
        Self::within(limit.current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX)))
    }

    /// Works within `files` open files.
    pub(crate) fn within(files: usize) -> Arc<Self> {
        let usable = files - RESERVE.min(files / 4);
        Arc::new(Descriptors {
            // Clients that are no sessions (yet) may use what sessions leave, but a backend's socket for the last one must fit.
            clients_max: usable.saturating_sub(1).max(1),
            sessions_max: (usable / 2).max(1),
            clients: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
            freed: Notify::new(),
        })
    }

    /// Resolves when another client may be accepted, so that accept never meets EMFILE. What waits until then are SYNs in the kernel's
    /// queue, which costs nobody a session.
    ///
    /// It keeps nothing: an accept loop that waits for its next client must not hold the place that another's client needs. So each loop
    /// may go one beyond the bound, for which the reserve has room.
    pub(crate) async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            // Sessions' backend sockets come out of the same pot.
            let bound = self.clients_max.saturating_sub(self.sessions.load(Ordering::Relaxed));
            if self.clients.load(Ordering::Acquire) < bound {
                return;
            }
            freed.await;
        }
    }

    /// Sessions that may be at once.
    pub(crate) fn sessions_max(&self) -> usize {
        self.sessions_max
    }

    /// Sockets of clients and of sessions' backends.
    pub(crate) fn sockets(&self) -> usize {
        self.clients.load(Ordering::Relaxed) + self.sessions.load(Ordering::Relaxed)
    }

    /// Counts a client's connection.
    pub(crate) fn client(self: &Arc<Self>) -> ClientSlot {
        self.clients.fetch_add(1, Ordering::AcqRel);
        ClientSlot(Arc::clone(self))
    }

    /// Counts a session; `None`: there are as many as may be.
    pub(crate) fn session(self: &Arc<Self>) -> Option<SessionSlot> {
        count_below(&self.sessions, self.sessions_max).then(|| SessionSlot(Arc::clone(self)))
    }
}

fn count_below(counter: &AtomicUsize, bound: usize) -> bool {
    let next = |n: usize| (n < bound).then_some(n + 1);
    counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok()
}

/// One client connection, counted.
#[derive(Debug)]
pub(crate) struct ClientSlot(Arc<Descriptors>);

impl Drop for ClientSlot {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_waiters();
    }
}

/// One session, counted.
#[derive(Debug)]
pub(crate) struct SessionSlot(Arc<Descriptors>);

impl Drop for SessionSlot {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn sessions_leave_room_for_their_second_socket() {
        let d = Descriptors::within(20_000);
        assert_eq!(d.sessions_max, (20_000 - RESERVE) / 2);
        let tiny = Descriptors::within(8);
        let held: Vec<_> = std::iter::from_fn(|| tiny.session()).collect();
        assert_eq!(held.len(), 3);
        drop(held);
        assert!(tiny.session().is_some());
    }

    #[tokio::test]
    async fn accept_pauses_until_somebody_leaves() {
        let d = Descriptors::within(4);
        d.room().await;
        let first = d.client();
        d.room().await;
        let second = d.client();
        let mut third = Box::pin(d.room());
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        third.await;
        drop(second);
    }

    #[tokio::test]
    async fn who_waits_for_a_client_keeps_nobody_elses_out() {
        let d = Descriptors::within(4);
        let _first = d.client();
        let idle = Box::pin(d.room());
        assert!(idle.now_or_never().is_some(), "one place is left");
        assert!(d.room().now_or_never().is_some(), "and it still is");
    }
}
