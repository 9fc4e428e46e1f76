//! What decisions cost: `cargo bench -p holdline-core`, or a part of it with a filter behind `--`. benches/README.md says what each
//! should stay below.

mod bytes;
mod placement;
#[allow(dead_code, reason = "shared with the integration tests, which need more of it")]
#[path = "../../../../tests/support/policy.rs"]
mod policy;
mod state;

use criterion::{criterion_group, criterion_main};

criterion_group!(all, placement::admission, bytes::heads, bytes::frames, bytes::events, state::snapshots, state::decisions);
criterion_main!(all);
