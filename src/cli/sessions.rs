//! `holdline sessions`.

use clap::Args;

use super::ClientArgs;
use super::client::encode;
use super::failure::Failure;
use super::output::{Format, Out};
use super::render::{Column, bytes, columns, duration};
use crate::admin::api::{SessionBody, SessionsBody};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdline sessions --backend b-2\n  holdline sessions --limit 10000 -o json")]
pub(super) struct SessionsArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Show only this fleet
    #[arg(long)]
    fleet: Option<String>,
    /// Show only this backend
    #[arg(long)]
    backend: Option<String>,
    /// Maximum number of sessions to list
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

pub(super) async fn sessions(args: &SessionsArgs, out: &mut Out) -> Result<(), Failure> {
    let mut path = format!("/v1/sessions?limit={}", args.limit);
    for (key, value) in [("fleet", &args.fleet), ("backend", &args.backend)] {
        if let Some(value) = value {
            path.push_str(&format!("&{key}={}", encode(value)));
        }
    }
    let reply = args.client.client()?.get::<SessionsBody>(&path).await?;
    if args.client.output == Format::Json {
        return out.json(&reply.raw);
    }
    let headings = [
        Column::Left("SESSION"),
        Column::Left("KIND"),
        Column::Left("FLEET"),
        Column::Left("BACKEND"),
        Column::Left("CLIENT"),
        Column::Right("AGE"),
        Column::Right("IDLE"),
        Column::Right("IN"),
        Column::Right("OUT"),
    ];
    let rows: Vec<Vec<String>> = reply.body.sessions.iter().map(row).collect();
    out.print(&columns(&headings, &rows, 0, out.style))?;
    if reply.body.truncated {
        eprintln!("more than {} sessions; use --limit to show more, --fleet and --backend to filter", args.limit);
    }
    Ok(())
}

fn row(session: &SessionBody) -> Vec<String> {
    vec![
        session.id.clone(),
        session.kind.clone(),
        session.fleet.to_string(),
        session.backend.to_string(),
        session.client.to_string(),
        duration(session.age_ms),
        duration(session.idle_ms),
        bytes(session.bytes_in),
        bytes(session.bytes_out),
    ]
}
