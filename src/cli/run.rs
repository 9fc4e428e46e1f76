//! `holdline run`.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use crate::config::load;
use crate::runtime;

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
    runtime::run(config, runtime::Hooks::default()).map_err(|e| Failure::Failed(e.to_string()))
}
