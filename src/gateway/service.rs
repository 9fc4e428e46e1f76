//! A client's connection: hyper parses its heads. Plain requests are answered through hyper; a session takes the socket.
//!
//! For a session the service answers nothing. It lays the head down where the connection's task finds it and returns a future
//! that never ends; the task then takes the socket and what was read ahead of the head, and hyper's state is dropped.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use holdline_core::wire::handshake::{self, Kind, Rejection, RequestHead};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::spawn_local;
use tokio::time::Sleep;

use super::body::AnswerBody;
use super::fleets::Fleet;
use super::opening::{self, Asked, Client};
use super::plain;
use super::refuse::problem;
use super::route::without_port;
use super::socket::{Peer, Socket};
use super::thread::{Stay, Thread};

/// hyper panics below this.
const HYPER_HEAD_MIN: usize = 8 << 10;

/// Serves one client connection to its end, or to the session that it becomes.
pub(super) async fn serve(thread: Rc<Thread>, stream: Socket, peer: Peer, stay: Stay) {
    let limits = thread.shared.served.load().limits;
    let writes = Rc::new(Writes { blocked: Cell::new(false), timeout: Cell::new(limits.head_timeout) });
    let asked = Rc::new(RefCell::new(None));
    let io = TokioIo::new(Tap { stream, writes: Rc::clone(&writes), patience: None });
    let door = Door { thread: Rc::clone(&thread), peer, asked: Rc::clone(&asked), writes: Rc::clone(&writes) };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head.max(HYPER_HEAD_MIN))
        .max_header_size(limits.head)
        .serve_connection(io, door);
    // Answers to earlier requests of the pipeline must be out before the socket changes hands.
    let taken = || asked.borrow().is_some() && !writes.blocked.get();
    let mut stopping = Box::pin(thread.stopping());
    let mut told = false;
    let ended = poll_fn(|cx| {
        if !told && stopping.as_mut().poll(cx).is_ready() {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(end) => Poll::Ready(Some(end)),
            Poll::Pending if taken() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    if let Some(end) = ended {
        return note_end(&thread, end);
    }
    let parts = connection.into_parts();
    if let Some(asked) = asked.take() {
        let client = Client { stream: parts.io.into_inner().stream, early: parts.read_buf, peer, stay };
        // A task of its own: this one is as large as hyper's state.
        drop(stopping);
        spawn_local(opening::open(thread, asked, client));
    }
}

fn note_end(thread: &Thread, end: hyper::Result<()>) {
    let Err(error) = end else { return };
    let reason = if error.is_parse_too_large() {
        "head_too_large"
    } else if error.is_parse() {
        "head"
    } else if error.is_timeout() {
        "head_timeout"
    } else {
        return;
    };
    thread.shared.metrics.bad_input(reason);
}

/// The service of one connection.
struct Door {
    thread: Rc<Thread>,
    peer: Peer,
    asked: Rc<RefCell<Option<Asked>>>,
    writes: Rc<Writes>,
}

type Answer = Response<AnswerBody>;

impl hyper::service::Service<Request<Incoming>> for Door {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let answer = match self.judge(&parts) {
            Ok((fleet, host, Kind::Plain)) => {
                self.writes.timeout.set(fleet.policy.timeouts.write);
                let request = plain::Plain { parts, body, host, fleet, peer: self.peer };
                let thread = Rc::clone(&self.thread);
                return Box::pin(async move { Ok(plain::answer(thread, request).await) });
            }
            Ok((fleet, host, kind)) => {
                *self.asked.borrow_mut() = Some(Asked { parts, kind, fleet, host, at: self.thread.shared.clock.now() });
                return Box::pin(std::future::pending());
            }
            Err(answer) => *answer,
        };
        Box::pin(std::future::ready(Ok(answer)))
    }
}

impl Door {
    /// Where the request goes and what it asks for, or what it is answered at the door.
    fn judge(&self, parts: &Parts) -> Result<(Arc<Fleet>, String, Kind), Box<Answer>> {
        if parts.method == http::Method::CONNECT {
            return Err(Box::new(self.bad("method", StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not served here")));
        }
        let host = host_of(parts).map_err(|reason| Box::new(self.bad("host", StatusCode::BAD_REQUEST, reason)))?;
        let served = self.thread.shared.served.load();
        let Some(fleet) = served.routes.find(without_port(&host), parts.uri.path()) else {
            return Err(Box::new(problem(StatusCode::NOT_FOUND, "no route matches this host and path").map(AnswerBody::from)));
        };
        let kind = handshake::classify(&head_of(parts, &host)).map_err(|rejection| Box::new(self.rejected(rejection)))?;
        Ok((Arc::clone(fleet), host, kind))
    }

    fn rejected(&self, rejection: Rejection) -> Answer {
        let status = StatusCode::from_u16(rejection.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut answer = self.bad("handshake", status, rejection.reason);
        let headers = answer.headers_mut();
        if status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        if !rejection.closes {
            headers.remove(header::CONNECTION);
        }
        answer
    }

    /// An answer after which the connection closes: who knows what follows a head like this.
    fn bad(&self, reason: &'static str, status: StatusCode, detail: &'static str) -> Answer {
        self.thread.shared.metrics.bad_input(reason);
        let mut answer = problem(status, detail).map(AnswerBody::from);
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        answer
    }
}

/// The one host that a request is for (RFC 9112 3.2): exactly one `Host`, and the same as in an absolute target.
fn host_of(parts: &Parts) -> Result<String, &'static str> {
    let mut fields = parts.headers.get_all(header::HOST).iter();
    let (first, more) = (fields.next(), fields.next());
    if more.is_some() {
        return Err("there is more than one Host");
    }
    let field = match first {
        Some(value) => Some(value.to_str().map_err(|_| "Host is not a host name")?),
        None if parts.version == Version::HTTP_11 => return Err("Host is missing"),
        None => None,
    };
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    match (authority, field) {
        (Some(authority), Some(field)) if !authority.eq_ignore_ascii_case(field) => Err("Host differs from the request target"),
        (Some(host), _) | (None, Some(host)) if is_host(host) => Ok(host.to_owned()),
        (None, None) => Ok(String::new()),
        _ => Err("Host is not a host name"),
    }
}

/// No user info, no list, no path: what routes and backends read as one host must be one.
fn is_host(host: &str) -> bool {
    host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+;=".contains(&b))
}

/// The head of a request that was taken from hyper, for `core::wire`.
pub(super) fn head_of<'a>(parts: &'a Parts, host: &'a str) -> RequestHead<'a> {
    RequestHead {
        method: parts.method.as_str(),
        target: parts.uri.path_and_query().map_or("/", |p| p.as_str()),
        host,
        is_http11: parts.version == Version::HTTP_11,
        fields: parts.headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect(),
    }
}

/// What a connection's tap and its door tell each other.
struct Writes {
    /// hyper still has bytes that the client does not take.
    blocked: Cell<bool>,
    /// How long the client may take none.
    timeout: Cell<Duration>,
}

/// The socket under hyper. hyper has no limit for a client that does not read its answer: here it is.
struct Tap {
    stream: Socket,
    writes: Rc<Writes>,
    /// Runs while a write is blocked; made when the first one is.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Tap {
    fn watched(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.patience = None;
            self.writes.blocked.set(false);
            return written;
        }
        self.writes.blocked.set(true);
        let timeout = self.writes.timeout.get();
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(patience.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watched(cx, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(target: &str, hosts: &[&str]) -> Result<String, &'static str> {
        let request = hosts.iter().fold(Request::builder().uri(target), |r, h| r.header("host", *h));
        host_of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn there_is_exactly_one_host() {
        assert_eq!(host("/", &["a.example:80"]).as_deref(), Ok("a.example:80"));
        assert_eq!(host("http://a.example/x", &["A.example"]).as_deref(), Ok("a.example"));
        assert!(host("/", &[]).is_err() && host("/", &["a", "a"]).is_err());
        assert!(host("http://a.example/x", &["b.example"]).is_err());
        assert!(host("/", &["a, b"]).is_err() && host("/", &["u@h"]).is_err() && host("/", &["a/b"]).is_err());
    }
}
