//! Detects changes of the configuration file's content, whether it was written in place, renamed over, or a symlink on its path changed
//! (Kubernetes ConfigMaps).

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::files;
use crate::watch::FileWatch;

/// A file whose content is watched.
pub struct Watched {
    path: PathBuf,
    /// The content at the last check, or why it could not be read.
    seen: Result<Vec<u8>, ErrorKind>,
    watch: FileWatch,
}

impl Watched {
    /// Watches `path`, which said `seen` when its reader read it. To be made within a runtime.
    ///
    /// # Errors
    /// The path is no regular file.
    pub fn new(path: &Path, seen: Vec<u8>) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        if !path.metadata()?.is_file() {
            // A pipe can be read once.
            return Err(io::Error::other("not a regular file"));
        }
        Ok(Watched { watch: FileWatch::new([path.clone()]), path, seen: Ok(seen) })
    }

    /// Its reader has seen this: it is no news any more.
    pub fn saw(&mut self, text: &str) {
        self.seen = Ok(text.as_bytes().to_owned());
    }

    /// Resolves when the file says something else, or became one that cannot be a configuration. One that is missing or may not be read has
    /// not changed yet: it may be on its way. A future that is dropped on the way loses nothing.
    pub async fn changed(&mut self) {
        // First without waiting: a change before the watch began is not reported.
        while !self.says_else().await {
            self.watch.changed().await;
        }
    }

    async fn says_else(&mut self) -> bool {
        let path = self.path.clone();
        // A disk, or a network's, may let a reader wait.
        let read = tokio::task::spawn_blocking(move || files::read(&path, files::CONFIG_MAX)).await;
        let now = match read {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::FileTooLarge | ErrorKind::InvalidInput) => Err(error.kind()),
            Ok(Err(_)) | Err(_) => return false,
        };
        let other = now != self.seen;
        self.seen = now;
        other
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;
    use crate::watch::tests::Dir;

    /// Longer than anything here takes.
    const SOON: Duration = Duration::from_secs(20);

    async fn changes(watched: &mut Watched) -> String {
        tokio::time::timeout(SOON, watched.changed()).await.expect("a change is noticed");
        String::from_utf8(watched.seen.clone().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn written_renamed_or_missing_for_a_moment() {
        let dir = Dir::new("config-ways");
        let path = dir.file("a.yaml", "one");
        let mut watched = Watched::new(&path, b"one".to_vec()).unwrap();
        assert!(!watched.says_else().await);
        fs::write(&path, "two").unwrap();
        assert_eq!(changes(&mut watched).await, "two");
        fs::rename(dir.file("b.yaml", "three"), &path).unwrap();
        assert_eq!(changes(&mut watched).await, "three");
        // The file that was renamed over it is watched like the first one.
        fs::write(&path, "four").unwrap();
        assert_eq!(changes(&mut watched).await, "four");
        fs::remove_file(&path).unwrap();
        assert!(!watched.says_else().await, "it may be on its way");
        fs::write(&path, "five").unwrap();
        assert_eq!(changes(&mut watched).await, "five");
    }

    #[tokio::test]
    async fn a_file_that_became_something_else_is_noticed_once() {
        let dir = Dir::new("config-else");
        let path = dir.file("a.yaml", "one");
        let mut watched = Watched::new(&path, b"one".to_vec()).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(files::CONFIG_MAX + 1).unwrap();
        assert!(watched.says_else().await && !watched.says_else().await);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(watched.says_else().await && !watched.says_else().await);
    }

    #[tokio::test]
    async fn a_config_map_is_swapped_by_its_symlink() {
        let dir = Dir::new("config-map");
        dir.file("..1/a.yaml", "one");
        dir.file("..2/a.yaml", "two");
        symlink("..1", dir.0.join("..data")).unwrap();
        symlink("..data/a.yaml", dir.0.join("a.yaml")).unwrap();
        let mut watched = Watched::new(&dir.0.join("a.yaml"), b"one".to_vec()).unwrap();
        for (n, text) in [("..2", "two"), ("..1", "one"), ("..2", "two")] {
            symlink(n, dir.0.join("..tmp")).unwrap();
            fs::rename(dir.0.join("..tmp"), dir.0.join("..data")).unwrap();
            assert_eq!(changes(&mut watched).await, text);
        }
    }

    #[tokio::test]
    async fn what_changed_before_it_was_watched_is_noticed_and_what_was_seen_is_no_news() {
        let dir = Dir::new("config-seen");
        let path = dir.file("a.yaml", "two");
        let mut watched = Watched::new(&path, b"one".to_vec()).unwrap();
        assert_eq!(changes(&mut watched).await, "two");
        fs::write(&path, "three").unwrap();
        watched.saw("three");
        assert!(!watched.says_else().await);
        assert!(Watched::new(Path::new("/dev/null"), Vec::new()).is_err());
    }
}
