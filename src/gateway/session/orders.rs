//! What other threads ask of the sessions of a data thread: by message, so that the sessions need no lock.

use std::rc::Rc;

use holdline_core::drain::{EndOrder, Ending};
use tokio::sync::{mpsc, oneshot};

use super::registry::{Candidate, Registry};
use super::target::{SessionFilter, SessionInfo};

/// Requests that wait for a thread. A few callers exist (drainer, admin, shutdown), and each waits for its answer.
const REQUESTS_MAX: usize = 32;

/// A request to one thread.
pub enum ThreadRequest {
    /// List sessions.
    List(SessionFilter, oneshot::Sender<Vec<SessionInfo>>),
    /// Choose at most so many sessions that are best to end so.
    Choose(SessionFilter, usize, Ending, oneshot::Sender<Vec<Candidate>>),
    /// End these; answers how many were still there.
    End(Vec<Candidate>, Ending, oneshot::Sender<u32>),
    /// Fail.
    #[cfg(test)]
    Panic,
}

/// Where a thread's requests arrive.
pub struct Inbox(mpsc::Receiver<ThreadRequest>);

/// The way to one thread.
#[derive(Clone)]
pub struct Handle(mpsc::Sender<ThreadRequest>);

/// A thread's two ends; the inbox moves to the thread and into [`serve`].
pub fn channel() -> (Handle, Inbox) {
    let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
    (Handle(sender), Inbox(receiver))
}

/// Carries out what arrives until the last [`Handle`] is gone. Runs on the thread of `registry`.
pub async fn serve(mut inbox: Inbox, registry: Rc<Registry>) {
    // The requester may have gone; that is no error.
    while let Some(request) = inbox.0.recv().await {
        match request {
            ThreadRequest::List(filter, answer) => drop(answer.send(registry.list(&filter))),
            ThreadRequest::Choose(filter, count, ending, answer) => {
                drop(answer.send(registry.candidates(&filter, count, ending.mode)))
            }
            ThreadRequest::End(chosen, ending, answer) => drop(answer.send(registry.end(&chosen, ending))),
            #[cfg(test)]
            ThreadRequest::Panic => panic!("told to"),
        }
    }
}

impl Handle {
    /// Sends a request and waits for its answer; `None` when the thread is gone.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> ThreadRequest) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        self.0.send(request(sender)).await.ok()?;
        answer.await.ok()
    }

    #[cfg(test)]
    pub(crate) async fn break_off(&self) {
        let _ = self.0.send(ThreadRequest::Panic).await;
    }
}

/// The sessions on all `threads` that `filter` means, oldest first.
pub async fn list(threads: &[Handle], filter: SessionFilter) -> Vec<SessionInfo> {
    let mut found = Vec::new();
    for thread in threads {
        found.extend(thread.ask(|answer| ThreadRequest::List(filter.clone(), answer)).await.unwrap_or_default());
    }
    found.sort_unstable_by_key(|s| (std::cmp::Reverse(s.age_ms), s.id));
    found.truncate(filter.limit.unwrap_or(usize::MAX));
    found
}

/// Ends so many of the sessions that `filter` means (its own limit apart), idle ones first, then the oldest over all threads;
/// how many were told to.
pub async fn end(threads: &[Handle], filter: &SessionFilter, order: EndOrder) -> u32 {
    let count = order.count as usize;
    let mut found = Vec::new();
    for (index, thread) in threads.iter().enumerate() {
        let chosen = thread.ask(|answer| ThreadRequest::Choose(filter.clone(), count, order.ending, answer)).await;
        found.extend(chosen.unwrap_or_default().into_iter().map(|candidate| (candidate, index)));
    }
    found.sort_unstable();
    found.truncate(count);
    let mut ended = 0;
    for (index, thread) in threads.iter().enumerate() {
        let chosen: Vec<_> = found.iter().filter(|(_, at)| *at == index).map(|(candidate, _)| *candidate).collect();
        if !chosen.is_empty() {
            ended += thread.ask(|answer| ThreadRequest::End(chosen, order.ending, answer)).await.unwrap_or(0);
        }
    }
    ended
}
