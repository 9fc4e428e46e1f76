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
#[command(after_help = "Examples:\n  holdline scale chat --explain     show the last decision, its reason and its inputs\n  \
    holdline scale chat --to 5        run five backends regardless of load\n  \
    holdline scale chat --auto        return to autoscaling")]
pub(super) struct ScaleArgs {
    /// Name of the fleet
    fleet: String,
    /// Set a fixed number of backends
    #[arg(long, value_name = "N", conflicts_with_all = ["auto", "explain"])]
    to: Option<u32>,
    /// Return to autoscaling
    #[arg(long, conflicts_with = "explain")]
    auto: bool,
    /// Show the inputs of the last decision
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
        Some(_) => "fixed by an operator; `--auto` returns to autoscaling".to_owned(),
        None => format!("autoscaled from {} to {}", scale.min, scale.max),
    };
    let advice = if scale.elastic { "" } else { "; the fleet is static, so this is advice only" };
    format!("{}: {} desired, {} running, {by}{advice}\n  {}\n", scale.fleet, scale.desired, scale.current, scale.reason)
}

fn explanation(scale: &ScaleBody, look: Style) -> String {
    let mut lines = Vec::new();
    let mut say = |what: &str, value: String, meaning: &str| lines.push(vec![what.to_owned(), value, meaning.to_owned()]);
    if let Some(limit) = &scale.limited_by {
        say("limited by", limit.clone(), "what kept it below or above what was asked for");
    }
    if scale.start > 0 {
        say("start", scale.start.to_string(), "backends started by it");
    }
    if !scale.undrain.is_empty() {
        say("undrain", names(&scale.undrain), "drains cancelled instead of starting backends");
    }
    if !scale.victims.is_empty() {
        say("drain, then stop", names(&scale.victims), "backends chosen to be removed");
    }
    let known = INPUTS.iter().filter_map(|(name, meaning)| Some((*name, *scale.inputs.get(*name)?, *meaning)));
    // A newer Holdline may have inputs that this program has no description for.
    let unknown = scale.inputs.iter().filter(|(name, _)| INPUTS.iter().all(|(known, _)| known != name));
    for (name, value, meaning) in known.chain(unknown.map(|(name, value)| (name.as_str(), *value, ""))) {
        say(name, figure(value), meaning);
    }
    columns(&[Column::Left("INPUT"), Column::Left("VALUE"), Column::Left("MEANING")], &lines, 2, look)
}

/// What each input means, in the order in which they lead to the decision.
const INPUTS: &[(&str, &str)] = &[
    ("sessions", "sessions that backends hold"),
    ("queued", "handshakes that wait for a seat"),
    ("oldest_wait_ms", "how long the oldest of them has waited"),
    ("refused", "refused for lack of a seat in the last second"),
    ("no_backend", "found no backend in the last second"),
    ("requests", "plain requests in flight or waiting"),
    ("moved", "sessions moved off backends in the last second"),
    ("arrivals_per_s", "new sessions per second, averaged"),
    ("departure_rate", "share of the sessions that ends per second, averaged"),
    ("dispersion", "burstiness of arrivals (index of dispersion; 1: Poisson)"),
    ("startup_p95_ms", "95th percentile of the startup time of backends"),
    ("horizon_ms", "how far ahead is forecast: one startup and one decision"),
    ("expected", "forecast of sessions at the horizon"),
    ("variance", "variance of the forecast"),
    ("z", "margin in standard deviations; it widens when forecasts miss"),
    ("need", "sessions to provide capacity for, margin included"),
    ("capacity", "sessions that a backend takes"),
    ("fill", "target utilisation of a backend, as a share"),
    ("asked", "backends required by the need"),
    ("current", "backends that count: starting, ready, suspect"),
    ("starting", "of these, starting"),
    ("suspect", "of these, with failing heartbeats or dials"),
    ("draining", "backends being drained"),
];

fn names(ids: &[BackendId]) -> String {
    ids.iter().map(BackendId::as_str).collect::<Vec<_>>().join(", ")
}

/// Whole numbers as such, others with three digits after the point.
fn figure(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use holdline_core::scale::{Observation, Scaler};
    use holdline_core::time::Moment;

    use super::*;
    use crate::admin::doubles;

    #[test]
    fn every_input_is_explained() {
        let fleet = doubles::chat();
        let decision = Scaler::new(&fleet.policy, Moment::START).decide(&Observation::default(), &fleet.policy, Moment::START);
        assert!(!decision.inputs.is_empty());
        for name in decision.inputs.keys() {
            assert!(INPUTS.iter().any(|(known, _)| known == name), "{name}");
        }
    }
}
