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

/// A `seq` that is so much higher than the last is not the next of the same sender. One that sends the time in ns has three days for a heartbeat.
pub const SEQ_STEP_MAX: u64 = 1 << 48;

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

    /// Whether a pushed heartbeat is newer than all before it, and not so much that it cannot be of the same sender. After a silence of `suspect_after` a backend's numbers start afresh, for
    /// its successor's do, and a heartbeat that is delivered twice comes sooner.
    pub fn is_new(&mut self, seq: Option<u64>) -> bool {
        let Some(seq) = seq else { return true };
        // Serial numbers (RFC 1982): behind 2^64-1 comes what is small, so one wild number silences nobody.
        let is_new = self.seq.is_none_or(|last| (1..SEQ_STEP_MAX).contains(&seq.wrapping_sub(last)));
        if is_new {
            self.seq = Some(seq);
        }
        is_new
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
            Standing::Starting => self.turn(Standing::Ready, "first good heartbeat received".to_owned(), now),
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
mod tests;
