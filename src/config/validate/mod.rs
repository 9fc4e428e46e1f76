//! From [`raw`] to [`model`](super::model). Everything that cannot be meant is collected; only a file without a problem becomes a model.

mod addresses;
mod affinity;
mod check;
mod fleet;
mod process;
mod routes;
mod scale;
mod tls;
mod trusted;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use check::Check;

use super::Programs;
use super::error::MeaningError;
use super::located::At;
use super::model::{Config, Limits, LogConfig, LogFormat};
use super::raw;
use super::units::{Count, Rate, Size, Threads};

/// hyper panics with a smaller buffer.
const HEAD_MIN: Size = Size(8 * 1024);

/// What an idle Holdline needs.
const MEMORY_MIN: Size = Size(32 << 20);

/// More threads than machines have cores; a larger number is probably a typo.
const THREADS_MAX: u32 = 1024;

/// Validates the parsed file.
///
/// # Errors
/// All problems.
pub(super) fn validate(raw: &raw::Config, file: &str, base: &Path, programs: Programs) -> Result<Config, MeaningError> {
    let mut check = Check::new(base, programs);
    let trusted = trusted::trusted(&mut check, &raw.trusted);
    let listeners = addresses::listeners(&mut check, &raw.listeners, &raw.trusted);
    let admin = addresses::admin(&mut check, &raw.admin.address, &listeners);
    let fleets = fleet::fleets(&mut check, &raw.fleets, &listeners, admin);
    let routes = routes::routes(&mut check, &raw.routes, &raw.fleets, &fleets);
    let config = Config {
        listeners,
        trusted: Arc::new(trusted),
        admin,
        log: log(&raw.log),
        routes,
        fleets,
        limits: limits(&mut check, &raw.limits),
        threads: threads(&mut check, &raw.threads),
        shutdown_deadline: raw.shutdown.deadline.value.0,
        warnings: check.warnings(file),
    };
    match check.into_problems() {
        problems if problems.is_empty() => Ok(config),
        problems => Err(MeaningError { file: file.to_owned(), problems }),
    }
}

fn log(raw: &raw::Log) -> LogConfig {
    let format = match raw.format {
        raw::LogFormat::Text => LogFormat::Text,
        raw::LogFormat::Json => LogFormat::Json,
    };
    let level = match raw.level {
        raw::LogLevel::Error => tracing::Level::ERROR,
        raw::LogLevel::Warn => tracing::Level::WARN,
        raw::LogLevel::Info => tracing::Level::INFO,
        raw::LogLevel::Debug => tracing::Level::DEBUG,
        raw::LogLevel::Trace => tracing::Level::TRACE,
    };
    LogConfig { format, level, access: raw.access }
}

fn limits(check: &mut Check<'_>, raw: &raw::Limits) -> Limits {
    let head = raw.head.value;
    if head < HEAD_MIN {
        check.wrong(
            raw.head.line,
            format!("limits.head is {head}"),
            format!("write {HEAD_MIN} or more; browsers send heads of several KiB"),
        );
    }
    let sessions = &raw.sessions_per_address;
    if sessions.value.0 == Some(Count(0)) {
        check.wrong(sessions.line, "limits.sessions_per_address is 0", "write 1 or more, or none");
    }
    let memory = &raw.memory;
    if let Some(size) = memory.value.0.filter(|size| *size < MEMORY_MIN) {
        check.wrong(memory.line, format!("limits.memory is {size}"), format!("write {MEMORY_MIN} or more, or none"));
    }
    Limits {
        sessions_per_address: sessions.value.0.map(|Count(n)| n),
        handshakes_per_address: raw.handshakes_per_address.0.map(|Rate(per_second)| per_second),
        memory: memory.value.0.map(|Size(bytes)| bytes),
        head: usize::try_from(head.0).unwrap_or(usize::MAX),
        head_timeout: check.positive("limits.head_timeout", &raw.head_timeout),
    }
}

fn threads(check: &mut Check<'_>, raw: &At<Threads>) -> Option<NonZeroUsize> {
    let threads = raw.value.0?;
    if threads == 0 || threads > THREADS_MAX {
        check.wrong(raw.line, format!("threads is {threads}"), format!("write auto, or a number from 1 to {THREADS_MAX}"));
    }
    NonZeroUsize::new(threads as usize)
}
