//! The binary: see the library's [`holdline::cli`].

use std::process::ExitCode;

use holdline::providers::supervisor;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // Before anything else: a supervisor is started for each backend and should weigh nothing.
    if args.next().is_some_and(|first| first == supervisor::SUBCOMMAND) {
        return supervisor::run(args);
    }
    ExitCode::SUCCESS
}
