//! A plain request that is known to be answered by an event stream before it is sent: its route says so, or its client accepts nothing
//! else. Its seat comes before the dial, through the queue if need be, as that of any session.

use std::future::pending;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use holdline_core::affinity::Preference;
use holdline_core::cause::RefuseCause;
use holdline_core::ids::{BackendId, SessionId};
use rand::Rng;

use super::outgoing::{Answered, AtBackend, Failure, Outgoing};
use crate::gateway::admission::admit::{NotAdmitted, admit};
use crate::gateway::admission::fleet::Fleet;
use crate::gateway::admission::handshake::Handshake;
use crate::gateway::admission::waiter::Admitted;
use crate::gateway::context::thread::Thread;
use crate::gateway::limits::permit::SessionPermit;
use crate::gateway::refuse::Refusal;
use crate::gateway::upstream::dial::DIALS_MAX;
use crate::net::is_ours;
use crate::telemetry::names::handshake as handshake_result;

/// What such a request has besides its seat, which is with its connection.
pub(crate) struct Seated {
    pub(crate) id: SessionId,
    pub(crate) session_permit: SessionPermit,
    handshake: Handshake,
}

impl Seated {
    /// It is a session.
    pub(crate) fn opened(self) -> (SessionId, SessionPermit) {
        self.handshake.settle(handshake_result::OPENED);
        (self.id, self.session_permit)
    }

    /// The backend answered something else, and holds nothing.
    pub(crate) fn answered(self) {
        self.handshake.settle(handshake_result::ANSWERED);
    }
}

/// Sends the request to a backend that has a seat for it.
pub(crate) async fn send(
    thread: &Rc<Thread>,
    fleet: &Arc<Fleet>,
    mut outgoing: Outgoing,
    had: &Preference,
    client: SocketAddr,
) -> Result<Answered, Failure> {
    let handshake = Handshake::begin(&fleet.metrics);
    match seated(thread, fleet, &mut outgoing, had, client).await {
        Ok((mut answered, id, session_permit)) => {
            answered.seated = Some(Box::new(Seated { id, session_permit, handshake }));
            Ok(answered)
        }
        Err(failure) => {
            handshake.settle(handshake_result::REFUSED);
            Err(failure)
        }
    }
}

async fn seated(
    thread: &Rc<Thread>,
    fleet: &Arc<Fleet>,
    outgoing: &mut Outgoing,
    had: &Preference,
    client: SocketAddr,
) -> Result<(Answered, SessionId, SessionPermit), Failure> {
    let session_permit = thread.shared.session_permit(client)?;
    let id = SessionId(thread.rng.borrow_mut().random());
    outgoing.name_session(id);
    let mut failed: Vec<BackendId> = Vec::new();
    loop {
        let Admitted { backend, seat } = tokio::select! {
            biased;
            // hyper watches the client, and drops this when it leaves.
            admitted = admit(fleet, &had.wish, &failed, pending(), thread.shared.clock, &thread.rng) => match admitted {
                Ok(admitted) => admitted,
                // It was the dial that failed; that no other seat is free comes second.
                Err(_) if !failed.is_empty() => return Err(Refusal::UNREACHABLE.into()),
                Err(NotAdmitted::Refused(cause)) => return Err(Refusal::busy(cause).into()),
                Err(NotAdmitted::Gone) => return Err(Refusal::busy(RefuseCause::Draining).into()),
            },
            () = thread.stopping() => return Err(Refusal::busy(RefuseCause::Draining).into()),
        };
        outgoing.seat = Some(seat);
        match outgoing.at(thread, fleet, &backend).await {
            Ok(answered) => return Ok((answered, id, session_permit)),
            Err(AtBackend::NotConnected(error)) if is_ours(&error) || failed.len() + 1 >= DIALS_MAX => {
                return Err(Refusal::not_connected(&error).into());
            }
            Err(AtBackend::NotConnected(_)) => {
                outgoing.seat = None;
                failed.push(backend.id.clone());
            }
            Err(AtBackend::Failed(failure)) => return Err(failure),
        }
    }
}
