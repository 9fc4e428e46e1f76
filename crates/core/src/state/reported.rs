//! What a backend says of itself, beside what Holdline counted.

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::Heartbeat;
use crate::time::Moment;

/// Heartbeats over which the lowest excess counts: a session that just ended here and not yet there is no foreign one.
const WINDOW: usize = 3;
/// A difference that lasts so long is worth a notice.
const LASTING: Duration = Duration::from_secs(5);

/// A backend's own figures.
#[derive(Clone, Debug, Default)]
pub(super) struct Reported {
    pub(super) sessions: Option<u32>,
    pub(super) capacity: Option<u32>,
    /// max(0, reported − counted) of the last heartbeats.
    excess: VecDeque<u32>,
    episode: Option<Episode>,
}

/// A time in which the two counts differ in one direction.
#[derive(Clone, Copy, Debug)]
struct Episode {
    more: bool,
    since: Moment,
    told: bool,
}

/// The two counts of a difference that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub(super) reported: u32,
    pub(super) counted: u32,
    pub(super) lasted: Duration,
}

impl Reported {
    /// Takes a heartbeat in; `counted` is Holdline's count of the same time. A lasting difference is returned once.
    pub(super) fn take(&mut self, heartbeat: &Heartbeat, counted: u32, now: Moment) -> Option<Mismatch> {
        self.sessions = heartbeat.sessions;
        self.capacity = heartbeat.capacity;
        let Some(reported) = heartbeat.sessions else {
            self.excess.clear();
            self.episode = None;
            return None;
        };
        if self.excess.len() == WINDOW {
            self.excess.pop_front();
        }
        self.excess.push_back(reported.saturating_sub(counted));
        self.differ(reported, counted, now)
    }

    /// Nobody compared for `gap`.
    pub(super) fn stood_still(&mut self, gap: Duration) {
        if let Some(episode) = &mut self.episode {
            episode.since = episode.since + gap;
        }
    }

    fn differ(&mut self, reported: u32, counted: u32, now: Moment) -> Option<Mismatch> {
        if reported == counted {
            self.episode = None;
            return None;
        }
        let more = reported > counted;
        let same = self.episode.filter(|e| e.more == more);
        let episode = self.episode.insert(same.unwrap_or(Episode { more, since: now, told: false }));
        let lasted = now.since(episode.since);
        if episode.told || lasted < LASTING {
            return None;
        }
        episode.told = true;
        Some(Mismatch { reported, counted, lasted })
    }

    /// Sessions that take seats there and did not come through Holdline.
    pub(super) fn foreign(&self) -> u32 {
        self.excess.iter().min().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(r: &mut Reported, reported: u32, counted: u32, second: u64) -> Option<Mismatch> {
        let heartbeat = Heartbeat { ready: true, sessions: Some(reported), ..Heartbeat::default() };
        r.take(&heartbeat, counted, Moment::from_millis(second * 1_000))
    }

    #[test]
    fn foreign_is_the_lowest_excess_of_three() {
        let mut r = Reported::default();
        for (second, (reported, counted, foreign)) in
            [(12, 10, 2), (15, 10, 2), (11, 10, 1), (18, 10, 1), (18, 10, 1), (18, 10, 8), (9, 10, 0)].into_iter().enumerate()
        {
            say(&mut r, reported, counted, second as u64);
            assert_eq!(r.foreign(), foreign, "at {second}");
        }
        r.take(&Heartbeat::default(), 10, Moment::START);
        assert_eq!((r.foreign(), r.sessions), (0, None));
    }

    #[test]
    fn a_lasting_difference_is_told_once_an_episode() {
        let mut r = Reported::default();
        let told: Vec<u64> = (0..20).filter(|s| say(&mut r, 12, 10, *s).is_some()).collect();
        assert_eq!(told, [5]);
        assert_eq!(say(&mut r, 10, 10, 20), None);
        let told: Vec<u64> = (21..40).filter(|s| say(&mut r, 8, 10, *s).is_some()).collect();
        assert_eq!(told, [26]);
        // To and fro is the noise of two clocks, not a difference.
        let told = (40..80).filter(|s| say(&mut r, 9 + 2 * (*s as u32 / 3 % 2), 10, *s).is_some()).count();
        assert_eq!(told, 0);
    }
}
