//! A client's connection. While its client says nothing, it is a socket and a deadline; from the first byte of a request until the client
//! has been silent for a moment, hyper parses its heads and carries its plain requests. A session takes the socket.
//!
//! hyper's state is 19 KB of buffers, for which a connection that idles has no use (docs/decisions/0017-idle-connections.md).

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use holdline_core::time::Moment;
use http::StatusCode;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::Sleep;

use super::head_timer::HeadTimer;
use crate::clock::{Clock, poll_elapsed};
use crate::config::model::Listener;
use crate::gateway::context::shared::Shared;
use crate::gateway::context::thread::Thread;
use crate::gateway::http::direct;
use crate::gateway::http::opening::{self, Client};
use crate::gateway::http::service::{ConnectionService, Taken};
use crate::gateway::http::tap::{Between, Tap};
use crate::gateway::http::unasked::Taker;
use crate::gateway::limits::permit::ConnectionPermit;
use crate::gateway::peer::Peer;
use crate::gateway::refuse::{self, problem};
use crate::gateway::upstream::exchange::close_lingering;
use crate::net::scratch;
use crate::net::socket::{Socket, Transport};
use crate::net::tls;

/// hyper panics below this.
const HYPER_HEAD_MIN: usize = 8 << 10;

/// So long nothing comes behind an answer until hyper's state is dropped. A client that asks more than once a second does not pay for a
/// new one.
const LULL: Duration = Duration::from_secs(1);

/// Serves a client from the first byte of its own.
pub(crate) fn begin(thread: &Rc<Thread>, socket: TcpStream, peer: Peer, listener: &Listener, permit: ConnectionPermit) {
    if turns_away(&thread.shared, peer.address) {
        // Without a word, and without what the kernel keeps of connections that end properly.
        return socket.reset_on_close();
    }
    let socket = match thread.shared.served.load().tls.server(listener) {
        None => Socket::Plain(socket),
        Some(config) => match tls::Stream::server(socket, config) {
            Ok(stream) => Socket::Tls(Box::new(stream)),
            Err(error) => return tracing::error!(%error, "a connection's TLS cannot begin"),
        },
    };
    let peer = Peer { is_tls: matches!(socket, Socket::Tls(_)), ..peer };
    spawn_local(serve(Rc::clone(thread), socket, peer, permit));
}

/// Whether the address begins so many sessions that a connection from there is not worth a handshake; counts it. A trusted proxy
/// that does not tell its clients apart is refused as they are, but not its connections, which may be others' too.
fn turns_away(shared: &Shared, peer: SocketAddr) -> bool {
    let served = shared.served.load();
    let is_flooding = served.addresses.is_flooding(peer, shared.clock) && !served.trusted.contains(peer.ip());
    if is_flooding {
        shared.metrics.bad_input("flood");
    }
    is_flooding
}

/// Serves one client connection to its end, or to the session that it becomes.
async fn serve(thread: Rc<Thread>, mut stream: Socket, peer: Peer, mut permit: ConnectionPermit) {
    let mut limit = thread.shared.served.load().limits.head_timeout;
    let mut has_asked = false;
    loop {
        let heard = match until_heard(&thread, &mut stream, limit).await {
            Heard::Bytes(heard) => heard,
            Heard::Nothing if !has_asked => return thread.shared.metrics.bad_input("head_timeout"),
            Heard::Nothing | Heard::End => return,
        };
        // Both of their own allocation: this task permits as small as a connection at rest is.
        let conversation = match what_follows(&thread, stream, heard, peer, permit) {
            Ok(opening) => return opening.await,
            Err(conversation) => conversation,
        };
        match conversation.await {
            Some(at_rest) => (stream, permit) = at_rest,
            None => return,
        }
        has_asked = true;
        let head_timeout = thread.shared.served.load().limits.head_timeout;
        limit = head_timeout - lull(head_timeout);
    }
}

/// Shorter than hyper's own timeout, which ends a connection that idles, too.
fn lull(head_timeout: Duration) -> Duration {
    LULL.min(head_timeout / 2)
}

/// What came of a connection at rest.
enum Heard {
    /// What came first; empty over TLS, whose handshake is a part of the conversation.
    Bytes(Bytes),
    /// The client closed it, or it is not wanted any more.
    End,
    /// Its time passed.
    Nothing,
}

/// Waits for the first byte, for no longer than `limit`.
async fn until_heard(thread: &Thread, stream: &mut Socket, limit: Duration) -> Heard {
    let (mut stopping, mut late) = (pin!(thread.stopping()), pin!(tokio::time::sleep(limit)));
    poll_fn(|cx| {
        match poll_heard(stream, cx) {
            Poll::Ready(Ok(Some(bytes))) => return Poll::Ready(Heard::Bytes(bytes)),
            Poll::Ready(Ok(None) | Err(_)) => return Poll::Ready(Heard::End),
            Poll::Pending => {}
        }
        if stopping.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Heard::End);
        }
        poll_elapsed(late.as_mut(), cx).map(|()| Heard::Nothing)
    })
    .await
}

/// The first bytes through the thread's buffer, so that a connection at rest has none; `None`: its end. Over TLS none is taken.
fn poll_heard(stream: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
    match stream {
        Socket::Plain(tcp) => scratch::with(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(tcp).poll_read(cx, &mut buffer))?;
            let read = buffer.filled();
            Poll::Ready(Ok((!read.is_empty()).then(|| Bytes::copy_from_slice(read))))
        }),
        Socket::Tls(stream) => {
            let seen = ready!(stream.tcp().poll_peek(cx, &mut ReadBuf::new(&mut [0; 1])))?;
            Poll::Ready(Ok((seen > 0).then(Bytes::new)))
        }
    }
}

type Opening = Pin<Box<dyn Future<Output = ()>>>;

/// Ends with the socket of a client that has been silent for a moment.
type Conversation<'t> = Pin<Box<dyn Future<Output = Option<(Socket, ConnectionPermit)>> + 't>>;

/// The opening of the session that `heard`, read from the socket already, asks for.
///
/// # Errors
/// It asks for none, or it is not certain: the conversation that hyper leads.
fn what_follows(
    thread: &Rc<Thread>,
    stream: Socket,
    heard: Bytes,
    peer: Peer,
    permit: ConnectionPermit,
) -> Result<Opening, Conversation<'_>> {
    match direct::session(thread, peer, &stream, &heard) {
        Some((asked, early)) => Ok(Box::pin(opening::open(Rc::clone(thread), asked, Client { stream, early, permit }))),
        None => Err(Box::pin(converse(thread, stream, heard, peer, permit))),
    }
}

/// How a conversation ended.
enum Turn {
    /// hyper said all that it had to say.
    Ended(hyper::Result<()>),
    /// A session takes the socket.
    Taken,
    /// The client has been silent for a moment.
    Rest,
}

/// Lets hyper serve what the client asks, until that asks for no more for a moment. The socket comes back then.
///
/// `heard`: read from the socket already.
async fn converse(
    thread: &Rc<Thread>,
    stream: Socket,
    heard: Bytes,
    peer: Peer,
    permit: ConnectionPermit,
) -> Option<(Socket, ConnectionPermit)> {
    let limits = thread.shared.served.load().limits;
    let between = Between::new(limits.head_timeout);
    let taken = Rc::new(RefCell::new(None));
    let peer = peer.located(stream.tcp());
    let io = TokioIo::new(Tap::new(stream, heard.into(), Rc::clone(&between), limits.head));
    let service = ConnectionService { thread: Rc::clone(thread), peer, taken: Rc::clone(&taken), between: Rc::clone(&between) };
    let mut connection = http1::Builder::new()
        .timer(HeadTimer)
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head.max(HYPER_HEAD_MIN))
        .max_header_size(limits.head)
        .serve_connection(io, service);
    let lull = lull(limits.head_timeout);
    let mut timer = pin!(tokio::time::sleep(lull));
    let mut silent_since = None;
    let mut stopping = pin!(thread.stopping());
    let mut told = false;
    let turn = poll_fn(|cx| {
        if !told && stopping.as_mut().poll(cx).is_ready() {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        if let Poll::Ready(end) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(Turn::Ended(end));
        }
        // Answers to earlier requests of the pipeline must be out before the socket changes hands.
        if between.is_taken.get() && !between.blocked.get() {
            return Poll::Ready(Turn::Taken);
        }
        if between.asked.take() {
            silent_since = None;
        }
        if !between.is_at_rest() {
            return Poll::Pending;
        }
        let since = *silent_since.get_or_insert_with(|| thread.shared.clock.now());
        ready!(poll_past(timer.as_mut(), since + lull, thread.shared.clock, cx));
        Poll::Ready(Turn::Rest)
    })
    .await;
    let parts = connection.into_parts();
    let tap = parts.io.into_inner();
    match turn {
        Turn::Ended(end) => ended_by_hyper(thread, end, tap, &between, permit),
        Turn::Taken => take(thread, taken.take()?, tap, permit),
        Turn::Rest => {
            let (stream, behind) = tap.into_parts();
            debug_assert!(parts.read_buf.is_empty() && behind.is_empty(), "hyper and its tap have nothing of a client at rest");
            return Some((stream, permit));
        }
    }
    None
}

/// Ready at `due`. A sleep that ended before is set anew, and one that runs is left alone, so that a busy connection's timer is touched
/// once a [`LULL`] and not with every request.
fn poll_past(mut sleep: Pin<&mut Sleep>, due: Moment, clock: Clock, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        ready!(sleep.as_mut().poll(cx));
        if clock.now() >= due {
            return Poll::Ready(());
        }
        sleep.as_mut().reset(clock.instant(due));
    }
}

/// The socket changes hands. Tasks of their own: hyper's state goes with this one.
fn take(thread: &Rc<Thread>, taken: Taken, tap: Tap, permit: ConnectionPermit) {
    let (stream, early) = tap.into_parts();
    match taken {
        Taken::Session(asked) => {
            spawn_local(opening::open(Rc::clone(thread), *asked, Client { stream, early, permit }));
        }
        Taken::Stream(unasked, is_http11) => unasked.open(thread, Taker { stream, is_http11, permit }),
    }
}

/// hyper said all that it had to say.
fn ended_by_hyper(thread: &Thread, end: hyper::Result<()>, tap: Tap, between: &Between, permit: ConnectionPermit) {
    let reason = match (&end, between.refused.get()) {
        (_, Some(refused)) => Some(refused.reason()),
        _ if between.tls_failed.get() => Some("tls"),
        (Err(error), None) if error.is_parse_too_large() => Some("head_too_large"),
        (Err(error), None) if error.is_parse() => Some("head"),
        (Err(error), None) if error.is_timeout() => Some("head_timeout"),
        _ => None,
    };
    if let Some(reason) = reason {
        thread.shared.metrics.bad_input(reason);
    }
    let last_words = match &end {
        // hyper says nothing at this timeout, which is that of idle connections, too.
        Err(error) if error.is_timeout() && tap.is_in_head() => {
            Some(problem(StatusCode::REQUEST_TIMEOUT, "the request's head did not come in time"))
        }
        Err(error) if !error.is_parse() && between.refused.get().is_none() => return,
        _ if !tap.lingers() => return,
        _ => None,
    };
    let write_timeout = between.write_timeout.get();
    spawn_local(async move {
        let (mut stream, _) = tap.into_parts();
        if let Some(answer) = last_words.map(refuse::written) {
            // A client that does not take it gets the end without it.
            let _ = tokio::time::timeout(write_timeout, stream.write_all(&answer)).await;
        }
        close_lingering(stream).await;
        drop(permit);
    });
}
