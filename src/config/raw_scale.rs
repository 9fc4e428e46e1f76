//! Settings of the autoscaler in the configuration file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::located::At;
use super::units::{Amount, Count, OrNone, Period, Share};

/// Number of backends.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Scale {
    /// Minimum; 0 allows scaling to zero.
    pub(super) min: At<Count>,
    /// Maximum.
    pub(super) max: At<Count>,
    /// Spare backends: a number, or a share of the need.
    pub(super) buffer: At<Amount>,
    /// Limits of the scaling rate, with the names and meaning of a HorizontalPodAutoscaler.
    pub(super) behavior: Behavior,
    /// With `min: 0`: scale to zero after this time without sessions and requests; `none`: keep one.
    pub(super) idle_to_zero_after: At<OrNone<Period>>,
}

impl Default for Scale {
    fn default() -> Self {
        Scale {
            min: At::count(1),
            max: At::count(20),
            buffer: At::from(Amount::Count(0)),
            behavior: Behavior::default(),
            idle_to_zero_after: At::from(OrNone(None)),
        }
    }
}

/// Limits of the scaling rate.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Behavior {
    /// Upwards.
    pub(super) up: Up,
    /// Downwards.
    pub(super) down: Down,
}

/// Upwards.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Up {
    /// The lowest recommendation of this window counts.
    pub(super) stabilization: At<Period>,
    /// Which policy counts.
    pub(super) select: Select,
    /// Bounds on the change within a period; empty: none.
    pub(super) policies: Vec<RawScalingPolicy>,
}

impl Default for Up {
    fn default() -> Self {
        let step = |amount| RawScalingPolicy { amount: At::from(amount), period: At::from(Period::secs(15)) };
        Up {
            stabilization: At::from(Period::secs(0)),
            select: Select::Max,
            policies: vec![step(Amount::Share(Share::percent(100.0))), step(Amount::Count(4))],
        }
    }
}

/// Downwards.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Down {
    /// The highest recommendation of this window counts.
    pub(super) stabilization: At<Period>,
    /// Which policy counts.
    pub(super) select: Select,
    /// Bounds on the change within a period; empty: none.
    pub(super) policies: Vec<RawScalingPolicy>,
}

impl Default for Down {
    fn default() -> Self {
        Down { stabilization: At::from(Period::secs(300)), select: Select::Max, policies: Vec::new() }
    }
}

/// Which of several policies counts.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Select {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest change.
    Min,
    /// No change in this direction at all.
    Disabled,
}

/// A bound on the change within a period.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Step")]
pub(super) struct RawScalingPolicy {
    /// A number of backends, or a share of those at the start of the period.
    pub(super) amount: At<Amount>,
    /// The period.
    pub(super) period: At<Period>,
}
