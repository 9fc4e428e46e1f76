//! An event stream in answer to a plain request, expected or not. From its head on it is a session like any: both sockets leave hyper, it holds a seat, and
//! what an event stream that was asked for does, it does.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use holdline_core::affinity::Preference;
use holdline_core::ids::SessionId;
use holdline_core::policy::KeepalivePolicy;
use holdline_core::wire::head;
use rand::Rng;
use tokio::task::spawn_local;

use super::caller::Caller;
use super::seated::Seated;
use crate::gateway::admission::fleet::Fleet;
use crate::gateway::context::thread::Thread;
use crate::gateway::limits::permit::{ConnectionPermit, SessionPermit};
use crate::gateway::refuse::Refusal;
use crate::gateway::session::kind::SessionKind;
use crate::gateway::session::seat::SeatGuard;
use crate::gateway::session::stream::{self, Start};
use crate::gateway::session::target::{Session, SessionTarget};
use crate::gateway::upstream::checked::EventStream;
use crate::gateway::upstream::exchange::Upstream;
use crate::gateway::upstream::pool::PooledConnection;
use crate::net::options;
use crate::net::socket::Socket;

/// The backend's side of it, on its way to the client's. Dropped, it parts from the backend as a session does.
pub(crate) struct Unasked {
    id: SessionId,
    client: SocketAddr,
    target: Arc<SessionTarget>,
    upstream: Upstream,
    stream: EventStream,
    set_cookie: Option<String>,
    keepalive: KeepalivePolicy,
    session_permit: SessionPermit,
}

/// The client's side.
pub(crate) struct Taker {
    pub(crate) stream: Socket,
    pub(crate) is_http11: bool,
    pub(crate) permit: ConnectionPermit,
}

impl Unasked {
    /// Takes the socket of `pooled`, whose answer is an event stream, from hyper. One that was not `seated` before takes a seat now, if need
    /// be beyond the backend's limit: the backend holds it already.
    ///
    /// # Errors
    /// There is no memory or descriptor, or too much of its address.
    pub(crate) fn new(
        thread: &Thread,
        fleet: &Arc<Fleet>,
        pooled: PooledConnection,
        had: &Preference,
        caller: &Caller,
        seated: Option<Box<Seated>>,
    ) -> Result<Self, Refusal> {
        let watch = &pooled.connection.watch;
        let (id, session_permit, seat) = match seated.zip(watch.take_seat()) {
            Some((seated, seat)) => {
                let (id, session_permit) = seated.opened();
                (id, session_permit, seat)
            }
            None => {
                let session_permit = thread.shared.session_permit(caller.address)?;
                let seats = &pooled.backend.seats;
                let free = seats.reserve(thread.shared.clock.now()).map(|seat| (seat, false));
                let (seat, is_beyond) = free.unwrap_or_else(|_| seats.take_beyond_limit());
                fleet.metrics.unasked_stream(is_beyond);
                (SessionId(thread.rng.borrow_mut().random()), session_permit, SeatGuard::new(seat, &fleet.turnover))
            }
        };
        let (socket, stream) = watch.take_stream().ok_or(Refusal::UNREACHABLE)?;
        let keepalive = fleet.policy.keepalive;
        Ok(Unasked {
            client: caller.address,
            id,
            target: pooled.backend.target(),
            upstream: Upstream::new(socket, seat),
            stream,
            set_cookie: fleet.joined().affinity.set_cookie(&pooled.backend.id, had, caller.is_secure),
            keepalive,
            session_permit,
        })
    }

    /// Relays it from now on.
    pub(crate) fn open(self, thread: &Rc<Thread>, client: Taker) {
        let Unasked {
            id,
            client: address,
            target,
            upstream,
            stream: EventStream { head, early },
            set_cookie,
            keepalive,
            session_permit,
        } = self;
        // It was parsed when it was found to be a stream's.
        let Ok(Some(response)) = head::parse(&head) else { return };
        let Ok(body) = response.body() else { return };
        let Some((backend, seat)) = upstream.into_parts() else { return };
        let Taker { stream, is_http11, permit } = client;
        options::client(stream.tcp(), &keepalive);
        let permit = Some(permit.of_session(session_permit));
        let session = Session { id, kind: SessionKind::Sse, client: address, target, seat, permit };
        let start = Start { response: &response, body, is_http11, set_cookie: set_cookie.as_deref(), early: &early };
        spawn_local(stream::run(stream, backend, start, session, &thread.registry));
    }
}
