//! A WebSocket session: both directions in one small future that owns no buffer while nothing is held up.
//!
//! Bytes pass through the thread's scratch buffer; a tracker a direction knows where frames begin and end, so that a Close of ours
//! never tears one. The tunnel sleeps until a socket, the thread's timer or an order wakes it.

mod ending;

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use holdline_core::cause::EndCause;
use holdline_core::drain::Ending;
use holdline_core::policy::DrainMode;
use holdline_core::wire::close;
use holdline_core::wire::ws::{PING, Tracker};

use super::pump::{Mode, pump};
use super::registry::{Entered, Registry};
use super::side::{Side, Stall};
use super::target::Session;
use super::timer::{Due, Tick, ticks_past};
use crate::net::socket::Socket;
use crate::net::socket::Transport;

/// What each step of an end may take: the peer's Close after ours, the peer's end after ours.
pub const STEP_MAX: Duration = Duration::from_secs(5);

/// Bytes that were read ahead of the tunnel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Early<'a> {
    /// From the client, behind its handshake.
    pub to_backend: &'a [u8],
    /// From the backend, behind its 101.
    pub to_client: &'a [u8],
}

/// The tunnel of `session` between two sockets that are set up, to be spawned on its thread as a task of its own (`spawn_local`): it is
/// small, its maker may not be.
pub(crate) fn run(
    client: Socket,
    backend: Socket,
    early: Early<'_>,
    session: Session,
    registry: &Rc<Registry>,
) -> Tunnel<Socket, Socket> {
    Tunnel::new(client, backend, early, registry.enter(session))
}

/// Both directions of a WebSocket session, until both sockets are through.
pub struct Tunnel<C: Transport, B: Transport> {
    client: Side<C>,
    backend: Side<B>,
    from_client: Tracker,
    from_backend: Tracker,
    phase: Phase,
    /// The first byte of the client's Close went to the backend, which then gets no Close of ours.
    close_passed: bool,
    /// A Ping of the backend is without a Pong.
    ping_outstanding: bool,
    /// Last, so that the sockets are closed before the seat is given back.
    entered: Entered,
}

/// How far its end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Both directions are open. A part of a Close ends nothing: whoever sends one byte of it would be free of all limits.
    Open,
    /// One direction ended without a Close: what comes in the other is still passed on.
    HalfOpen,
    /// A whole Close of one side was passed on and the other's is awaited: what comes is still passed on, until the deadline.
    Closing,
    /// Our Close went to the client and its own is awaited: its bytes still pass, the backend's do not.
    Asked,
    /// The client is done, our Close goes to the backend with the end of the client's present frame.
    Owing,
    /// Nothing passes any more; the peers' ends are awaited.
    Leaving,
}

impl<C: Transport, B: Transport> Tunnel<C, B> {
    fn new(client: C, backend: B, early: Early<'_>, entered: Entered) -> Self {
        let (mut from_client, mut from_backend) = (Tracker::new(true), Tracker::new(false));
        let to_backend = &early.to_backend[..from_client.feed(early.to_backend).taken];
        let to_client = &early.to_client[..from_backend.feed(early.to_client).taken];
        entered.entry().count_in(to_backend.len());
        entered.entry().count_out(to_client.len());
        let (close_passed, ping_outstanding) = (from_client.close_begun(), from_backend.take_ping());
        Tunnel {
            client: Side::new(client, to_client),
            backend: Side::new(backend, to_backend),
            from_client,
            from_backend,
            phase: Phase::Open,
            close_passed,
            ping_outstanding,
            entered,
        }
    }

    /// Does what the timer woke the session for.
    fn heed(&mut self, due: Due, cx: &mut Context<'_>) {
        match due {
            Due::Deadline => self.deadline_passed(cx),
            Due::Ping => self.ping(cx),
            Due::End(cause) => self.end_for(cause, cx),
            Due::SetUp => self.entered.set_up(&self.backend),
        }
    }

    /// An order to cut waits for nothing.
    fn obey_cut(&mut self, cx: &mut Context<'_>) {
        if let Some(Ending { mode: DrainMode::Cut, cause }) = self.entered.entry().order() {
            self.entered.entry().clear_order();
            self.part(cause, None, None, cx);
        }
    }

    /// Moves bytes and goes on with the end, until there is nothing to do now.
    fn work(&mut self, cx: &mut Context<'_>) {
        loop {
            self.move_bytes(cx);
            if !self.advance(cx) {
                return;
            }
        }
    }

    /// Moves what can be moved, with what the phase says of each direction.
    fn move_bytes(&mut self, cx: &mut Context<'_>) {
        let now = self.now();
        let farewell = self.farewell();
        let entry = self.entered.entry();
        let stamps = &entry.stamps;
        let to_client = Stall { since: &stamps.client_stalled, now };
        let to_backend = Stall { since: &stamps.backend_stalled, now };
        self.client.flush(cx, to_client);
        self.backend.flush(cx, to_backend);

        let mode = match (self.phase, &farewell) {
            (Phase::Open | Phase::HalfOpen | Phase::Closing, _) => Mode::Forward,
            (Phase::Asked, _) if self.close_passed => Mode::Forward,
            (Phase::Asked, _) => Mode::ForwardBeforeClose,
            (Phase::Owing, Some(frame)) => Mode::Last(frame),
            (Phase::Owing | Phase::Leaving, _) => Mode::Discard,
        };
        let done = pump(cx, &mut self.client, &mut self.from_client, &mut self.backend, mode, to_backend);
        if done.read > 0 {
            stamps.heard.set(now);
            stamps.pinged.set(0);
        }
        if done.passed > 0 {
            stamps.moved.set(now);
            entry.count_in(done.passed);
        }
        self.close_passed |= matches!(mode, Mode::Forward) && self.from_client.close_begun();
        let parted = done.last_sent;

        let mode = match (self.phase, &farewell) {
            // Not if the client's own Close was just passed on: the backend answers that one.
            (Phase::Open | Phase::HalfOpen, Some(frame)) if !self.from_client.closed() => Mode::Last(frame),
            (Phase::Open | Phase::HalfOpen | Phase::Closing, _) => Mode::Forward,
            (Phase::Asked | Phase::Owing | Phase::Leaving, _) => Mode::Discard,
        };
        let done = pump(cx, &mut self.backend, &mut self.from_backend, &mut self.client, mode, to_client);
        if done.passed > 0 {
            stamps.moved.set(now);
            entry.count_out(done.passed);
        }
        if self.from_client.take_pong() {
            self.ping_outstanding = false;
        }
        if self.from_backend.take_ping() {
            self.ping_outstanding = true;
        }
        if parted {
            self.enter(Phase::Leaving);
        } else if done.last_sent {
            self.asked(self.entered.entry().order().map_or(EndCause::Cut, |order| order.cause));
        }
    }

    /// The Close of ours that is to be sent at the next boundary, if there is one.
    fn farewell(&self) -> Option<Vec<u8>> {
        match self.phase {
            Phase::Open | Phase::HalfOpen => {
                self.entered.entry().order().map(|order| close::frame(code_of(order.cause), order.cause.as_str(), None))
            }
            Phase::Owing => Some(self.close_to_backend(close::GOING_AWAY)),
            Phase::Closing | Phase::Asked | Phase::Leaving => None,
        }
    }

    /// Asks a silent client for a sign of life. One that owes the backend a Pong is not asked again, since it may answer the newest Ping
    /// alone, but its time runs from now on.
    fn ping(&mut self, cx: &mut Context<'_>) {
        let may_ask = self.phase == Phase::Open && self.from_backend.at_boundary() && !self.client.waits();
        let stamps = &self.entered.entry().stamps;
        if !self.ping_outstanding && !may_ask {
            // Its frame must not be torn: asked after another silence.
            return stamps.heard.set(self.now());
        }
        stamps.pinged.set(self.now());
        if !self.ping_outstanding {
            self.send_to_client(&PING, cx);
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        let stamps = &self.entered.entry().stamps;
        stamps.ending.set(true);
        stamps.deadline.set(self.step_end());
    }

    fn send_to_client(&mut self, bytes: &[u8], cx: &mut Context<'_>) {
        let now = self.now();
        self.client.send(cx, bytes, Stall { since: &self.entered.entry().stamps.client_stalled, now });
    }

    fn send_to_backend(&mut self, bytes: &[u8], cx: &mut Context<'_>) {
        let now = self.now();
        self.backend.send(cx, bytes, Stall { since: &self.entered.entry().stamps.backend_stalled, now });
    }

    fn close_to_backend(&self, code: u16) -> Vec<u8> {
        close::frame(code, "", Some(self.entered.registry().mask()))
    }

    fn now(&self) -> Tick {
        self.entered.registry().now()
    }

    /// When a step that begins now must be done.
    fn step_end(&self) -> Tick {
        self.now().saturating_add(ticks_past(STEP_MAX))
    }
}

/// The code that tells a client why it is asked to go.
fn code_of(cause: EndCause) -> u16 {
    match cause {
        EndCause::Drained | EndCause::Rebalanced | EndCause::BackendLost => close::SERVICE_RESTART,
        _ => close::GOING_AWAY,
    }
}

impl<C: Transport, B: Transport> Future for Tunnel<C, B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let tunnel = self.get_mut();
        tunnel.entered.entry().listen(cx.waker());
        tunnel.obey_cut(cx);
        tunnel.work(cx);
        if let Some(due) = tunnel.entered.take_due() {
            tunnel.heed(due, cx);
            tunnel.work(cx);
        }
        // A client that sent its Close and has ours has no more to say; the one that closes first is the server (RFC 6455 7.1.1).
        if tunnel.from_client.closed() && tunnel.client.finished() {
            tunnel.client.close();
        }
        if tunnel.backend.over() {
            tunnel.entered.release();
        }
        if tunnel.backend.over() && tunnel.client.over() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<C: Transport, B: Transport> Drop for Tunnel<C, B> {
    /// Dropped before its end (a panic, the thread's end), the backend must not go on counting a session whose seat is free again.
    fn drop(&mut self) {
        if self.entered.holds_seat() {
            self.backend.reset();
        }
    }
}

#[cfg(test)]
mod tests;
