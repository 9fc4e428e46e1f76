//! Plain HTTP: a request goes to the backend with the least to do, or to the one that its client had, over a kept connection.

use std::rc::Rc;
use std::sync::Arc;

use holdline_core::affinity::Preference;
use holdline_core::wire::handshake;
use http::request::Parts;
use http::{Method, Response, StatusCode, Version, header};
use hyper::body::Incoming;

use super::body::{AnswerBody, Counted, Counter, Relayed};
use super::caller::Caller;
use super::headers;
use super::outgoing::{Answered, Failure, Outgoing, late};
use super::poll;
use super::seated;
use super::unasked::Unasked;
use crate::config::units::Sessions;
use crate::gateway::admission::fleet::Fleet;
use crate::gateway::context::thread::Thread;
use crate::gateway::refuse::{self, problem};
use crate::gateway::upstream::interims::Interims;
use crate::telemetry::access;

/// A plain request and where it goes.
pub(crate) struct Plain {
    pub(crate) parts: Parts,
    pub(crate) body: Incoming,
    pub(crate) host: String,
    pub(crate) fleet: Arc<Fleet>,
    /// What opens a session on its route.
    pub(crate) sessions: Sessions,
    pub(crate) caller: Caller,
    /// Where interim responses go; `None`: the client knows none.
    pub(crate) interims: Option<Rc<Interims>>,
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
    let Plain { parts, body, host, fleet, sessions, caller, interims } = request;
    let (method, path, client) = (parts.method.clone(), parts.uri.clone(), caller.address);
    let in_flight = Counted::new(Counter::Fleet(Arc::clone(&fleet)));
    let opens = Opens::of(&parts, sessions);
    let takes_trailers = headers::takes_trailers(&parts);
    let had = match opens {
        Opens::Poll => poll::who(&thread, &fleet, &parts, client.ip()),
        Opens::Nothing | Opens::Stream => fleet.preference(&parts, client.ip()),
    };
    let mut outgoing = Outgoing::new(&thread, (parts, body), &host, &caller, &fleet);
    outgoing.interims = interims;
    // Those of sessions are in boxes of their own, so that other requests' futures are no larger for them.
    let sent = match opens {
        Opens::Nothing => outgoing.send(&thread, &fleet, &had).await,
        Opens::Stream => Box::pin(seated::send(&thread, &fleet, outgoing, &had, client)).await,
        Opens::Poll => Box::pin(poll::send(&thread, &fleet, outgoing, &had, client)).await,
    };
    let (backend, answered) = match sent {
        Ok(answered) => {
            let backend = Arc::clone(&answered.pooled.backend);
            let outcome = match answered.pooled.connection.watch.has_stream() {
                true => unasked(&thread, &fleet, answered, &had, &caller).await,
                false => Ok(Outcome::Answer(relay(&fleet, answered, &had, in_flight, &caller, takes_trailers))),
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

/// What is known of a request's session before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opens {
    /// Nothing. Its answer may begin one all the same.
    Nothing,
    /// Its answer is an event stream.
    Stream,
    /// It is a poll.
    Poll,
}

impl Opens {
    fn of(parts: &Parts, sessions: Sessions) -> Self {
        if !matches!(parts.method, Method::GET | Method::POST) {
            // A preflight by OPTIONS, a goodbye by DELETE.
            return Opens::Nothing;
        }
        let accept = || parts.headers.get_all(header::ACCEPT).iter().map(|value| ("accept", value.as_bytes())).collect();
        match sessions {
            Sessions::Polls => Opens::Poll,
            Sessions::Streams => Opens::Stream,
            Sessions::Auto if handshake::accepts_only_event_stream(&accept()) => Opens::Stream,
            Sessions::Auto => Opens::Nothing,
        }
    }
}

/// The answer is an event stream, which begins when its request is whole: the rest could not be sent any more.
async fn unasked(
    thread: &Thread,
    fleet: &Arc<Fleet>,
    answered: Answered,
    had: &Preference,
    caller: &Caller,
) -> Result<Outcome, Failure> {
    // The request counts as one until it has its seat.
    let Answered { pooled, progress, seated, counted: _counted, .. } = answered;
    tokio::select! {
        () = pooled.connection.watch.written(|| progress.is_whole()) => {}
        late = late(thread, &progress, fleet.policy.timeouts.response) => return Err(late),
    }
    let stream = Unasked::new(thread, fleet, pooled, had, caller, seated)?;
    Ok(Outcome::Stream(Box::new(stream)))
}

/// The answer for the client: hop-by-hop fields off, affinity on.
fn relay(
    fleet: &Fleet,
    answered: Answered,
    had: &Preference,
    in_flight: Counted,
    caller: &Caller,
    takes_trailers: bool,
) -> Response<AnswerBody> {
    let Answered { response, pooled, counted, progress, poll, seated } = answered;
    if let Some(seated) = seated {
        drop(pooled.connection.watch.take_seat());
        seated.answered();
    }
    let (mut parts, body) = response.into_parts();
    parts.version = Version::HTTP_11;
    parts.headers = headers::response(&parts.headers, takes_trailers);
    let cookie = fleet.joined().affinity.set_cookie(&pooled.backend.id, had, caller.is_secure);
    if let Some(cookie) = cookie.and_then(|c| c.try_into().ok()) {
        parts.headers.append(header::SET_COOKIE, cookie);
    }
    if let Some(poll) = &poll {
        headers::name_session(&mut parts.headers, poll.session());
    }
    let body = Relayed::new(body, pooled, progress, fleet.policy.timeouts.idle, poll, [in_flight, counted]);
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
