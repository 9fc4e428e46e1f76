//! Helpers of the integration tests: a `holdline run` to talk to, backends that count for themselves, and plain clients.

pub(crate) mod backend;
#[cfg(feature = "foreign-clients")]
pub(crate) mod chat;
pub(crate) mod client;
#[cfg(feature = "demo")]
pub(crate) mod clock;
pub(crate) mod holdline;
pub(crate) mod network;
pub(crate) mod policy;
pub(crate) mod witness;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Awaits what must happen, with a bound that only a hang reaches.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(client::PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("did not happen within {:?}: {what}", client::PATIENCE),
    }
}

/// `None`: the process has ended.
pub(crate) fn parent_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// A directory of its own for one test, removed afterwards.
pub(crate) struct TestDir(PathBuf);

impl TestDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&dir).unwrap();
        TestDir(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        // A failed test's files are worth more than a clean directory.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
