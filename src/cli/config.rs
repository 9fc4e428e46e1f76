//! `holdline config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::output::Out;
use super::render::count;
use crate::config::model::Config;
use crate::config::{load, schema};

#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Validate a configuration file and report its errors
    #[command(after_help = "Example:\n  holdline config check holdline.yaml")]
    Check {
        /// Configuration file
        #[arg(required_unless_present = "config", conflicts_with = "config")]
        file: Option<PathBuf>,
        /// The same, as an option like that of `holdline run`
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the JSON Schema of the configuration, for editors
    #[command(after_help = "Example:\n  holdline config schema > holdline.schema.json")]
    Schema,
}

pub(super) fn config(args: &ConfigArgs, out: &mut Out) -> Result<(), Failure> {
    match &args.action {
        Action::Check { file, config } => {
            // clap requires one of them.
            let path = file.as_ref().or(config.as_ref()).ok_or_else(|| Failure::Usage("name a file".into()))?;
            let config = load(path).map_err(|e| Failure::Usage(e.to_string()))?;
            for warning in &config.warnings {
                out.line(&format!("warning: {warning}"))?;
            }
            out.line(&format!("{} is valid: {}", path.display(), summary(&config)))
        }
        Action::Schema => out.line(schema().trim_end()),
    }
}

fn summary(config: &Config) -> String {
    let fleets: Vec<&str> = config.fleets.iter().map(|f| f.policy.name.as_str()).collect();
    let (listeners, routes) = (count(config.listeners.len() as u64, "listener"), count(config.routes.len() as u64, "route"));
    format!("{listeners}, {routes}, {} ({})", count(fleets.len() as u64, "fleet"), fleets.join(", "))
}
