//! `holdline status`.

use clap::Args;
use holdline_core::ids::FleetName;
use serde_json::Value;

use super::ClientArgs;
use super::client::{Client, Reply};
use super::failure::Failure;
use super::output::{Format, Out};
use super::table::fleet_table_in;
use crate::admin::api::StatusBody;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdline status --fleet chat\n  holdline status -o json | jq '.fleets[].sessions'")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// Show only this fleet
    #[arg(long)]
    fleet: Option<String>,
}

pub(super) async fn status(args: &StatusArgs, out: &mut Out) -> Result<(), Failure> {
    let reply = fetch(args, &args.client.client()?).await?;
    match args.client.output {
        Format::Json => out.json(&reply.raw),
        Format::Table => out.print(&fleet_table_in(&reply.body, out.style)),
    }
}

/// The status, filtered by `--fleet`.
pub(super) async fn fetch(args: &StatusArgs, client: &Client) -> Result<Reply<StatusBody>, Failure> {
    let mut reply = client.status().await?;
    if let Some(name) = &args.fleet {
        if !reply.body.fleets.iter().any(|f| f.name.as_str() == name) {
            return Err(unknown_fleet(name, &reply.body));
        }
        reply.body.fleets.retain(|f| f.name.as_str() == name);
        if let Some(fleets) = reply.raw.get_mut("fleets").and_then(Value::as_array_mut) {
            fleets.retain(|f| f["name"] == name.as_str());
        }
    }
    Ok(reply)
}

/// The fleet of this backend.
pub(super) fn fleet_of(backend: &str, fleet: Option<&str>, status: &StatusBody) -> Result<FleetName, Failure> {
    if let Some(name) = fleet {
        let known = status.fleets.iter().find(|f| f.name.as_str() == name);
        return known.map(|f| f.name.clone()).ok_or_else(|| unknown_fleet(name, status));
    }
    let having: Vec<&FleetName> =
        status.fleets.iter().filter(|f| f.backends.iter().any(|b| b.id.as_str() == backend)).map(|f| &f.name).collect();
    match having[..] {
        [only] => Ok(only.clone()),
        [] => {
            let known = status.fleets.iter().flat_map(|f| f.backends.iter().map(move |b| format!("{} ({})", b.id, f.name)));
            let known = list(known);
            Err(Failure::Failed(format!("unknown backend `{backend}`; known backends: {known}")))
        }
        _ => {
            let names = list(having.iter().map(ToString::to_string));
            Err(Failure::Usage(format!("backend `{backend}` exists in the fleets {names}; select one with --fleet")))
        }
    }
}

pub(super) fn unknown_fleet(name: &str, status: &StatusBody) -> Failure {
    let known = list(status.fleets.iter().map(|f| f.name.to_string()));
    Failure::Failed(format!("unknown fleet `{name}`; known fleets: {known}"))
}

fn list(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
