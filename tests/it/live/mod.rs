//! The reference application end to end: an api and nodes as processes behind Holdline, and some two thousand users who lose nothing.

mod audience;
mod fleet;
mod storm;
mod whole;
