//! The queue between the api and the nodes: one log of deltas over all rooms, in the order of their `pos`.
//!
//! What every implementation promises, and `tests/queue` checks of each:
//! - a subscriber gets every entry after the position it names, each once and in order, then each new one as it comes;
//! - a connection that was lost is an error of the stream; subscribed again after the last entry seen, nothing is lost and nothing comes twice;
//! - a subscriber that reads slowly holds up neither the publisher nor other subscribers, and costs bounded memory;
//! - an entry that was published before is not published again, whoever tries.

pub mod embedded;
#[cfg(any(feature = "redis", feature = "postgres"))]
mod pages;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;

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
    /// The queue cannot be reached; some of the entries, from the first on, may be in it. Go on from [`Publish::newest`], asked anew: a queue
    /// that comes back may have lost what it had.
    fn publish<'a>(&'a self, entries: &'a [Entry]) -> BoxFuture<'a, Result<(), QueueError>>;
}

/// A node's side.
pub trait Subscribe: Send + Sync {
    /// The newest position that the queue has; 0 with none.
    ///
    /// # Errors
    /// The queue cannot be reached.
    fn newest(&self) -> BoxFuture<'_, Result<u64, QueueError>>;

    /// All entries after `after`, in order and without gaps, then each as it comes. It ends only with an error. A queue that is not as far as
    /// `after` gives nothing until it is; the embedded one, which is the log and never behind it, says [`QueueError::Passed`].
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

/// `--queue` names no queue that this program has. The URL is not told: it may have a password in it.
#[derive(Debug, Error)]
#[error("--queue: {0}")]
pub struct WrongUrl(String);

/// The api's side of the queue that `--queue` names. Nothing is connected yet.
///
/// # Errors
/// There is no such queue in this program.
pub fn open_publisher(url: &str, store: &Store) -> Result<Arc<dyn Publish>, WrongUrl> {
    match scheme(url) {
        "embedded" => Ok(Arc::new(embedded::Publisher::new(store))),
        #[cfg(feature = "redis")]
        "redis" | "redis+unix" => Ok(Arc::new(redis::Redis::connect(url)?)),
        #[cfg(feature = "postgres")]
        "postgres" => Ok(Arc::new(postgres::Postgres::connect(url)?)),
        other => Err(unknown(other)),
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
        "redis" | "redis+unix" => Ok(Arc::new(redis::Redis::connect(url)?)),
        #[cfg(feature = "postgres")]
        "postgres" => Ok(Arc::new(postgres::Postgres::connect(url)?)),
        other => Err(unknown(other)),
    }
}

fn scheme(url: &str) -> &str {
    url.split_once("://").map_or(url, |(scheme, _)| scheme)
}

fn unknown(scheme: &str) -> WrongUrl {
    WrongUrl(match scheme.trim_end_matches("+unix") {
        name @ ("redis" | "postgres") => format!("this program was built without {name}; build it with --features {name}"),
        _ => "it is embedded, redis://HOST:PORT or postgres://USER@HOST/DATABASE".to_owned(),
    })
}
