//! `holdline run`.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use crate::config::ConfigFile;
use crate::runtime::{self, Hooks};
use crate::telemetry::logs;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  holdline run --config holdline.yaml\n\nSIGTERM or Ctrl-C: stop accepting, close sessions gradually, stop child processes, exit 0.\nSIGHUP, or a change of FILE: reload the configuration; open sessions are kept."
)]
pub(super) struct RunArgs {
    /// Configuration file; validate it with `holdline config check FILE`
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
