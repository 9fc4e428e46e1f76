//! How a tunnel ends: what begins it, step by step to both sockets' ends, each step with its deadline.

use std::task::Context;
use std::time::Duration;

use holdline_core::cause::EndCause;
use holdline_core::drain::Ending;
use holdline_core::policy::DrainMode;
use holdline_core::wire::close;

use super::{Phase, STEP_MAX, Tunnel, code_of};
use crate::gateway::session::side::Stall;
use crate::gateway::session::timer::ticks_past;
use crate::net::socket::Transport;

/// The time that a backend has, behind both Closes, to end its connection before we do.
const GRACE: Duration = Duration::from_secs(1);

impl<C: Transport, B: Transport> Tunnel<C, B> {
    /// Looks at what the bytes brought; whether there may be more to move now.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>) -> bool {
        match self.phase {
            Phase::Open | Phase::HalfOpen | Phase::Closing if self.from_client.violation().is_some() => {
                self.part(EndCause::ProtocolError, Some(close::PROTOCOL_ERROR), Some(close::GOING_AWAY), cx);
                true
            }
            Phase::Open | Phase::HalfOpen | Phase::Closing if self.from_backend.violation().is_some() => {
                self.part(EndCause::ProtocolError, Some(close::BAD_GATEWAY), Some(close::PROTOCOL_ERROR), cx);
                true
            }
            Phase::Open | Phase::HalfOpen if self.from_client.closed() => self.closing(EndCause::ClientClosed),
            Phase::Open | Phase::HalfOpen if self.from_backend.closed() => self.closing(EndCause::BackendClosed),
            Phase::Open if self.client.ended() || self.client.lost() => self.stay_half_open(EndCause::ClientLost),
            Phase::Open if self.backend.ended() || self.backend.lost() => {
                self.tell_of_loss(cx) || self.stay_half_open(EndCause::BackendLost)
            }
            Phase::Open => false,
            Phase::HalfOpen => self.tell_of_loss(cx) || self.pass_ends_on(),
            Phase::Closing => {
                let waits = if self.from_client.closed() { self.backend.waits() } else { self.client.waits() };
                if !waits {
                    self.answer_is_due();
                }
                self.both_closed() || self.pass_ends_on()
            }
            Phase::Asked => self.await_client(cx),
            Phase::Owing if self.client.ended() || self.backend.ended() => {
                self.enter(Phase::Leaving);
                true
            }
            Phase::Owing => false,
            Phase::Leaving => self.await_backend(),
        }
    }

    /// The backend ended without a Close. If no frame is torn by it, the client gets ours, so that it can tell a restart from a broken
    /// network; between the fragments of a message a Close may come as well (RFC 6455 section 5.4). Whether it was sent.
    fn tell_of_loss(&mut self, cx: &mut Context<'_>) -> bool {
        let is_whole = self.from_backend.at_boundary() && !self.from_backend.close_begun();
        // A client that has begun its end gets no notice.
        let is_heard = self.client.hears() && !self.client.ended() && !self.from_client.closed();
        if !(self.backend.ended() && is_whole && is_heard) {
            return false;
        }
        let cause = EndCause::BackendLost;
        self.send_to_client(&close::frame(code_of(cause), cause.as_str(), None), cx);
        self.asked(cause);
        true
    }

    /// One direction is over, but no Close was seen: the other goes on, for as long as its limits and our orders let it.
    fn stay_half_open(&mut self, cause: EndCause) -> bool {
        self.entered.settle(cause);
        self.enter(Phase::HalfOpen);
        let stamps = &self.entered.entry().stamps;
        stamps.ending.set(false);
        // A client that only listens answers no Ping.
        stamps.heard.set(0);
        stamps.pinged.set(0);
        true
    }

    /// A whole Close was passed on. The end that it begins has a deadline, so an order to close has nothing to add.
    fn closing(&mut self, cause: EndCause) -> bool {
        self.entered.settle(cause);
        self.entered.entry().clear_order();
        self.enter(Phase::Closing);
        self.await_answer();
        true
    }

    /// A Close has to leave before its answer can be waited for. Bytes in front of it do not hold up the end for longer than a write may.
    fn await_answer(&self) {
        let entry = self.entered.entry();
        entry.stamps.deadline.set(self.now().saturating_add(entry.limits().write()));
    }

    /// The Close has left. Said again and again: the first time counts.
    fn answer_is_due(&self) {
        let deadline = &self.entered.entry().stamps.deadline;
        deadline.set(deadline.get().min(self.step_end()));
    }

    /// A side's FIN follows its bytes.
    fn pass_ends_on(&mut self) -> bool {
        let mut changed = false;
        if self.client.ended() || self.client.lost() {
            changed |= self.backend.finish();
        }
        // What a backend sent before a write to it failed can still be read.
        if self.backend.ended() {
            changed |= self.client.finish();
        }
        changed
    }

    /// After both Closes the client gets our end, whether the backend ends its connection or not (some never do).
    fn both_closed(&mut self) -> bool {
        let both = self.from_client.closed() && self.from_backend.closed();
        if both {
            self.client.finish();
            self.enter(Phase::Leaving);
        }
        both
    }

    /// After both Closes a server ends the connection first (RFC 6455 7.1.1), and some take it for a failure if their client does. So it has
    /// a moment, except where Holdline stops.
    fn await_backend(&mut self) -> bool {
        if self.backend.ended() || self.entered.cause() == Some(EndCause::Shutdown) && self.from_backend.closed() {
            return self.backend.finish();
        }
        if self.from_backend.closed() && !self.backend.finishes() {
            let deadline = &self.entered.entry().stamps.deadline;
            deadline.set(deadline.get().min(self.now().saturating_add(ticks_past(GRACE))));
        }
        false
    }

    /// Our Close is on its way to the client.
    pub(super) fn asked(&mut self, cause: EndCause) {
        self.entered.settle(cause);
        self.entered.entry().clear_order();
        self.enter(Phase::Asked);
        self.await_answer();
    }

    /// The client has time for its own Close from when ours has left, whatever the backend does; then the backend is next.
    fn await_client(&mut self, cx: &mut Context<'_>) -> bool {
        let answered = self.from_client.closed() || (self.from_client.close_begun() && !self.close_passed);
        if answered || self.from_client.violation().is_some() || self.client.ended() || self.client.lost() {
            self.leave(cx);
            return true;
        }
        if !self.client.waits() {
            self.answer_is_due();
        }
        false
    }

    /// The client has answered, or will not: ours goes to the backend, at the end of the client's present frame.
    fn leave(&mut self, cx: &mut Context<'_>) {
        self.client.finish();
        if self.close_passed {
            // The backend has the client's own Close, or the half of it that there was: nothing may follow.
            if !self.from_client.closed() {
                self.backend.finish();
            }
            self.enter(Phase::Leaving);
        // A Close of the client was held back from its first byte on, so what went on ended with a frame.
        } else if self.from_client.close_begun() || self.from_client.at_boundary() {
            let frame = self.close_to_backend(close::GOING_AWAY);
            self.send_to_backend(&frame, cx);
            self.enter(Phase::Leaving);
        } else if self.client.ended() || self.from_client.violation().is_some() {
            self.backend.finish();
            self.enter(Phase::Leaving);
        } else {
            self.enter(Phase::Owing);
        }
    }

    /// Ends both sides now. A code is sent to a side as a Close if its direction is at a boundary; `None`: that side's connection is just ended.
    pub(super) fn part(&mut self, cause: EndCause, to_client: Option<u16>, to_backend: Option<u16>, cx: &mut Context<'_>) {
        self.entered.settle(cause);
        let polite = matches!(self.phase, Phase::Open | Phase::HalfOpen | Phase::Closing);
        match to_client {
            None => {
                self.client.close();
                // A closed side stalls no longer, and the timer must not end the session again.
                self.entered.entry().stamps.client_stalled.set(0);
            }
            Some(code) => {
                if polite && self.from_backend.at_boundary() && !self.from_backend.close_begun() {
                    self.send_to_client(&close::frame(code, "", None), cx);
                }
                self.client.finish();
            }
        }
        let tidy = self.from_client.at_boundary() && !self.from_client.close_begun();
        let owed = polite || self.phase == Phase::Asked;
        match to_backend.filter(|_| owed && tidy) {
            Some(code) => {
                let frame = self.close_to_backend(code);
                self.send_to_backend(&frame, cx);
            }
            None => {
                let now = self.now();
                self.backend.abandon(Stall { since: &self.entered.entry().stamps.backend_stalled, now });
            }
        }
        if self.phase != Phase::Leaving {
            self.enter(Phase::Leaving);
        }
    }

    /// The timer says that a limit has passed.
    pub(super) fn end_for(&mut self, cause: EndCause, cx: &mut Context<'_>) {
        let stamps = &self.entered.entry().stamps;
        match cause {
            EndCause::WriteTimeout => {
                let (client, backend) = (stamps.client_stalled.get(), stamps.backend_stalled.get());
                if client != 0 && (backend == 0 || client <= backend) {
                    self.part(cause, None, Some(close::GOING_AWAY), cx);
                } else {
                    self.part(cause, Some(close::GOING_AWAY), None, cx);
                }
            }
            // While the backend takes nothing the client is not read: its Pong may be there.
            EndCause::KeepaliveTimeout if self.backend.waits() => stamps.pinged.set(self.now()),
            EndCause::KeepaliveTimeout => self.part(cause, None, Some(close::GOING_AWAY), cx),
            _ if matches!(self.phase, Phase::Open | Phase::HalfOpen) => {
                // Unlike an order, nobody else keeps a deadline for this one.
                self.entered.entry().set_order(Ending { mode: DrainMode::Close, cause });
                stamps.ending.set(true);
                stamps.deadline.set(self.step_end());
            }
            _ => {}
        }
    }

    /// The present step took too long.
    pub(super) fn deadline_passed(&mut self, cx: &mut Context<'_>) {
        let stamps = &self.entered.entry().stamps;
        let quiet_at = stamps.moved.get().saturating_add(ticks_past(STEP_MAX));
        match self.phase {
            // While bytes pass, a slow peer is only slow.
            Phase::HalfOpen if self.now() < quiet_at && self.entered.entry().order().is_none() => stamps.deadline.set(quiet_at),
            Phase::HalfOpen | Phase::Closing if self.backend.finished() => {
                self.client.close();
                self.backend.reset();
            }
            // A Close was not answered: who sent it gets ours instead, where no frame is torn by it. A client that did not answer is left.
            Phase::Closing => {
                let to_client = self.from_client.closed().then_some(close::GOING_AWAY);
                self.part(EndCause::Cut, to_client, Some(close::GOING_AWAY), cx);
            }
            // Else no boundary came for the Close that a limit or an order asked for, or nothing came at all.
            Phase::Open | Phase::HalfOpen => {
                let cause = self.entered.entry().order().map_or(EndCause::Cut, |order| order.cause);
                self.part(cause, None, None, cx);
            }
            Phase::Asked => self.leave(cx),
            Phase::Owing => {
                self.backend.finish();
                self.enter(Phase::Leaving);
            }
            Phase::Leaving if self.from_backend.closed() && self.backend.finish() => stamps.deadline.set(self.step_end()),
            Phase::Leaving => {
                self.client.close();
                self.backend.reset();
            }
        }
    }
}
