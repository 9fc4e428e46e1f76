//! The listeners and the queues that a data thread serves, as the configuration changes.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::acceptor::accept;
use super::tasks::Tasks;
use crate::gateway::admission::admit::serve_queue;
use crate::gateway::admission::fleet::Fleet;
use crate::gateway::context::listener::Group;
use crate::gateway::context::thread::Thread;

/// What one thread has opened.
pub(crate) struct Listeners {
    tasks: Rc<Tasks>,
    groups: Vec<Arc<Group>>,
    queues: Vec<QueueTask>,
}

/// Serves the queue of a fleet until it is dropped. Waiting handshakes do not notice when another takes its place.
struct QueueTask {
    fleet: Arc<Fleet>,
    task: AbortHandle,
}

impl Drop for QueueTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens and closes them whenever the configuration changes.
pub(crate) async fn follow(thread: Rc<Thread>, mut listeners: Listeners) {
    let mut swapped = thread.shared.swapped.subscribe();
    // An error means that the gateway itself is gone.
    while swapped.changed().await.is_ok() {
        if let Err(error) = listeners.catch_up(&thread) {
            tracing::error!(%error, "a data thread cannot listen on an address of the new configuration");
        }
    }
}

impl Listeners {
    pub(crate) fn new(tasks: Rc<Tasks>) -> Self {
        Listeners { tasks, groups: Vec::new(), queues: Vec::new() }
    }

    /// Opens what is served and not open yet, and lets go of what is served no more.
    ///
    /// # Errors
    /// A socket that the runtime does not take; all others are open.
    pub(crate) fn catch_up(&mut self, thread: &Rc<Thread>) -> io::Result<()> {
        let served = thread.shared.served.load_full();
        self.keep_queues(thread, &served.fleets);
        // Each ends by itself when its group is closed.
        self.groups.retain(|open| served.groups.iter().any(|g| Arc::ptr_eq(g, open)));
        let mut result = Ok(());
        for group in &served.groups {
            if self.groups.iter().any(|open| Arc::ptr_eq(open, group)) {
                continue;
            }
            self.groups.push(Arc::clone(group));
            let Some(socket) = group.take(thread.index()) else { continue };
            match TcpListener::from_std(socket) {
                Ok(socket) => self.tasks.spawn_finite("listener", accept(Rc::clone(thread), socket, Arc::clone(group))),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    fn keep_queues(&mut self, thread: &Rc<Thread>, fleets: &[Arc<Fleet>]) {
        self.queues.retain(|q| fleets.iter().any(|f| Arc::ptr_eq(f, &q.fleet)));
        for fleet in fleets.iter().filter(|f| thread.is_home(f.number)) {
            if self.queues.iter().all(|q| !Arc::ptr_eq(&q.fleet, fleet)) {
                let rng = SmallRng::from_rng(&mut *thread.rng.borrow_mut());
                let task = self.tasks.spawn("queue", serve_queue(Arc::clone(fleet), thread.shared.clock, rng));
                self.queues.push(QueueTask { fleet: Arc::clone(fleet), task });
            }
        }
    }
}
