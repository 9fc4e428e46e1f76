//! What several subjects need.

pub(crate) mod policy;
pub(crate) mod witness;

use std::future::Future;
use std::time::Duration;

/// Awaits what must happen, with a bound that only a hang reaches.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(30), future).await {
        Ok(value) => value,
        Err(_) => panic!("did not happen within 30 s: {what}"),
    }
}
