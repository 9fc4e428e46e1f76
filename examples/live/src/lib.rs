//! A comment wall for live events, as real-time applications are built: mutations over HTTP, a log of small deltas, a queue, nodes that fan out, clients
//! that lose their connection and miss nothing. README.md has the words and the protocol.
//!
//! ```text
//!  api ── store ──► queue ──► node ──► client
//! ```

pub mod api;
mod backoff;
pub mod client;
pub mod delta;
pub mod node;
mod problem;
pub mod queue;
pub mod store;
pub mod wall;

use clap::Subcommand;

/// The two roles.
#[derive(Clone, Debug, Subcommand)]
pub enum Role {
    /// Take mutations, answer queries, publish deltas
    #[command(after_help = "Example:\n  live api --port 9100 --internal 9101 --room lobby:strong")]
    Api(api::ApiArgs),
    /// Hold clients' connections and hand them the deltas of their room
    #[command(after_help = "Example:\n  live node --port 9001 --api http://127.0.0.1:9101 --capacity 100")]
    Node(node::NodeArgs),
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// An address is taken, or a file or URL cannot be used; the message says which and what to do.
pub async fn run(role: Role) -> std::io::Result<()> {
    match role {
        Role::Api(args) => api::run(args).await,
        Role::Node(args) => node::run(args).await,
    }
}
