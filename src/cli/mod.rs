//! The command line. One file per command group; every command except `run` is a client of the admin API.
//!
//! Exit status: 0 done, 1 the operation failed or its deadline passed, 2 usage or configuration, 3 no answer from the admin address.

mod client;
mod config;
#[cfg(feature = "demo")]
mod demo;
mod events;
mod failure;
mod moves;
mod output;
mod progress;
pub mod render;
mod run;
mod scale;
mod screen;
mod sessions;
mod status;
pub mod table;
#[cfg(test)]
mod tests;
mod top;

use std::future::Future;
use std::io;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use client::Client;
use failure::Failure;
use output::{Format, Out};

const EXAMPLES: &str = "\
Examples:
  holdline config check holdline.yaml       validate a configuration
  holdline run --config holdline.yaml       proxy, count, queue and scale
  holdline status                           sessions on each backend
  holdline drain b-2 --over 30s --wait      empty a backend and follow the progress
  holdline scale chat --explain             reasons for the number of backends

Exit status: 0 success, 1 failure or deadline passed, 2 usage or configuration error, 3 no answer from the admin address";

/// The ingress that holds client connections while the fleet behind it scales, deploys and fails.
#[derive(Debug, Parser)]
#[command(name = "holdline", version, after_help = EXAMPLES, arg_required_else_help = true, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run gateway and controller in one process, from a configuration file
    Run(run::RunArgs),
    /// Demonstrate sessions, scaling and drains with simulated users; needs no configuration
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
    /// The reference real-time application that the demo runs
    #[cfg(feature = "demo")]
    #[command(hide = true)]
    Live {
        #[command(subcommand)]
        role: holdline_live::Role,
    },
    /// Show fleets, their backends and the sessions on each
    Status(status::StatusArgs),
    /// Show the status live, updated every second, until q or Ctrl-C
    #[command(after_help = "Examples:\n  holdline top --fleet chat\n  holdline top -o json | jq '.fleets[].arrivals_per_s'")]
    Top(status::StatusArgs),
    /// List open sessions
    Sessions(sessions::SessionsArgs),
    /// Move all sessions off a backend and place no new ones there
    Drain(moves::DrainArgs),
    /// Cancel a drain: the backend takes new sessions again
    Undrain(moves::UndrainArgs),
    /// Even out the sessions of a fleet: move them from fuller to emptier backends
    Rebalance(moves::RebalanceArgs),
    /// Show or set the number of backends of a fleet, or return it to the autoscaler
    Scale(scale::ScaleArgs),
    /// Show events: changes of phase, drains, scaling decisions
    Events(events::EventsArgs),
    /// Check a configuration file, or print the configuration's schema
    #[command(after_help = "Examples:\n  holdline config check holdline.yaml\n  holdline config schema > holdline.schema.json")]
    Config(config::ConfigArgs),
    /// Print a shell completion script
    #[command(after_help = "Example:\n  holdline completions bash > /etc/bash_completion.d/holdline")]
    Completions {
        /// Shell to print it for
        shell: Shell,
    },
}

/// Options of every client command.
#[derive(Clone, Debug, Args)]
struct ClientArgs {
    /// URL of the running Holdline's admin API
    #[arg(long, env = "HOLDLINE_ADMIN", value_name = "URL", default_value = "http://127.0.0.1:9900")]
    admin: String,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

impl ClientArgs {
    fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.admin)
    }
}

/// Parses the arguments of this process and runs the command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with status 0, mistakes to stderr with 2. A failed write cannot be reported.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.exit_status())
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    let mut out = Out::stdout();
    match command {
        Command::Run(args) => run::run(&args),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(&args, out),
        #[cfg(feature = "demo")]
        Command::Live { role } => ask(live(role)),
        Command::Status(args) => ask(status::status(&args, &mut out)),
        Command::Top(args) => ask(top::top(&args, &mut out)),
        Command::Sessions(args) => ask(sessions::sessions(&args, &mut out)),
        Command::Drain(args) => ask(moves::drain(&args, &mut out)),
        Command::Undrain(args) => ask(moves::undrain(&args, &mut out)),
        Command::Rebalance(args) => ask(moves::rebalance(&args, &mut out)),
        Command::Scale(args) => ask(scale::scale(&args, &mut out)),
        Command::Events(args) => ask(events::events(&args, &mut out)),
        Command::Config(args) => config::config(&args, &mut out),
        Command::Completions { shell } => completions(shell, &mut out),
    }
}

/// Runs a client command on a single-threaded runtime.
fn ask(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e: io::Error| Failure::Failed(format!("cannot start: {e}")))?;
    runtime.block_on(work)
}

#[cfg(feature = "demo")]
async fn live(role: holdline_live::Role) -> Result<(), Failure> {
    holdline_live::run(role).await.map_err(|e| Failure::Failed(e.to_string()))
}

fn completions(shell: Shell, out: &mut Out) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "holdline", &mut script);
    out.print(&String::from_utf8_lossy(&script))
}
