//! A data thread: one current-thread runtime, its listeners, and the sessions that live and die on it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

use super::acceptor::take_handed;
use super::doors::{self, Doors};
use crate::gateway::context::shared::{Handed, Shared};
use crate::gateway::context::thread::Thread;
use crate::gateway::session::orders::{self, Inbox};
use crate::gateway::session::registry;
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

/// Runs the thread until its stage is `Over`. `ready` hears whether it came up.
pub(crate) fn run(setup: Setup, shared: Arc<Shared>, ready: &std::sync::mpsc::SyncSender<io::Result<()>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        // Whoever started us waits for one answer of each thread.
        Err(error) => return drop(ready.send(Err(error))),
    };
    LocalSet::new().block_on(&runtime, async move {
        let stage = setup.stage.clone();
        let thread = Thread::new(shared, setup.index, setup.stage, setup.seed);
        let opened = spawn_all(&thread, setup.inbox, setup.handed);
        drop(ready.send(opened));
        stage.over().await;
    });
}

fn spawn_all(thread: &Rc<Thread>, inbox: Inbox, handed: mpsc::Receiver<Handed>) -> io::Result<()> {
    spawn_local(registry::keep_time(Rc::clone(&thread.registry)));
    spawn_local(orders::serve(inbox, Rc::clone(&thread.registry)));
    spawn_local(pool::sweep(Rc::clone(&thread.pool)));
    spawn_local(keep_polls(Rc::clone(thread)));
    spawn_local(take_handed(Rc::clone(thread), handed));
    let mut doors = Doors::default();
    doors.catch_up(thread)?;
    spawn_local(doors::follow(Rc::clone(thread), doors));
    Ok(())
}

async fn keep_polls(thread: Rc<Thread>) {
    thread.polls.run(thread.shared.clock).await;
}
