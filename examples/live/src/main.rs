//! `holdline-live`: one chat server on one port.

use std::process::ExitCode;

use clap::Parser;

/// A small real-time chat server over WebSocket and SSE, with a heartbeat for Holdline.
#[derive(Parser)]
#[command(version, about, after_help = "Example:\n  holdline-live --port 9001 --capacity 100")]
struct Cli {
    #[command(flatten)]
    live: holdline_live::LiveArgs,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Cli::parse().live;
    let port = args.port;
    match holdline_live::run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "holdline-live: cannot serve on 127.0.0.1:{port}: {error}; choose another --port or stop what listens there"
            );
            ExitCode::FAILURE
        }
    }
}
