//! An event stream in answer to a plain request. From its head on it is a session like any: both sockets leave hyper, it holds a seat, and
//! what an event stream that was asked for does, it does.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use holdline_core::affinity::Preference;
use holdline_core::cause::RefuseCause;
use holdline_core::ids::SessionId;
use holdline_core::policy::KeepalivePolicy;
use holdline_core::wire::head;
use rand::Rng;
use tokio::task::spawn_local;

use super::admission::SeatGuard;
use super::caller::Caller;
use super::exchange::Upstream;
use super::fleets::Fleet;
use super::guard::checked::EventStream;
use super::pool::Lease;
use super::refuse::Refusal;
use super::room::Room;
use super::session::{Session, SessionKind, Target};
use super::socket::Socket;
use super::stream::{self, Start};
use super::thread::{Stay, Thread};
use super::tuned;

/// The backend's side of it, on its way to the client's. Dropped, it parts from the backend as a session does.
pub(super) struct Unasked {
    id: SessionId,
    client: SocketAddr,
    target: Arc<Target>,
    upstream: Upstream,
    stream: EventStream,
    set_cookie: Option<String>,
    keepalive: KeepalivePolicy,
    room: Room,
}

/// The client's side.
pub(super) struct Taker {
    pub(super) stream: Socket,
    pub(super) is_http11: bool,
    pub(super) stay: Stay,
}

impl Unasked {
    /// Takes a seat on the backend of `lease`, whose answer is an event stream, and its socket from hyper.
    ///
    /// # Errors
    /// There is no seat, no room in this process, or too much of its address.
    pub(super) fn new(
        thread: &Thread,
        fleet: &Arc<Fleet>,
        lease: Lease,
        had: &Preference,
        caller: &Caller,
    ) -> Result<Self, Refusal> {
        let room = Room::take(&thread.shared, caller.address)?;
        let seat = lease.backend.seats.reserve(thread.shared.clock.now()).map_err(|_| Refusal::busy(RefuseCause::Capacity))?;
        let seat = SeatGuard::new(seat, fleet);
        let (socket, stream) = lease.connection.watch.take_stream().ok_or(Refusal::UNREACHABLE)?;
        let keepalive = fleet.policy.keepalive;
        tuned::backend(socket.tcp(), &keepalive);
        Ok(Unasked {
            client: caller.address,
            id: SessionId(thread.rng.borrow_mut().random()),
            target: lease.backend.target(),
            upstream: Upstream::new(socket, seat),
            stream,
            set_cookie: fleet.joined().guide.set_cookie(&lease.backend.id, had, caller.is_secure),
            keepalive,
            room,
        })
    }

    /// Relays it from now on.
    pub(super) fn open(self, thread: &Rc<Thread>, client: Taker) {
        let Unasked { id, client: address, target, upstream, stream: EventStream { head, early }, set_cookie, keepalive, room } =
            self;
        // It was parsed when it was found to be a stream's.
        let Ok(Some(response)) = head::parse(&head) else { return };
        let Ok(body) = response.body() else { return };
        let Some((backend, seat)) = upstream.into_parts() else { return };
        let Taker { stream, is_http11, stay } = client;
        tuned::client(stream.tcp(), &keepalive);
        let stay = Some(stay.of_session(room));
        let session = Session { id, kind: SessionKind::Sse, client: address, target, seat, stay };
        let start = Start { response: &response, body, is_http11, set_cookie: set_cookie.as_deref(), early: &early };
        spawn_local(stream::run(stream, backend, start, session, &thread.registry));
    }
}
