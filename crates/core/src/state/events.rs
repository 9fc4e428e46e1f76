//! What shells saw of a fleet's backends.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::{BackendCounts, FleetCounts, Heartbeat, NoticeKind, Observation};
use crate::health::{Change, Standing};
use crate::ids::BackendId;
use crate::policy::ProviderPolicy;
use crate::time::Moment;

use super::backend::{Backend, Ends, Owners};
use super::fleet::FleetState;

/// A child that leaves on its own wish earlier than this after its start has failed.
const SERVED_MIN: Duration = Duration::from_secs(10);

/// A report's lines by backend. They are in the order of the snapshot, so a backend's is mostly the next one; where one left or has no line
/// yet, an index is made.
struct Lines<'c> {
    all: &'c [BackendCounts],
    next: usize,
    index: Option<BTreeMap<&'c BackendId, usize>>,
}

impl<'c> Lines<'c> {
    fn new(all: &'c [BackendCounts]) -> Self {
        Lines { all, next: 0, index: None }
    }

    fn of(&mut self, id: &BackendId) -> Option<&'c BackendCounts> {
        let all = self.all;
        let is_next = all.get(self.next).is_some_and(|line| line.backend == *id);
        let index = || all.iter().enumerate().map(|(at, line)| (&line.backend, at)).collect();
        let at = if is_next { self.next } else { *self.index.get_or_insert_with(index).get(id)? };
        self.next = at + 1;
        Some(&all[at])
    }
}

impl FleetState {
    /// The gateway's counts. A backend without a line has nothing there.
    pub(super) fn counts(&mut self, counts: &FleetCounts, now: Moment) {
        let before = (self.queued, self.oldest_wait, self.requests);
        (self.queued, self.oldest_wait, self.requests) = (counts.queued, counts.oldest_wait, counts.requests);
        let mut changed = before != (self.queued, self.oldest_wait, self.requests);
        changed |= self.meter.take(counts.totals, counts.queued, now);
        let mut lines = Lines::new(&counts.backends);
        for backend in &mut self.backends {
            let line = lines.of(&backend.id);
            let figures = line.map_or((0, 0), |c| (c.used, c.requests));
            let ended = line.map_or(backend.ended, |c| Ends { moved: c.moved_total, cut: c.cut_total, lost: c.lost_total });
            changed |= figures != (backend.used, backend.requests) || ended != backend.ended;
            let former = line.map_or(&[][..], |c| &c.former);
            changed |= former != backend.former || backend.is_moved;
            (backend.used, backend.requests) = figures;
            backend.former.clear();
            backend.former.extend_from_slice(former);
            backend.is_moved = false;
            backend.take_ends(ended, now);
            let empty = backend.is_empty();
            // Only a count that was taken after the drain began can tell that it is over.
            if let Some(drain) = &mut backend.drain {
                drain.empty = Some(empty);
            }
        }
        if changed {
            self.changed();
        }
        self.counters.take(counts);
        self.finish_drains(now);
        self.wake(now);
    }

    /// A heartbeat, pulled or pushed.
    pub(super) fn heartbeat(&mut self, id: &BackendId, heartbeat: &Heartbeat, now: Moment) {
        let Some(at) = self.position(id).filter(|&at| !self.backends[at].retiring) else { return };
        let backend = &mut self.backends[at];
        if !backend.health.is_new(heartbeat.seq) {
            return;
        }
        let said = |b: &Backend| (b.reported.sessions, b.capacity(), b.foreign());
        let before = said(backend);
        let counted = heartbeat.counted.unwrap_or_else(|| backend.used_here().saturating_add(backend.shared.used));
        let mismatch = if heartbeat.unreadable { None } else { backend.reported.take(heartbeat, counted, now) };
        // One that asks for a drain is well: the drain decides what it is given.
        let draining = heartbeat.draining || (heartbeat.unreadable && backend.asks_drain);
        let change = backend.health.heartbeat(heartbeat.ready || draining, now);
        if said(backend) != before {
            self.changed();
        }
        if let Some(m) = mismatch {
            let message = format!(
                "`{id}` reports {} sessions and Holdline counts {} on it, for {:?} now: {}",
                m.reported,
                m.counted,
                m.lasted,
                if m.reported > m.counted {
                    "the others take seats too"
                } else {
                    "it may not know of sessions that it still holds"
                }
            );
            self.notice(Some(id), NoticeKind::CountMismatch, message);
        }
        if let Some(change) = change {
            self.health_changed(at, change, now);
        }
        if !heartbeat.unreadable {
            self.hear_drain(at, heartbeat, now);
        }
    }

    /// A backend may ask for its drain, and take it back by saying that it is ready.
    fn hear_drain(&mut self, at: usize, heartbeat: &Heartbeat, now: Moment) {
        if heartbeat.draining {
            self.backends[at].asks_drain = true;
            let owned = self.backends[at].drain.as_ref().is_some_and(|d| d.owners.backend);
            if !owned {
                self.start_drain(at, self.default_pace(self.backends[at].used), Owners::BACKEND, "it asks for it", now);
            }
        } else if heartbeat.ready {
            self.backends[at].asks_drain = false;
            self.give_up_drain(at, Owners::BACKEND, "it says that it is ready again");
        }
    }

    /// A probe had no answer.
    pub(super) fn missed(&mut self, id: &BackendId) {
        if let Some(at) = self.position(id) {
            self.backends[at].health.missed();
        }
    }

    /// A probe could not be sent, by our fault.
    pub(super) fn not_asked(&mut self, id: &BackendId, now: Moment) {
        if let Some(at) = self.position(id) {
            self.backends[at].health.not_asked(now);
        }
    }

    /// The gateway dialled it.
    pub(super) fn dialled(&mut self, id: &BackendId, connected: bool, now: Moment) {
        let Some(at) = self.position(id).filter(|&at| !self.backends[at].retiring) else { return };
        if let Some(change) = self.backends[at].health.dialled(connected, now) {
            self.health_changed(at, change, now);
        }
    }

    /// Its health changed; a child of ours that is dead is replaced.
    pub(super) fn health_changed(&mut self, at: usize, change: Change, now: Moment) {
        self.changed();
        let backend = &self.backends[at];
        let (id, since) = (backend.id.clone(), backend.since);
        let before = backend.phase_at(change.from);
        self.phase_changed(at, before, &change.reason);
        match change.to {
            Standing::Ready if change.from == Standing::Starting && self.is_elastic() => self.scaler.started_up(now.since(since)),
            Standing::Dead if self.backends[at].is_child() => {
                self.retire(at);
                let remedy = self.remedy(&id, change.from == Standing::Starting);
                self.failed(&id, &format!("{}; it is stopped{remedy}", change.reason), now);
            }
            _ => {}
        }
    }

    /// What a provider saw; static backends have none that could see anything.
    pub(super) fn observed(&mut self, id: &BackendId, observation: Observation, now: Moment) {
        let Some(at) = self.position(id).filter(|&at| self.backends[at].is_child()) else { return };
        match observation {
            Observation::Started { address } => {
                self.backends[at].address = Some(address);
                self.changed();
            }
            Observation::StartFailed { reason } => {
                self.remove(at, now);
                self.failed(id, &format!("it could not be started: {reason}"), now);
            }
            Observation::Exited { reason } => self.exited(at, &reason, now),
        }
    }

    /// Its process is gone: as it was to, or a crash.
    fn exited(&mut self, at: usize, reason: &str, now: Moment) {
        let backend = self.remove(at, now);
        let (id, left) = (&backend.id, backend.had());
        if let Some(drain) = backend.drain.as_ref().filter(|d| !d.done) {
            let (took, outcome) = (now.since(drain.sessions.started()), drain.outcome(backend.ended, left));
            let message = format!(
                "the drain of `{id}` ends after {took:.1?}: the process is gone ({reason}) with {left} sessions left; {outcome}"
            );
            self.notice(Some(id), NoticeKind::DrainEnded, message);
        }
        // One that asks for its drain as soon as it runs would else be started again every second.
        let had_served = now.since(backend.since) >= SERVED_MIN;
        if backend.retiring || (backend.asks_drain && had_served) {
            self.notice(Some(id), NoticeKind::BackendRemoved, format!("`{id}` leaves: it was to stop and did ({reason})"));
        } else {
            let remedy = self.remedy(id, false);
            self.failed(id, &format!("it exited by itself ({reason}) with {left} sessions{remedy}"), now);
        }
    }

    /// Where to look after a child of ours failed, and what to change when it was only slow.
    fn remedy(&self, id: &BackendId, was_starting: bool) -> String {
        let ProviderPolicy::Process(process) = &self.policy.provider else { return String::new() };
        let log = process.log_file(id);
        let slow = match was_starting {
            true => format!(", or raise fleets.{}.backends.process.ready_timeout", self.name()),
            false => String::new(),
        };
        format!(": look into its log file {}{slow}", log.display())
    }

    /// A failed start or a crash.
    fn failed(&mut self, id: &BackendId, reason: &str, now: Moment) {
        let wait = self.backoff.failed(now);
        let message = match self.leaving {
            true => format!("`{id}` failed: {reason}"),
            false => format!("`{id}` failed: {reason}; the next start is in {wait:.1?} at the earliest"),
        };
        self.notice(Some(id), NoticeKind::BackendFailed, message);
    }
}
