//! `holdline run`.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use crate::config::ConfigFile;
use crate::runtime::{self, Hooks};
use crate::telemetry::logs;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  holdline run --config holdline.yaml\n\nSIGTERM or Ctrl-C: stop accepting, close sessions at a pace, stop children, exit 0.\nSIGHUP, or another content of FILE: reload it; what stays in it keeps its sessions."
)]
pub(super) struct RunArgs {
    /// The configuration; `holdline config check FILE` checks it beforehand
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let wrong = |e: crate::config::ConfigError| Failure::Usage(e.to_string());
    let file = ConfigFile::read(&args.config).map_err(wrong)?;
    let config = file.parse().map_err(wrong)?;
    let log = logs::init(&config.log).map_err(|e| Failure::Failed(format!("cannot start the log: {e}")))?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let hooks = Hooks { log: Some(log.dropped()), log_filter: Some(log.filter()), file: Some(file), ..Hooks::default() };
    runtime::run(config, hooks).map_err(|error| match error.exit_code() {
        2 => Failure::Usage(error.to_string()),
        _ => Failure::Failed(error.to_string()),
    })
}
