//! A plan says where sessions land; that is where placement puts them.

use super::*;
use crate::balance::{Preferred, Seated, place};
use crate::seats::{Seat, Seats, UNLIMITED};
use rand::SeedableRng;
use rand::rngs::SmallRng;

/// A backend that takes sessions: its capacity, its sessions, and those by other ways.
type Taker = (Option<u32>, u32, u32);

struct Seating(Arc<Seats>);

impl Seated for Seating {
    fn seats(&self) -> &Arc<Seats> {
        &self.0
    }
}

#[test]
fn a_plan_lands_where_placement_places() {
    let fleets: [&[Taker]; 4] = [
        &[(Some(100), 40, 0), (Some(50), 10, 20), (Some(200), 90, 0)],
        // By count, for a share of no limit says nothing.
        &[(None, 5, 0), (Some(100), 3, 0), (None, 9, 0)],
        // Above the fill, and full at last.
        &[(Some(20), 15, 0), (Some(10), 9, 0), (Some(40), 0, 30)],
        &[(Some(10), 0, 0), (Some(10), 0, 4), (Some(10), 7, 0)],
    ];
    for balance in [Balance::LeastSessions, Balance::Packed, Balance::RandomOfTwo] {
        for takers in fleets {
            let mut landed = vec![0; takers.len()];
            for sessions in 1..=25 {
                let planned = planned(balance, takers, sessions);
                let next: Vec<usize> = (0..takers.len()).filter(|at| planned[*at] > landed[*at]).collect();
                let placed = placed(balance, takers, &landed);
                assert!(
                    next.is_empty() == placed.is_empty() && next.iter().all(|at| placed.contains(at)),
                    "{balance:?}, session {sessions} of {takers:?}: {landed:?} became {planned:?}, and placement chose {placed:?}"
                );
                landed = planned;
            }
        }
    }
}

#[test]
fn a_large_plan_packs_no_backend_above_its_fill_while_another_is_below() {
    let takers = [(Some(1_000), 799, 0), (Some(4_000), 0, 0)];
    assert_eq!(planned(Balance::Packed, &takers, 3_000), [1, 2_999]);
}

/// How many of so many sessions of a drained backend land on each of the others.
fn planned(balance: Balance, takers: &[Taker], sessions: u32) -> Vec<u32> {
    let capacities = takers.iter().map(|(capacity, ..)| *capacity);
    let ProviderPolicy::Static(mut backends) = fixed(takers.len() + 1) else { panic!("not static") };
    for (backend, capacity) in backends.iter_mut().zip([Some(10_000)].into_iter().chain(capacities)) {
        backend.capacity = capacity;
    }
    let provider = ProviderPolicy::Static(backends);
    let mut bench = Bench::new(FleetPolicy { balance, provider, capacity: None, ..policy() });
    for (n, (_, used, foreign)) in [(None, sessions, 0)].iter().chain(takers).enumerate() {
        let id = BackendId::from(format!("b{}", n + 1));
        bench.alive.insert(id.clone(), Heartbeat { sessions: Some(*foreign), ..READY });
        bench.used.insert(id, *used);
    }
    bench.run(1_100);
    let plan = bench.drain("b1", MoveRequest { dry_run: true, ..MoveRequest::default() }).unwrap();
    let landed = |n: usize| plan.to.iter().find(|s| s.backend.as_str() == format!("b{}", n + 2)).map_or(0, |s| s.sessions);
    (0..takers.len()).map(landed).collect()
}

/// Where the next session may go, with these landed already.
fn placed(balance: Balance, takers: &[Taker], landed: &[u32]) -> Vec<usize> {
    let mut chosen: Vec<usize> = (0..64).filter_map(|seed| place_one(balance, takers, landed, seed)).collect();
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

fn place_one(balance: Balance, takers: &[Taker], landed: &[u32], seed: u64) -> Option<usize> {
    let mut held: Vec<Seat> = Vec::new();
    let seating = takers.iter().zip(landed).map(|((capacity, used, foreign), landed)| {
        let seats = Seats::new(UNLIMITED, None);
        held.extend((0..used + landed).map(|_| seats.reserve(Moment::START).unwrap()));
        seats.set_limit(capacity.map_or(UNLIMITED, |c| c - foreign));
        Seating(seats)
    });
    let seating: Vec<Seating> = seating.collect();
    let mut rng = SmallRng::seed_from_u64(seed);
    place(balance, policy().fill, &seating, Preferred::Nobody, |_| true, Moment::START, &mut rng).ok().map(|(at, _)| at)
}
