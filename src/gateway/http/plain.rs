//! Plain HTTP: a request goes to the backend with the least to do, or to the one that its client had, over a kept connection.

use std::rc::Rc;
use std::sync::Arc;

use holdline_core::affinity::Preference;
use http::request::Parts;
use http::{Response, StatusCode, Version, header};
use hyper::body::Incoming;

use super::body::{AnswerBody, Counted, Counter, Relayed};
use super::caller::Caller;
use super::headers;
use super::outgoing::{Answered, Failure, Outgoing, late};
use super::poll;
use super::unasked::Unasked;
use crate::gateway::admission::fleet::Fleet;
use crate::gateway::context::thread::Thread;
use crate::gateway::refuse::{self, problem};
use crate::telemetry::access;

/// A plain request and where it goes.
pub(crate) struct Plain {
    pub(crate) parts: Parts,
    pub(crate) body: Incoming,
    pub(crate) host: String,
    pub(crate) fleet: Arc<Fleet>,
    /// Its route is one of long-poll clients.
    pub(crate) sessions: bool,
    pub(crate) caller: Caller,
}

/// What comes of a plain request.
pub(crate) enum Outcome {
    /// An answer, to be given through hyper.
    Answer(Response<AnswerBody>),
    /// A session, which takes the client's socket.
    Stream(Box<Unasked>),
}

/// Sends the request on and answers with what comes back, or says why nothing does.
pub(crate) async fn answer(thread: Rc<Thread>, request: Plain) -> Outcome {
    let clock = thread.shared.clock;
    let started = clock.now();
    let Plain { parts, body, host, fleet, sessions, caller } = request;
    let (method, path, client) = (parts.method.clone(), parts.uri.clone(), caller.address);
    let in_flight = Counted::new(Counter::Fleet(Arc::clone(&fleet)));
    let is_poll = sessions && poll::is_poll(&method);
    let had = if is_poll { poll::who(&thread, &fleet, &parts, client.ip()) } else { fleet.preference(&parts, client.ip()) };
    let outgoing = Outgoing::new(&thread, (parts, body), &host, &caller, &fleet);
    let sent = if is_poll {
        // In a box of its own, so that other requests' futures are no larger for it.
        Box::pin(poll::send(&thread, &fleet, outgoing, &had, client)).await
    } else {
        outgoing.send(&thread, &fleet, &had).await
    };
    let (backend, answered) = match sent {
        Ok(answered) => {
            let backend = Arc::clone(&answered.lease.backend);
            let outcome = match answered.lease.connection.watch.has_stream() {
                true => unasked(&thread, &fleet, answered, &had, &caller).await,
                false => Ok(Outcome::Answer(relay(&fleet, answered, &had, in_flight, &caller))),
            };
            (Some(backend), outcome)
        }
        Err(failure) => (None, Err(failure)),
    };
    let cause = match &answered {
        Err(Failure::Refused(refusal)) => Some(refusal.cause),
        Ok(_) | Err(Failure::Stalled | Failure::Broken) => None,
    };
    let outcome = answered.unwrap_or_else(|failure| Outcome::Answer(failed(&thread, &fleet, failure)));
    let status = match &outcome {
        Outcome::Answer(response) => response.status(),
        Outcome::Stream(_) => StatusCode::OK,
    };
    let (status, took) = (status.as_u16(), clock.now().since(started));
    fleet.metrics.request(status, took);
    access::request(&access::RequestLine {
        fleet: Some(&fleet.policy.name),
        backend: backend.as_deref().map(|b| &b.id),
        client: caller.address,
        method: method.as_str(),
        path: path.path(),
        status,
        cause,
        took,
    });
    outcome
}

/// The answer is an event stream, which begins when its request is whole: the rest could not be sent any more.
async fn unasked(
    thread: &Thread,
    fleet: &Arc<Fleet>,
    answered: Answered,
    had: &Preference,
    caller: &Caller,
) -> Result<Outcome, Failure> {
    let Answered { lease, progress, .. } = answered;
    tokio::select! {
        () = lease.connection.watch.written(|| progress.is_whole()) => {}
        late = late(thread, &progress, fleet.policy.timeouts.response) => return Err(late),
    }
    let stream = Unasked::new(thread, fleet, lease, had, caller)?;
    Ok(Outcome::Stream(Box::new(stream)))
}

/// The answer for the client: hop-by-hop fields off, affinity on.
fn relay(fleet: &Fleet, answered: Answered, had: &Preference, in_flight: Counted, caller: &Caller) -> Response<AnswerBody> {
    let Answered { response, lease, counted, progress, poll } = answered;
    let (mut parts, body) = response.into_parts();
    parts.version = Version::HTTP_11;
    parts.headers = headers::response(&parts.headers);
    let cookie = fleet.joined().affinity.set_cookie(&lease.backend.id, had, caller.is_secure);
    if let Some(cookie) = cookie.and_then(|c| c.try_into().ok()) {
        parts.headers.append(header::SET_COOKIE, cookie);
    }
    if let Some(poll) = &poll {
        headers::name_session(&mut parts.headers, poll.session());
    }
    let body = Relayed::new(body, lease, progress, fleet.policy.timeouts.idle, poll, [in_flight, counted]);
    Response::from_parts(parts, AnswerBody::Relayed(Box::new(body)))
}

fn failed(thread: &Thread, fleet: &Fleet, failure: Failure) -> Response<AnswerBody> {
    let answer = match failure {
        Failure::Refused(refusal) => {
            fleet.metrics.refused(refusal.cause);
            refuse::request(fleet.policy.refuse, refusal, &mut *thread.rng.borrow_mut())
        }
        Failure::Stalled => {
            thread.shared.metrics.bad_input("request_body");
            problem(StatusCode::REQUEST_TIMEOUT, "the request's body did not come in time")
        }
        Failure::Broken => problem(StatusCode::BAD_REQUEST, "the request's body is malformed or not whole"),
    };
    answer.map(AnswerBody::from)
}
