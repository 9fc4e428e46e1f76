//! Placement and the admission queue: what holds for any fleet, any order of events and any number of threads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::affinity::{Key, Rendezvous, Wish};
use holdline_core::balance::{NoPlace, Preferred, Seated, place};
use holdline_core::cause::RefuseCause;
use holdline_core::ids::BackendId;
use holdline_core::policy::{Balance, QueuePolicy};
use holdline_core::queue::{Outcome, Queue};
use holdline_core::seats::{Seat, Seats, UNLIMITED};
use holdline_core::time::Moment;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const BALANCES: [Balance; 3] = [Balance::LeastSessions, Balance::Packed, Balance::RandomOfTwo];

struct Backend(Arc<Seats>);

impl Seated for Backend {
    fn seats(&self) -> &Arc<Seats> {
        &self.0
    }
}

/// Backends with these limits and counts, and the seats that make up the counts.
fn fleet(limits_used: &[(u32, u32)]) -> (Vec<Backend>, Vec<Seat>) {
    let mut held = Vec::new();
    let backends = limits_used
        .iter()
        .map(|&(limit, used)| {
            let seats = Seats::new(used, None);
            held.extend((0..used).map(|_| seats.reserve(Moment::START).unwrap()));
            seats.set_limit(limit);
            Backend(seats)
        })
        .collect();
    (backends, held)
}

fn any(_: usize) -> bool {
    true
}

fn put(balance: Balance, backends: &[Backend], seed: u64) -> Result<(usize, Seat), NoPlace> {
    place(balance, 0.8, backends, Preferred::Nobody, any, Moment::START, &mut SmallRng::seed_from_u64(seed))
}

#[test]
fn a_storm_on_threads_spreads_as_one_thread_would() {
    for balance in BALANCES {
        let backends: Vec<Backend> = (0..4).map(|_| Backend(Seats::new(50, None))).collect();
        let held: Vec<Vec<Seat>> = std::thread::scope(|s| {
            let threads: Vec<_> = (0..8)
                .map(|t| {
                    let backends = &backends;
                    s.spawn(move || {
                        let mut rng = SmallRng::seed_from_u64(t);
                        let mut open = || place(balance, 0.8, backends, Preferred::Nobody, any, Moment::START, &mut rng);
                        (0..20).filter_map(|_| open().ok()).map(|(_, seat)| seat).collect()
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        // 160 seats are wanted and 200 there, so nobody may be refused.
        assert_eq!(held.iter().map(Vec::len).sum::<usize>(), 160, "{balance:?}");
        let used: Vec<u32> = backends.iter().map(|b| b.0.used()).collect();
        if balance != Balance::RandomOfTwo {
            // Exactly 40 but for threads that were too late sixteen times over.
            assert!(used.iter().all(|u| (38..=42).contains(u)), "{balance:?}: {used:?}");
        }
        drop(held);
        assert!(backends.iter().all(|b| b.0.used() == 0));
    }
}

#[test]
fn packed_fills_one_to_its_fill_before_the_next() {
    let (backends, _held) = fleet(&[(20, 3), (20, 0), (20, 15)]);
    let mut seats = Vec::new();
    let order: Vec<usize> = (0..30)
        .map(|seed| {
            let (index, seat) = put(Balance::Packed, &backends, seed).unwrap();
            seats.push(seat);
            index
        })
        .collect();
    // 16 is 80 % of 20: one to go on the fullest, 13 on the next, 16 on the empty one.
    let expected = [&[2; 1][..], &[0; 13], &[1; 16]].concat();
    assert_eq!(order, expected);
    // Above the fill everywhere: the least full.
    let (backends, _held) = fleet(&[(20, 19), (20, 17), (20, 18)]);
    assert_eq!(put(Balance::Packed, &backends, 0).unwrap().0, 1);
}

#[test]
fn ties_go_to_all_of_them() {
    let (backends, _held) = fleet(&[(10, 5), (20, 10), (4, 2), (10, 9)]);
    let mut hits = [0; 4];
    (0..300).for_each(|seed| hits[put(Balance::LeastSessions, &backends, seed).unwrap().0] += 1);
    assert!(hits[..3].iter().all(|&h| h > 60) && hits[3] == 0, "{hits:?}");
}

#[test]
fn backends_without_a_limit_are_compared_by_count() {
    let (backends, _held) = fleet(&[(UNLIMITED, 9), (10, 7), (UNLIMITED, 8)]);
    assert_eq!(put(Balance::LeastSessions, &backends, 0).unwrap().0, 1);
    let (backends, _held) = fleet(&[(UNLIMITED, 9), (10, 10), (UNLIMITED, 8)]);
    assert_eq!(put(Balance::LeastSessions, &backends, 0).unwrap().0, 2);
}

#[test]
fn random_of_two_finds_the_only_free_seat() {
    let mut limits = vec![(5, 5); 40];
    limits[17] = (5, 4);
    let (backends, _held) = fleet(&limits);
    assert_eq!(put(Balance::RandomOfTwo, &backends, 1).unwrap().0, 17);
}

#[test]
fn a_fleet_too_large_to_be_looked_at_as_a_whole_stays_even() {
    let (backends, _) = fleet(&[(100, 0); 1_000]);
    let mut rng = SmallRng::seed_from_u64(1);
    let open =
        |rng: &mut SmallRng| place(Balance::LeastSessions, 0.8, &backends, Preferred::Nobody, any, Moment::START, rng).unwrap().1;
    let used = || backends.iter().map(|b| b.0.used()).collect::<Vec<_>>();
    let mut held: Vec<Seat> = (0..50_000).map(|_| open(&mut rng)).collect();
    let filled = used();
    // The whole fleet's clients are replaced, one by one.
    for _ in 0..100_000 {
        let leaves = rng.random_range(0..held.len());
        drop(held.swap_remove(leaves));
        held.push(open(&mut rng));
    }
    let churned = used();
    for (what, used) in [("filled", filled), ("churned", churned)] {
        let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
        println!("{what}: {least} to {most} of 50 on average");
        assert!((45..=50).contains(least) && (50..=52).contains(most), "{what}: {least} to {most}");
    }
}

#[test]
fn in_a_large_fleet_the_only_free_seat_is_found() {
    let mut limits = vec![(2, 2); 1_000];
    limits[617] = (2, 1);
    let (backends, _held) = fleet(&limits);
    assert_eq!(put(Balance::LeastSessions, &backends, 1).unwrap().0, 617);
}

#[test]
fn affinity_is_honoured_and_is_only_a_wish() {
    let (backends, _held) = fleet(&[(10, 0), (10, 9)]);
    let mut rng = SmallRng::seed_from_u64(0);
    let mut open = |usable: &dyn Fn(usize) -> bool| {
        place(Balance::LeastSessions, 0.8, &backends, Preferred::One(1), usable, Moment::START, &mut rng).unwrap()
    };
    assert_eq!(open(&|i| i != 1).0, 0, "a dial just failed there");
    let (index, _seat) = open(&any);
    assert_eq!(index, 1);
    assert_eq!(open(&any).0, 0, "full");
}

/// A rendezvous of as many backends, and a key for each number.
fn rendezvous(capacities: &[u32]) -> Rendezvous {
    let ids: Vec<BackendId> = (0..capacities.len()).map(|i| format!("b{i}").into()).collect();
    Rendezvous::new(ids.iter().zip(capacities.iter().map(|c| Some(*c))))
}

fn key(number: u32) -> Key {
    Key::of_value(&number.to_be_bytes()).unwrap()
}

fn put_by_key(
    backends: &[Backend],
    rendezvous: &Rendezvous,
    number: u32,
    usable: impl Fn(usize) -> bool,
) -> Result<(usize, Seat), NoPlace> {
    let (wanted, mut rng) = (Preferred::InOrder(rendezvous, key(number)), SmallRng::seed_from_u64(0));
    place(Balance::LeastSessions, 0.8, backends, wanted, usable, Moment::START, &mut rng)
}

#[test]
fn a_key_that_finds_its_backend_full_closed_or_unreachable_goes_to_the_next_of_its_order() {
    let rendezvous = rendezvous(&[10; 5]);
    for number in 0..100 {
        let first = rendezvous.first(key(number), |_| true).unwrap();
        let second = rendezvous.first(key(number), |i| i != first).unwrap();
        for (limit, used) in [(10, 10), (0, 3)] {
            let mut limits = [(10, 0); 5];
            limits[first] = (limit, used);
            let (backends, _held) = fleet(&limits);
            assert_eq!(put_by_key(&backends, &rendezvous, number, any).unwrap().0, second);
        }
        let (backends, _held) = fleet(&[(10, 0); 5]);
        assert_eq!(put_by_key(&backends, &rendezvous, number, any).unwrap().0, first);
        assert_eq!(put_by_key(&backends, &rendezvous, number, |i| i != first).unwrap().0, second);
    }
}

#[test]
fn no_backend_takes_more_than_its_share_and_a_quarter() {
    let capacities = [1000, 1000, 2000, 4000];
    let backends: Vec<Backend> = capacities.iter().map(|c| Backend(Seats::new(*c, None))).collect();
    let rendezvous = rendezvous(&capacities);
    let mut held = Vec::new();
    // A few keys are half of the load, so chance does not even it out.
    for n in 0..4000_u32 {
        let (index, seat) = put_by_key(&backends, &rendezvous, if n % 2 == 0 { n } else { n % 6 }, any).unwrap();
        held.push(seat);
        let share = f64::from(n + 1) * f64::from(capacities[index]) / 8000.0;
        let used = backends[index].0.used();
        assert!(f64::from(used) <= (1.25 * share).ceil().max(16.0), "{used} of {} on {index}", n + 1);
    }
}

#[test]
fn one_user_stays_together_in_an_empty_fleet() {
    let backends: Vec<Backend> = (0..10).map(|_| Backend(Seats::new(100, None))).collect();
    let rendezvous = rendezvous(&[100; 10]);
    let placed: Vec<_> = (0..16).map(|_| put_by_key(&backends, &rendezvous, 7, any).unwrap()).collect();
    assert!(placed.iter().all(|(index, _)| *index == placed[0].0));
}

#[test]
fn a_bound_refuses_nobody() {
    let backends: Vec<Backend> = [5, 5, 90].map(|c| Backend(Seats::new(c, None))).into();
    let rendezvous = rendezvous(&[5, 5, 90]);
    let held: Vec<_> = (0..100).map(|n| put_by_key(&backends, &rendezvous, n % 2, any).unwrap()).collect();
    assert_eq!(held.len(), 100);
    assert_eq!(put_by_key(&backends, &rendezvous, 1, any).unwrap_err(), NoPlace::Full);
    // The one with room is far above its share of what may be used.
    drop(held);
    assert!((0..90).all(|n| put_by_key(&backends, &rendezvous, n, |i| i == 2).map(std::mem::forget).is_ok()));
}

#[test]
fn the_reason_says_what_to_wait_for() {
    let none = |backends: &[Backend]| put(Balance::LeastSessions, backends, 0).unwrap_err();
    assert_eq!(none(&[]), NoPlace::NoBackend);
    let (backends, _held) = fleet(&[(0, 0), (0, 3)]);
    assert_eq!(none(&backends), NoPlace::NoBackend);
    let (backends, _held) = fleet(&[(0, 0), (3, 3)]);
    assert_eq!(none(&backends), NoPlace::Full);

    // Two that keep a pace, and a full one without: the earlier moment counts.
    let (mut backends, mut held) = fleet(&[(1, 1)]);
    for rate in [2.0, 1.0] {
        let seats = Seats::new(9, Some(rate));
        held.push(seats.reserve(Moment::START).unwrap());
        backends.push(Backend(seats));
    }
    assert_eq!(none(&backends), NoPlace::NotBefore(Moment::from_millis(500)));
}

/// What a test does to the queue.
#[derive(Clone, Debug)]
enum Step {
    Enter,
    Leave(usize),
    Free(u32),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Enter),
        2 => (0_usize..40).prop_map(Step::Leave),
        2 => (1_u32..4).prop_map(Step::Free),
        2 => (0_u64..4_000).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Against a model: a plain list. First come, first served, never longer than it may be, nobody waits longer than it may,
    /// nobody is refused while a seat is free.
    #[test]
    fn the_queue_does_what_a_list_would(steps in prop::collection::vec(step(), 1..200)) {
        const LENGTH: usize = 8;
        const TIMEOUT: Duration = Duration::from_secs(5);
        let mut queue = Queue::new(QueuePolicy { length: LENGTH as u32, timeout: TIMEOUT });
        let mut model: VecDeque<(u32, Moment)> = VecDeque::new();
        let mut tickets = Vec::new();
        let mut now = Moment::START;
        // A call that is a second late shows a standstill, after which nobody is refused for a second.
        let (mut due, mut spared_until) = (None, Moment::START);
        let seats = Seats::new(0, None);
        let mut held = Vec::new();
        for (id, step) in (0_u32..).zip(steps) {
            match step {
                Step::Enter => match queue.enter(Wish::Anywhere, Vec::new(), id, now) {
                    Ok(ticket) => {
                        tickets.push((ticket, id));
                        model.push_back((id, now));
                    }
                    Err((back, why)) => {
                        prop_assert_eq!((back, why, model.len()), (id, RefuseCause::QueueFull, LENGTH));
                    }
                },
                Step::Leave(which) => {
                    // Also tickets that were served long ago.
                    if let Some(&(ticket, id)) = tickets.get(which) {
                        queue.leave(ticket);
                        model.retain(|w| w.0 != id);
                    }
                }
                Step::Free(n) => seats.set_limit(seats.limit() + n),
                Step::Wait(ms) => now = now + Duration::from_millis(ms),
            }
            prop_assert_eq!(queue.len(), model.len());
            let free = (seats.limit() - seats.used()) as usize;
            if due.is_some_and(|due: Moment| now.since(due) >= Duration::from_secs(1)) {
                spared_until = now + Duration::from_secs(1);
            }
            let mut expected: Vec<(u32, bool)> = Vec::new();
            while let Some(&(id, since)) = model.front() {
                let admitted = expected.len() < free;
                if !admitted && (since + TIMEOUT).max(spared_until) > now {
                    break;
                }
                model.pop_front();
                expected.push((id, admitted));
            }
            let mut told = Vec::new();
            let again = queue.serve(
                now,
                |_, _| seats.reserve(now).map(|seat| ((), seat)).map_err(|_| NoPlace::Full),
                |id, outcome| match outcome {
                    Outcome::Admitted((), seat) => {
                        held.push(seat);
                        told.push((id, true));
                    }
                    Outcome::Refused(why) => {
                        assert_eq!(why, RefuseCause::QueueTimeout);
                        told.push((id, false));
                    }
                },
            );
            prop_assert_eq!(told, expected);
            due = model.front().map(|w| (w.1 + TIMEOUT).max(spared_until));
            prop_assert_eq!(again, due);
            prop_assert_eq!(queue.oldest_wait(now), model.front().map_or(Duration::ZERO, |w| now.since(w.1)));
        }
    }

    /// A seat is found whenever there is one, on a usable backend, and none above the limit is given.
    #[test]
    fn a_free_seat_is_always_found(
        limits_used in prop::collection::vec((0_u32..6, 0_u32..6), 0..12),
        unusable in prop::collection::hash_set(0_usize..12, 0..6),
        preferred in prop::option::of(0_usize..14),
        seed: u64,
    ) {
        let (backends, _held) = fleet(&limits_used);
        let free = |i: usize| limits_used[i].0 > limits_used[i].1 && !unusable.contains(&i);
        let wanted = preferred.map_or(Preferred::Nobody, Preferred::One);
        for balance in BALANCES {
            let mut rng = SmallRng::seed_from_u64(seed);
            let placed = place(balance, 0.8, &backends, wanted, |i| !unusable.contains(&i), Moment::START, &mut rng);
            match placed {
                Ok((index, seat)) => {
                    prop_assert!(free(index) && Arc::ptr_eq(seat.seats(), &backends[index].0));
                    prop_assert!(preferred.is_none_or(|p| p == index || p >= backends.len() || !free(p)));
                }
                Err(why) => {
                    prop_assert!((0..backends.len()).all(|i| !free(i)));
                    let open = (0..backends.len()).any(|i| limits_used[i].0 > 0 && !unusable.contains(&i));
                    prop_assert_eq!(why, if open { NoPlace::Full } else { NoPlace::NoBackend });
                }
            }
        }
    }
}

#[test]
fn the_queue_comes_again_when_the_pace_allows() {
    let mut queue = Queue::new(QueuePolicy { length: 5, timeout: Duration::from_secs(10) });
    let backends = [Backend(Seats::new(9, Some(2.0)))];
    (0..3).for_each(|id| assert!(queue.enter(Wish::Anywhere, Vec::new(), id, Moment::START).is_ok()));
    let mut rng = SmallRng::seed_from_u64(0);
    let (mut served, mut held) = (Vec::new(), Vec::new());
    let mut next = Some(Moment::START);
    while let Some(now) = next {
        next = queue.serve(
            now,
            |_, _| place(Balance::LeastSessions, 0.8, &backends, Preferred::Nobody, any, now, &mut rng),
            |id, outcome| match outcome {
                Outcome::Admitted(_, seat) => {
                    held.push(seat);
                    served.push((id, now));
                }
                Outcome::Refused(why) => panic!("{why}"),
            },
        );
        assert!(next.is_none_or(|at| at > now));
    }
    assert_eq!(served, [(0, Moment::START), (1, Moment::from_millis(500)), (2, Moment::from_millis(1000))]);
}

#[test]
fn a_waiter_gets_no_seat_where_it_failed_and_holds_up_nobody() {
    let mut queue = Queue::new(QueuePolicy { length: 5, timeout: Duration::from_secs(10) });
    let (backends, mut held) = fleet(&[(1, 1), (1, 1)]);
    let ids = ["a", "b"].map(BackendId::from);
    let mut enter = |failed: &[BackendId], id| queue.enter(Wish::Anywhere, failed.to_vec(), id, Moment::START).unwrap();
    enter(&ids[..1], "was at a");
    enter(&[], "new");
    enter(&ids, "was at both");
    let mut serve = |backends: &[Backend]| {
        let mut told = Vec::new();
        queue.serve(
            Moment::START,
            |_, failed| {
                let usable = |i: usize| !failed.contains(&ids[i]);
                let mut rng = SmallRng::seed_from_u64(0);
                place(Balance::LeastSessions, 0.8, backends, Preferred::Nobody, usable, Moment::START, &mut rng)
            },
            |id, outcome| {
                told.push(match outcome {
                    Outcome::Admitted(index, seat) => {
                        std::mem::forget(seat);
                        (id, Ok(index))
                    }
                    Outcome::Refused(cause) => (id, Err(cause)),
                });
            },
        );
        told
    };
    // The first cannot use it.
    drop(held.remove(0));
    assert_eq!(serve(&backends), [("new", Ok(0)), ("was at both", Err(RefuseCause::NoBackend))]);
    drop(held.remove(0));
    assert_eq!(serve(&backends), [("was at a", Ok(1))]);
}

#[test]
fn a_full_fleet_is_looked_at_once_for_all_who_failed_at_the_same_backend() {
    let mut queue = Queue::new(QueuePolicy { length: 1000, timeout: Duration::from_secs(10) });
    for id in 0..1000 {
        queue.enter(Wish::Anywhere, vec!["a".into()], id, Moment::START).unwrap();
    }
    let mut looks = 0;
    let full = |_: &Wish, _: &[BackendId]| -> Result<((), Seat), NoPlace> {
        looks += 1;
        Err(NoPlace::Full)
    };
    queue.serve(Moment::START, full, |id, _| panic!("{id} was told something"));
    assert_eq!((looks, queue.len()), (1, 1000));
}

#[test]
fn with_a_length_of_zero_nobody_waits() {
    let mut queue = Queue::new(QueuePolicy { length: 0, timeout: Duration::from_secs(10) });
    assert_eq!(queue.enter(Wish::Anywhere, Vec::new(), "client", Moment::START), Err(("client", RefuseCause::Capacity)));
}

/// The process stood still for longer than the queue's time: who waits is given what was freed meanwhile, and a second to hear of it.
#[test]
fn after_a_standstill_seats_are_looked_for_before_anybody_is_refused() {
    let mut queue = Queue::new(QueuePolicy { length: 8, timeout: Duration::from_secs(10) });
    let seats = Seats::new(1, None);
    let mut held = vec![seats.reserve(Moment::START).unwrap()];
    for id in 0..3 {
        queue.enter(Wish::Anywhere, Vec::new(), id, Moment::START).unwrap();
    }
    let mut serve = |now: u64, held: &mut Vec<_>| {
        let (now, mut told) = (Moment::from_millis(now), Vec::new());
        let next = queue.serve(
            now,
            |_, _| seats.reserve(now).map(|seat| ((), seat)).map_err(|_| NoPlace::Full),
            |id, outcome| {
                told.push(match outcome {
                    Outcome::Admitted((), seat) => {
                        held.push(seat);
                        (id, None)
                    }
                    Outcome::Refused(cause) => (id, Some(cause)),
                });
            },
        );
        (told, next.map(|at| at.since_start().as_millis()))
    };
    assert_eq!(serve(0, &mut held), (vec![], Some(10_000)));
    // The session that held the seat ended during the 25 s, and nobody has read of it yet.
    assert_eq!(serve(25_000, &mut held), (vec![], Some(26_000)));
    held.clear();
    assert_eq!(serve(25_010, &mut held), (vec![(0, None)], Some(26_000)));
    let refused = Some(RefuseCause::QueueTimeout);
    assert_eq!(serve(26_000, &mut held), (vec![(1, refused), (2, refused)], None));
}
