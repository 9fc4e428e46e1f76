//! The queue between the api and the nodes: one log of deltas over all rooms, in the order of their `pos`.
//!
//! What every implementation promises, and `tests/queue.rs` checks of each:
//! - a subscriber gets every entry after the position it names, each once and in order, then each new one as it comes;
//! - a connection that was lost is an error of the stream; subscribed again after the last entry seen, nothing is lost and nothing comes twice;
//! - a subscriber that reads slowly holds up neither the publisher nor other subscribers, and costs bounded memory;
//! - an entry that was published before is not published again, whoever tries.

pub mod embedded;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use thiserror::Error;

use crate::delta::Entry;
use crate::store::Store;

/// The api's side.
pub trait Publish: Send + Sync {
    /// The newest position that the queue has; 0 with none.
    ///
    /// # Errors
    /// The queue cannot be reached.
    fn newest(&self) -> BoxFuture<'_, Result<u64, QueueError>>;

    /// Adds these entries, which are in the order of their positions; those that it has already are left out.
    ///
    /// # Errors
    /// The queue cannot be reached; some of the entries, from the first on, may be in it.
    fn publish<'a>(&'a self, entries: &'a [Entry]) -> BoxFuture<'a, Result<(), QueueError>>;
}

/// A node's side.
pub trait Subscribe: Send + Sync {
    /// The newest position that the queue has; 0 with none.
    ///
    /// # Errors
    /// The queue cannot be reached.
    fn newest(&self) -> BoxFuture<'_, Result<u64, QueueError>>;

    /// All entries after `after`, in order and without gaps, then each as it comes. It ends only with an error.
    ///
    /// # Errors
    /// The queue cannot be reached, or has no longer what comes after `after`.
    fn subscribe(&self, after: u64) -> BoxFuture<'_, Result<Entries, QueueError>>;
}

/// What a subscriber hears.
pub type Entries = BoxStream<'static, Result<Entry, QueueError>>;

/// Why the queue does not go on.
#[derive(Debug, Error)]
pub enum QueueError {
    /// It cannot be reached, or the connection was lost: try again later.
    #[error("the queue at {at} cannot be reached: {reason}")]
    Down {
        /// Where it should be.
        at: String,
        /// What went wrong.
        reason: String,
    },
    /// It keeps only entries from `oldest` on: subscribe from now on, and load the rooms anew.
    #[error("the queue keeps nothing before position {oldest}")]
    Passed {
        /// The first position that it has.
        oldest: u64,
    },
}

/// `--queue` names no queue that this program has.
#[derive(Debug, Error)]
#[error("--queue {url}: {reason}")]
pub struct WrongUrl {
    url: String,
    reason: String,
}

/// The api's side of the queue that `--queue` names. Nothing is connected yet.
///
/// # Errors
/// There is no such queue in this program.
pub fn open_publisher(url: &str, store: &Store) -> Result<Arc<dyn Publish>, WrongUrl> {
    match scheme(url) {
        "embedded" => Ok(Arc::new(embedded::Publisher::new(store))),
        #[cfg(feature = "redis")]
        "redis" => redis::connect(url).map(|queue| queue as Arc<dyn Publish>).map_err(|e| wrong(url, e)),
        #[cfg(feature = "postgres")]
        "postgres" => postgres::connect(url).map(|queue| queue as Arc<dyn Publish>).map_err(|e| wrong(url, e)),
        _ => Err(unknown(url)),
    }
}

/// A node's side of the queue that `--queue` names; `api` is where the embedded one is. Nothing is connected yet.
///
/// # Errors
/// There is no such queue in this program.
pub fn open_subscriber(url: &str, api: &str) -> Result<Arc<dyn Subscribe>, WrongUrl> {
    match scheme(url) {
        "embedded" => Ok(Arc::new(embedded::Subscriber::new(api))),
        #[cfg(feature = "redis")]
        "redis" => redis::connect(url).map(|queue| queue as Arc<dyn Subscribe>).map_err(|e| wrong(url, e)),
        #[cfg(feature = "postgres")]
        "postgres" => postgres::connect(url).map(|queue| queue as Arc<dyn Subscribe>).map_err(|e| wrong(url, e)),
        _ => Err(unknown(url)),
    }
}

fn scheme(url: &str) -> &str {
    url.split_once("://").map_or(url, |(scheme, _)| scheme)
}

fn wrong(url: &str, reason: impl ToString) -> WrongUrl {
    WrongUrl { url: url.to_owned(), reason: reason.to_string() }
}

fn unknown(url: &str) -> WrongUrl {
    match scheme(url) {
        missing @ ("redis" | "postgres") => {
            wrong(url, format!("this program was built without it; build it with --features {missing}"))
        }
        _ => wrong(url, "it is embedded, redis://HOST:PORT or postgres://USER@HOST/DATABASE"),
    }
}
