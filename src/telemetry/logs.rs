//! The log: text or JSON on stderr, written by a dedicated thread. Callers never block; when its queue is full, lines are dropped and counted.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, reload};

use super::access;
use crate::config::model::{LogConfig, LogFormat};

/// Queued lines: about 20 MiB at most, seconds of a busy access log.
const LINES_MAX: usize = 64 * 1024;

/// Starts the log of this process.
///
/// # Errors
/// A log was already set up in this process.
pub fn init(config: &LogConfig) -> Result<Guard, TryInitError> {
    let (writer, worker) = writer(std::io::stderr());
    let dropped = DroppedLines(writer.error_counter());
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let (filter, handle) = reload::Layer::new(filter(config));
    tracing_subscriber::registry().with(layer(config, writer, colours, filter)).try_init()?;
    Ok(Guard { _worker: worker, dropped, filter: LogFilter(handle) })
}

/// Guard of the log; dropping it flushes the queue.
#[derive(Debug)]
pub struct Guard {
    _worker: WorkerGuard,
    dropped: DroppedLines,
    filter: LogFilter,
}

impl Guard {
    /// The counter of dropped lines, for [`Metrics::follow_log`](super::Metrics::follow_log).
    pub fn dropped(&self) -> DroppedLines {
        self.dropped.clone()
    }

    /// What a reload of the configuration changes.
    pub fn filter(&self) -> LogFilter {
        self.filter.clone()
    }
}

/// The filter of the running log.
#[derive(Clone, Debug)]
pub struct LogFilter(reload::Handle<Targets, Registry>);

impl LogFilter {
    /// Applies level and access switch of another configuration; its format needs a restart.
    pub fn set(&self, config: &LogConfig) {
        // Fails only when the log has been shut down.
        let _ = self.0.reload(filter(config));
    }
}

/// Counter of lines that the log dropped.
#[derive(Clone, Debug)]
pub struct DroppedLines(ErrorCounter);

impl DroppedLines {
    /// Dropped lines since startup.
    pub fn count(&self) -> u64 {
        self.0.dropped_lines() as u64
    }
}

fn writer(to: impl std::io::Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX).thread_name("log").finish(to)
}

fn layer<S, F>(config: &LogConfig, writer: NonBlocking, colours: bool, filter: F) -> Box<dyn Layer<S> + Send + Sync>
where
    F: Filter<S> + Send + Sync + 'static,
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours);
    match config.format {
        LogFormat::Text => layer.with_filter(filter).boxed(),
        LogFormat::Json => {
            layer.json().flatten_event(true).with_current_span(false).with_span_list(false).with_filter(filter).boxed()
        }
    }
}

/// Holdline's own messages at the configured level; libraries at `warn` or less; the access log by its own switch only.
fn filter(config: &LogConfig) -> Targets {
    let level = LevelFilter::from_level(config.level);
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("holdline", level)
        .with_target("holdline_core", level)
        .with_target("holdline_live", level)
        .with_target(access::TARGET, if config.access { LevelFilter::INFO } else { LevelFilter::OFF })
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::time::Duration;

    use parking_lot::Mutex;
    use tracing::Level;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What `log` writes with this configuration.
    pub(in crate::telemetry) fn written(config: LogConfig, log: impl FnOnce()) -> String {
        let shared = Shared::default();
        let (writer, worker) = writer(shared.clone());
        tracing::subscriber::with_default(
            tracing_subscriber::registry().with(layer(&config, writer, false, filter(&config))),
            log,
        );
        drop(worker);
        String::from_utf8(shared.0.lock().clone()).unwrap()
    }

    pub(in crate::telemetry) const TEXT: LogConfig = LogConfig { format: LogFormat::Text, level: Level::INFO, access: true };

    #[test]
    fn a_json_line_is_one_object_with_flat_fields() {
        let line = written(LogConfig { format: LogFormat::Json, ..TEXT }, || tracing::info!(fleet = "chat", count = 3, "scaled"));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (value["message"].as_str(), value["fleet"].as_str(), value["count"].as_u64()),
            (Some("scaled"), Some("chat"), Some(3))
        );
    }

    #[test]
    fn levels_are_ours_and_libraries_are_quiet() {
        let text = written(LogConfig { level: Level::DEBUG, ..TEXT }, || {
            tracing::debug!("of ours");
            tracing::info!(target: "hyper", "chatter");
            tracing::warn!(target: "hyper", "trouble");
        });
        assert!(text.contains("of ours") && text.contains("trouble") && !text.contains("chatter"), "{text}");
        assert!(!text.contains('\u{1b}'), "no colours off a terminal: {text:?}");
    }

    /// Blocks its thread until told otherwise.
    struct Stuck(std::sync::mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            // A disconnected sender is the signal to go on.
            let _ = self.0.recv_timeout(Duration::from_secs(10));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_stderr_loses_lines_and_counts_them() {
        let (release, stuck) = std::sync::mpsc::sync_channel(0);
        let (mut writer, worker) = writer(Stuck(stuck));
        let dropped = DroppedLines(writer.error_counter());
        for _ in 0..LINES_MAX + 10 {
            writer.write_all(b"line\n").unwrap();
        }
        // One line may already be with the stuck writer.
        assert!(dropped.count() >= 9, "{}", dropped.count());
        drop(release);
        drop(worker);
    }
}
