//! Connections to backends that plain requests use again. Each thread has its own, so none of it is locked.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::ids::{BackendId, FleetName};
use holdline_core::time::Moment;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::{AbortHandle, spawn_local};

use super::checked::{Checked, CheckedSocket};
use super::request_body::RequestBody;
use crate::clock::Clock;
use crate::gateway::admission::backend::Backend;
use crate::gateway::stage::StageWatch;
use crate::net::socket::Socket;
use crate::telemetry::Metrics;

/// Idle connections kept per backend and thread. More would cost descriptors that sessions could use.
const IDLE_MAX: usize = 8;

/// How long one is kept: below the 5 s after which common servers (Node) close an idle connection.
const IDLE_FOR: Duration = Duration::from_secs(4);

/// Between two looks for connections that were kept long enough.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The largest response head of a plain request, with what is read ahead of its body.
const BUFFER_MAX: usize = 64 << 10;

type Sender = SendRequest<RequestBody>;

/// With the address, for a backend may come back elsewhere under its id.
type Key = (FleetName, BackendId, SocketAddr);

/// The idle connections of one thread.
pub(crate) struct Pool {
    clock: Clock,
    stage: StageWatch,
    metrics: Arc<Metrics>,
    idle: RefCell<HashMap<Key, Vec<Idle>>>,
}

struct Idle {
    connection: Connection,
    since: Moment,
}

/// hyper's two halves of a connection: dropped, it closes, whatever it was about.
pub(crate) struct Connection {
    pub(crate) sender: Sender,
    pub(crate) watch: Rc<CheckedSocket>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Without its sender, the task would still wait for the rest of a request's body.
        self.task.abort();
        self.watch.part();
    }
}

/// A connection in use. It closes when dropped, and returns to the pool with [`PooledConnection::give_back`].
pub(crate) struct PooledConnection {
    pub(crate) connection: Connection,
    pub(crate) backend: Arc<Backend>,
    /// Another request was answered on it before: the backend may have closed it at the moment that we sent.
    pub(crate) is_reused: bool,
    /// It may be kept for the requests of others.
    is_shared: bool,
    pool: Rc<Pool>,
}

impl PooledConnection {
    /// An idle connection to `backend`, the one last used.
    pub(crate) fn kept(pool: &Rc<Pool>, backend: &Arc<Backend>) -> Option<PooledConnection> {
        let connection = pool.take(backend, pool.clock.now())?;
        Some(PooledConnection {
            connection,
            backend: Arc::clone(backend),
            is_reused: true,
            is_shared: true,
            pool: Rc::clone(pool),
        })
    }

    /// A connection made of a fresh socket; one that is not shared closes after its request.
    ///
    /// # Errors
    /// hyper's; there is nothing to fail in HTTP/1.
    pub(crate) async fn fresh(
        pool: &Rc<Pool>,
        backend: &Arc<Backend>,
        stream: Socket,
        is_shared: bool,
    ) -> io::Result<PooledConnection> {
        let watch = CheckedSocket::new(stream, &pool.metrics);
        let io = TokioIo::new(Checked::new(Rc::clone(&watch), BUFFER_MAX));
        let (sender, connection) = Builder::new().max_buf_size(BUFFER_MAX).handshake(io).await.map_err(io::Error::other)?;
        // Its end and its errors show at the request that uses it.
        let task = spawn_local(connection).abort_handle();
        Ok(PooledConnection {
            connection: Connection { sender, watch, task },
            backend: Arc::clone(backend),
            is_reused: false,
            is_shared,
            pool: Rc::clone(pool),
        })
    }

    /// The request was sent whole, and the answer was read whole.
    pub(crate) fn give_back(self) {
        // One that is retired is not kept from its exit by idle connections.
        if self.is_shared && self.backend.takes_requests() && !self.pool.stage.is_stopping() {
            self.pool.put(&self.backend, self.connection, self.pool.clock.now());
        }
    }
}

impl Pool {
    pub(crate) fn new(clock: Clock, stage: StageWatch, metrics: Arc<Metrics>) -> Rc<Self> {
        Rc::new(Pool { clock, stage, metrics, idle: RefCell::default() })
    }

    fn take(&self, backend: &Backend, now: Moment) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&key(backend))?;
        kept.retain(|i| i.is_fit(now));
        // One that just gave its last byte may not be ready yet; it will be.
        let ready = kept.iter().rposition(|i| i.connection.sender.is_ready())?;
        Some(kept.remove(ready).connection)
    }

    fn put(&self, backend: &Backend, connection: Connection, now: Moment) {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(key(backend)).or_default();
        if kept.len() >= IDLE_MAX {
            kept.remove(0);
        }
        kept.push(Idle { connection, since: now });
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
        let connection = &self.connection;
        !connection.sender.is_closed() && connection.watch.wrong().is_none() && now.since(self.since) < IDLE_FOR
    }
}

fn key(backend: &Backend) -> Key {
    (backend.fleet.clone(), backend.id.clone(), backend.address)
}

/// Closes what was idle for long enough, for ever.
pub(crate) async fn sweep(pool: Rc<Pool>) {
    let mut every = tokio::time::interval(SWEEP_EVERY);
    loop {
        every.tick().await;
        pool.sweep(pool.clock.now());
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream};
    use tokio::task::LocalSet;

    use super::*;
    use crate::gateway::admission::fleet::tests::{address, fleet, ready, view};

    fn backend() -> Arc<Backend> {
        let fleet = fleet("chat");
        fleet.adopt(&view(&fleet.policy, vec![ready("a", address(1), 2)]));
        fleet.backend(&"a".into()).unwrap()
    }

    fn pool() -> Rc<Pool> {
        let (_, stage) = StageWatch::serving();
        Pool::new(Clock::start(), stage, Metrics::new())
    }

    /// A connection that waits for a request, and the backend's end of it.
    async fn connection() -> (Connection, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(64);
        let (mut sender, connection) = Builder::new().handshake(TokioIo::new(ours)).await.unwrap();
        let task = spawn_local(connection).abort_handle();
        sender.ready().await.unwrap();
        (Connection { sender, watch: CheckedSocket::alone(), task }, theirs)
    }

    #[tokio::test]
    async fn eight_are_kept_and_the_oldest_goes_first() {
        let test = async {
            let (pool, backend) = (pool(), backend());
            let mut ends = Vec::new();
            for i in 0..10 {
                let (connection, end) = connection().await;
                pool.put(&backend, connection, Moment::from_millis(i));
                ends.push(end);
            }
            for end in &mut ends[..2] {
                assert_eq!(end.read(&mut [0; 1]).await.unwrap(), 0);
            }
            let kept: Vec<_> = std::iter::from_fn(|| pool.take(&backend, Moment::from_millis(10))).collect();
            assert_eq!(kept.len(), IDLE_MAX);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn they_are_kept_for_four_seconds() {
        let test = async {
            let (pool, backend) = (pool(), backend());
            let (connection, mut end) = connection().await;
            pool.put(&backend, connection, Moment::START);
            let connection = pool.take(&backend, Moment::from_millis(3_999)).unwrap();
            pool.put(&backend, connection, Moment::from_millis(5_000));
            pool.sweep(Moment::from_millis(8_999));
            assert_eq!(pool.idle.borrow().len(), 1);
            assert!(pool.take(&backend, Moment::from_millis(9_000)).is_none());
            pool.sweep(Moment::from_millis(9_000));
            assert!(pool.idle.borrow().is_empty());
            assert_eq!(end.read(&mut [0; 1]).await.unwrap(), 0, "closed for the backend too");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn one_that_the_backend_closed_is_not_used() {
        let test = async {
            let (pool, backend) = (pool(), backend());
            let (connection, end) = connection().await;
            drop(end);
            // Its task sees the end.
            while !connection.sender.is_closed() {
                tokio::task::yield_now().await;
            }
            pool.put(&backend, connection, Moment::START);
            assert!(pool.take(&backend, Moment::START).is_none());
        };
        LocalSet::new().run_until(test).await;
    }
}
