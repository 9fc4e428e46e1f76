//! The binary: see [`holdline::cli`].

use std::process::ExitCode;

use holdline::providers::supervisor;

/// See docs/decisions, "allocator": memory of ended sessions is returned to the system.
#[cfg(all(target_os = "linux", not(target_env = "musl")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // First, since a supervisor runs for each backend and should use little memory.
    if args.next().is_some_and(|first| first == supervisor::SUBCOMMAND) {
        return supervisor::run(args);
    }
    holdline::cli::main()
}
