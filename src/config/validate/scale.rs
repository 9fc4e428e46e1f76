//! How many backends to run.

use std::time::Duration;

use holdline_core::policy::{Buffer, ScalePolicy, ScaleRules, ScaleStep, SelectPolicy, StepAmount};

use super::super::located::At;
use super::super::raw_scale::{Behavior, RawScalingPolicy, Scale, Select};
use super::super::units::{Amount, Count, Period};
use super::check::{Check, default_mark, later};

/// Bounds of a HorizontalPodAutoscaler (autoscaling/v2, `stabilizationWindowSeconds` and `periodSeconds`); they bound what is remembered.
const STABILIZATION_MAX: Period = Period::secs(3600);
const PERIOD_MAX: Period = Period::secs(1800);

pub(super) fn scale(check: &mut Check<'_>, fleet: &str, raw: &Scale) -> ScalePolicy {
    let at = format!("fleets.{fleet}.scale");
    let (Count(min), Count(max)) = (raw.min.value, raw.max.value);
    if max == 0 {
        check.wrong(raw.max.line, format!("{at}.max is 0"), "write 1 or more; a fleet without backends cannot serve clients");
    } else if min > max {
        let what = format!("{at}.min is {min}{}, above max {max}{}", default_mark(&raw.min), default_mark(&raw.max));
        check.wrong(later(&raw.min, &raw.max), what, "lower min or raise max");
    }
    let idle_to_zero_after = check.positive_or_none(&format!("{at}.idle_to_zero_after"), &raw.idle_to_zero_after);
    if let Some(after) = raw.idle_to_zero_after.value.0.filter(|_| min > 0) {
        let what = format!("{at}.idle_to_zero_after is {after}, but min is {min}{}", default_mark(&raw.min));
        check.wrong(raw.idle_to_zero_after.line, what, "set min: 0, or use none here");
    }
    let Behavior { up, down } = &raw.behavior;
    ScalePolicy {
        min,
        max,
        buffer: match raw.buffer.value {
            Amount::Count(n) => Buffer::Backends(n),
            Amount::Share(share) => Buffer::Share(share.ratio()),
        },
        up: rules(check, &format!("{at}.behavior.up"), &up.stabilization, up.select, &up.policies),
        down: rules(check, &format!("{at}.behavior.down"), &down.stabilization, down.select, &down.policies),
        idle_to_zero_after,
    }
}

fn rules(
    check: &mut Check<'_>,
    at: &str,
    stabilization: &At<Period>,
    select: Select,
    policies: &[RawScalingPolicy],
) -> ScaleRules {
    ScaleRules {
        stabilization: bounded(check, &format!("{at}.stabilization"), stabilization, STABILIZATION_MAX),
        select: match select {
            Select::Max => SelectPolicy::Max,
            Select::Min => SelectPolicy::Min,
            Select::Disabled => SelectPolicy::Disabled,
        },
        policies: policies.iter().map(|raw| step(check, at, raw)).collect(),
    }
}

fn step(check: &mut Check<'_>, at: &str, raw: &RawScalingPolicy) -> ScaleStep {
    let amount = match raw.amount.value {
        Amount::Count(n) => StepAmount::Backends(n),
        Amount::Share(share) => StepAmount::Share(share.ratio()),
    };
    if matches!(amount, StepAmount::Backends(0) | StepAmount::Share(0.0)) {
        let what = format!("{at}.policies: amount is {}", raw.amount.value);
        check.wrong(raw.amount.line, what, "write more than zero; select: disabled forbids every change");
    }
    check.positive(&format!("{at}.policies: period"), &raw.period);
    ScaleStep { amount, period: bounded(check, &format!("{at}.policies: period"), &raw.period, PERIOD_MAX) }
}

fn bounded(check: &mut Check<'_>, key: &str, raw: &At<Period>, max: Period) -> Duration {
    if raw.value > max {
        check.wrong(raw.line, format!("{key} is {}", raw.value), format!("write {max} or less"));
    }
    raw.value.0
}
