//! Clients and their sessions: they arrive, wait, are dialled for, leave, lose their backend or are told to go.

use std::time::Duration;

use holdline_core::cause::EndCause;
use holdline_core::event::Event;
use holdline_core::ids::BackendId;
use holdline_core::policy::DrainMode;
use holdline_core::time::Moment;
use rand::Rng;

use crate::gateway::{Client, Fate, Session, Stage};
use crate::mutation::Mutation;
use crate::shadow::{Checked, Rule, ensure};
use crate::world::{STEP, World};

/// A client that answers no Close: only a cut gets rid of it.
const DEAF: Duration = Duration::from_secs(3_600);

impl World {
    pub(crate) fn clients(&mut self) -> Checked {
        let mut count = (self.arrivals_per_s * STEP.as_secs_f64()) as u64;
        let rest = self.arrivals_per_s * STEP.as_secs_f64() - count as f64;
        count += u64::from(self.rng.random_bool(rest.clamp(0.0, 1.0)));
        if self.scenario.waves && self.rng.random_bool(0.005) {
            let max = self.scenario.arrivals_max;
            self.arrivals_per_s = if self.rng.random_bool(0.2) { 0.0 } else { self.rng.random_range(0.0..max) };
        }
        if self.scenario.waves && self.rng.random_bool(0.003) {
            count += self.rng.random_range(1..30);
        }
        for _ in 0..count {
            self.last_client += 1;
            let stays = self.scenario.stay_max.mul_f64(self.rng.random_range(0.05..1.0));
            let client = Client { id: self.last_client, stays, tried: Vec::new(), since: self.now };
            self.arrive(client)?;
        }
        let (back, later) = std::mem::take(&mut self.returning).into_iter().partition(|(at, _)| *at <= self.now);
        self.returning = later;
        let back: Vec<(Moment, Client)> = back;
        for (_, client) in back {
            self.arrive(Client { since: self.now, ..client })?;
        }
        if self.rng.random_bool(0.05) && self.absent_until.is_none() {
            self.request();
        }
        self.give_up_waiting();
        Ok(())
    }

    /// A plain request somewhere.
    pub(crate) fn request(&mut self) {
        let until = self.now + Duration::from_millis(self.rng.random_range(10..3_000));
        let ready: Vec<usize> =
            (0..self.gateway.backends.len()).filter(|&at| self.gateway.backends[at].seats.limit() > 0).collect();
        if ready.is_empty() {
            self.gateway.no_backend += 1;
        } else {
            let at = ready[self.rng.random_range(0..ready.len())];
            self.gateway.backends[at].requests.push(until);
        }
    }

    pub(crate) fn give_up_waiting(&mut self) {
        let gives_up = self.scenario.rough && self.rng.random_bool(0.05);
        if let Some((_, ticket)) = gives_up.then(|| self.gateway.waiting.pop_first()).flatten() {
            self.gateway.queue.leave(ticket);
        }
    }

    pub(crate) fn arrive(&mut self, client: Client) -> Checked {
        if self.absent_until.is_some() {
            return Ok(());
        }
        let fate = self.gateway.handshake(client, self.now, &mut self.rng);
        self.tally.queued += u64::from(matches!(fate, Fate::Waits));
        self.meet(fate)
    }

    pub(crate) fn queue(&mut self) -> Checked {
        for fate in self.gateway.serve(self.now, &mut self.rng) {
            self.meet(fate)?;
        }
        Ok(())
    }

    pub(crate) fn meet(&mut self, fate: Fate) -> Checked {
        match fate {
            Fate::Placed(client, at, seat) => {
                self.gateway.admitted += 1;
                let (id, seats) = (self.gateway.backends[at].id.clone(), self.gateway.backends[at].seats.used());
                let held = self.servers.get(&id).map_or(0, |s| s.sessions.len());
                self.shadow.raised(&id, seats, held)?;
                ensure(!client.tried.contains(&id), Rule::Retry, || format!("client {} was sent back to `{id}`", client.id))?;
                let until = self.now + Duration::from_millis(self.rng.random_range(0..300));
                let session = Session {
                    backend: id,
                    seat: Some(seat),
                    stage: Stage::Dialling { until },
                    leaves_at: until + client.stays,
                    tried: client.tried,
                    cause: None,
                };
                self.gateway.sessions.insert(client.id, session);
                Ok(())
            }
            Fate::Waits => Ok(()),
            Fate::Refused(client, cause) => {
                self.gateway.refused += 1;
                self.tally.refused += 1;
                self.shadow.refused(&client, cause, &self.gateway, self.now)
            }
        }
    }

    /// Dials end, clients leave, ends are seen.
    pub(crate) fn sessions(&mut self) -> Checked {
        let now = self.now;
        for at in 0..self.gateway.backends.len() {
            let requests = &mut self.gateway.backends[at].requests;
            let in_flight = requests.len();
            requests.retain(|until| *until > now);
            for _ in requests.len()..in_flight {
                if self.scenario.rough && self.rng.random_bool(0.3) {
                    self.executed(at);
                }
            }
        }
        let ids: Vec<u64> = self.gateway.sessions.keys().copied().collect();
        for id in ids {
            let Some(session) = self.gateway.sessions.get(&id) else { continue };
            match session.stage {
                Stage::Dialling { until } if until <= now => self.dialled(id)?,
                Stage::Open if session.leaves_at <= now => {
                    let takes = Duration::from_millis(self.rng.random_range(0..400));
                    self.end(id, EndCause::ClientClosed, takes)?;
                }
                Stage::Closing { until } if until <= now => self.free(id)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// A plain request was answered by an event stream: the backend holds a session that nobody placed.
    fn executed(&mut self, at: usize) {
        let backend = &self.gateway.backends[at];
        let id = backend.id.clone();
        let Some(server) = self.servers.get_mut(&id).filter(|s| s.listens(self.now)) else { return };
        let seat = (self.mutation != Mutation::ExecutedUncounted).then(|| backend.seats.take_beyond_limit().0);
        self.last_client += 1;
        server.sessions.insert(self.last_client);
        self.shadow.executed(&id);
        self.gateway.admitted += 1;
        self.tally.executed += 1;
        let leaves_at = self.now + self.scenario.stay_max.mul_f64(self.rng.random_range(0.05..1.0));
        let session = Session { backend: id, seat, stage: Stage::Open, leaves_at, tried: Vec::new(), cause: None };
        self.gateway.sessions.insert(self.last_client, session);
    }

    pub(crate) fn dialled(&mut self, id: u64) -> Checked {
        let Some(session) = self.gateway.sessions.get_mut(&id) else { return Ok(()) };
        let backend = session.backend.clone();
        let server = self.servers.get_mut(&backend).filter(|s| s.listens(self.now));
        let connected = server.is_some();
        if let Some(server) = server {
            server.sessions.insert(id);
            session.stage = Stage::Open;
            self.tally.sessions += 1;
            let (used, held) = (self.gateway.used(&backend), server.sessions.len());
            ensure(held as u32 <= used, Rule::OneSeat, || format!("`{backend}` holds {held} with {used} seats taken"))?;
        } else {
            self.redial(id)?;
        }
        self.apply(Event::Dial { fleet: self.scenario.policy.name.clone(), backend, connected })
    }

    /// The dial failed: another backend, up to three, at once or after a wait.
    pub(crate) fn redial(&mut self, id: u64) -> Checked {
        let Some(mut session) = self.gateway.sessions.remove(&id) else { return Ok(()) };
        if self.mutation == Mutation::SeatLeaked {
            std::mem::forget(session.seat.take());
        }
        self.gateway.ended += 1;
        session.tried.push(session.backend.clone());
        drop(session.seat.take());
        if session.tried.len() >= 3 {
            self.tally.refused += 1;
            return Ok(());
        }
        let stays = session.leaves_at.since(self.now);
        self.arrive(Client { id, stays, tried: session.tried, since: self.now })
    }

    /// The one place where a session is given its cause.
    pub(crate) fn end(&mut self, id: u64, cause: EndCause, takes: Duration) -> Checked {
        let Some(session) = self.gateway.sessions.get_mut(&id) else { return Ok(()) };
        let before = session.cause.replace(cause);
        ensure(before.is_none(), Rule::OneCause, || format!("session {id} ended as {before:?} and as {cause}"))?;
        session.stage = Stage::Closing { until: self.now + takes };
        if self.mutation == Mutation::SeatFreedEarly {
            session.seat = None;
        }
        Ok(())
    }

    /// The backend's end was seen: its count falls, then ours.
    pub(crate) fn free(&mut self, id: u64) -> Checked {
        let Some(session) = self.gateway.sessions.remove(&id) else { return Ok(()) };
        if let Some(server) = self.servers.get_mut(&session.backend) {
            server.sessions.remove(&id);
        }
        self.gateway.ended += 1;
        if let Some(joined) = self.gateway.backends.iter_mut().find(|b| b.id == session.backend) {
            joined.moved += u64::from(matches!(session.cause, Some(EndCause::Drained | EndCause::Rebalanced)));
            joined.cut += u64::from(session.cause == Some(EndCause::Cut));
            joined.lost += u64::from(session.cause == Some(EndCause::BackendLost));
        }
        ensure(session.cause.is_some(), Rule::OneCause, || format!("session {id} ended without a cause"))
    }

    pub(crate) fn end_sessions(&mut self, backend: &BackendId, count: u32, mode: DrainMode, cause: EndCause) -> Checked {
        let theirs = self.gateway.sessions.iter().filter(|(_, s)| s.backend == *backend);
        let may_end = |s: &Session| match s.stage {
            Stage::Dialling { .. } => false,
            Stage::Open => true,
            Stage::Closing { .. } => mode == DrainMode::Cut || self.mutation == Mutation::EndedTwice,
        };
        let ids: Vec<u64> = theirs.filter(|(_, s)| may_end(s)).map(|(id, _)| *id).take(count as usize).collect();
        if cause == EndCause::Rebalanced {
            let stays = |id: &&u64| self.gateway.sessions.get(*id).is_some_and(|s| s.cause.is_none());
            self.shadow.told(backend, ids.iter().filter(stays).count())?;
        }
        if mode == DrainMode::Cut {
            if self.mutation == Mutation::CutForgotten {
                return Ok(());
            }
            for id in ids {
                let ending = self.gateway.sessions.get(&id).is_some_and(|s| s.cause.is_some());
                if !ending {
                    self.tally.cut += 1;
                    self.end(id, cause, Duration::ZERO)?;
                }
                self.free(id)?;
            }
            return Ok(());
        }
        for id in ids {
            let takes = self.takes_leave();
            self.end(id, cause, takes)?;
            match cause {
                EndCause::Rebalanced => self.tally.rebalanced += 1,
                _ => self.tally.drained += 1,
            }
            if !self.shadow.shut_down {
                let back = self.now + Duration::from_millis(self.rng.random_range(0..800));
                self.last_client += 1;
                let stays = self.scenario.stay_max.mul_f64(self.rng.random_range(0.05..1.0));
                self.returning.push((back, Client { id: self.last_client, stays, tried: Vec::new(), since: back }));
            }
        }
        Ok(())
    }

    /// For how long a session that was told to go keeps its seat: a client answers a Close within seconds, and a hanging poll waits for
    /// something to tell.
    fn takes_leave(&mut self) -> Duration {
        if !self.scenario.rough {
            return Duration::from_millis(self.rng.random_range(0..1_500));
        }
        match self.rng.random_range(0..100) {
            0..3 => DEAF,
            3..20 => Duration::from_millis(self.rng.random_range(1_500..6_000)),
            20..25 => Duration::from_millis(self.rng.random_range(6_000..30_000)),
            _ => Duration::from_millis(self.rng.random_range(0..1_500)),
        }
    }

    /// A process is gone, and its sockets with it.
    pub(crate) fn lose_sessions(&mut self, backend: &BackendId) -> Checked {
        let theirs = self.gateway.sessions.iter().filter(|(_, s)| s.backend == *backend);
        let ids: Vec<(u64, bool, bool)> =
            theirs.map(|(id, s)| (*id, matches!(s.stage, Stage::Dialling { .. }), s.cause.is_some())).collect();
        for (id, dialling, ending) in ids {
            match (dialling, ending) {
                (true, _) => continue,
                (false, false) => self.end(id, EndCause::BackendLost, Duration::ZERO)?,
                (false, true) => {}
            }
            self.free(id)?;
        }
        Ok(())
    }
}
