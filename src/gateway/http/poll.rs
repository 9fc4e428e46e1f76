//! How a poll goes: as any request, by `outgoing`, to the backend of its client's session. The first poll of a client takes a seat, others
//! that come meanwhile wait for that. What is kept of the session between two polls is in `admission::poll`.

use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use holdline_core::affinity::Preference;
use holdline_core::cause::RefuseCause;
use holdline_core::ids::{BackendId, SessionId};
use http::request::Parts;
use rand::Rng;

use super::outgoing::{Answered, AtBackend, Failure, Outgoing};
use crate::gateway::admission::admit::{NotAdmitted, admit};
use crate::gateway::admission::backend::Backend;
use crate::gateway::admission::fleet::Fleet;
use crate::gateway::admission::handshake::Handshake;
use crate::gateway::admission::poll::held::InFlight;
use crate::gateway::admission::poll::keeper::Beginning;
use crate::gateway::admission::poll::table::{Found, Opener};
use crate::gateway::admission::waiter::Admitted;
use crate::gateway::context::thread::Thread;
use crate::gateway::limits::permit::SessionPermit;
use crate::gateway::refuse::Refusal;
use crate::gateway::upstream::dial::DIALS_MAX;
use crate::net::is_ours;
use crate::telemetry::names::handshake as handshake_result;

/// What a poll says of its client. One that could be known by a cookie and brought none is given an identity.
pub(crate) fn who(thread: &Thread, fleet: &Fleet, parts: &Parts, client: IpAddr) -> Preference {
    let joined = fleet.joined();
    let mut had = joined.affinity.preference(parts, client);
    joined.affinity.identify(&mut had, thread.rng.borrow_mut().random());
    had
}

/// Sends a poll to the backend of its client's session, which begins with it if there is none.
pub(crate) async fn send(
    thread: &Rc<Thread>,
    fleet: &Arc<Fleet>,
    mut outgoing: Outgoing,
    had: &Preference,
    client: SocketAddr,
) -> Result<Answered, Failure> {
    let mut failed: Vec<BackendId> = Vec::new();
    loop {
        let mut poll = enter(thread, fleet, had, &failed, client).await?;
        poll.carries(outgoing.progress.sent());
        outgoing.of_session(poll.session());
        let backend = Arc::clone(poll.backend());
        let answered = tokio::select! {
            biased;
            () = poll.cut() => Err(AtBackend::Failed(Refusal::busy(RefuseCause::Draining).into())),
            answered = outgoing.at(thread, fleet, &backend) => answered,
        };
        match answered {
            Ok(mut answered) => {
                poll.answered(answered.response.status());
                answered.poll = Some(Box::new(poll));
                return Ok(answered);
            }
            Err(AtBackend::NotConnected(error)) if is_ours(&error) || failed.len() + 1 >= DIALS_MAX => {
                poll.fails();
                return Err(Refusal::not_connected(&error).into());
            }
            // The session is lost with its backend. This poll was not sent, so it may begin another one elsewhere.
            Err(AtBackend::NotConnected(_)) => {
                poll.lose();
                failed.push(backend.id.clone());
            }
            Err(AtBackend::Failed(failure)) => {
                poll.fails();
                return Err(failure);
            }
        }
    }
}

/// A poll's place in its client's session, which begins here if there is none.
async fn enter(
    thread: &Rc<Thread>,
    fleet: &Arc<Fleet>,
    had: &Preference,
    failed: &[BackendId],
    client: SocketAddr,
) -> Result<InFlight, Failure> {
    // The client cannot be recognised again: its session is this one request.
    let Some(key) = had.identity() else { return Ok(open(thread, fleet, None, had, failed, client).await?) };
    loop {
        match fleet.polls.find(key) {
            Found::Open(poll) if is_served(fleet, poll.backend()) => return Ok(poll),
            // Its backend has gone, or come back elsewhere under its id.
            Found::Open(mut poll) => poll.lose(),
            Found::Opening(mut told) => {
                // An error says that it is open by now, or that its client left: look again.
                if told.changed().await.is_ok()
                    && let Some(refusal) = *told.borrow()
                {
                    return Err(refusal.into());
                }
            }
            Found::Nobody(opener) => return Ok(open(thread, fleet, Some(opener), had, failed, client).await?),
        }
    }
}

/// Whether `own` is one of the fleet's, at the address that it had.
fn is_served(fleet: &Fleet, own: &Arc<Backend>) -> bool {
    own.serves_its_own() && fleet.backend(&own.id).is_some_and(|b| Arc::ptr_eq(&b, own))
}

/// Begins a session: the one place where they get their seats.
async fn open(
    thread: &Rc<Thread>,
    fleet: &Arc<Fleet>,
    opener: Option<Opener>,
    had: &Preference,
    failed: &[BackendId],
    client: SocketAddr,
) -> Result<InFlight, Refusal> {
    let handshake = Handshake::begin(&fleet.metrics);
    let seated = tokio::select! {
        biased;
        seated = seat(thread, fleet, had, failed, client) => seated,
        () = thread.stopping() => Err(Refusal::busy(RefuseCause::Draining)),
    };
    match seated {
        Ok((admitted, permit)) => {
            let id = SessionId(thread.rng.borrow_mut().random());
            let (table, key) = (Arc::clone(&fleet.polls), opener.as_ref().map(Opener::key));
            let beginning = Beginning { table, admitted, permit, id, key, client };
            let held = thread.polls.enter(&thread.registry, thread.shared.clock, beginning);
            if let Some(opener) = opener {
                opener.open(&held);
            }
            Ok(InFlight::first(held, handshake))
        }
        Err(refusal) => {
            handshake.settle(handshake_result::REFUSED);
            // What an address may does not concern polls that come from another.
            if let Some(opener) = opener.filter(|_| refusal != Refusal::LIMITED) {
                opener.refuse(refusal);
            }
            Err(refusal)
        }
    }
}

async fn seat(
    thread: &Thread,
    fleet: &Arc<Fleet>,
    had: &Preference,
    failed: &[BackendId],
    client: SocketAddr,
) -> Result<(Admitted, SessionPermit), Refusal> {
    let permit = thread.shared.session_permit(client)?;
    // hyper watches the client, and drops this when it leaves.
    match admit(fleet, &had.wish, failed, pending(), thread.shared.clock, &thread.rng).await {
        Ok(admitted) => Ok((admitted, permit)),
        // It was the dial that failed; that no other seat is free comes second.
        Err(_) if !failed.is_empty() => Err(Refusal::UNREACHABLE),
        Err(NotAdmitted::Refused(cause)) => Err(Refusal::busy(cause)),
        Err(NotAdmitted::Gone) => Err(Refusal::busy(RefuseCause::Draining)),
    }
}
