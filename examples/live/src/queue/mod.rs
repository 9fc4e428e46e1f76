//! The queue between the api and the nodes: one log of deltas over all rooms, in the order of their `pos`.
//!
//! What every implementation promises, and `tests/queue.rs` checks of each:
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

use std::io;
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
    /// `after` gives nothing until it is.
    ///
    /// # Errors
    /// The queue cannot be reached, or has no longer what comes after `after`.
    fn subscribe(&self, after: u64) -> BoxFuture<'_, Result<Entries, QueueError>>;
}

/// A queue that is a server of its own: one value serves either side.
pub trait Server: Publish + Subscribe {}

impl<T: Publish + Subscribe> Server for T {}

/// The api's side of the queue that `--queue` names. Nothing is connected yet.
///
/// # Errors
/// There is no such queue in this program.
pub fn open_publisher(url: &str, store: &Store) -> io::Result<Arc<dyn Publish>> {
    match url {
        "embedded" => Ok(Arc::new(embedded::Publisher::new(store))),
        _ => Ok(Arc::<dyn Server>::from(server(url)?)),
    }
}

/// A node's side of the queue that `--queue` names; `api` is where the embedded one is. Nothing is connected yet.
///
/// # Errors
/// There is no such queue in this program.
pub fn open_subscriber(url: &str, api: &str) -> io::Result<Arc<dyn Subscribe>> {
    match url {
        "embedded" => Ok(Arc::new(embedded::Subscriber::new(api))),
        _ => Ok(Arc::<dyn Server>::from(server(url)?)),
    }
}

/// The server that `url` names. It is connected when it is first asked, and again after a loss.
///
/// # Errors
/// `url` is none of a queue that this program was built with.
pub fn server(url: &str) -> io::Result<Box<dyn Server>> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        #[cfg(feature = "redis")]
        Some("redis" | "redis+unix") => Ok(Box::new(redis::Redis::connect(url)?)),
        #[cfg(not(feature = "redis"))]
        Some("redis" | "redis+unix") => Err(unusable("this program was built without `--features redis`")),
        #[cfg(feature = "postgres")]
        Some("postgres" | "postgresql") => Ok(Box::new(postgres::Postgres::connect(url)?)),
        #[cfg(not(feature = "postgres"))]
        Some("postgres" | "postgresql") => Err(unusable("this program was built without `--features postgres`")),
        _ => Err(unusable("a queue is `embedded`, redis://HOST:PORT or postgres://USER@HOST:PORT/DATABASE")),
    }
}

fn unusable(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message.into())
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
