//! Reloads the configuration on SIGHUP and when the file changes. A reload applies as a whole or not at all.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::event::NoticeKind;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Holdline, RunError, heartbeat_tokens};
use crate::config::model::Config;
use crate::config::{ConfigError, ConfigFile, NeedsRestart, Watched};
use crate::controller::Stopped;
use crate::gateway::GatewayError;
use crate::telemetry::names;

/// Why a reload was refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{file}: {source}")]
    Restart { file: String, source: NeedsRestart },
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    #[error("the configuration files could not be read within {READ_MAX:?}; check their file system")]
    Slow,
    #[error("Holdline is stopping and does not reload its configuration")]
    Stopping,
}

impl From<Stopped> for ReloadError {
    fn from(_: Stopped) -> Self {
        ReloadError::Stopping
    }
}

/// For reading all files of a configuration; a network file system may hang.
const READ_MAX: Duration = Duration::from_secs(10);

/// Reads files on a blocking thread: the control plane and its signals must not wait for a disk.
async fn off_this_task<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ReloadError> {
    match tokio::time::timeout(READ_MAX, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
        Err(_elapsed) => Err(ReloadError::Slow),
    }
}

/// Triggers of a reload.
pub(super) struct Reloads {
    path: PathBuf,
    hangup: Signal,
    /// `None`: the file cannot be watched.
    watched: Option<Watched>,
}

impl Reloads {
    /// From now on SIGHUP reloads `file` and does not end the process.
    pub(super) fn new(file: ConfigFile) -> Result<Self, RunError> {
        let hangup = signal(SignalKind::hangup()).map_err(RunError::Runtime)?;
        let watched = Watched::new(&file.path, file.text.into_bytes())
            .inspect_err(|error| {
                tracing::warn!(%error, file = %file.path.display(), "cannot watch the configuration file for changes; use SIGHUP to reload it");
            })
            .ok();
        Ok(Reloads { path: file.path, hangup, watched })
    }

    /// Resolves when a reload is requested or the file has changed.
    pub(super) async fn asked(reloads: &mut Option<Reloads>) {
        let Some(Reloads { hangup, watched, .. }) = reloads else { return std::future::pending().await };
        let changed = async {
            match watched {
                Some(watched) => watched.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(()) = hangup.recv() => {}
            () = changed => {}
        }
    }
}

impl Holdline {
    /// Reads the file and applies it, or reports why it cannot.
    pub(super) async fn reload(&mut self) {
        let done = self.try_reload().await;
        self.tell(done);
    }

    /// Rejects a reload during shutdown.
    pub(super) fn refuse_reload(&self) {
        self.tell(Err(ReloadError::Stopping));
    }

    fn tell(&self, done: Result<bool, ReloadError>) {
        let result = match done {
            Ok(true) => {
                self.note(NoticeKind::ConfigReloaded, "configuration reloaded".to_owned());
                names::reload::OK
            }
            Ok(false) => {
                tracing::info!("configuration read again: no changes");
                names::reload::UNCHANGED
            }
            Err(error) => {
                self.note(NoticeKind::ConfigRejected, format!("configuration reload failed, nothing changed: {error}"));
                names::reload::FAILED
            }
        };
        self.metrics.reloaded(result);
    }

    fn note(&self, kind: NoticeKind, message: String) {
        self.control.note(kind, message, self.clock.unix_ms());
    }

    /// Whether anything changed.
    async fn try_reload(&mut self) -> Result<bool, ReloadError> {
        let Some(reloads) = &mut self.reloads else { return Ok(false) };
        let path = reloads.path.clone();
        let (file, next) = off_this_task(move || {
            let file = ConfigFile::read(&path)?;
            let next = file.parse();
            Ok::<_, ReloadError>((file, next))
        })
        .await??;
        if let Some(watched) = &mut reloads.watched {
            watched.saw(&file.text);
        }
        let next = next?;
        let named = |source| ReloadError::Restart { file: file.path.display().to_string(), source };
        if next.is_same(&self.config).map_err(named)? {
            return Ok(false);
        }
        // Everything that can fail comes first.
        let gateway = Arc::clone(&self.gateway);
        let (prepared, next) = off_this_task(move || (gateway.prepare(&next), next)).await?;
        let prepared = prepared?;
        self.keep_tokens(&next);
        let gateway = Arc::clone(&self.gateway);
        let fleets = next.fleets.iter().map(|f| Arc::clone(&f.policy)).collect();
        self.control.configure(fleets, Box::new(move |snapshot| gateway.adopt_with(snapshot, prepared))).await?;
        if let Some(filter) = &self.log_filter {
            filter.set(&next.log);
        }
        self.config = next;
        Ok(true)
    }

    /// A fleet that was removed keeps its heartbeat token while its backends drain.
    fn keep_tokens(&self, next: &Config) {
        let mut tokens = heartbeat_tokens(next);
        let known = self.control.current();
        for (fleet, token) in self.admin.heartbeat_tokens.load().iter() {
            let goes = next.fleets.iter().all(|f| f.policy.name != *fleet) && known.fleet(fleet.as_str()).is_some();
            if goes {
                tokens.insert(fleet.clone(), token.clone());
            }
        }
        self.admin.heartbeat_tokens.store(Arc::new(tokens));
    }
}
