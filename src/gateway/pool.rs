//! Connections to backends that plain requests use again. Each thread has its own, so none of it is locked.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::ids::{BackendId, FleetName};
use holdline_core::time::Moment;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use super::backend::Backend;
use super::body::RequestBody;
use super::thread::Thread;

/// Idle connections kept per backend and thread. More would cost descriptors that sessions could use.
const IDLE_MAX: usize = 8;

/// How long one is kept: below the 5 s after which common servers (Node) close an idle connection.
const IDLE_FOR: Duration = Duration::from_secs(4);

/// Between two looks for connections that were kept long enough.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The largest response head of a plain request, with what is read ahead of its body.
const BUFFER_MAX: usize = 64 << 10;

type Sender = SendRequest<RequestBody>;

/// The idle connections of one thread.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<(FleetName, BackendId), Vec<Idle>>>,
}

struct Idle {
    sender: Sender,
    since: Moment,
}

/// A connection in use. Dropped, it closes; given back, it can be used again.
pub(crate) struct Lease {
    pub(crate) sender: Sender,
    pub(crate) backend: Arc<Backend>,
    /// Another request was answered on it before: the backend may have closed it at the moment that we sent.
    pub(crate) is_reused: bool,
    thread: Rc<Thread>,
}

impl Lease {
    /// An idle connection to `backend`, the one last used.
    pub(crate) fn kept(thread: &Rc<Thread>, backend: &Arc<Backend>) -> Option<Lease> {
        let sender = thread.pool.take(backend, thread.shared.clock.now())?;
        Some(Lease { sender, backend: Arc::clone(backend), is_reused: true, thread: Rc::clone(thread) })
    }

    /// A connection made of a fresh socket.
    ///
    /// # Errors
    /// hyper's; there is nothing to fail in HTTP/1.
    pub(crate) async fn fresh(thread: &Rc<Thread>, backend: &Arc<Backend>, stream: TcpStream) -> io::Result<Lease> {
        let (sender, connection) =
            Builder::new().max_buf_size(BUFFER_MAX).handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        spawn_local(async move {
            // Its end and its errors show at the request that uses it.
            let _ = connection.await;
        });
        Ok(Lease { sender, backend: Arc::clone(backend), is_reused: false, thread: Rc::clone(thread) })
    }

    /// The answer was read whole.
    pub(crate) fn give_back(self) {
        // One that is retired is not kept from its exit by idle connections.
        if self.backend.takes_requests() && !self.thread.is_stopping() {
            self.thread.pool.put(&self.backend, self.sender, self.thread.shared.clock.now());
        }
    }
}

impl Pool {
    fn take(&self, backend: &Backend, now: Moment) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&key(backend))?;
        kept.retain(|i| i.is_fit(now));
        // One that just gave its last byte may not be ready yet; it will be.
        let ready = kept.iter().rposition(|i| i.sender.is_ready())?;
        Some(kept.remove(ready).sender)
    }

    fn put(&self, backend: &Backend, sender: Sender, now: Moment) {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(key(backend)).or_default();
        if kept.len() >= IDLE_MAX {
            kept.remove(0);
        }
        kept.push(Idle { sender, since: now });
    }

    fn sweep(&self, now: Moment) {
        self.idle.borrow_mut().retain(|_, kept| {
            kept.retain(|i| i.is_fit(now));
            !kept.is_empty()
        });
    }
}

impl Idle {
    fn is_fit(&self, now: Moment) -> bool {
        !self.sender.is_closed() && now.since(self.since) < IDLE_FOR
    }
}

fn key(backend: &Backend) -> (FleetName, BackendId) {
    (backend.fleet.clone(), backend.id.clone())
}

/// Closes what was idle for long enough, for ever.
pub(super) async fn sweep(thread: Rc<Thread>) {
    let mut every = tokio::time::interval(SWEEP_EVERY);
    loop {
        every.tick().await;
        thread.pool.sweep(thread.shared.clock.now());
    }
}
