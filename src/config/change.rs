//! Compares a new configuration with the running one.

use super::model::{Config, LogConfig};

/// Changed keys that take effect at startup only, with their new and old values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}; restart to apply it, or revert it and reload", .changed.join("; "))]
pub struct NeedsRestart {
    /// At least one, as `key is NEW and was OLD`.
    pub changed: Vec<String>,
}

impl Config {
    /// Whether `self` equals `running`.
    ///
    /// # Errors
    /// [`NeedsRestart`] names the keys that a running Holdline cannot change.
    pub fn is_same(&self, running: &Config) -> Result<bool, NeedsRestart> {
        // Destructured in full, so that every new key must be handled here.
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
