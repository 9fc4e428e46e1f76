//! `live`: the reference real-time application.

use std::process::ExitCode;

use clap::Parser;

/// A comment wall for live events: an HTTP api, and nodes that hold the clients' connections.
#[derive(Parser)]
#[command(name = "live", version, about)]
struct Cli {
    #[command(subcommand)]
    role: holdline_live::Role,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match holdline_live::run(Cli::parse().role).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("live: {error}");
            ExitCode::FAILURE
        }
    }
}
