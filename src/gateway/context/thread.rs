//! What the tasks of one data thread share.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::shared::{Shared, ThreadHandle};
use crate::gateway::admission::poll::keeper::Keeper;
use crate::gateway::session::registry::Registry;
use crate::gateway::stage::StageWatch;
use crate::gateway::upstream::pool::Pool;

/// What the tasks of one thread share.
pub(crate) struct Thread {
    pub(crate) shared: Arc<Shared>,
    pub(crate) registry: Rc<Registry>,
    pub(crate) pool: Rc<Pool>,
    pub(crate) polls: Keeper,
    pub(crate) rng: RefCell<SmallRng>,
    stage: StageWatch,
    index: usize,
}

impl Thread {
    pub(crate) fn new(shared: Arc<Shared>, index: usize, stage: StageWatch, seed: u64) -> Rc<Self> {
        Rc::new(Thread {
            registry: Registry::new(shared.clock, seed),
            pool: Pool::new(shared.clock, stage.clone(), Arc::clone(&shared.metrics)),
            polls: Keeper::default(),
            rng: RefCell::new(SmallRng::seed_from_u64(seed.rotate_left(32))),
            shared,
            stage,
            index,
        })
    }

    /// Which of the threads it is.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// It, as the others see it.
    pub(crate) fn handle(&self) -> &ThreadHandle {
        &self.shared.thread_handles[self.index]
    }

    /// Whether the fleet of this number is served from here.
    pub(crate) fn is_home(&self, number: usize) -> bool {
        number % self.shared.thread_handles.len() == self.index
    }

    /// Resolves when no new session may begin any more.
    pub(crate) fn stopping(&self) -> impl Future<Output = ()> {
        self.stage.stopping()
    }
}
