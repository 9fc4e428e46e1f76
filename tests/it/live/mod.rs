//! The reference application end to end: an api and nodes as processes behind Holdline, and some two thousand users who lose nothing.

mod audience;
mod fleet;
#[cfg(feature = "foreign-clients")]
mod redis;
mod storm;
mod whole;
