//! The binary: see [`holdline::cli`].

use std::process::ExitCode;

use holdline::providers::supervisor;

/// See docs/decisions, "allocator": sessions come and go by the thousand, and what they held is given back.
#[cfg(all(target_os = "linux", not(target_env = "musl")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // Before anything else: a supervisor is started for each backend and should weigh nothing.
    if args.next().is_some_and(|first| first == supervisor::SUBCOMMAND) {
        return supervisor::run(args);
    }
    holdline::cli::main()
}
