//! Holdline's decisions.
//!
//! Nothing here does I/O, reads a clock, locks or spawns. Events go into [`state::State`], a [`snapshot::Snapshot`] and
//! [`event::Effect`]s come out; what a gateway decides by itself, without a round trip to State, is in [`seats`],
//! [`balance`], [`queue`] and [`poll`]. [`wire`] knows the bytes.

pub mod affinity;
pub mod balance;
pub mod cause;
pub mod drain;
pub mod event;
pub mod health;
pub mod ids;
pub mod limits;
pub mod policy;
pub mod poll;
pub mod pressure;
pub mod queue;
pub mod rebalance;
pub mod scale;
pub mod seats;
pub mod shutdown;
pub mod snapshot;
pub mod state;
pub mod time;
pub mod traffic;
pub mod wire;
