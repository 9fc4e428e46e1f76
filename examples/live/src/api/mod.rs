//! `live api`: takes mutations, answers queries, publishes deltas.

use std::path::PathBuf;

use clap::Args;

/// How to run the api.
#[derive(Args, Clone, Debug)]
pub struct ApiArgs {
    /// Port for clients, on 127.0.0.1; 0: any, which it prints
    #[arg(long, env = "PORT")]
    pub port: u16,
    /// Port for nodes, on 127.0.0.1; 0: any, which it prints
    #[arg(long, value_name = "PORT", default_value_t = 9101)]
    pub internal: u16,
    /// The SQLite file, which is made if it is not there
    #[arg(long, value_name = "FILE", default_value = "live.db")]
    pub db: PathBuf,
    /// The most that the file may hold, in MiB; left out: no bound but the disk
    #[arg(long, value_name = "MIB")]
    pub db_max: Option<u32>,
    /// Where deltas go: embedded (nodes read them from --internal), redis://… or postgres://…
    #[arg(long, value_name = "URL", default_value = "embedded")]
    pub queue: String,
    /// The longest comment, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 2_000)]
    pub comment_max: usize,
    /// The newest deltas that are kept of each room
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub window: u64,
    /// Rooms to make at the start, NAME:strong or NAME:eventual:SECONDS; those that are there stay
    #[arg(long, value_name = "ROOM")]
    pub room: Vec<String>,
}
