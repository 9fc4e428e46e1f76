//! Whether a backend can be given sessions: what its heartbeats and the gateway's dials say, without flapping.
//!
//! ```text
//!            first good heartbeat            silence ≥ suspect_after, three failed dials
//!            or patience lost                in a row, or "not ready" (503)
//!  Starting ────────────► Ready ──────────────────────────────► Suspect
//!     │                     ▲      `needed` good heartbeats in a row,   │
//!     │                     └── or one and a dial that connected ───────┤
//!     └──────────────────► Dead ◄───────────────────────────────────────┘ no sign of life ≥ dead_after
//! ```
//!
//! Hysteresis: one lost heartbeat changes nothing, and `needed` is two; it doubles up to [`NEEDED_MAX`] each time the
//! backend falls again within [`CALM`] of its return, so a backend that answers probes but no dials does not flap.
//! A dead backend comes back in the same way as a suspect one.

use std::time::Duration;

use crate::policy::HeartbeatPolicy;
use crate::time::Moment;

/// Failed dials in a row after which a backend is suspect.
pub const DIAL_FAILURES_MAX: u32 = 3;
/// Good heartbeats in a row that bring a suspect backend back.
pub const NEEDED_MIN: u32 = 2;
/// The same, for a backend that fell again and again.
pub const NEEDED_MAX: u32 = 32;
/// Ready for so long: earlier falls are forgotten.
pub const CALM: Duration = Duration::from_secs(60);

/// What a backend's health allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No good heartbeat yet.
    Starting,
    /// May take sessions.
    Ready,
    /// No new ones for now.
    Suspect,
    /// No sign of life.
    Dead,
}

/// How long a starting backend is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// So long from the start to the first good heartbeat (a child of ours, `ready_timeout`).
    Total(Duration),
    /// So long without any answer (a static backend, `dead_after`); one that answers "not ready" is waited for.
    Silence(Duration),
}

/// A change of standing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Until now.
    pub from: Standing,
    /// From now on.
    pub to: Standing,
    /// For people.
    pub reason: String,
}

/// The health of one backend.
#[derive(Clone, Debug)]
pub struct Health {
    suspect_after: Duration,
    dead_after: Duration,
    patience: Patience,
    standing: Standing,
    /// Standing since.
    since: Moment,
    /// The last answer, good or not.
    heard: Option<Moment>,
    /// The last good heartbeat, or the start.
    good: Moment,
    /// The last answer or connected dial, or the start.
    alive: Moment,
    dial_failures: u32,
    good_in_a_row: u32,
    dial_connected: bool,
    /// It fell before and was not ready for [`CALM`] since.
    relapsing: bool,
    needed: u32,
    seq: Option<u64>,
    /// When the last one came that was obeyed.
    seq_at: Moment,
}

impl Health {
    /// Starting, nothing heard.
    pub fn new(policy: &HeartbeatPolicy, patience: Patience, now: Moment) -> Self {
        Health {
            suspect_after: policy.suspect_after,
            dead_after: policy.dead_after,
            patience,
            standing: Standing::Starting,
            since: now,
            heard: None,
            good: now,
            alive: now,
            dial_failures: 0,
            good_in_a_row: 0,
            dial_connected: false,
            relapsing: false,
            needed: NEEDED_MIN,
            seq: None,
            seq_at: now,
        }
    }

    /// Other times from now on. If those of heartbeats changed, silence begins `anew`: what is too long by the new ones was not by the old.
    pub fn set_policy(&mut self, policy: &HeartbeatPolicy, patience: Patience, anew: bool, now: Moment) {
        self.suspect_after = policy.suspect_after;
        self.dead_after = policy.dead_after;
        self.patience = patience;
        if anew {
            self.not_asked(now);
        }
    }

    /// What it allows now.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Since when it allows that.
    pub fn since(&self) -> Moment {
        self.since
    }

    /// When it was last heard.
    pub fn heard(&self) -> Option<Moment> {
        self.heard
    }

    /// Whether a pushed heartbeat is newer than all before it. After a silence of `suspect_after` a backend's numbers start afresh, for
    /// its successor's do, and a heartbeat that is delivered twice comes sooner.
    pub fn is_new(&mut self, seq: Option<u64>) -> bool {
        let Some(seq) = seq else { return true };
        let replay = self.seq.is_some_and(|last| seq <= last);
        if !replay {
            self.seq = Some(seq);
        }
        !replay
    }

    /// It answered; `ready` is what it said.
    pub fn heartbeat(&mut self, ready: bool, now: Moment) -> Option<Change> {
        self.heard = Some(now);
        self.alive = now;
        self.seq_at = now;
        if !ready {
            self.good_in_a_row = 0;
            return match self.standing {
                Standing::Ready => self.suspect("it says that it is not ready (503)".to_owned(), now),
                // It lives, so it is not dead; it is not well either.
                Standing::Dead => self.suspect("it answers again, but says that it is not ready (503)".to_owned(), now),
                Standing::Starting | Standing::Suspect => None,
            };
        }
        self.good = now;
        self.good_in_a_row = self.good_in_a_row.saturating_add(1);
        match self.standing {
            Standing::Starting => self.turn(Standing::Ready, "its first good heartbeat came".to_owned(), now),
            Standing::Ready => None,
            Standing::Suspect | Standing::Dead => self.recover(now),
        }
    }

    /// A probe had no answer. That alone is no verdict: time is ([`Health::tick`]).
    pub fn missed(&mut self) {
        self.good_in_a_row = 0;
    }

    /// It could not be asked, and not by its fault: the silence is ours, so no time runs against it. One that never answered has
    /// nothing to lose: its address may be what cannot be reached from here (EADDRNOTAVAIL without IPv6).
    pub fn not_asked(&mut self, now: Moment) {
        if self.standing != Standing::Starting {
            self.good = now;
            self.alive = now;
        }
    }

    /// Nobody listened for `gap`: what the backend said in that time waits to be read, and nothing of it is silence.
    pub fn stood_still(&mut self, gap: Duration) {
        self.since = self.since + gap;
        self.good = self.good + gap;
        self.alive = self.alive + gap;
        self.seq_at = self.seq_at + gap;
    }

    /// A dial of the gateway connected, or failed by the backend's fault.
    pub fn dialled(&mut self, connected: bool, now: Moment) -> Option<Change> {
        if connected {
            self.alive = now;
            self.dial_failures = 0;
            self.dial_connected = true;
            return (self.standing == Standing::Suspect).then(|| self.recover(now)).flatten();
        }
        self.dial_failures = self.dial_failures.saturating_add(1);
        self.dial_connected = false;
        let fell = self.standing == Standing::Ready && self.dial_failures >= DIAL_FAILURES_MAX;
        fell.then(|| self.suspect(format!("{} dials in a row failed", self.dial_failures), now)).flatten()
    }

    /// Time passed.
    pub fn tick(&mut self, now: Moment) -> Option<Change> {
        if self.standing == Standing::Ready && now.since(self.since) >= CALM {
            self.needed = NEEDED_MIN;
            self.relapsing = false;
        }
        if now.since(self.seq_at) >= self.suspect_after {
            self.seq = None;
        }
        match self.standing {
            Standing::Starting => {
                let (waited, limit) = match self.patience {
                    Patience::Total(limit) => (now.since(self.since), limit),
                    Patience::Silence(limit) => (now.since(self.alive), limit),
                };
                (waited >= limit).then(|| self.die(format!("no good heartbeat within {limit:?} of its start"), now)).flatten()
            }
            Standing::Ready if now.since(self.good) >= self.suspect_after => {
                self.suspect(format!("no heartbeat for {:?}", self.suspect_after), now)
            }
            Standing::Suspect if now.since(self.alive) >= self.dead_after => {
                self.die(format!("no heartbeat and no dial that connected for {:?}", self.dead_after), now)
            }
            _ => None,
        }
    }

    fn suspect(&mut self, reason: String, now: Moment) -> Option<Change> {
        if self.relapsing && self.standing == Standing::Ready {
            self.needed = (self.needed * 2).min(NEEDED_MAX);
        }
        self.relapsing = true;
        self.good_in_a_row = 0;
        self.dial_connected = false;
        self.turn(Standing::Suspect, reason, now)
    }

    fn die(&mut self, reason: String, now: Moment) -> Option<Change> {
        self.good_in_a_row = 0;
        self.dial_connected = false;
        self.turn(Standing::Dead, reason, now)
    }

    fn recover(&mut self, now: Moment) -> Option<Change> {
        let by_dial = self.needed == NEEDED_MIN && self.dial_connected && self.good_in_a_row >= 1;
        if !by_dial && self.good_in_a_row < self.needed {
            return None;
        }
        let reason = match by_dial {
            true => "a heartbeat and a dial succeeded".to_owned(),
            false => format!("{} good heartbeats in a row", self.good_in_a_row),
        };
        self.dial_failures = 0;
        self.turn(Standing::Ready, reason, now)
    }

    fn turn(&mut self, to: Standing, reason: String, now: Moment) -> Option<Change> {
        let from = std::mem::replace(&mut self.standing, to);
        self.since = now;
        Some(Change { from, to, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Probe;

    fn policy() -> HeartbeatPolicy {
        HeartbeatPolicy {
            probe: Probe::Tcp,
            path: "/heartbeat".to_owned(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            suspect_after: Duration::from_secs(3),
            dead_after: Duration::from_secs(10),
        }
    }

    fn ready_at_zero() -> Health {
        let mut health = Health::new(&policy(), Patience::Silence(Duration::from_secs(10)), Moment::START);
        assert_eq!(health.heartbeat(true, Moment::START).map(|c| c.to), Some(Standing::Ready));
        health
    }

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    #[test]
    fn silence_makes_suspect_then_dead_at_the_times_of_the_policy() {
        let mut h = ready_at_zero();
        assert_eq!(h.tick(at(2_999)), None);
        assert_eq!(h.tick(at(3_000)).map(|c| c.to), Some(Standing::Suspect));
        assert_eq!(h.tick(at(9_999)), None);
        assert_eq!(h.tick(at(10_000)).map(|c| c.to), Some(Standing::Dead));
    }

    #[test]
    fn a_dial_that_connects_keeps_a_silent_backend_from_death() {
        let mut h = ready_at_zero();
        h.tick(at(3_000));
        assert_eq!(h.dialled(true, at(8_000)), None, "one dial alone does not bring it back");
        assert_eq!(h.tick(at(17_999)), None);
        assert_eq!(h.tick(at(18_000)).map(|c| c.to), Some(Standing::Dead));
    }

    #[test]
    fn one_lost_heartbeat_changes_nothing_and_three_failed_dials_do() {
        let mut h = ready_at_zero();
        h.missed();
        assert_eq!(h.tick(at(1_500)), None);
        assert_eq!(h.dialled(false, at(1_600)), None);
        assert_eq!(h.dialled(false, at(1_600)), None);
        assert_eq!(h.dialled(true, at(1_700)), None);
        assert_eq!(h.dialled(false, at(1_800)), None);
        assert_eq!(h.dialled(false, at(1_800)), None);
        assert_eq!(h.dialled(false, at(1_900)).map(|c| c.to), Some(Standing::Suspect));
    }

    #[test]
    fn back_after_two_heartbeats_or_one_and_a_dial() {
        let mut h = ready_at_zero();
        h.tick(at(3_000));
        assert_eq!(h.heartbeat(true, at(4_000)), None);
        h.missed();
        assert_eq!(h.heartbeat(true, at(6_000)), None, "not in a row");
        assert_eq!(h.heartbeat(true, at(7_000)).map(|c| c.to), Some(Standing::Ready));
        let mut h = ready_at_zero();
        h.tick(at(3_000));
        h.dialled(true, at(3_500));
        assert_eq!(h.heartbeat(true, at(4_000)).map(|c| c.to), Some(Standing::Ready));
    }

    #[test]
    fn probes_that_succeed_while_dials_fail_do_not_make_it_flap() {
        let mut h = ready_at_zero();
        let mut falls = 0;
        for second in 1..600 {
            let now = at(second * 1_000);
            h.tick(now);
            h.heartbeat(true, now);
            while h.standing() == Standing::Ready {
                falls += u32::from(h.dialled(false, now).is_some());
            }
        }
        assert!(falls <= 23, "{falls} falls in ten minutes");
    }

    #[test]
    fn not_ready_closes_at_once_and_is_no_death() {
        let mut h = ready_at_zero();
        assert_eq!(h.heartbeat(false, at(500)).map(|c| c.to), Some(Standing::Suspect));
        for second in 1..60 {
            h.heartbeat(false, at(second * 1_000));
            assert_eq!(h.tick(at(second * 1_000)), None);
        }
        assert_eq!(h.standing(), Standing::Suspect);
    }

    #[test]
    fn a_time_in_which_nobody_could_ask_is_no_silence() {
        let mut h = ready_at_zero();
        for second in 1..60 {
            h.not_asked(at(second * 1_000));
            assert_eq!(h.tick(at(second * 1_000 + 900)), None);
        }
        assert_eq!(h.tick(at(62_000)).map(|c| c.to), Some(Standing::Suspect), "its own silence counts again");
        h.not_asked(at(63_000));
        assert_eq!((h.standing(), h.tick(at(72_900))), (Standing::Suspect, None), "it neither dies nor comes back by that");
        let mut never = Health::new(&policy(), Patience::Silence(Duration::from_secs(10)), Moment::START);
        never.not_asked(at(9_000));
        assert_eq!(never.tick(at(10_000)).map(|c| c.to), Some(Standing::Dead));
    }

    #[test]
    fn a_standstill_of_ours_is_no_silence() {
        let mut h = ready_at_zero();
        h.stood_still(Duration::from_secs(25));
        assert_eq!(h.tick(at(27_900)), None);
        assert_eq!(h.tick(at(28_000)).map(|c| c.to), Some(Standing::Suspect), "from then on its silence counts");
        h.stood_still(Duration::from_secs(25));
        assert_eq!(h.tick(at(59_900)), None);
        let mut child = Health::new(&policy(), Patience::Total(Duration::from_secs(30)), Moment::START);
        child.stood_still(Duration::from_secs(25));
        assert_eq!(child.tick(at(54_900)), None);
        assert_eq!(child.tick(at(55_000)).map(|c| c.to), Some(Standing::Dead));
    }

    #[test]
    fn a_successor_that_counts_from_one_is_heard_before_the_other_is_called_dead() {
        let mut h = ready_at_zero();
        assert!(h.is_new(Some(700)));
        h.heartbeat(true, at(500));
        h.tick(at(3_400));
        assert!(!h.is_new(Some(1)));
        assert_eq!(h.tick(at(3_500)).map(|c| c.to), Some(Standing::Suspect));
        assert!(h.is_new(Some(2)));
        assert_eq!(h.heartbeat(true, at(3_600)), None);
        assert!(h.is_new(Some(3)));
        assert_eq!(h.heartbeat(true, at(4_600)).map(|c| c.to), Some(Standing::Ready));
    }

    #[test]
    fn a_dial_before_its_death_does_not_vouch_for_a_backend() {
        let mut h = ready_at_zero();
        h.tick(at(3_000));
        h.dialled(true, at(4_000));
        assert_eq!(h.tick(at(14_000)).map(|c| c.to), Some(Standing::Dead));
        assert_eq!(h.heartbeat(true, at(99_000)), None);
        assert_eq!(h.heartbeat(true, at(99_100)).map(|c| c.to), Some(Standing::Ready));
    }

    #[test]
    fn replays_are_ignored_until_a_successor_of_the_dead_speaks() {
        let mut h = ready_at_zero();
        assert!(h.is_new(Some(7)) && !h.is_new(Some(7)) && !h.is_new(Some(3)) && h.is_new(Some(8)));
        h.tick(at(3_000));
        h.tick(at(10_000));
        assert!(h.is_new(Some(1)) && !h.is_new(Some(1)) && h.is_new(None));
    }

    #[test]
    fn a_child_that_answers_not_ready_loses_our_patience_and_a_static_backend_does_not() {
        let ready_timeout = Duration::from_secs(30);
        let mut child = Health::new(&policy(), Patience::Total(ready_timeout), Moment::START);
        let mut fixed = Health::new(&policy(), Patience::Silence(Duration::from_secs(10)), Moment::START);
        for second in 1..30 {
            for h in [&mut child, &mut fixed] {
                assert_eq!(h.heartbeat(false, at(second * 1_000)), None);
                assert_eq!(h.tick(at(second * 1_000)), None);
            }
        }
        assert_eq!(child.tick(at(30_000)).map(|c| c.to), Some(Standing::Dead));
        assert_eq!(fixed.tick(at(30_000)), None);
    }
}
