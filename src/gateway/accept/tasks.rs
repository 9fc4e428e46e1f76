//! The tasks that a data thread cannot do without. A panic in one of them would go unnoticed: the thread would go on without timeouts,
//! orders or its queue.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use tokio::task::{AbortHandle, Id, JoinSet};

/// The essential tasks of one thread.
#[derive(Default)]
pub(crate) struct Tasks {
    running: RefCell<JoinSet<End>>,
    names: RefCell<HashMap<Id, &'static str>>,
}

/// How a task ended that did not panic.
enum End {
    Expected,
    Early,
}

/// An essential task ended.
#[derive(Debug, thiserror::Error)]
#[error("the task `{task}` {how}")]
pub(crate) struct TaskFailed {
    pub(crate) task: &'static str,
    how: String,
}

impl Tasks {
    /// A task that runs until it is aborted, or for as long as the thread.
    pub(crate) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + 'static) -> AbortHandle {
        self.enter(name, async {
            task.await;
            End::Early
        })
    }

    /// A task that may end, but not by a panic.
    pub(crate) fn spawn_finite(&self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        self.enter(name, async {
            task.await;
            End::Expected
        });
    }

    fn enter(&self, name: &'static str, task: impl Future<Output = End> + 'static) -> AbortHandle {
        let handle = self.running.borrow_mut().spawn_local(task);
        self.names.borrow_mut().insert(handle.id(), name);
        handle
    }

    /// Resolves when one panicked, or ended and should not have. To be called with at least one task running.
    pub(crate) async fn failed(&self) -> TaskFailed {
        poll_fn(|cx| self.poll_failed(cx)).await
    }

    fn poll_failed(&self, cx: &mut Context<'_>) -> Poll<TaskFailed> {
        loop {
            let Some(ended) = ready!(self.running.borrow_mut().poll_join_next_with_id(cx)) else { return Poll::Pending };
            let id = ended.as_ref().map_or_else(|error| error.id(), |(id, _)| *id);
            let task = self.names.borrow_mut().remove(&id).unwrap_or("unnamed");
            let how = match ended {
                Ok((_, End::Expected)) => continue,
                Ok((_, End::Early)) => "ended by itself".to_owned(),
                Err(error) if error.is_cancelled() => continue,
                Err(error) => format!("failed: {error}"),
            };
            return Poll::Ready(TaskFailed { task, how });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::task::LocalSet;

    use super::*;

    async fn failure(tasks: &Tasks) -> Option<TaskFailed> {
        tasks.spawn("another", pending());
        tokio::time::timeout(Duration::from_secs(1), tasks.failed()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_reported_with_the_task_and_its_message() {
        let test = async {
            let tasks = Tasks::default();
            tasks.spawn("timer", async { panic!("out of ticks") });
            let failed = failure(&tasks).await.unwrap();
            assert_eq!(failed.task, "timer");
            assert!(failed.to_string().contains("out of ticks"), "{failed}");
            tasks.spawn_finite("listener", async { panic!("no socket") });
            assert_eq!(failure(&tasks).await.unwrap().task, "listener");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_early_end_is_a_failure_unless_the_task_may_end_or_was_aborted() {
        let test = async {
            let tasks = Tasks::default();
            tasks.spawn_finite("listener", async {});
            tasks.spawn("queue", pending()).abort();
            assert!(failure(&tasks).await.is_none());
            assert_eq!(tasks.names.borrow().len(), 1, "what has ended is forgotten");
            tasks.spawn("orders", async {});
            assert_eq!(failure(&tasks).await.unwrap().to_string(), "the task `orders` ended by itself");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_spawned_later_is_watched_as_well() {
        let test = async {
            let tasks = Tasks::default();
            tasks.spawn("timer", pending());
            let spawned_later = async {
                tokio::task::yield_now().await;
                tasks.spawn("queue", async { panic!("no waiter") });
                pending::<()>().await;
            };
            tokio::select! {
                biased;
                failed = failure(&tasks) => assert_eq!(failed.unwrap().task, "queue"),
                () = spawned_later => {}
            }
        };
        LocalSet::new().run_until(test).await;
    }
}
