//! The autoscaler in virtual time.

mod fleet;
mod replay;
mod steady;
mod support;
mod waves;
