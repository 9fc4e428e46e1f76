//! Which backends to give up.

use super::BackendLoad;
use crate::cause::Phase;
use crate::ids::BackendId;

/// Up to `count` backends to drain: those that are not ready first, then those with the fewest sessions; and only as many as the rest
/// has room for, each filled to `fill` of its capacity.
pub(super) fn choose(backends: &[BackendLoad], count: u32, fill: f64) -> Vec<BackendId> {
    let mut candidates: Vec<&BackendLoad> = backends.iter().filter(|b| b.counts()).collect();
    // A stable sort: of equals the older goes, as every look at the same fleet will say.
    candidates.sort_by_key(|b| (b.phase == Phase::Ready, b.sessions));
    // Sessions that have to move, those of drains under way included: they want the same seats.
    let mut homeless: u64 = backends.iter().filter(|b| !b.counts()).map(|b| u64::from(b.sessions)).sum();
    let mut room: u64 = candidates.iter().map(|b| b.room(fill)).sum();
    let mut victims = Vec::new();
    for victim in candidates.into_iter().take(count as usize) {
        homeless += u64::from(victim.sessions);
        room = room.saturating_sub(victim.room(fill));
        if homeless > room {
            break;
        }
        victims.push(victim.id.clone());
    }
    victims
}

/// Up to `count` drains to take back: those with the most sessions first, since these would have had to move.
pub(super) fn take_back(backends: &[BackendLoad], count: u32) -> Vec<BackendId> {
    let mut draining: Vec<&BackendLoad> =
        backends.iter().filter(|b| b.phase == Phase::Draining && b.draining_for_scale).collect();
    draining.sort_by_key(|b| std::cmp::Reverse(b.sessions));
    draining.into_iter().take(count as usize).map(|b| b.id.clone()).collect()
}

impl BackendLoad {
    /// Whether it is one of the backends that `desired` is a number of.
    pub(super) fn counts(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Ready | Phase::Suspect)
    }

    /// Sessions it can take in and stay at `fill` or below; a backend without a limit takes any number.
    fn room(&self, fill: f64) -> u64 {
        match (self.phase, self.capacity) {
            (Phase::Ready, Some(capacity)) => {
                let soft = (f64::from(capacity) * fill + 1e-9) as u64;
                soft.saturating_sub(u64::from(self.sessions))
            }
            // More than any number of sessions, and still a number that can be added and taken away exactly.
            (Phase::Ready, None) => 1 << 40,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(backends: &[(&str, Phase, u32)]) -> Vec<BackendLoad> {
        let load = |&(id, phase, sessions): &(&str, Phase, u32)| BackendLoad {
            id: id.into(),
            phase,
            draining_for_scale: id.starts_with('s'),
            sessions,
            capacity: Some(20),
        };
        backends.iter().map(load).collect()
    }

    fn names(ids: &[BackendId]) -> Vec<&str> {
        ids.iter().map(BackendId::as_str).collect()
    }

    #[test]
    fn not_ready_first_then_the_fewest_sessions() {
        use Phase::{Draining, Ready, Starting, Suspect};
        let backends = fleet(&[
            ("a", Ready, 4),
            ("b", Suspect, 5),
            ("c", Ready, 1),
            ("d", Starting, 0),
            ("e", Draining, 0),
            ("f", Ready, 4),
        ]);
        assert_eq!(names(&choose(&backends, 9, 0.8)), ["d", "b", "c", "a"]);
        assert_eq!(names(&choose(&backends, 2, 0.8)), ["d", "b"]);
    }

    #[test]
    fn only_if_the_rest_has_room_below_its_fill() {
        use Phase::{Draining, Ready};
        let backends = fleet(&[("a", Ready, 10), ("b", Ready, 6)]);
        assert_eq!(names(&choose(&backends, 1, 0.8)), ["b"], "16 of 16");
        let backends = fleet(&[("a", Ready, 10), ("b", Ready, 7)]);
        assert!(choose(&backends, 1, 0.8).is_empty(), "17 of 16");
        let backends = fleet(&[("a", Ready, 10), ("b", Ready, 4), ("c", Draining, 3)]);
        assert!(choose(&backends, 1, 0.8).is_empty(), "a drain under way wants the same seats");
    }

    #[test]
    fn an_empty_fleet_goes_altogether() {
        let backends = fleet(&[("a", Phase::Ready, 0), ("b", Phase::Ready, 0)]);
        assert_eq!(choose(&backends, 2, 0.8).len(), 2);
    }

    #[test]
    fn only_drains_of_the_autoscaler_are_taken_back() {
        use Phase::{Drained, Draining};
        let backends = fleet(&[("s1", Draining, 1), ("op", Draining, 9), ("s2", Draining, 3), ("s3", Drained, 0)]);
        assert_eq!(names(&take_back(&backends, 3)), ["s2", "s1"]);
        assert_eq!(names(&take_back(&backends, 1)), ["s2"]);
    }
}
