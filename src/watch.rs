//! Detects changes of files: the configuration and the files that it names.
//!
//! It calls `stat` once per second instead of using inotify. `stat` follows symlinks, so that a rename over the file, a changed link
//! (Kubernetes' `..data`, certbot's `live`) and a write in place look alike, on every file system and mount. inotify would need a watch on
//! each directory of each link's path, and does not work on NFS or for a bind-mounted file. A few `stat` per second cost some microseconds.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// Poll interval.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A set of watched files.
///
/// Create it before reading the files: changes before its creation are not reported.
#[derive(Debug)]
pub struct FileWatch {
    paths: Arc<[PathBuf]>,
    /// In the order of `paths`.
    files: Vec<File>,
    looks: Interval,
}

#[derive(Debug)]
struct File {
    /// The status that was last reported.
    told: Option<Mark>,
    /// The status at the last poll.
    last: Option<Mark>,
}

/// The part of a file's status that changes with its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileWatch {
    /// Watches `paths`, which may be missing. Must be called within a runtime.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths: Arc<[PathBuf]> = paths.into_iter().collect();
        let files = marks(&paths).into_iter().map(|mark| File { told: mark, last: mark }).collect();
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        FileWatch { paths, files, looks }
    }

    /// Returns files that have changed, appeared or vanished, and have then been stable for a second, since a write may be in progress.
    /// Cancel-safe.
    pub async fn changed(&mut self) -> Vec<PathBuf> {
        loop {
            self.looks.tick().await;
            let paths = Arc::clone(&self.paths);
            // A file system may block.
            let Ok(marks) = tokio::task::spawn_blocking(move || marks(&paths)).await else { continue };
            let changed = self.compare(&marks);
            if !changed.is_empty() {
                return changed;
            }
        }
    }

    fn compare(&mut self, marks: &[Option<Mark>]) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for ((path, file), mark) in self.paths.iter().zip(&mut self.files).zip(marks) {
            // Two equal polls a second apart also handle the granularity of timestamps: a write in the same tick as a poll, which leaves the
            // status unchanged, is over by the next poll.
            if file.last == *mark && file.told != *mark {
                file.told = *mark;
                changed.push(path.clone());
            }
            file.last = *mark;
        }
        changed
    }
}

fn marks(paths: &[PathBuf]) -> Vec<Option<Mark>> {
    paths.iter().map(|path| mark(path).ok()).collect()
}

fn mark(path: &PathBuf) -> io::Result<Mark> {
    let status = std::fs::metadata(path)?;
    Ok(Mark {
        device: status.dev(),
        inode: status.ino(),
        size: status.size(),
        modified: (status.mtime(), status.mtime_nsec()),
        changed: (status.ctime(), status.ctime_nsec()),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use futures_util::FutureExt;

    use super::*;

    /// A directory that goes with the test.
    pub(crate) struct Dir(pub(crate) PathBuf);

    impl Dir {
        pub(crate) fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("holdline-watch-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).unwrap();
            Dir(dir)
        }

        /// Writes `text` to the file `name` in it.
        pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    async fn looks(watch: &mut FileWatch, count: u32) -> Option<Vec<PathBuf>> {
        tokio::time::timeout(LOOK_EVERY * count, watch.changed()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_a_rename_an_appearance_and_an_end_are_told_once_each_and_a_still_file_never() {
        let dir = Dir::new("kinds");
        let (a, b, still) = (dir.file("a", "1"), dir.0.join("b"), dir.file("still", "1"));
        let mut watch = FileWatch::new([a.clone(), b.clone(), still]);
        assert_eq!(looks(&mut watch, 3).await, None);
        fs::write(&a, "22").unwrap();
        assert_eq!(watch.changed().await, std::slice::from_ref(&a));
        assert_eq!(looks(&mut watch, 3).await, None);
        fs::rename(dir.file("new", "33"), &a).unwrap();
        assert_eq!(watch.changed().await, std::slice::from_ref(&a));
        dir.file("b", "");
        assert_eq!(watch.changed().await, std::slice::from_ref(&b));
        fs::remove_file(&a).unwrap();
        fs::remove_file(&b).unwrap();
        assert_eq!(watch.changed().await, [a, b]);
        assert_eq!(looks(&mut watch, 3).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn links_are_followed_to_their_end() {
        let dir = Dir::new("links");
        // As Kubernetes mounts a secret: the file leads over `..data` into a directory of its version.
        dir.file("..v1/tls.crt", "one");
        dir.file("..v2/tls.crt", "two");
        symlink("..v1", dir.0.join("..data")).unwrap();
        symlink("..data/tls.crt", dir.0.join("tls.crt")).unwrap();
        let path = dir.0.join("tls.crt");
        let mut watch = FileWatch::new([path.clone()]);
        symlink("..v2", dir.0.join("..data_tmp")).unwrap();
        fs::rename(dir.0.join("..data_tmp"), dir.0.join("..data")).unwrap();
        assert_eq!(watch.changed().await, std::slice::from_ref(&path));
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        fs::write(dir.0.join("..v2/tls.crt"), "three").unwrap();
        assert_eq!(watch.changed().await, [path]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_being_written_is_told_when_it_rests() {
        let dir = Dir::new("rests");
        let path = dir.file("a", "");
        let mut watch = FileWatch::new([path.clone()]);
        let (mut looked, mut length) = (0, 0);
        while looked < 10 {
            length += 1;
            fs::write(&path, "x".repeat(length)).unwrap();
            assert_eq!(step(&mut watch, &path), Vec::<PathBuf>::new());
            looked += 1;
        }
        assert_eq!(step(&mut watch, &path), [path]);
    }

    /// One look, without its clock.
    fn step(watch: &mut FileWatch, path: &Path) -> Vec<PathBuf> {
        watch.compare(&marks(&[path.to_owned()]))
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_loses_nothing() {
        let dir = Dir::new("given-up");
        let path = dir.file("a", "1");
        let mut watch = FileWatch::new([path.clone()]);
        fs::write(&path, "22").unwrap();
        for _ in 0..20 {
            assert_eq!(watch.changed().now_or_never(), None);
        }
        assert_eq!(watch.changed().await, [path]);
    }
}
