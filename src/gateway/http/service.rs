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
use holdline_core::wire::handshake::{Kind, Rejection};
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::body::AnswerBody;
use super::caller::Caller;
use super::judge::{Unfit, judge};
use super::opening::Asked;
use super::plain::{self, Outcome};
use super::tap::{Between, UnderWay};
use super::unasked::Unasked;
use crate::gateway::context::route::To;
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
        let answer = match judge(&self.thread, &parts) {
            Ok((To { fleet, sessions }, host, Kind::Plain)) => {
                self.between.write_timeout.set(fleet.policy.timeouts.write);
                let is_http11 = parts.version == Version::HTTP_11;
                let caller = Caller::new(&parts.headers, self.peer, &self.thread.shared.served.load().trusted);
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
                let asked = Asked::new(&self.thread, parts, kind, fleet, host, self.peer);
                self.taken.replace(Some(Taken::Session(Box::new(asked))));
                return Box::pin(std::future::pending());
            }
            Err(unfit) => self.turn_away(unfit),
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
    /// What a request is answered at once.
    fn turn_away(&self, unfit: Unfit) -> Answer {
        match unfit {
            Unfit::Bad { reason, status, detail } => self.bad(reason, status, detail),
            Unfit::AboutUs => no_content(),
            Unfit::Astray => problem(StatusCode::NOT_FOUND, "no route matches this host and path").map(AnswerBody::from),
            Unfit::Handshake(rejection) => self.rejected(rejection),
        }
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

fn no_content() -> Answer {
    let mut answer = Response::new(AnswerBody::from(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}
