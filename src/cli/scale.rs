//! `holdline scale`.

use clap::Args;
use holdline_core::ids::BackendId;
use http::Method;

use super::ClientArgs;
use super::client::encode;
use super::failure::Failure;
use super::output::{Format, Out};
use super::render::{Column, Style, columns};
use crate::admin::api::{DoneBody, ScaleBody, ScaleOrder};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  holdline scale chat --explain     the last decision, its reason and its inputs\n  \
    holdline scale chat --to 5        five backends, whatever the autoscaler thinks\n  \
    holdline scale chat --auto        give the number back to the autoscaler")]
pub(super) struct ScaleArgs {
    /// The fleet
    fleet: String,
    /// Fix the number of backends
    #[arg(long, value_name = "N", conflicts_with_all = ["auto", "explain"])]
    to: Option<u32>,
    /// Give the number back to the autoscaler
    #[arg(long, conflicts_with = "explain")]
    auto: bool,
    /// Show the inputs of the last decision too
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn scale(args: &ScaleArgs, out: &mut Out) -> Result<(), Failure> {
    let client = args.client.client()?;
    let path = format!("/v1/fleets/{}/scale", encode(&args.fleet));
    let json = args.client.output == Format::Json;
    if args.auto || args.to.is_some() {
        let reply = client.call::<DoneBody>(Method::PUT, &path, Some(&ScaleOrder { to: args.to })).await?;
        return if json { out.json(&reply.raw) } else { out.line(&reply.body.message) };
    }
    let reply = client.get::<ScaleBody>(&path).await?;
    if json {
        return out.json(&reply.raw);
    }
    out.print(&summary(&reply.body))?;
    if args.explain {
        out.print(&explanation(&reply.body, out.style))?;
    }
    Ok(())
}

fn summary(scale: &ScaleBody) -> String {
    let by = match scale.to {
        Some(_) => "fixed by an operator; `--auto` gives it back".to_owned(),
        None => format!("autoscaled from {} to {}", scale.min, scale.max),
    };
    let advice = if scale.elastic { "" } else { "; the fleet is static, so this only advises" };
    format!("{}: {} desired, {} running, {by}{advice}\n  {}\n", scale.fleet, scale.desired, scale.current, scale.reason)
}

fn explanation(scale: &ScaleBody, look: Style) -> String {
    let mut lines = Vec::new();
    let mut say = |what: &str, value: String| lines.push(vec![what.to_owned(), value]);
    if let Some(limit) = &scale.limited_by {
        say("limited by", limit.clone());
    }
    if scale.start > 0 {
        say("start", scale.start.to_string());
    }
    if !scale.undrain.is_empty() {
        say("undrain", names(&scale.undrain));
    }
    if !scale.victims.is_empty() {
        say("drain, then stop", names(&scale.victims));
    }
    for (name, value) in &scale.inputs {
        say(name, figure(*value));
    }
    columns(&[Column::Left("INPUT"), Column::Left("VALUE")], &lines, 2, look)
}

fn names(ids: &[BackendId]) -> String {
    ids.iter().map(BackendId::as_str).collect::<Vec<_>>().join(", ")
}

/// Whole numbers as such, others with three digits after the point.
fn figure(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}
