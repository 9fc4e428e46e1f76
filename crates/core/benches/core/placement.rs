//! A seat found and given back: what every handshake pays.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion};
use holdline_core::balance::{Preferred, Seated, place};
use holdline_core::policy::Balance;
use holdline_core::seats::{Seat, Seats};
use holdline_core::time::Moment;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

struct Backend(Arc<Seats>);

impl Seated for Backend {
    fn seats(&self) -> &Arc<Seats> {
        &self.0
    }
}

/// So many backends of 1,000 seats, about half full; and the seats that are taken.
fn fleet(backends: usize) -> (Vec<Backend>, Vec<Seat>) {
    let mut rng = SmallRng::seed_from_u64(backends as u64);
    let backends: Vec<Backend> = (0..backends).map(|_| Backend(Seats::new(1_000, None))).collect();
    let mut held = Vec::new();
    for backend in &backends {
        let used = 500 + rng.random_range(0..4);
        held.extend((0..used).map(|_| backend.0.reserve(Moment::START).unwrap()));
    }
    (backends, held)
}

pub(crate) fn admission(c: &mut Criterion) {
    let mut group = c.benchmark_group("admission");
    let seats = Seats::new(1_000, None);
    group.bench_function("a seat of one backend", |b| b.iter(|| seats.reserve(black_box(Moment::START))));
    for backends in [1, 10, 100, 1_000] {
        for balance in [Balance::LeastSessions, Balance::Packed, Balance::RandomOfTwo] {
            let (fleet, mut held) = fleet(backends);
            let mut rng = SmallRng::seed_from_u64(1);
            group.bench_function(BenchmarkId::new(format!("{balance:?}"), backends), |b| {
                b.iter(|| {
                    let placed = place(balance, 0.8, &fleet, Preferred::Nobody, |_| true, black_box(Moment::START), &mut rng);
                    let (_, seat) = placed.expect("half of the seats are free");
                    // Somebody else leaves, so that the fleet keeps its shape.
                    let leaves = rng.random_range(0..held.len());
                    held[leaves] = seat;
                });
            });
        }
    }
    group.finish();
}
