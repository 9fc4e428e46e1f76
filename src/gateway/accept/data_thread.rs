//! A data thread: one current-thread runtime, its listeners, and the sessions that live and die on it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use holdline_core::cause::EndCause;
use holdline_core::drain::Ending;
use holdline_core::policy::DrainMode;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::acceptor::take_handed;
use super::listeners::{self, Listeners};
use super::tasks::{TaskFailed, Tasks};
use crate::gateway::context::shared::{Handed, Shared};
use crate::gateway::context::thread::Thread;
use crate::gateway::session::orders::{self, Inbox};
use crate::gateway::session::registry::{self, Registry};
use crate::gateway::session::target::SessionFilter;
use crate::gateway::stage::StageWatch;
use crate::gateway::upstream::pool;

/// What a thread gets at its start.
pub(crate) struct Setup {
    pub(crate) index: usize,
    pub(crate) inbox: Inbox,
    pub(crate) handed: mpsc::Receiver<Handed>,
    pub(crate) stage: StageWatch,
    pub(crate) seed: u64,
}

/// The task that carries out orders to sessions.
const ORDERS: &str = "orders";

/// Runs the thread until its stage is `Over`. `ready` hears whether it came up.
pub(crate) fn run(setup: Setup, shared: Arc<Shared>, ready: &std::sync::mpsc::SyncSender<io::Result<()>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        // `spawn` waits for one answer from each thread.
        Err(error) => return drop(ready.send(Err(error))),
    };
    LocalSet::new().block_on(&runtime, async move {
        let stage = setup.stage.clone();
        let thread = Thread::new(shared, setup.index, setup.stage, setup.seed);
        let tasks = Rc::new(Tasks::default());
        let opened = spawn_all(&thread, &tasks, setup.inbox, setup.handed);
        drop(ready.send(opened));
        tokio::select! {
            biased;
            () = stage.over() => return,
            failed = tasks.failed() => wind_up(&thread, &failed).await,
        }
        stage.over().await;
    });
}

fn spawn_all(thread: &Rc<Thread>, tasks: &Rc<Tasks>, inbox: Inbox, handed: mpsc::Receiver<Handed>) -> io::Result<()> {
    tasks.spawn("timer", registry::keep_time(Rc::clone(&thread.registry)));
    tasks.spawn(ORDERS, orders::serve(inbox, Rc::clone(&thread.registry)));
    tasks.spawn("pool", pool::sweep(Rc::clone(&thread.pool)));
    tasks.spawn("polls", keep_polls(Rc::clone(thread)));
    tasks.spawn("handed sockets", take_handed(Rc::clone(thread), handed));
    let mut listeners = Listeners::new(Rc::clone(tasks));
    listeners.catch_up(thread)?;
    tasks.spawn("listeners", listeners::follow(Rc::clone(thread), listeners));
    Ok(())
}

/// Has the gateway stopped. The sessions go on until then, with what is left to serve them.
async fn wind_up(thread: &Thread, failed: &TaskFailed) {
    tracing::error!(thread = thread.index(), "{failed}, which a data thread cannot do without");
    thread.shared.failed.send_replace(true);
    if failed.task == ORDERS {
        thread.stopping().await;
        close_sessions(&thread.registry);
    }
}

/// What orders would do one after the other, at once: nobody else can tell them any more.
fn close_sessions(registry: &Registry) {
    let close = Ending { mode: DrainMode::Close, cause: EndCause::Shutdown };
    let all = registry.candidates(&SessionFilter::default(), usize::MAX, close.mode);
    registry.end(&all, close);
}

async fn keep_polls(thread: Rc<Thread>) {
    thread.polls.run(thread.shared.clock).await;
}
