//! What the show came to, for people and as JSON (`demo -o json`).

use std::fmt;

use serde::Serialize;

use super::crowd::Tally;
use crate::admin::api::StatusBody;

/// The object that `demo -o json` ends with.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Summary {
    /// Sessions that users opened, reconnects included.
    pub(super) opened: u64,
    /// Handshakes refused.
    pub(super) refused: u64,
    /// Sessions ended properly so that the user connected again.
    pub(super) moved: u64,
    /// Sessions that ended without a word.
    pub(super) lost: u64,
    /// Looks at a backend that held more than its capacity, by Holdline's count or by its own.
    pub(super) above_capacity: u64,
    /// The highest sessions/capacity of any backend.
    pub(super) fill_peak: f64,
    /// Backends at the start.
    pub(super) backends_start: u32,
    /// The most at once.
    pub(super) backends_peak: u32,
    /// Backends at the end.
    pub(super) backends_end: u32,
    /// For people only: the highest fill per backend, and backends over time.
    #[serde(skip)]
    pub(super) story: Story,
}

/// The course of the show.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Story {
    /// Highest sessions, and the capacity, by backend.
    pub(super) peaks: std::collections::BTreeMap<String, (u32, Option<u32>)>,
    /// Seconds into the show and backends, at each change.
    pub(super) backends: Vec<(u64, u32)>,
    /// Why sessions were lost, if any were.
    pub(super) reasons: Vec<String>,
}

impl Summary {
    /// Takes in one look at the fleet.
    pub(super) fn look(&mut self, at_s: u64, status: &StatusBody) {
        let backends = status.fleets.iter().flat_map(|f| &f.backends);
        let mut running = 0;
        for backend in backends {
            running += 1;
            let held = backend.sessions.max(backend.reported.unwrap_or(0));
            let peak = self.story.peaks.entry(backend.id.to_string()).or_insert((0, backend.capacity));
            peak.0 = peak.0.max(held);
            if let Some(capacity) = backend.capacity {
                self.fill_peak = self.fill_peak.max(f64::from(held) / f64::from(capacity.max(1)));
                self.above_capacity += u64::from(held > capacity);
            }
        }
        if self.story.backends.last().is_none_or(|(_, n)| *n != running) {
            self.story.backends.push((at_s, running));
        }
        if self.backends_start == 0 {
            self.backends_start = running;
        }
        self.backends_peak = self.backends_peak.max(running);
        self.backends_end = running;
    }

    /// Takes in what the users saw.
    pub(super) fn tally(&mut self, tally: &Tally) {
        self.opened = tally.opened();
        self.refused = tally.refused();
        self.moved = tally.moved();
        self.lost = tally.lost();
        self.story.reasons = tally.reasons();
    }

    /// Nobody was thrown out and nothing was overfilled.
    pub(super) fn is_good(&self) -> bool {
        self.lost == 0 && self.above_capacity == 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sessions   opened {}, refused {}, moved {}, lost {}", self.opened, self.refused, self.moved, self.lost)?;
        for reason in &self.story.reasons {
            writeln!(f, "           lost: {reason}")?;
        }
        let (start, peak, end) = (self.backends_start, self.backends_peak, self.backends_end);
        writeln!(f, "backends   {start} at the start, {peak} at the peak, {end} at the end")?;
        let course: Vec<_> = self.story.backends.iter().map(|(at, n)| format!("{at}s: {n}")).collect();
        writeln!(f, "           {}", course.join(", "))?;
        writeln!(f, "fill       highest {:.0} %, above capacity {} times", self.fill_peak * 100.0, self.above_capacity)?;
        for (id, (peak, capacity)) in &self.story.peaks {
            let of = capacity.map_or_else(|| "no limit".to_owned(), |c| format!("of {c}"));
            writeln!(f, "           {id:<12} {peak:>4} {of}")?;
        }
        Ok(())
    }
}
