//! Holdline: the ingress that holds client connections while the fleet behind it scales, deploys and fails.
//!
//! One loop, one direction (`docs/architecture.md`): sockets, probes and heartbeats become events, `holdline_core::state::State`
//! turns them into a snapshot and effects, shells carry the effects out and report back, again as events.
//! Modules import downwards only: `config` ← `gateway`, `providers`, `controller` ← `admin` ← `runtime` ← `cli`; `telemetry`, `clock`,
//! `files` and `watch` are used by all.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controller;
pub mod files;
pub mod gateway;
pub mod net;
pub mod providers;
pub mod runtime;
pub mod telemetry;
pub mod watch;

/// Fleets for unit tests, the same as for the integration tests.
#[cfg(test)]
#[path = "../tests/support/policy.rs"]
mod test_policy;
