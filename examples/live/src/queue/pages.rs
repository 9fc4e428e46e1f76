//! What the queues on a server share: a log that is read page by page, and how long a server may take.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use super::{Entries, Publish, QueueError, Subscribe};
use crate::delta::{Delta, Entry};

/// Entries that are asked for at once, and the most that a subscriber holds: the next page is read when this one was taken.
pub(super) const PAGE: usize = 256;

/// The newest entries that a server keeps: an hour of 27 mutations a second. Who was away for longer loads its rooms anew.
pub(super) const KEPT: u64 = 100_000;

/// The longest that a server may take to be connected or to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

/// A subscriber that has heard nothing for so long asks, to find out whether the server is there.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// A log on a connection of its own.
pub(super) trait Pages: Send + Sized + 'static {
    /// Where the server is, as errors say it.
    fn at(&self) -> &str;

    /// The first entries after `after`, at most [`PAGE`]; with none it waits for one, at most for `wait`.
    fn page(&mut self, after: u64, wait: Duration) -> impl Future<Output = Result<Vec<Entry>, QueueError>> + Send;

    /// All entries after `after`, the first page already read.
    fn follow(mut self, after: u64) -> impl Future<Output = Result<Entries, QueueError>> + Send {
        async move {
            let at = self.at().to_owned();
            let first = within(ANSWER, &at, self.page(after, Duration::ZERO)).await?;
            if let Some(entry) = first.first() {
                in_order(after, entry)?;
            }
            Ok(stream::try_unfold(Reader { pages: self, at, last: after, page: first.into_iter() }, Reader::next).boxed())
        }
    }
}

/// A queue on a server.
pub(super) trait Server: Send + Sync {
    type Log: Pages;

    /// The newest position that it has; 0 with none.
    fn newest_pos(&self) -> impl Future<Output = Result<u64, QueueError>> + Send;

    /// Adds at most [`PAGE`] entries, those alone that it does not have.
    fn add(&self, entries: &[Entry]) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// What a subscriber reads.
    fn log(&self) -> impl Future<Output = Result<Self::Log, QueueError>> + Send;
}

impl<S: Server> Publish for S {
    fn newest(&self) -> BoxFuture<'_, Result<u64, QueueError>> {
        Box::pin(self.newest_pos())
    }

    fn publish<'a>(&'a self, entries: &'a [Entry]) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(async move {
            for page in entries.chunks(PAGE) {
                self.add(page).await?;
            }
            Ok(())
        })
    }
}

impl<S: Server> Subscribe for S {
    fn newest(&self) -> BoxFuture<'_, Result<u64, QueueError>> {
        Box::pin(self.newest_pos())
    }

    fn subscribe(&self, after: u64) -> BoxFuture<'_, Result<Entries, QueueError>> {
        Box::pin(async move { self.log().await?.follow(after).await })
    }
}

struct Reader<P> {
    pages: P,
    at: String,
    last: u64,
    page: std::vec::IntoIter<Entry>,
}

impl<P: Pages> Reader<P> {
    async fn next(mut self) -> Result<Option<(Entry, Self)>, QueueError> {
        loop {
            if let Some(entry) = self.page.next() {
                in_order(self.last, &entry)?;
                self.last = entry.pos;
                return Ok(Some((entry, self)));
            }
            self.page = within(SILENCE + ANSWER, &self.at, self.pages.page(self.last, SILENCE)).await?.into_iter();
        }
    }
}

/// What was between is gone: it was trimmed, or the server came back without it.
fn in_order(last: u64, entry: &Entry) -> Result<(), QueueError> {
    if entry.pos == last + 1 { Ok(()) } else { Err(QueueError::Passed { oldest: entry.pos }) }
}

/// What `asked` answers, if it does so in time.
pub(super) async fn within<T>(
    time: Duration,
    at: &str,
    asked: impl Future<Output = Result<T, QueueError>>,
) -> Result<T, QueueError> {
    timeout(time, asked).await.unwrap_or_else(|_| Err(down(at, format!("no answer within {} s", time.as_secs()))))
}

pub(super) fn down(at: &str, reason: impl ToString) -> QueueError {
    QueueError::Down { at: at.to_owned(), reason: reason.to_string() }
}

/// An entry out of what the server keeps of it.
pub(super) fn entry(at: &str, pos: u64, room: String, delta: &str) -> Result<Entry, QueueError> {
    let delta: Delta = serde_json::from_str(delta).map_err(|e| down(at, format!("position {pos} holds no delta: {e}")))?;
    Ok(Entry { pos, room, delta })
}

pub(super) fn delta_text(entry: &Entry) -> String {
    serde_json::to_string(&entry.delta).expect("numbers and text are always JSON")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::Instant;

    use super::*;
    use crate::delta::Action;

    /// Gives these pages, one a call, counts the calls, and then never answers.
    struct Double(std::vec::IntoIter<Vec<u64>>, Arc<AtomicUsize>);

    impl Pages for Double {
        fn at(&self) -> &str {
            "a double"
        }

        async fn page(&mut self, _: u64, _: Duration) -> Result<Vec<Entry>, QueueError> {
            self.1.fetch_add(1, Ordering::SeqCst);
            match self.0.next() {
                Some(page) => Ok(page.into_iter().map(entry).collect()),
                None => std::future::pending().await,
            }
        }
    }

    fn double(pages: &[&[u64]]) -> Double {
        Double(pages.iter().map(|page| page.to_vec()).collect::<Vec<_>>().into_iter(), Arc::default())
    }

    fn entry(pos: u64) -> Entry {
        let delta = Delta { seq: pos, at: 0, action: Action::Delete, comment: 1, user: "u".into(), text: None };
        Entry { pos, room: "r".into(), delta }
    }

    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "the paused clock")]
    async fn a_server_that_does_not_answer_is_down_after_two_seconds_and_one_that_falls_silent_after_seven() {
        let begun = Instant::now();
        let error = double(&[]).follow(0).await.err().unwrap();
        assert!(matches!(error, QueueError::Down { .. }), "{error}");
        assert_eq!(begun.elapsed().as_secs(), 2);

        let begun = Instant::now();
        let mut entries = double(&[&[1]]).follow(0).await.unwrap();
        assert_eq!(entries.next().await.unwrap().unwrap(), entry(1));
        let error = entries.next().await.unwrap().unwrap_err();
        assert!(matches!(error, QueueError::Down { .. }), "{error}");
        assert_eq!(begun.elapsed().as_secs(), 7);
        assert!(entries.next().await.is_none(), "it ends with its error");
    }

    #[tokio::test]
    async fn a_gap_is_told_with_the_first_position_behind_it() {
        let error = double(&[&[8, 9]]).follow(6).await.err().unwrap();
        assert!(matches!(error, QueueError::Passed { oldest: 8 }), "{error}");

        let mut entries = double(&[&[7], &[], &[8, 11]]).follow(6).await.unwrap();
        for pos in [7, 8] {
            assert_eq!(entries.next().await.unwrap().unwrap(), entry(pos));
        }
        let error = entries.next().await.unwrap().unwrap_err();
        assert!(matches!(error, QueueError::Passed { oldest: 11 }), "{error}");
    }

    #[tokio::test]
    async fn a_page_is_read_when_the_one_before_was_taken() {
        let pages = double(&[&[1, 2], &[3]]);
        let calls = pages.1.clone();
        let mut entries = pages.follow(0).await.unwrap();
        for (pos, read) in [(1, 1), (2, 1), (3, 2)] {
            assert_eq!(entries.next().await.unwrap().unwrap(), entry(pos));
            assert_eq!(calls.load(Ordering::SeqCst), read);
        }
    }
}
