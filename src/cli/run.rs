//! `holdline run`.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use crate::config::load;
use crate::runtime::{self, Hooks};
use crate::telemetry::logs;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  holdline run --config holdline.yaml\n\nSIGTERM or Ctrl-C: stop accepting, close sessions at a pace, stop children, exit 0."
)]
pub(super) struct RunArgs {
    /// The configuration; `holdline config check FILE` checks it beforehand
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = load(&args.config).map_err(|e| Failure::Usage(e.to_string()))?;
    let log = logs::init(&config.log).map_err(|e| Failure::Failed(format!("cannot start the log: {e}")))?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let hooks = Hooks { log: Some(log.dropped()), ..Hooks::default() };
    runtime::run(config, hooks).map_err(|error| match error.exit_code() {
        2 => Failure::Usage(error.to_string()),
        _ => Failure::Failed(error.to_string()),
    })
}
