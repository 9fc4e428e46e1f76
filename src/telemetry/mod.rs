//! What Holdline tells of itself: metrics, logs and the access log.

pub mod access;
mod families;
pub mod logs;
pub mod names;
mod snapshot_gauges;

pub use families::{FleetMetrics, Metrics};
