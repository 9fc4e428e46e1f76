//! What another configuration means for the one that runs.

use super::model::{Config, LogConfig};

/// Keys that are obeyed at the start alone, with what they are and were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}; restart to change it, or put it back and reload", .changed.join("; "))]
pub struct NeedsRestart {
    /// At least one, as `key is NEW and was OLD`.
    pub changed: Vec<String>,
}

impl Config {
    /// Whether `self` says the same as `running`.
    ///
    /// # Errors
    /// [`NeedsRestart`] names the keys that a running Holdline cannot change.
    pub fn is_same(&self, running: &Config) -> Result<bool, NeedsRestart> {
        // In full, so that who adds a key decides here what a reload does with it.
        let Config { listeners, trusted, admin, log, routes, fleets, limits, threads, shutdown_deadline, warnings: _ } = self;
        let LogConfig { format, level, access } = log;
        let mut changed = Vec::new();
        let mut fixed = |key: &str, new: String, old: String| {
            if new != old {
                changed.push(format!("{key} is {new} and was {old}"));
            }
        };
        let threads_of = |threads: &Option<std::num::NonZeroUsize>| threads.map_or("auto".to_owned(), |n| n.to_string());
        fixed("admin.address", admin.to_string(), running.admin.to_string());
        fixed("threads", threads_of(threads), threads_of(&running.threads));
        fixed("log.format", format!("{format:?}").to_lowercase(), format!("{:?}", running.log.format).to_lowercase());
        if !changed.is_empty() {
            return Err(NeedsRestart { changed });
        }
        Ok(*listeners == running.listeners
            && *trusted == running.trusted
            && (*level, *access) == (running.log.level, running.log.access)
            && *routes == running.routes
            && *fleets == running.fleets
            && *limits == running.limits
            && *shutdown_deadline == running.shutdown_deadline)
    }
}
