//! When something happened; nothing is decided by it but whether a test has passed.

use tokio::time::Instant;

#[expect(clippy::disallowed_methods, reason = "tests measure")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
