//! The opening of a session: seat, dial, head exchange, answer. Ends in a tunnel, a relayed answer or a refusal.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdline_core::affinity::Preference;
use holdline_core::cause::RefuseCause;
use holdline_core::ids::{BackendId, SessionId};
use holdline_core::time::Moment;
use holdline_core::wire::forward::{self, Exchange, Origin, Reply, ReplyBody};
use holdline_core::wire::handshake::{self, Kind};
use holdline_core::wire::head::{self, Body, ResponseHead};
use http::request::Parts;
use rand::Rng;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_local;

use super::caller::Caller;
use super::client::client_gone;
use super::judge::head_of;
use super::relay;
use crate::clock;
use crate::gateway::admission::admit::{NotAdmitted, admit};
use crate::gateway::admission::backend::Backend;
use crate::gateway::admission::fleet::Fleet;
use crate::gateway::admission::waiter::Admitted;
use crate::gateway::context::thread::Thread;
use crate::gateway::limits::permit::{ConnectionPermit, SessionPermit};
use crate::gateway::peer::Peer;
use crate::gateway::refuse::{self, Refusal};
use crate::gateway::session::kind::SessionKind;
use crate::gateway::session::seat::SeatGuard;
use crate::gateway::session::stream::{self, Start};
use crate::gateway::session::target::Session;
use crate::gateway::session::tunnel::{self, Early};
use crate::gateway::upstream::dial::DIALS_MAX;
use crate::gateway::upstream::exchange::{ExchangeError, Upstream, close_lingering};
use crate::gateway::upstream::interims::Interims;
use crate::net::options;
use crate::net::socket::Socket;
use crate::telemetry::access;
use crate::telemetry::names::handshake as handshake_result;

/// What a client asked for.
pub(crate) struct Asked {
    pub(crate) parts: Parts,
    pub(crate) kind: Kind,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) host: String,
    pub(crate) caller: Caller,
    /// When its head was read.
    pub(crate) at: Moment,
}

impl Asked {
    /// What `parts` asks for, as they were judged.
    pub(crate) fn new(thread: &Thread, parts: Parts, kind: Kind, fleet: Arc<Fleet>, host: String, peer: Peer) -> Self {
        let caller = Caller::new(&parts.headers, peer, &thread.shared.served.load().trusted);
        Asked { parts, kind, fleet, host, caller, at: thread.shared.clock.now() }
    }
}

/// The client's connection.
pub(crate) struct Client {
    pub(crate) stream: Socket,
    /// Read behind the head.
    pub(crate) early: Bytes,
    pub(crate) permit: ConnectionPermit,
}

/// A backend that answered.
struct Answered {
    backend: Arc<Backend>,
    upstream: Upstream,
    /// What was read from the answer's head on.
    read: Vec<u8>,
    id: SessionId,
}

/// Why no backend answered.
enum Failure {
    /// The client left.
    Gone,
    Refused(Refusal),
}

/// Opens the session that was asked for, or tells the client why not.
pub(crate) async fn open(thread: Rc<Thread>, asked: Asked, mut client: Client) {
    let had = asked.fleet.preference(&asked.parts, asked.caller.address.ip());
    let attempt = async {
        let session_permit = thread.shared.session_permit(asked.caller.address).map_err(Failure::Refused)?;
        Ok((attempt(&thread, &asked, &mut client, &had).await?, session_permit))
    };
    let answered = tokio::select! {
        biased;
        answered = attempt => answered,
        () = thread.stopping() => Err(Failure::Refused(Refusal::busy(RefuseCause::Draining))),
    };
    match answered {
        Ok((answered, session_permit)) => conclude(&thread, asked, client, session_permit, answered, &had).await,
        Err(Failure::Gone) => asked.fleet.metrics.handshake(handshake_result::GONE),
        Err(Failure::Refused(refusal)) => refuse(&thread, &asked, client, refusal).await,
    }
}

/// Goes from backend to backend until one answers: after connect failures only, and only as long as a handshake may take.
async fn attempt(thread: &Thread, asked: &Asked, client: &mut Client, had: &Preference) -> Result<Answered, Failure> {
    let fleet = &asked.fleet;
    let shared = &thread.shared;
    // From here on, so that a client that vanishes while it waits is found as well.
    options::client(client.stream.tcp(), &fleet.policy.keepalive);
    let mut failed: Vec<BackendId> = Vec::new();
    let mut left = fleet.policy.timeouts.handshake;
    let interims = Interims::default();
    loop {
        let gone = client_gone(client.stream.tcp());
        let Admitted { backend, seat } = match admit(fleet, &had.wish, &failed, gone, shared.clock, &thread.rng).await {
            Ok(admitted) => admitted,
            Err(NotAdmitted::Gone) => return Err(Failure::Gone),
            // It was the dial that failed; that no other seat is free comes second.
            Err(NotAdmitted::Refused(_)) if !failed.is_empty() => return Err(Failure::Refused(Refusal::UNREACHABLE)),
            Err(NotAdmitted::Refused(cause)) => return Err(Failure::Refused(Refusal::busy(cause))),
        };
        let began = shared.clock.now();
        let tried = {
            let mut tried = pin!(clock::timeout(left, at_backend(thread, asked, &backend, seat, &interims)));
            loop {
                let heads = tokio::select! {
                    biased;
                    tried = &mut tried => break tried,
                    heads = poll_fn(|cx| interims.poll_take(cx)) => heads,
                    () = client_gone(client.stream.tcp()) => return Err(Failure::Gone),
                };
                pass_on(client, &heads, left.min(fleet.policy.timeouts.write)).await?;
            }
        };
        pass_on(client, &interims.take(), left.min(fleet.policy.timeouts.write)).await?;
        left = left.saturating_sub(shared.clock.now().since(began));
        match tried {
            Ok(Ok(answered)) => return Ok(answered),
            Ok(Err(Tried::NotConnected(error))) => {
                failed.push(backend.id.clone());
                if failed.len() >= DIALS_MAX || left.is_zero() {
                    return Err(Failure::Refused(Refusal::not_connected(&error)));
                }
            }
            Ok(Err(Tried::Broken(refusal))) => return Err(Failure::Refused(refusal)),
            Err(_elapsed) => return Err(Failure::Refused(Refusal::LATE)),
        }
    }
}

/// Sends interim responses, which precede the answer, within `timeout`.
async fn pass_on(client: &mut Client, heads: &[u8], timeout: Duration) -> Result<(), Failure> {
    if heads.is_empty() {
        return Ok(());
    }
    write_within(&mut client.stream, heads, timeout).await.map_err(|_| Failure::Gone)
}

/// What came of one backend.
enum Tried {
    NotConnected(io::Error),
    Broken(Refusal),
}

async fn at_backend(
    thread: &Thread,
    asked: &Asked,
    backend: &Arc<Backend>,
    seat: SeatGuard,
    interims: &Interims,
) -> Result<Answered, Tried> {
    let policy = &asked.fleet.policy;
    let introduction = asked.caller.introduction(policy);
    let dialled = thread.shared.dial(backend, policy.timeouts.connect, &introduction).await;
    let stream = dialled.map_err(Tried::NotConnected)?;
    let mut upstream = Upstream::new(stream, seat);
    let id = SessionId(thread.rng.borrow_mut().random());
    let exchange = match asked.kind {
        Kind::WebSocket { .. } => Exchange::WebSocket,
        Kind::EventStream | Kind::Plain => Exchange::EventStream,
    };
    let Caller { peer, is_trusted, .. } = asked.caller;
    let origin = Origin { peer: peer.address.ip(), proto: peer.proto(), is_trusted, session: id };
    let request = forward::request(&head_of(&asked.parts, &asked.host), exchange, &origin);
    // A client of HTTP/1.0 knows none (RFC 9110 15.2).
    let interims = (asked.parts.version == http::Version::HTTP_11).then_some(interims);
    match upstream.exchange(&request, interims).await {
        Ok(read) => Ok(Answered { backend: Arc::clone(backend), upstream, read, id }),
        Err(error) => {
            tracing::debug!(backend = %backend.id, %error, "handshake");
            Err(Tried::Broken(match error {
                ExchangeError::Lost(_) => Refusal::UNREACHABLE,
                ExchangeError::Invalid(_) | ExchangeError::Endless => Refusal::INVALID,
            }))
        }
    }
}

/// What a backend's answer makes of the handshake.
enum Verdict {
    WebSocket,
    EventStream(Body),
    /// Neither: to be relayed as it is.
    Answer(Body),
    /// Not to be believed; the text is for the log.
    Invalid(String),
}

fn judge(asked: &Asked, head: &ResponseHead<'_>) -> Verdict {
    if head.status == 101 {
        let Kind::WebSocket { accept } = &asked.kind else { return Verdict::Invalid("an unasked 101".to_owned()) };
        let request = head_of(&asked.parts, &asked.host);
        return match handshake::check_switch(&request.fields, accept, head) {
            Ok(()) => Verdict::WebSocket,
            Err(bad) => Verdict::Invalid(bad.to_string()),
        };
    }
    match head.body() {
        Err(error) => Verdict::Invalid(error.to_string()),
        Ok(body) if asked.kind != Kind::EventStream || !head.is_event_stream() => Verdict::Answer(body),
        Ok(body) => Verdict::EventStream(body),
    }
}

async fn conclude(
    thread: &Rc<Thread>,
    asked: Asked,
    client: Client,
    session_permit: SessionPermit,
    answered: Answered,
    had: &Preference,
) {
    let Answered { backend, upstream, read, id } = answered;
    let invalid = |reason: String| {
        tracing::warn!(fleet = %asked.fleet.policy.name, backend = %backend.id, reason, "the backend's answer is not valid");
        thread.shared.metrics.bad_input("backend_answer");
    };
    let head = match head::parse(&read) {
        Ok(Some(head)) => head,
        // It was parsed before.
        _ => return refuse(thread, &asked, client, Refusal::INVALID).await,
    };
    let stream_body = match judge(&asked, &head) {
        Verdict::WebSocket => None,
        Verdict::EventStream(body) => Some(body),
        Verdict::Answer(body) => {
            return answer(thread, asked, client, session_permit, (upstream, &backend), (&head, &read, body)).await;
        }
        Verdict::Invalid(reason) => {
            invalid(reason);
            return refuse(thread, &asked, client, Refusal::INVALID).await;
        }
    };
    let set_cookie = asked.fleet.joined().affinity.set_cookie(&backend.id, had, asked.caller.is_secure);
    let set_cookie = set_cookie.as_deref();
    let Client { mut stream, early, permit } = client;
    if stream_body.is_none() {
        let reply = forward::reply(&head, &Reply { body: ReplyBody::Switch, session: Some(id), set_cookie });
        if write_within(&mut stream, &reply, asked.fleet.policy.timeouts.write).await.is_err() {
            return asked.fleet.metrics.handshake(handshake_result::GONE);
        }
    }
    let Some((to_backend, seat)) = upstream.into_parts() else { return };
    asked.fleet.metrics.handshake(handshake_result::OPENED);
    let kind = if stream_body.is_some() { SessionKind::Sse } else { SessionKind::WebSocket };
    let target = backend.target();
    let session =
        Session { id, kind, client: asked.caller.address, target, seat, permit: Some(permit.of_session(session_permit)) };
    let behind = &read[head.len..];
    // Tasks of their own: they are small, this one is not.
    if let Some(body) = stream_body {
        let is_http11 = asked.parts.version == http::Version::HTTP_11;
        let start = Start { response: &head, body, is_http11, set_cookie, early: behind };
        spawn_local(stream::run(stream, to_backend, start, session, &thread.registry));
    } else {
        let early = Early { to_backend: &early, to_client: behind };
        spawn_local(tunnel::run(stream, to_backend, early, session, &thread.registry));
    }
}

/// Relays an answer that is no session. The seat is free: the backend answered and holds nothing.
async fn answer(
    thread: &Thread,
    asked: Asked,
    client: Client,
    session_permit: SessionPermit,
    from: (Upstream, &Backend),
    answer: (&ResponseHead<'_>, &[u8], Body),
) {
    let ((upstream, backend), (head, read, body)) = (from, answer);
    let Some((mut backend_stream, seat)) = upstream.into_parts() else { return };
    drop(seat);
    asked.fleet.metrics.handshake(handshake_result::ANSWERED);
    log(thread, &asked, Some(backend), head.status, None);
    let framing = match body {
        Body::None => ReplyBody::None,
        Body::Length(bytes) => ReplyBody::Length(bytes),
        Body::Chunked | Body::UntilClose if asked.parts.version == http::Version::HTTP_11 => ReplyBody::Chunked,
        Body::Chunked | Body::UntilClose => ReplyBody::UntilClose,
    };
    let reply = forward::reply(head, &Reply { body: framing, session: None, set_cookie: None });
    let Client { mut stream, permit, .. } = client;
    let timeouts = &asked.fleet.policy.timeouts;
    let copy = async {
        write_within(&mut stream, &reply, timeouts.write).await?;
        relay::body(&mut backend_stream, &mut stream, &read[head.len..], body, framing == ReplyBody::Chunked, timeouts).await
    };
    match copy.await {
        Ok(()) => close_lingering(stream).await,
        // A clean end would make a torn body look whole.
        Err(_) => crate::gateway::upstream::exchange::reset(&stream),
    }
    drop((session_permit, permit));
}

async fn refuse(thread: &Thread, asked: &Asked, client: Client, refusal: Refusal) {
    let fleet = &asked.fleet;
    log(thread, asked, None, refusal.status.as_u16(), Some(refusal.cause));
    fleet.metrics.refused(refusal.cause);
    fleet.metrics.handshake(handshake_result::REFUSED);
    let bytes = {
        let request = head_of(&asked.parts, &asked.host);
        refuse::session(&asked.kind, &request.fields, fleet.policy.refuse, refusal, &mut *thread.rng.borrow_mut())
    };
    let Client { mut stream, permit, .. } = client;
    if write_within(&mut stream, &bytes, fleet.policy.timeouts.write).await.is_ok() {
        close_lingering(stream).await;
    }
    drop(permit);
}

/// A whole head into a socket that nothing was written to: it goes out at once, or the client does not read.
async fn write_within(stream: &mut Socket, bytes: &[u8], timeout: Duration) -> io::Result<()> {
    tokio::time::timeout(timeout, stream.write_all(bytes)).await?
}

fn log(thread: &Thread, asked: &Asked, backend: Option<&Backend>, status: u16, cause: Option<RefuseCause>) {
    access::request(&access::RequestLine {
        fleet: Some(&asked.fleet.policy.name),
        backend: backend.map(|b| &b.id),
        client: asked.caller.address,
        method: asked.parts.method.as_str(),
        path: asked.parts.uri.path(),
        status,
        cause,
        took: thread.shared.clock.now().since(asked.at),
    });
}
