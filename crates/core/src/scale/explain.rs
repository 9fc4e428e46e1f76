//! Decisions in words and figures, for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::{Decision, Forecast, Observation, Totals};
use crate::policy::{Buffer, FleetPolicy};

/// One sentence: what the need is made of, how many backends it asks for, and what held that back. From how many to how many, and who
/// comes and goes, stands beside it in the decision.
pub(super) fn sentence(
    decision: &Decision,
    asked: u32,
    fleet: &Totals,
    seen: &Observation,
    policy: &FleetPolicy,
    forecast: &Forecast,
) -> String {
    let mut text = String::new();
    need(&mut text, asked, fleet, seen, policy, forecast);
    held(&mut text, decision, asked, seen, policy);
    text
}

// Writing to a String cannot fail.

fn need(text: &mut String, asked: u32, fleet: &Totals, seen: &Observation, policy: &FleetPolicy, forecast: &Forecast) {
    let _ = write!(text, "{} sessions", fleet.sessions);
    if seen.queued > 0 {
        let _ = write!(text, " and {} waiting", seen.queued);
    }
    if seen.refused > 0 {
        let _ = write!(text, ", {} refused", seen.refused);
    }
    let (Some(capacity), Some(unit)) = (fleet.capacity, fleet.unit) else {
        text.push_str("; no capacity is set, so they do not say how many backends are needed");
        return;
    };
    let (within, fill) = (seconds(forecast.horizon), round(policy.fill * 100.0));
    let _ = write!(text, ", {} expected within {within}, margin included", round(forecast.need));
    let _ = write!(text, "; a backend takes {} ({fill} % of {})", round(unit), round(capacity));
    match policy.scale.buffer {
        Buffer::Backends(0) => {}
        Buffer::Backends(n) => {
            let _ = write!(text, ", {n} more as a buffer");
        }
        Buffer::Share(share) => {
            let _ = write!(text, ", {} % more as a buffer", round(share * 100.0));
        }
    }
    let _ = write!(text, ": {asked} needed");
}

fn held(text: &mut String, decision: &Decision, asked: u32, seen: &Observation, policy: &FleetPolicy) {
    if let (0, Some(idle)) = (decision.desired, policy.scale.idle_to_zero_after)
        && decision.current > 0
    {
        let _ = write!(text, "; idle for {}", seconds(idle));
    }
    let Some(by) = decision.limited_by else { return };
    let scale = &policy.scale;
    let _ = match by {
        "min" if scale.min == 0 => write!(text, "; one is kept until the fleet was idle for long"),
        "min" => write!(text, "; there shall be at least {}", scale.min),
        "max" => write!(text, "; there shall be at most {}", scale.max),
        "stabilization" if decision.desired > asked => {
            write!(text, "; before one goes, the highest of the last {} counts", seconds(scale.down.stabilization))
        }
        "stabilization" => write!(text, "; the lowest of the last {} counts", seconds(scale.up.stabilization)),
        "behavior" => write!(text, "; `scale.behavior` allows no larger step yet"),
        "queue" => write!(
            text,
            "; none goes while clients wait or are refused, and one more comes unless seats are free or on their way"
        ),
        "fixed" => write!(text, "; the operator fixed {}", seen.fixed.unwrap_or(decision.desired)),
        "no_room" => write!(text, "; the others have no room for the sessions of more"),
        _ => Ok(()),
    };
}

/// The figures behind it, by name.
pub(super) fn inputs(
    asked: u32,
    fleet: &Totals,
    seen: &Observation,
    policy: &FleetPolicy,
    forecast: &Forecast,
) -> BTreeMap<&'static str, f64> {
    let mut inputs = BTreeMap::from([
        ("sessions", f64::from(fleet.sessions)),
        ("queued", f64::from(seen.queued)),
        ("oldest_wait_ms", seen.oldest_wait.as_secs_f64() * 1e3),
        ("refused", seen.refused as f64),
        ("no_backend", seen.no_backend as f64),
        ("requests", f64::from(seen.requests)),
        ("moved", seen.moved as f64),
        ("current", f64::from(fleet.current)),
        ("starting", f64::from(fleet.starting)),
        ("suspect", f64::from(fleet.suspect)),
        ("draining", f64::from(fleet.draining)),
        ("arrivals_per_s", forecast.arrivals_per_s),
        ("departure_rate", forecast.departure_rate),
        ("dispersion", forecast.dispersion),
        ("startup_p95_ms", forecast.startup.as_secs_f64() * 1e3),
        ("horizon_ms", forecast.horizon.as_secs_f64() * 1e3),
        ("expected", forecast.expected),
        ("variance", forecast.variance),
        ("z", forecast.z),
        ("need", forecast.need),
        ("fill", policy.fill),
        ("asked", f64::from(asked)),
    ]);
    inputs.extend(fleet.capacity.map(|c| ("capacity", c)));
    inputs
}

/// With one decimal, or none if that is zero.
fn round(x: f64) -> String {
    let text = format!("{x:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn seconds(d: Duration) -> String {
    let s = d.as_secs();
    if d.subsec_nanos() == 0 && s >= 60 && s.is_multiple_of(60) {
        format!("{}m", s / 60)
    } else {
        format!("{}s", round(d.as_secs_f64()))
    }
}
