//! Rendezvous hashing (Thaler and Ravishankar 1998): each key has an order of all backends, which depends on their ids and weights alone.
//!
//! A backend that joins comes somewhere into each order and takes those keys where it comes first; one that leaves gives up its own. No
//! other key moves. A ring of points would do the same with less evenness and a table to keep; up to a thousand backends a look at each
//! costs less than a dial by far.

use twox_hash::xxhash3_64;

use super::key::Key;
use crate::ids::BackendId;

/// The backends of a fleet, in the order in which their indexes count.
#[derive(Clone, Debug, Default)]
pub struct Rendezvous {
    points: Vec<Point>,
    /// All weigh the same, and no logarithm is needed to compare them.
    is_even: bool,
}

#[derive(Clone, Debug)]
struct Point {
    id_hash: u64,
    capacity: Option<u32>,
    weight: f64,
}

impl Rendezvous {
    /// Of `backends` with their capacities. A backend with twice the capacity gets twice the keys; where one has no limit, all get as many.
    pub fn new<'b>(backends: impl IntoIterator<Item = (&'b BackendId, Option<u32>)>) -> Self {
        let point = |(id, capacity): (&BackendId, Option<u32>)| Point {
            id_hash: xxhash3_64::Hasher::oneshot(id.as_str().as_bytes()),
            capacity,
            weight: 1.0,
        };
        let mut points: Vec<_> = backends.into_iter().map(point).collect();
        if points.iter().all(|p| p.capacity.is_some()) {
            points.iter_mut().for_each(|p| p.weight = p.capacity.unwrap_or_default().into());
        }
        let is_even = points.windows(2).all(|two| two[0].weight == two[1].weight);
        Rendezvous { points, is_even }
    }

    /// Whether its backends have these capacities, in this order.
    pub fn has_capacities(&self, capacities: impl Iterator<Item = Option<u32>>) -> bool {
        self.points.iter().map(|p| p.capacity).eq(capacities)
    }

    /// The weight of the backend at `index`.
    pub(crate) fn weight(&self, index: usize) -> f64 {
        self.points.get(index).map_or(0.0, |p| p.weight)
    }

    /// Where the backend at `index` stands in the order of `key`, the lowest being the first; `None`: not before `held`.
    pub(crate) fn rank_before(&self, index: usize, key: Key, held: Option<f64>) -> Option<f64> {
        let point = self.points.get(index)?;
        let mut pair = [0; 16];
        pair[..8].copy_from_slice(&key.half().to_le_bytes());
        pair[8..].copy_from_slice(&point.id_hash.to_le_bytes());
        // Uniform in (0, 1); f64 holds 53 bits.
        let uniform = ((xxhash3_64::Hasher::oneshot(&pair) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        let is_before = |rank: &f64| held.is_none_or(|held| *rank < held);
        if self.is_even {
            return Some(1.0 - uniform).filter(is_before);
        }
        // Exponential variables with these rates: the chance to be the least is the share of the weight (Schindelhauer and Schomaker 2005).
        // -ln(u) is 1 - u at least, which spares most of the logarithms.
        Some((1.0 - uniform) / point.weight).filter(is_before)?;
        Some(-uniform.ln() / point.weight).filter(is_before)
    }

    /// The first in the order of `key` of those that are `eligible`.
    pub fn first(&self, key: Key, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let mut best: Option<(f64, usize)> = None;
        for index in (0..self.points.len()).filter(|i| eligible(*i)) {
            if let Some(rank) = self.rank_before(index, key, best.map(|(rank, _)| rank)) {
                best = Some((rank, index));
            }
        }
        best.map(|(_, index)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: u32 = 10_000;

    fn ids(n: usize) -> Vec<BackendId> {
        (0..n).map(|i| format!("10.0.0.{i}:9001").into()).collect()
    }

    fn rendezvous(ids: &[BackendId], capacity: impl Fn(usize) -> Option<u32>) -> Rendezvous {
        Rendezvous::new(ids.iter().enumerate().map(|(i, id)| (id, capacity(i))))
    }

    fn owners(rendezvous: &Rendezvous) -> Vec<usize> {
        (0..KEYS).map(|k| rendezvous.first(Key::of_value(&k.to_le_bytes()).unwrap(), |_| true).unwrap()).collect()
    }

    /// How far a count of `expected` may stray by chance: five standard deviations of a binomial.
    fn stray(expected: f64) -> f64 {
        5.0 * expected.sqrt()
    }

    #[test]
    fn a_backend_that_joins_takes_its_share_and_nothing_moves_between_old_ones() {
        let ids = ids(51);
        let mut before = owners(&rendezvous(&ids[..1], |_| Some(100)));
        for n in 1..=50 {
            let after = owners(&rendezvous(&ids[..=n], |_| Some(100)));
            let moved: Vec<_> = before.iter().zip(&after).filter(|(b, a)| b != a).collect();
            assert!(moved.iter().all(|(_, to)| **to == n), "of {n}: a key moved between old backends");
            let expected = f64::from(KEYS) / (n + 1) as f64;
            assert!((moved.len() as f64 - expected).abs() < stray(expected), "of {n}: {} moved, not {expected}", moved.len());
            before = after;
        }
    }

    #[test]
    fn a_backend_that_leaves_moves_its_own_keys_only() {
        let all = ids(50);
        let before = owners(&rendezvous(&all, |_| Some(100)));
        for leaving in [0, 7, 49] {
            let left: Vec<_> = all.iter().enumerate().filter(|(i, _)| *i != leaving).map(|(_, id)| id.clone()).collect();
            let after = owners(&rendezvous(&left, |_| Some(100)));
            let (mut moved, mut owned) = (0, 0);
            for (b, a) in before.iter().zip(&after) {
                owned += u32::from(*b == leaving);
                moved += u32::from(all[*b] != left[*a]);
            }
            assert_eq!(moved, owned);
        }
    }

    #[test]
    fn keys_are_spread_by_capacity() {
        let ids = ids(4);
        let rendezvous = rendezvous(&ids, |i| Some([100, 200, 300, 400][i]));
        let mut counts = [0_u32; 4];
        owners(&rendezvous).into_iter().for_each(|o| counts[o] += 1);
        for (i, count) in counts.into_iter().enumerate() {
            let expected = f64::from(KEYS) * (i + 1) as f64 / 10.0;
            assert!((f64::from(count) - expected).abs() < stray(expected), "{counts:?}");
        }
    }

    #[test]
    fn a_capacity_that_grows_takes_keys_and_gives_none_up() {
        let ids = ids(10);
        let before = owners(&rendezvous(&ids, |_| Some(100)));
        let after = owners(&rendezvous(&ids, |i| Some(if i == 3 { 200 } else { 100 })));
        let moved: Vec<_> = before.iter().zip(&after).filter(|(b, a)| b != a).collect();
        assert!(moved.iter().all(|(_, to)| **to == 3));
        // From one tenth to two elevenths.
        let expected = f64::from(KEYS) * (2.0 / 11.0 - 1.0 / 10.0);
        assert!((moved.len() as f64 - expected).abs() < stray(expected), "{}", moved.len());
    }

    #[test]
    fn without_a_limit_somewhere_all_weigh_the_same() {
        let ids = ids(2);
        assert_eq!(owners(&rendezvous(&ids, |i| (i == 0).then_some(1000))), owners(&rendezvous(&ids, |_| None)));
    }

    #[test]
    fn a_backend_without_capacity_owns_nothing() {
        let ids = ids(3);
        assert!(owners(&rendezvous(&ids, |i| Some(if i == 1 { 0 } else { 10 }))).iter().all(|o| *o != 1));
    }

    #[test]
    fn who_is_not_eligible_is_passed_in_the_order_of_the_key() {
        let (ids, key) = (ids(8), Key::of_value(b"ann").unwrap());
        let rendezvous = rendezvous(&ids, |_| None);
        let mut order: Vec<usize> = Vec::new();
        while let Some(next) = rendezvous.first(key, |i| !order.contains(&i)) {
            order.push(next);
        }
        assert_eq!(order.len(), 8);
        // By the reference implementation; a change would move every client.
        assert_eq!(order, [4, 3, 1, 2, 0, 5, 7, 6]);
    }
}
