//! A plain request on its way: to one backend after the other, over a kept connection or a new one, until one answers.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::affinity::{Preference, Wish};
use holdline_core::cause::RefuseCause;
use holdline_core::ids::{BackendId, SessionId};
use holdline_core::wire::guard::Refused;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Uri, Version, header};
use hyper::body::{Body, Incoming};
use hyper::client::conn::TrySendError;
use rand::Rng;

use super::body::{Counted, Counter};
use super::caller::Caller;
use super::headers;
use super::seated::Seated;
use crate::gateway::admission::admit::any_backend;
use crate::gateway::admission::backend::Backend;
use crate::gateway::admission::fleet::Fleet;
use crate::gateway::admission::poll::held::InFlight;
use crate::gateway::context::thread::Thread;
use crate::gateway::refuse::Refusal;
use crate::gateway::session::seat::SeatGuard;
use crate::gateway::upstream::checked::Ask;
use crate::gateway::upstream::dial::DIALS_MAX;
use crate::gateway::upstream::interims::Interims;
use crate::gateway::upstream::pool::PooledConnection;
use crate::gateway::upstream::request_body::{Progress, RequestBody};

/// A request on its way, to as many backends as need be.
pub(crate) struct Outgoing {
    method: Method,
    uri: Uri,
    headers: http::HeaderMap,
    /// What each connection begins with; then it is for this request alone.
    introduction: Vec<u8>,
    /// Of the client; `None`: there is none, or it was sent.
    body: Option<RequestBody>,
    pub(crate) progress: Progress,
    /// Sending it twice does no harm (RFC 9110 9.2.2), and it can be sent twice.
    is_replayable: bool,
    /// Whatever it is answered belongs to the session that it has, an event stream, too.
    is_poll: bool,
    /// Of the session that its answer is expected to begin: goes with its connection.
    pub(crate) seat: Option<SeatGuard>,
    /// Where interim responses go; `None`: the client knows none.
    pub(crate) interims: Option<Rc<Interims>>,
}

/// A backend's answer, and the connection that its body comes from.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) pooled: PooledConnection,
    pub(crate) counted: Counted,
    /// Of the request, which may still be on its way.
    pub(crate) progress: Progress,
    /// The request is a poll of a session.
    pub(crate) poll: Option<Box<InFlight>>,
    /// It was expected to begin a session.
    pub(crate) seated: Option<Box<Seated>>,
}

/// Why a backend gave no answer.
pub(crate) enum AtBackend {
    /// No connection to it could be made.
    NotConnected(io::Error),
    Failed(Failure),
}

/// What came of one connection.
enum Tried {
    /// Nothing reached the backend. The refusal is for the case that it is not tried again.
    NotSent(Refusal),
    /// It may have; the connection ended before any answer.
    Lost(Refusal),
    Failed(Failure),
}

/// Why a request has no answer.
pub(crate) enum Failure {
    Refused(Refusal),
    /// The client did not send its body in time.
    Stalled,
    /// The client broke its body off, or what it sent is none.
    Broken,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

impl Outgoing {
    pub(crate) fn new(thread: &Thread, (parts, body): (Parts, Incoming), host: &str, caller: &Caller, fleet: &Fleet) -> Self {
        let is_empty = body.is_end_stream();
        let progress = Progress::new(thread.shared.clock, is_empty);
        let mut headers = headers::request(&parts.headers, host, caller, headers::takes_trailers(&parts));
        let introduction = caller.introduction(&fleet.policy);
        if !introduction.is_empty() {
            // The backend need not wait for a second request.
            headers.append(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let uri = parts.uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
        Outgoing {
            is_replayable: is_empty && parts.method.is_idempotent(),
            headers,
            introduction,
            is_poll: false,
            seat: None,
            interims: None,
            method: parts.method,
            uri,
            body: (!is_empty).then(|| RequestBody::Client(body, progress.clone())),
            progress,
        }
    }

    /// Goes from backend to backend until one answers.
    pub(crate) async fn send(mut self, thread: &Rc<Thread>, fleet: &Arc<Fleet>, had: &Preference) -> Result<Answered, Failure> {
        let mut failed: Vec<BackendId> = Vec::new();
        loop {
            let Some(backend) = choose(thread, fleet, &had.wish, &failed) else {
                if !failed.is_empty() {
                    return Err(Refusal::UNREACHABLE.into());
                }
                tokio::select! {
                    found = any_backend(fleet, thread.shared.clock) => found.map_err(Refusal::busy)?,
                    () = thread.stopping() => return Err(Refusal::busy(RefuseCause::Draining).into()),
                }
                continue;
            };
            match self.at(thread, fleet, &backend).await {
                Ok(answered) => return Ok(answered),
                Err(AtBackend::NotConnected(error)) if failed.len() + 1 >= DIALS_MAX => {
                    return Err(Refusal::not_connected(&error).into());
                }
                Err(AtBackend::NotConnected(_)) => failed.push(backend.id.clone()),
                Err(AtBackend::Failed(failure)) => return Err(failure),
            }
        }
    }

    /// Sends it to `backend` over a kept connection or a new one, and again over a new one if that may be.
    pub(crate) async fn at(&mut self, thread: &Rc<Thread>, fleet: &Fleet, backend: &Arc<Backend>) -> Result<Answered, AtBackend> {
        let is_any = self.introduction.is_empty() && self.seat.is_none();
        let mut kept = if is_any { PooledConnection::kept(&thread.pool, backend) } else { None };
        loop {
            let counted = Counted::new(Counter::Backend(Arc::clone(backend)));
            // A replay does not trust another old connection.
            let pooled = match kept.take() {
                Some(pooled) => pooled,
                None => connect(thread, fleet, backend, &self.introduction).await.map_err(AtBackend::NotConnected)?,
            };
            if let Some(seat) = self.seat.take() {
                pooled.connection.watch.keep_seat(seat);
            }
            let is_reused = pooled.is_reused;
            match self.over(thread, fleet, pooled, counted).await {
                Ok(answered) => return Ok(answered),
                Err(Tried::NotSent(_)) if is_reused => {}
                Err(Tried::Lost(_)) if is_reused && self.is_replayable => {}
                Err(Tried::NotSent(refusal) | Tried::Lost(refusal)) => return Err(AtBackend::Failed(refusal.into())),
                Err(Tried::Failed(failure)) => return Err(AtBackend::Failed(failure)),
            }
        }
    }

    /// It is a poll of this session.
    pub(crate) fn of_session(&mut self, session: SessionId) {
        self.is_poll = true;
        self.name_session(session);
    }

    /// Names the session that it belongs to, or is to begin.
    pub(crate) fn name_session(&mut self, session: SessionId) {
        headers::name_session(&mut self.headers, session);
    }

    /// Sends it over one connection and waits for the head of the answer.
    async fn over(
        &mut self,
        thread: &Thread,
        fleet: &Fleet,
        mut pooled: PooledConnection,
        counted: Counted,
    ) -> Result<Answered, Tried> {
        let body = match (self.body.take(), self.is_replayable || self.progress.is_whole()) {
            (Some(body), _) => body,
            (None, true) => RequestBody::Empty,
            // The client's body went out with the first try.
            (None, false) => return Err(Tried::Lost(Refusal::UNREACHABLE)),
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = self.headers.clone();
        pooled.connection.watch.ask(Ask {
            is_head: self.method == Method::HEAD,
            streams: !self.is_poll,
            interims: self.interims.clone(),
        });
        let answer = pooled.connection.sender.try_send_request(request);
        let waited = tokio::select! {
            answer = answer => answer,
            late = late(thread, &self.progress, fleet.policy.timeouts.response) => return Err(Tried::Failed(late)),
        };
        match waited {
            Ok(response) => Ok(Answered { response, pooled, counted, progress: self.progress.clone(), poll: None, seated: None }),
            Err(unsent) => Err(self.failed(unsent, &pooled)),
        }
    }

    /// What it means that hyper has no answer.
    fn failed(&mut self, mut unsent: TrySendError<Request<RequestBody>>, pooled: &PooledConnection) -> Tried {
        let wrong = pooled.connection.watch.wrong();
        if let Some(wrong) = wrong {
            tracing::warn!(backend = %pooled.backend.id, reason = %wrong, "the backend's answer is not valid");
        }
        let refusal = if wrong.is_some() { Refusal::INVALID } else { Refusal::UNREACHABLE };
        if let Some(request) = unsent.take_message() {
            // What hyper gives back was not touched.
            let body = request.into_body();
            self.body = (!body.is_end_stream()).then_some(body);
            return Tried::NotSent(refusal);
        }
        match wrong {
            _ if self.progress.is_broken() => Tried::Failed(Failure::Broken),
            // It came before the request went out, and says nothing of it.
            None | Some(Refused::Unasked) if !unsent.error().is_parse() => Tried::Lost(refusal),
            _ => Tried::Failed(Refusal::INVALID.into()),
        }
    }
}

/// Resolves when neither the client's body nor the answer moved for `limit`: whose fault that is.
pub(crate) async fn late(thread: &Thread, progress: &Progress, limit: Duration) -> Failure {
    let clock = thread.shared.clock;
    let sent = clock.now();
    loop {
        let due = progress.moved().max(sent) + limit;
        if clock.now() >= due {
            return if progress.is_awaited() { Failure::Stalled } else { Refusal::LATE.into() };
        }
        crate::clock::sleep_until(clock.instant(due)).await;
    }
}

async fn connect(
    thread: &Rc<Thread>,
    fleet: &Fleet,
    backend: &Arc<Backend>,
    introduction: &[u8],
) -> io::Result<PooledConnection> {
    let stream = thread.shared.dial(backend, fleet.policy.timeouts.connect, introduction).await?;
    PooledConnection::fresh(&thread.pool, backend, stream, introduction.is_empty()).await
}

/// The backend that the client's cookie names, full or draining or not, or the first of its key that takes requests; else the one with the
/// least in flight and held, ties at random.
///
/// A key is not kept from a full backend: where a request goes must not depend on who comes and goes meanwhile.
fn choose(thread: &Thread, fleet: &Fleet, wish: &Wish, failed: &[BackendId]) -> Option<Arc<Backend>> {
    let joined = fleet.joined();
    let usable = || joined.members.iter().map(|m| &m.0).filter(|b| !failed.contains(&b.id));
    match (wish, joined.affinity.rendezvous()) {
        (Wish::Backend(id), _) => {
            if let Some(own) = usable().find(|b| b.id == *id && b.serves_its_own()) {
                return Some(Arc::clone(own));
            }
        }
        (Wish::Key(key), Some(rendezvous)) => {
            let takes =
                |index: usize| joined.members.get(index).is_some_and(|m| m.0.takes_requests() && !failed.contains(&m.0.id));
            return rendezvous.first(*key, takes).map(|index| Arc::clone(&joined.members[index].0));
        }
        (Wish::Anywhere | Wish::Key(_), _) => {}
    }
    let least = usable().filter(|b| b.takes_requests()).map(|b| b.load()).min()?;
    let mut best: Vec<_> = usable().filter(|b| b.takes_requests() && b.load() <= least).collect();
    if best.is_empty() {
        // Their loads grew between the two looks.
        best = usable().filter(|b| b.takes_requests()).collect();
    }
    let at = thread.rng.borrow_mut().random_range(0..best.len().max(1));
    best.get(at).map(|b| Arc::clone(b))
}
