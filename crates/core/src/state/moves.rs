//! Sessions on their way off backends: drains and rebalances, from their start to their end.

use std::time::Duration;

use crate::cause::Phase;
use crate::drain::{Due, Move, Pace};
use crate::event::{Effect, NoticeKind};
use crate::time::Moment;

use super::backend::{Backend, Drain, Owners};
use super::fleet::FleetState;
use super::rebalance::Rebalance;

impl FleetState {
    /// The fleet's own way to move `n` sessions.
    pub(super) fn default_pace(&self, n: u32) -> Pace {
        let drain = &self.policy.drain;
        let over = Pace::over_default(n, drain.rate_max, drain.deadline);
        Pace { over, deadline: drain.deadline, rate_max: drain.rate_max, mode: drain.mode }
    }

    /// Begins a drain, or adds an owner to the one under way; an operator's pace replaces the one under way.
    pub(super) fn start_drain(&mut self, at: usize, pace: Pace, owner: Owners, reason: &str, now: Moment) {
        let backend = &mut self.backends[at];
        let (id, used) = (backend.id.clone(), backend.used);
        let before = backend.drain.take();
        let mut owners = before.as_ref().map_or_else(Owners::default, |d| d.owners);
        owners.add(owner);
        let kept = before.filter(|d| d.done || owner != Owners::OPERATOR);
        let begins = kept.is_none();
        let ended = backend.ended;
        let fresh = || Drain::new(Move::drain(pace, used, now), owners, ended);
        backend.drain.insert(kept.unwrap_or_else(fresh)).owners = owners;
        self.changed();
        if begins {
            let message = format!(
                "`{id}` is drained: {reason}; {used} sessions leave over {:.1?}, what is left after {:?} is cut",
                pace.over, pace.deadline
            );
            self.notice(Some(&id), NoticeKind::DrainStarted, message);
        }
        self.retire_if_wanted(at);
    }

    /// Drains a backend for good. One that is drained already keeps its pace.
    pub(super) fn let_go(&mut self, at: usize, reason: &str, now: Moment) {
        let pace = self.default_pace(self.backends[at].used);
        self.start_drain(at, pace, Owners::CONFIG, reason, now);
    }

    /// Takes an owner off a drain; without any it ends and the backend is what its health says.
    pub(super) fn give_up_drain(&mut self, at: usize, owner: Owners, reason: &str) {
        let backend = &mut self.backends[at];
        let retiring = backend.retiring;
        let Some(drain) = &mut backend.drain else { return };
        let before = drain.owners;
        drain.owners.operator &= !owner.operator;
        drain.owners.backend &= !owner.backend;
        drain.owners.scale &= !owner.scale;
        drain.owners.config &= !owner.config;
        if drain.owners == before || retiring {
            return;
        }
        if drain.owners.nobody() {
            backend.drain = None;
            let (id, phase) = (backend.id.clone(), backend.phase());
            self.notice(
                Some(&id),
                NoticeKind::Undrained,
                format!("the drain of `{id}` is taken back and it is {phase}: {reason}"),
            );
        } else {
            self.retire_if_wanted(at);
        }
    }

    /// Ends the drains of empty backends, and retires those that the autoscaler gave up. A drain that is overdue ends when
    /// its sessions are gone: plain requests and sessions by other ways are waited for no longer.
    pub(super) fn finish_drains(&mut self, now: Moment) {
        for at in 0..self.backends.len() {
            let backend = &mut self.backends[at];
            let Some(drain) = &mut backend.drain else { continue };
            let counted_out = drain.empty.is_some() && backend.used == 0 && drain.sessions.overdue(now);
            if drain.done || !(drain.empty == Some(true) || counted_out) {
                continue;
            }
            drain.done = true;
            let (id, total, took) = (backend.id.clone(), drain.sessions.total(), now.since(drain.sessions.started()));
            let outcome = drain.outcome(backend.ended, backend.used);
            let left_over = backend.requests.saturating_add(backend.reported.foreign());
            let mut message = format!("`{id}` is drained: its {total} sessions left within {took:.1?}; {outcome}");
            if left_over > 0 {
                message += &format!("; {left_over} requests or sessions by other ways are not waited for any longer");
            }
            self.notice(Some(&id), NoticeKind::DrainEnded, message);
            self.retire_if_wanted(at);
        }
        self.remove_let_go(now);
    }

    fn retire_if_wanted(&mut self, at: usize) {
        let backend = &self.backends[at];
        let gives_up = |owners: Owners| owners.config || (owners.scale && !owners.operator);
        let wanted = backend.drain.as_ref().is_some_and(|d| d.done && gives_up(d.owners));
        if wanted && !backend.retiring && backend.is_child() {
            self.retire(at);
        }
    }

    /// Tells as many sessions to go as their paces and the seats elsewhere allow.
    pub(super) fn step_drains(&mut self, now: Moment) {
        // Clients of a fleet that goes find their seats in another one, or none.
        let mut room = if self.leaving { None } else { self.room(now) };
        // Seats that are scarce go to those who are cut first.
        let deadline = |at: &usize| self.backends[*at].drain.as_ref().map(|d| d.sessions.deadline());
        let mut draining: Vec<usize> = (0..self.backends.len()).filter(|at| deadline(at).is_some()).collect();
        draining.sort_by_key(deadline);
        for at in draining {
            let leaves_seats = room.is_some() && self.backends[at].shared.with_others;
            let room_here = if leaves_seats { self.room_once_left(at, now) } else { room };
            let Backend { used, ended, drain, .. } = &mut self.backends[at];
            // A request that was in flight may have become a session after the drain was done.
            let Some(drain) = drain.as_mut().filter(|d| !d.done || *used > 0) else { continue };
            if drain.sessions.overdue(now) {
                drain.deadline_came(*ended);
            }
            // Wherever it stands now, it is not where it stood a tick ago.
            let order = drain.sessions.step(*used, room_here, now);
            self.changed();
            if let Some(due) = order {
                room = room.map(|r| r.saturating_sub(due.order.count));
                self.tell(at, due);
            }
        }
    }

    /// The same for a rebalance, and its end.
    pub(super) fn step_rebalance(&mut self, now: Moment) {
        let Some(mut rebalance) = self.rebalance.take() else { return };
        rebalance.parts.retain(|p| self.position(&p.backend).is_some_and(|at| self.backends[at].phase() == Phase::Ready));
        let left = rebalance.left(&self.backends);
        let overdue = now.since(rebalance.started) >= rebalance.pace.deadline;
        if left == 0 || overdue {
            return self.end_rebalance(left, now.since(rebalance.started));
        }
        let mut room = self.room_with(&rebalance, now);
        // Also of those that are no part of it any more.
        self.backends.iter_mut().for_each(|b| b.ceiling = None);
        for part in &mut rebalance.parts {
            let Some(at) = self.position(&part.backend) else { continue };
            // Clients come back, with an affinity even to where they were; so it takes none above its target, unless
            // somebody waits, or nobody may: no client is refused for the sake of a level fleet.
            let hold_back = self.queued == 0 && self.policy.queue.length > 0;
            self.backends[at].ceiling = hold_back.then_some(part.target);
            if let Some(due) = part.sessions.step(part.left(&self.backends), room, now) {
                room = room.map(|r| r.saturating_sub(due.order.count));
                self.tell(at, due);
            }
        }
        self.rebalance = Some(rebalance);
        self.changed();
    }

    fn end_rebalance(&mut self, left: u32, took: Duration) {
        self.backends.iter_mut().for_each(|b| b.ceiling = None);
        let message = match left {
            0 => format!("the rebalance ends after {took:.1?}: the fleet is level"),
            left => format!(
                "the rebalance ends at its deadline of {took:.1?}: {left} sessions were not moved and stay where they are"
            ),
        };
        self.notice(None, NoticeKind::RebalanceEnded, message);
    }

    fn tell(&mut self, at: usize, due: Due) {
        self.counters.moved(due.first);
        let backend = &mut self.backends[at];
        backend.moved_total += u64::from(due.first);
        let (fleet, backend) = (self.policy.name.clone(), backend.id.clone());
        self.out.push(Effect::EndSessions { fleet, backend, order: due.order });
    }

    /// Free seats that nobody waits for and that no session in transit is about to take; `None`: no limit.
    pub(super) fn room(&self, now: Moment) -> Option<u32> {
        self.room_by(Backend::free, now)
    }

    /// The same for the sessions of a backend whose address another one has: what they leave is free there.
    fn room_once_left(&self, at: usize, now: Moment) -> Option<u32> {
        let going = &self.backends[at];
        let free = |b: &Backend| if b.address == going.address { b.free_without(going.used_here()) } else { b.free() };
        self.room_by(free, now)
    }

    fn room_by(&self, free: impl Fn(&Backend) -> Option<u32>, now: Moment) -> Option<u32> {
        let ready = self.backends.iter().filter(|b| b.phase() == Phase::Ready);
        let free = ready.map(free).try_fold(0u32, |sum, free| Some(sum.saturating_add(free?)))?;
        let drains = self.backends.iter().filter_map(|b| b.drain.as_ref()).map(|d| d.sessions.in_transit(now));
        let parts = self.rebalance.iter().flat_map(|r| &r.parts).map(|p| p.sessions.in_transit(now));
        Some(free.saturating_sub(self.queued).saturating_sub(sum(drains.chain(parts))))
    }

    /// The same while the rebalance is taken out: what is free on the fuller backends is not for its sessions.
    fn room_with(&self, rebalance: &Rebalance, now: Moment) -> Option<u32> {
        let fuller = |b: &Backend| rebalance.parts.iter().any(|p| p.backend == b.id);
        let not_for_us = sum(self.backends.iter().filter(|b| fuller(b)).filter_map(Backend::free));
        let promised = sum(rebalance.parts.iter().map(|p| p.sessions.in_transit(now)));
        self.room(now).map(|room| room.saturating_sub(not_for_us).saturating_sub(promised))
    }
}

/// Backends report what they like: two of four thousand million free seats each are no more than that.
pub(super) fn sum(counts: impl Iterator<Item = u32>) -> u32 {
    counts.fold(0, u32::saturating_add)
}
