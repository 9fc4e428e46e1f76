//! What the show came to, for people and as JSON (`demo -o json`).

use std::fmt;

use holdline_core::ids::BackendId;
use serde::Serialize;

use super::ledger::{DeliveryMs, Deltas};
use super::stage::{NODES, Stage};
use crate::admin::api::{BackendBody, StatusBody};
use crate::cli::render::count;

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
    /// What became of the users' mutations.
    pub(super) deltas: Deltas,
    /// How long they took.
    pub(super) delivery_ms: DeliveryMs,
    /// For people only: the highest fill per backend, and backends over time.
    #[serde(skip)]
    pub(super) story: Story,
}

/// The course of the show.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Story {
    /// Of each backend, in the order in which they joined.
    pub(super) peaks: Vec<Peak>,
    /// Seconds into the show and backends, at each change.
    pub(super) backends: Vec<(u64, u32)>,
    /// The first few of what went wrong for users.
    pub(super) reasons: Vec<String>,
}

/// The most that a backend ever held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peak {
    backend: BackendId,
    sessions: u32,
    capacity: Option<u32>,
}

/// Backends that are listed; a larger fleet says no more by a longer list.
const PEAKS_SHOWN: usize = 20;

impl Summary {
    /// Takes in one look at the fleet of nodes; the api behind the same address has no sessions.
    pub(super) fn look(&mut self, at_s: u64, status: &StatusBody) {
        let backends = status.fleets.iter().filter(|f| f.name.as_str() == NODES).flat_map(|f| &f.backends);
        let mut running = 0;
        for backend in backends {
            running += 1;
            let held = backend.sessions.max(backend.reported.unwrap_or(0));
            self.story.peak(backend, held);
            if let Some(capacity) = backend.capacity {
                self.fill_peak = self.fill_peak.max(f64::from(held) / f64::from(capacity.max(1)));
                self.above_capacity += u64::from(held > capacity);
            }
        }
        self.story.backends(at_s, running);
        if self.backends_start == 0 {
            self.backends_start = running;
        }
        self.backends_peak = self.backends_peak.max(running);
        self.backends_end = running;
    }

    /// Takes in what the users saw. Who finds nobody is lost, unless Holdline was told to go: then there is nobody.
    pub(super) fn heard(&mut self, stage: &Stage, interrupted: bool) {
        let counts = stage.tally.counts();
        self.opened = counts.opened;
        self.refused = counts.refused;
        self.moved = counts.moved;
        self.lost = counts.lost + if interrupted { 0 } else { counts.no_answer };
        self.story.reasons = if self.lost > 0 { stage.tally.reasons() } else { Vec::new() };
        let ledger = stage.ledger.lock();
        self.deltas = ledger.deltas();
        self.delivery_ms = ledger.delivery_ms();
    }

    /// Nobody was thrown out, nothing was overfilled, and everybody heard everything.
    pub(super) fn is_good(&self) -> bool {
        self.lost == 0 && self.above_capacity == 0 && self.deltas.missing == 0
    }
}

impl Story {
    fn peak(&mut self, backend: &BackendBody, held: u32) {
        match self.peaks.iter_mut().find(|peak| peak.backend == backend.id) {
            Some(peak) => peak.sessions = peak.sessions.max(held),
            None => self.peaks.push(Peak { backend: backend.id.clone(), sessions: held, capacity: backend.capacity }),
        }
    }

    /// Within a second only the last number is kept; the first of all stays.
    fn backends(&mut self, at_s: u64, running: u32) {
        if self.backends.len() > 1 {
            self.backends.pop_if(|(at, _)| *at == at_s);
        }
        if self.backends.last().is_none_or(|(_, n)| *n != running) {
            self.backends.push((at_s, running));
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sessions   opened {}, refused {}, moved {}, lost {}", self.opened, self.refused, self.moved, self.lost)?;
        for reason in &self.story.reasons {
            writeln!(f, "           {reason}")?;
        }
        let Deltas { written, delivered, recovered, missing } = self.deltas;
        writeln!(
            f,
            "deltas     {written} written, {delivered} delivered, {recovered} recovered after a reconnect, {missing} missing"
        )?;
        let DeliveryMs { p50, p99 } = self.delivery_ms;
        writeln!(f, "delivery   {p50:.1} ms after the mutation, 99 % within {p99:.1} ms")?;
        let (start, peak, end) = (self.backends_start, self.backends_peak, self.backends_end);
        writeln!(f, "backends   {start} at the start, {peak} at the peak, {end} at the end")?;
        let course: Vec<_> = self.story.backends.iter().map(|(at, n)| format!("{at}s: {n}")).collect();
        if !course.is_empty() {
            writeln!(f, "           {}", course.join(", "))?;
        }
        let above = match self.above_capacity {
            0 => "never above capacity".to_owned(),
            looks => format!("above capacity in {}", count(looks, "look")),
        };
        writeln!(f, "fill       {:.0} % at the highest, {above}", self.fill_peak * 100.0)?;
        for Peak { backend, sessions, capacity } in self.story.peaks.iter().take(PEAKS_SHOWN) {
            let of = capacity.map_or_else(|| "no limit".to_owned(), |c| format!("of {c}"));
            writeln!(f, "           {:<12} {sessions:>4} {of}", backend.as_str())?;
        }
        if let Some(more @ 1..) = self.story.peaks.len().checked_sub(PEAKS_SHOWN) {
            writeln!(f, "           and {more} more")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use holdline_core::cause::Phase;
    use holdline_core::time::Moment;
    use holdline_live::client::{End, How};

    use super::*;
    use crate::admin::doubles::{backend, fleet, snapshot};
    use crate::admin::status_body;
    use crate::clock::Clock;

    fn look(sessions: &[u32]) -> StatusBody {
        let backends = (1u32..).zip(sessions).map(|(n, held)| backend(&format!("b-{n}"), Phase::Ready, *held, Some(20)));
        // The other fleet does not count.
        let api = fleet("api", vec![backend("api", Phase::Ready, 99, Some(1))]);
        status_body(&snapshot(vec![fleet(NODES, backends.collect()), api]), "local", Moment::START)
    }

    #[test]
    fn the_story_is_told_in_order() {
        let deltas = Deltas { written: 7, delivered: 60, recovered: 3, missing: 0 };
        let mut summary = Summary { opened: 30, deltas, delivery_ms: DeliveryMs { p50: 1.5, p99: 9.0 }, ..Summary::default() };
        for (at, sessions) in [(0, &[0][..]), (3, &[20, 1]), (3, &[20, 5, 3]), (9, &[20, 5, 0]), (12, &[4])] {
            summary.look(at, &look(sessions));
        }
        let expected = "\
sessions   opened 30, refused 0, moved 0, lost 0
deltas     7 written, 60 delivered, 3 recovered after a reconnect, 0 missing
delivery   1.5 ms after the mutation, 99 % within 9.0 ms
backends   1 at the start, 3 at the peak, 1 at the end
           0s: 1, 3s: 3, 12s: 1
fill       100 % at the highest, never above capacity
           b-1            20 of 20
           b-2             5 of 20
           b-3             3 of 20
";
        assert_eq!(summary.to_string(), expected);
        assert!(summary.is_good());
    }

    #[test]
    fn above_capacity_is_not_good() {
        let mut summary = Summary::default();
        summary.look(0, &look(&[21]));
        assert_eq!((summary.is_good(), summary.above_capacity, summary.fill_peak), (false, 1, 1.05));
        assert!(summary.to_string().contains("105 % at the highest, above capacity in 1 look\n"), "{summary}");
    }

    #[test]
    fn a_delta_that_somebody_never_heard_is_not_good() {
        let deltas = Deltas { missing: 1, ..Deltas::default() };
        assert!(!Summary { deltas, ..Summary::default() }.is_good());
    }

    #[test]
    fn a_large_fleet_is_cut_short() {
        let mut summary = Summary::default();
        summary.look(0, &look(&[1; 30]));
        assert!(summary.to_string().ends_with("b-20            1 of 20\n           and 10 more\n"), "{summary}");
    }

    #[test]
    fn who_finds_nobody_is_lost_unless_the_show_was_interrupted() {
        let stage = Stage::new("127.0.0.1:1".to_owned(), 10, Clock::start());
        let end = |how| End { how, asked: Duration::ZERO };
        stage.tally.ended(&end(How::Moved), true);
        stage.tally.ended(&end(How::Broken("refused".to_owned())), false);
        for (interrupted, lost) in [(true, 0), (false, 1)] {
            let mut summary = Summary::default();
            summary.heard(&stage, interrupted);
            assert_eq!((summary.moved, summary.lost, summary.is_good()), (1, lost, interrupted));
            assert_eq!(summary.to_string().contains("no answer: refused"), !interrupted, "{summary}");
        }
    }
}
