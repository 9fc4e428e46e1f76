//! What a client's requests are answered, or turned into. Plain requests are answered through hyper; a session takes the socket.
//!
//! For a session the service answers nothing. It lays down what it is where the connection's task finds it and returns a future
//! that never ends; the task then takes the socket and what was read ahead of the head, and hyper's state is dropped.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use holdline_core::wire::handshake::{self, Kind, Rejection, RequestHead};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::body::AnswerBody;
use super::caller::Caller;
use super::opening::Asked;
use super::plain::{self, Outcome};
use super::tap::{Between, UnderWay};
use super::unasked::Unasked;
use crate::gateway::context::route::{To, without_port};
use crate::gateway::context::thread::Thread;
use crate::gateway::peer::Peer;
use crate::gateway::refuse::problem;

/// The service of one connection.
pub(crate) struct ConnectionService {
    pub(crate) thread: Rc<Thread>,
    pub(crate) peer: Peer,
    /// Where it lays down who takes the socket.
    pub(crate) taken: Rc<RefCell<Option<Taken>>>,
    pub(crate) between: Rc<Between>,
}

/// Who takes a client's socket.
pub(crate) enum Taken {
    /// A session that was asked for, to be opened.
    Session(Box<Asked>),
    /// A stream that a plain request was answered with; whether the client speaks HTTP/1.1.
    Stream(Box<Unasked>, bool),
}

type Answer = Response<AnswerBody>;

/// The body of an answer, which is under way until hyper drops this.
pub(crate) struct Given {
    body: AnswerBody,
    _under_way: UnderWay,
}

impl hyper::service::Service<Request<Incoming>> for ConnectionService {
    type Response = Response<Given>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Given>, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let under_way = UnderWay::new(&self.between);
        let give = |answer: Answer| Ok(answer.map(|body| Given { body, _under_way: under_way }));
        let (parts, body) = request.into_parts();
        if let Some(refused) = self.between.refused.get() {
            let answer =
                self.last(StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::BAD_REQUEST), &refused.to_string());
            return Box::pin(std::future::ready(give(answer)));
        }
        let answer = match self.judge(&parts) {
            Ok((To { fleet, sessions }, host, Kind::Plain)) => {
                self.between.write_timeout.set(fleet.policy.timeouts.write);
                let is_http11 = parts.version == Version::HTTP_11;
                let caller = self.caller(&parts);
                let interims = is_http11.then(|| Rc::clone(&self.between.interims));
                let request = plain::Plain { parts, body, host, fleet, sessions, caller, interims };
                let (thread, between, taken) = (Rc::clone(&self.thread), Rc::clone(&self.between), Rc::clone(&self.taken));
                return Box::pin(async move {
                    match plain::answer(thread, request).await {
                        Outcome::Answer(answer) => {
                            between.begin_answer();
                            give(answer)
                        }
                        Outcome::Stream(stream) => {
                            between.is_taken.set(true);
                            taken.replace(Some(Taken::Stream(stream, is_http11)));
                            std::future::pending().await
                        }
                    }
                });
            }
            Ok((To { fleet, .. }, host, kind)) => {
                self.between.is_taken.set(true);
                let (caller, at) = (self.caller(&parts), self.thread.shared.clock.now());
                let asked = Asked { parts, kind, fleet, host, caller, at };
                self.taken.replace(Some(Taken::Session(Box::new(asked))));
                return Box::pin(std::future::pending());
            }
            Err(answer) => *answer,
        };
        Box::pin(std::future::ready(give(answer)))
    }
}

impl Body for Given {
    type Data = Bytes;
    type Error = <AnswerBody as Body>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl ConnectionService {
    /// Where the request goes and what it asks for, or what it is answered at once.
    fn judge(&self, parts: &Parts) -> Result<(To, String, Kind), Box<Answer>> {
        if parts.method == http::Method::CONNECT {
            return Err(Box::new(self.bad("method", StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not served here")));
        }
        let host = host_of(parts).map_err(|reason| Box::new(self.bad("host", StatusCode::BAD_REQUEST, reason)))?;
        if expects_more(parts) {
            let detail = "nothing but `100-continue` can be expected here";
            return Err(Box::new(self.bad("expect", StatusCode::EXPECTATION_FAILED, detail)));
        }
        match parts.uri.path() {
            // It asks about the server as a whole (RFC 9110 9.3.7), which is this gateway, and has no path that could be routed.
            "*" if parts.method == http::Method::OPTIONS => return Err(Box::new(no_content())),
            path if path.starts_with('/') => {}
            _ => {
                return Err(Box::new(self.bad(
                    "target",
                    StatusCode::BAD_REQUEST,
                    "the request target is neither a path nor a URL",
                )));
            }
        }
        let served = self.thread.shared.served.load();
        let Some(to) = served.routes.find(without_port(&host), parts.uri.path()) else {
            return Err(Box::new(problem(StatusCode::NOT_FOUND, "no route matches this host and path").map(AnswerBody::from)));
        };
        let kind = handshake::classify(&head_of(parts, &host)).map_err(|rejection| Box::new(self.rejected(rejection)))?;
        Ok((to.clone(), host, kind))
    }

    fn caller(&self, parts: &Parts) -> Caller {
        Caller::new(&parts.headers, self.peer, &self.thread.shared.served.load().trusted)
    }

    fn rejected(&self, rejection: Rejection) -> Answer {
        let status = StatusCode::from_u16(rejection.status).unwrap_or(StatusCode::BAD_REQUEST);
        if rejection.closes {
            return self.bad("handshake", status, rejection.reason);
        }
        self.thread.shared.metrics.bad_input("handshake");
        let mut answer = problem(status, rejection.reason).map(AnswerBody::from);
        if status == StatusCode::UPGRADE_REQUIRED {
            let headers = answer.headers_mut();
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        answer
    }

    fn bad(&self, reason: &'static str, status: StatusCode, detail: &str) -> Answer {
        self.thread.shared.metrics.bad_input(reason);
        self.last(status, detail)
    }

    /// An answer after which the connection closes: who knows what follows a head like this.
    fn last(&self, status: StatusCode, detail: &str) -> Answer {
        self.between.lingers.set(true);
        let mut answer = problem(status, detail).map(AnswerBody::from);
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        answer
    }
}

/// Something else than `100-continue` is expected (RFC 9110 10.1.1). hyper knows that one, and HTTP/1.0 none.
fn expects_more(parts: &Parts) -> bool {
    let mut expected = parts.headers.get_all(header::EXPECT).iter().flat_map(|v| v.as_bytes().split(|b| *b == b','));
    parts.version == Version::HTTP_11 && expected.any(|e| !e.trim_ascii().eq_ignore_ascii_case(b"100-continue"))
}

fn no_content() -> Answer {
    let mut answer = Response::new(AnswerBody::from(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
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
pub(crate) fn head_of<'a>(parts: &'a Parts, host: &'a str) -> RequestHead<'a> {
    RequestHead {
        method: parts.method.as_str(),
        target: parts.uri.path_and_query().map_or("/", |p| p.as_str()),
        host,
        is_http11: parts.version == Version::HTTP_11,
        fields: parts.headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect(),
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
