//! Tells when a file says something else than before, by whatever way it got there: written in place, renamed over, or a symlink on its
//! path turned elsewhere (Kubernetes' ConfigMaps).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// After the last event: an editor writes in several steps, and the steps between make no sense.
const QUIET: Duration = Duration::from_millis(100);

/// A file that is watched. Its directory is, for a file that is replaced is another one.
pub struct Watched {
    path: PathBuf,
    /// What it said when it was last looked at.
    seen: Vec<u8>,
    woken: mpsc::Receiver<()>,
    watcher: RecommendedWatcher,
    directories: Vec<PathBuf>,
}

impl Watched {
    /// Watches `path`, which said `seen` when its reader read it.
    ///
    /// # Errors
    /// The path is no regular file, or the system watches no more (`fs.inotify.max_user_instances`, `max_user_watches`).
    pub fn new(path: &Path, seen: Vec<u8>) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        if !path.metadata()?.is_file() {
            // A pipe can be read once.
            return Err(io::Error::other("it is no regular file"));
        }
        // One is enough: it means "look".
        let (wake, woken) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |e| may_change(e.kind)) {
                // A full one is as good.
                let _ = wake.try_send(());
            }
        });
        let mut watched = Watched { path, seen, woken, watcher: watcher.map_err(io::Error::other)?, directories: Vec::new() };
        watched.watch_directories()?;
        Ok(watched)
    }

    /// Its reader has seen this: it is no news any more.
    pub fn saw(&mut self, text: &str) {
        self.seen = text.as_bytes().to_owned();
    }

    /// Resolves when the file says something else. One that is missing or cannot be read has not changed yet: it may be on its way.
    pub async fn changed(&mut self) {
        loop {
            // First, for what happened before we listened woke nobody.
            if self.says_else() {
                return;
            }
            if self.woken.recv().await.is_none() {
                return std::future::pending().await;
            }
            while let Ok(Some(())) = tokio::time::timeout(QUIET, self.woken.recv()).await {}
        }
    }

    fn says_else(&mut self) -> bool {
        // A symlink may lead elsewhere now.
        if let Err(error) = self.watch_directories() {
            tracing::warn!(%error, "changes of the configuration file may be missed; SIGHUP reloads it");
        }
        let Ok(now) = std::fs::read(&self.path) else { return false };
        let other = now != self.seen;
        self.seen = now;
        other
    }

    fn watch_directories(&mut self) -> io::Result<()> {
        let real = self.path.canonicalize().ok();
        for path in [Some(self.path.clone()), real].into_iter().flatten() {
            let Some(directory) = path.parent().filter(|d| self.directories.iter().all(|known| known != d)) else { continue };
            self.watcher.watch(directory, RecursiveMode::NonRecursive).map_err(io::Error::other)?;
            self.directories.push(directory.to_owned());
        }
        // Those that symlinks led to before are watched no more, so that a thousand turns leave no thousand watches.
        let keep =
            [self.path.parent().map(Path::to_owned), self.path.canonicalize().ok().and_then(|p| p.parent().map(Path::to_owned))];
        for gone in self.directories.extract_if(.., |d| keep.iter().flatten().all(|k| k != d)) {
            // It may have been removed, and its watch with it.
            let _ = self.watcher.unwatch(&gone);
        }
        Ok(())
    }
}

/// Our own reading must not wake us.
fn may_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}
