//! Long-poll clients: one session each, whatever comes between two polls.

use std::net::SocketAddr;
use std::time::Duration;

use holdline_core::cause::{EndCause, Phase};
use holdline_core::policy::Affinity;
use holdline_core::snapshot::BackendView;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::support::*;
use crate::config::units::Sessions;
use crate::gateway::admission::fleet::tests::ready;
use crate::gateway::{SessionFilter, SessionInfo, SessionKind};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const DENIED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
const FAILED: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";

/// A request at a backend, which waits for the test's answer.
struct Asked {
    head: String,
    answer: oneshot::Sender<&'static str>,
}

impl Asked {
    fn session(&self) -> String {
        field(&self.head, "holdline-session")
    }

    /// Who asked has gone, if this fails.
    fn answer(self, with: &'static str) {
        let _ = self.answer.send(with);
    }
}

/// A backend that lets the test answer each of its requests.
struct Backend {
    address: SocketAddr,
    asked: mpsc::Receiver<Asked>,
    serving: tokio::task::JoinHandle<()>,
}

impl Backend {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asks, asked) = mpsc::channel(64);
        let serving = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(stream, asks.clone()));
            }
        });
        Backend { address, asked, serving }
    }

    async fn next(&mut self) -> Asked {
        within(self.asked.recv()).await.unwrap()
    }

    /// Its process is gone, with all connections.
    async fn die(self) {
        self.serving.abort();
        assert!(self.serving.await.unwrap_err().is_cancelled());
    }
}

async fn serve(mut stream: TcpStream, asks: mpsc::Sender<Asked>) {
    loop {
        let head = read_head(&mut stream).await;
        if head.is_empty() {
            return;
        }
        let (answer, answered) = oneshot::channel();
        let _ = asks.send(Asked { head, answer }).await;
        let Ok(answer) = answered.await else { return };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn by_header(policy: &mut holdline_core::policy::FleetPolicy) {
    policy.affinity = Affinity::Header { name: "x-user".into() };
}

fn field(head: &str, name: &str) -> String {
    let line = head.lines().find(|l| l.to_ascii_lowercase().starts_with(&format!("{name}: ")));
    line.map_or_else(String::new, |l| l.split_once(": ").unwrap().1.to_owned())
}

/// Sends a poll with these fields and leaves the answer to be read.
async fn send(rig: &Rig, fields: &str) -> TcpStream {
    let mut socket = TcpStream::connect(rig.address).await.unwrap();
    socket.write_all(format!("GET /poll HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n").as_bytes()).await.unwrap();
    socket
}

async fn read(mut socket: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is an end like any.
    let _ = within(socket.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A poll that the backend answers at once; the session's id, which both sides were told.
async fn polled(rig: &Rig, backend: &mut Backend, fields: &str) -> (String, String) {
    let socket = send(rig, fields).await;
    let asked = backend.next().await;
    let id = asked.session();
    asked.answer(OK);
    let answer = read(socket).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok"), "{answer}");
    assert_eq!(field(&answer, "holdline-session"), id);
    assert_eq!(id.len(), 16, "{id}");
    (id, answer)
}

async fn sessions(rig: &Rig) -> Vec<SessionInfo> {
    rig.gateway.sessions(SessionFilter::default()).await
}

/// How many sessions ended for this cause.
fn ended(rig: &Rig, cause: EndCause) -> u64 {
    rig.counts().totals.ended[cause as usize]
}

fn ended_at_all(rig: &Rig) -> u64 {
    rig.counts().totals.ended.iter().sum()
}

#[tokio::test]
async fn a_client_that_polls_again_is_one_session() {
    let (rig, mut a) = (Rig::routed(Sessions::Polls, by_header), Backend::start().await);
    rig.adopt(vec![ready("a", a.address, 9)]);
    let (ann, _) = polled(&rig, &mut a, "X-User: ann\r\n").await;
    let (bob, _) = polled(&rig, &mut a, "X-User: bob\r\nHoldline-Session: forged\r\n").await;
    assert_ne!(ann, bob);
    for _ in 0..3 {
        assert_eq!(polled(&rig, &mut a, "X-User: ann\r\n").await.0, ann);
    }
    assert_eq!((rig.used(), rig.counts().admitted_total, rig.polling()), (2, 2, 2));
    let of_ann = |listed: Vec<SessionInfo>| listed.into_iter().find(|s| s.id.to_string() == ann).unwrap();
    let listed = of_ann(sessions(&rig).await);
    assert_eq!((listed.kind, listed.kind.as_str(), listed.backend.as_str()), (SessionKind::LongPoll, "long_poll", "a"));
    // The keeper hands bytes on with its tick.
    let four_answers = async {
        while of_ann(sessions(&rig).await).bytes_out != 8 {
            tokio::task::yield_now().await;
        }
    };
    within(four_answers).await;
    assert!(rig.tells(r#"holdline_handshakes_total{fleet="chat",result="opened"} 2"#));
}

#[tokio::test]
async fn polls_that_overlap_share_one_seat_from_the_start() {
    let (rig, mut a) = (Rig::routed(Sessions::Polls, by_header), Backend::start().await);
    rig.adopt(vec![ready("a", a.address, 0)]);
    let mut waiting = vec![send(&rig, "X-User: ann\r\n").await];
    rig.until("one in the queue", |c| c.queued == 1).await;
    for _ in 0..4 {
        waiting.push(send(&rig, "X-User: ann\r\n").await);
    }
    rig.until("five requests", |c| c.requests == 5).await;
    assert_eq!(rig.counts().queued, 1, "the others wait for the first");
    rig.adopt(vec![ready("a", a.address, 1)]);
    let mut asked = Vec::new();
    for _ in 0..5 {
        asked.push(a.next().await);
    }
    let id = asked[0].session();
    assert!(asked.iter().all(|one| one.session() == id));
    assert_eq!(rig.used(), 1);
    asked.into_iter().for_each(|one| one.answer(OK));
    for socket in waiting {
        assert_eq!(field(&read(socket).await, "holdline-session"), id);
    }
    assert_eq!((rig.used(), rig.counts().admitted_total), (1, 1));
}

#[tokio::test]
async fn who_waits_behind_a_refusal_is_refused_with_it() {
    let change = |p: &mut holdline_core::policy::FleetPolicy| {
        by_header(p);
        p.queue.timeout = Duration::from_millis(300);
    };
    let (rig, a) = (Rig::routed(Sessions::Polls, change), Backend::start().await);
    rig.adopt(vec![BackendView { phase: Phase::Suspect, ..ready("a", a.address, 0) }]);
    let (first, second) = tokio::join!(rig.raw(POLL_OF_ANN), rig.raw(POLL_OF_ANN));
    for answer in [first, second] {
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert_eq!(field(&answer, "holdline-cause"), "no_backend");
    }
    assert_eq!(rig.polling(), 0);
    assert!(rig.tells(r#"holdline_handshakes_total{fleet="chat",result="refused"} 1"#));
}

const POLL_OF_ANN: &str = "GET /poll HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-User: ann\r\n\r\n";

#[tokio::test]
async fn an_error_as_the_first_answer_begins_no_session() {
    let (rig, mut a) = (Rig::routed(Sessions::Polls, by_header), Backend::start().await);
    rig.adopt(vec![ready("a", a.address, 1)]);
    for answer in [DENIED, FAILED, "no answer at all\r\n\r\n"] {
        let socket = send(&rig, "X-User: ann\r\n").await;
        a.next().await.answer(answer);
        assert!(!read(socket).await.starts_with("HTTP/1.1 200 "));
        rig.until("free", |c| c.backends[0].used == 0).await;
    }
    eventually("forgotten", || rig.polling() == 0).await;
    assert_eq!(ended_at_all(&rig), 0, "what never was a session does not end");
    // Once it is one, it takes more than an error to end it.
    let (id, _) = polled(&rig, &mut a, "X-User: ann\r\n").await;
    let socket = send(&rig, "X-User: ann\r\n").await;
    a.next().await.answer(FAILED);
    assert_eq!(field(&read(socket).await, "holdline-session"), id);
    assert_eq!(polled(&rig, &mut a, "X-User: ann\r\n").await.0, id);
}

#[tokio::test]
async fn a_cookie_tells_clients_apart() {
    let (rig, mut a) = (
        Rig::routed(Sessions::Polls, |p| p.affinity = Affinity::Cookie { name: "hl".into(), keys: None }),
        Backend::start().await,
    );
    rig.adopt(vec![ready("a", a.address, 9)]);
    let (ann, answer) = polled(&rig, &mut a, "").await;
    let cookie = field(&answer, "set-cookie").split(';').next().unwrap().to_owned();
    assert!(cookie.starts_with("hl=") && cookie.contains('.'), "{cookie}");
    let (bob, _) = polled(&rig, &mut a, "").await;
    assert_ne!(ann, bob);
    for _ in 0..2 {
        let (again, answer) = polled(&rig, &mut a, &format!("Cookie: {cookie}\r\n")).await;
        assert_eq!((again, field(&answer, "set-cookie")), (ann.clone(), String::new()));
    }
    // One that nobody gave out is nobody's.
    let (kept, last) = cookie.split_at(cookie.len() - 1);
    let other = if last == "A" { "B" } else { "A" };
    let (forged, _) = polled(&rig, &mut a, &format!("Cookie: {kept}{other}\r\n")).await;
    assert!(forged != ann && forged != bob);
    assert_eq!(rig.used(), 3);
}

#[tokio::test]
async fn without_the_key_a_request_is_a_session_of_its_own() {
    let (rig, mut a) = (Rig::routed(Sessions::Polls, by_header), Backend::start().await);
    rig.adopt(vec![ready("a", a.address, 1)]);
    let (first, _) = polled(&rig, &mut a, "").await;
    rig.until("free with its answer", |c| c.backends[0].used == 0).await;
    let (second, _) = polled(&rig, &mut a, "").await;
    assert_ne!(first, second);
    rig.until("free with its answer", |c| c.backends[0].used == 0).await;
    assert_eq!(ended(&rig, EndCause::BackendClosed), 2);
    let socket = send(&rig, "").await;
    a.next().await.answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nno");
    eventually("it holds a seat", || rig.used() == 1).await;
    a.die().await;
    assert!(read(socket).await.ends_with("no"));
    rig.until("free", |c| c.backends[0].used == 0).await;
    assert_eq!(ended(&rig, EndCause::BackendLost), 1);
}

#[tokio::test]
async fn told_to_leave_it_goes_between_two_polls() {
    let (rig, mut a, mut b) = (Rig::routed(Sessions::Polls, by_header), Backend::start().await, Backend::start().await);
    rig.adopt(vec![ready("a", a.address, 9)]);
    let (id, _) = polled(&rig, &mut a, "X-User: ann\r\n").await;
    let (_idle, _) = polled(&rig, &mut a, "X-User: bob\r\n").await;
    let hanging = send(&rig, "X-User: ann\r\n").await;
    let asked = a.next().await;
    rig.adopt(vec![in_phase(ready("a", a.address, 9), Phase::Draining), ready("b", b.address, 9)]);
    assert_eq!(rig.gateway.end_sessions(&"chat".into(), &"a".into(), close(9, EndCause::Drained)).await, 2);
    rig.until("who has no poll goes at once", |c| c.backends[0].used == 1 && c.backends[0].moved_total == 1).await;
    assert_eq!(rig.gateway.end_sessions(&"chat".into(), &"a".into(), close(9, EndCause::Drained)).await, 0);
    // Each thread's keeper obeys with its next tick.
    eventually("neither takes polls", || rig.polling() == 0).await;
    // The next poll is placed elsewhere while the last one goes on.
    let (elsewhere, _) = polled(&rig, &mut b, "X-User: ann\r\n").await;
    assert_ne!(elsewhere, id);
    asked.answer(OK);
    let answer = read(hanging).await;
    assert!(answer.ends_with("\r\n\r\nok") && field(&answer, "holdline-session") == id, "{answer}");
    rig.until("gone", |c| c.backends[0].used == 0 && c.backends[0].moved_total == 2 && c.backends[1].used == 1).await;
    assert_eq!(ended(&rig, EndCause::Drained), 2);
    assert_eq!(polled(&rig, &mut b, "X-User: ann\r\n").await.0, elsewhere);
}

#[tokio::test]
async fn a_cut_breaks_polls_off() {
    let (rig, mut a) = (Rig::routed(Sessions::Polls, by_header), Backend::start().await);
    rig.adopt(vec![ready("a", a.address, 9)]);
    polled(&rig, &mut a, "X-User: ann\r\n").await;
    let unanswered = send(&rig, "X-User: ann\r\n").await;
    let _hangs = a.next().await;
    let mut half = send(&rig, "X-User: ann\r\n").await;
    a.next().await.answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nno");
    within(read_head(&mut half)).await;
    assert_eq!(rig.gateway.end_sessions(&"chat".into(), &"a".into(), cut(9)).await, 1);
    let answer = read(unanswered).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && field(&answer, "holdline-cause") == "draining", "{answer}");
    assert_eq!(read(half).await, "no", "and then the end");
    rig.until("gone", |c| c.backends[0].used == 0 && c.backends[0].cut_total == 1 && c.requests == 0).await;
    assert_eq!(ended(&rig, EndCause::Cut), 1);
}

#[tokio::test]
async fn a_lost_backend_ends_the_session_and_its_poll_begins_another() {
    let (rig, mut a, mut b) = (Rig::routed(Sessions::Polls, by_header), Backend::start().await, Backend::start().await);
    rig.adopt(vec![ready("a", a.address, 9)]);
    let (id, _) = polled(&rig, &mut a, "X-User: ann\r\n").await;
    rig.adopt(vec![ready("a", a.address, 9), ready("b", b.address, 9)]);
    a.die().await;
    let (other, _) = polled(&rig, &mut b, "X-User: ann\r\n").await;
    assert_ne!(other, id);
    rig.until("lost", |c| (c.backends[0].used, c.backends[1].used) == (0, 1)).await;
    assert_eq!(ended(&rig, EndCause::BackendLost), 1);
    // One that goes takes its sessions along, polled or not.
    rig.adopt(vec![]);
    rig.until("gone", |c| c.backends.iter().all(|b| b.used == 0)).await;
    assert_eq!((ended(&rig, EndCause::BackendLost), rig.polling()), (2, 0));
}

#[tokio::test]
async fn a_client_that_aborts_is_gone_only_before_its_first_answer() {
    let (rig, mut a) = (Rig::routed(Sessions::Polls, by_header), Backend::start().await);
    rig.adopt(vec![ready("a", a.address, 9)]);
    let first = send(&rig, "X-User: ann\r\n").await;
    let _hangs = a.next().await;
    assert_eq!(rig.used(), 1);
    drop(first);
    rig.until("given back", |c| c.backends[0].used == 0 && c.requests == 0).await;
    assert!(rig.tells(r#"holdline_handshakes_total{fleet="chat",result="gone"} 1"#));
    let (id, _) = polled(&rig, &mut a, "X-User: ann\r\n").await;
    let later = send(&rig, "X-User: ann\r\n").await;
    let _hangs = a.next().await;
    drop(later);
    rig.until("no request", |c| c.requests == 0).await;
    assert_eq!((polled(&rig, &mut a, "X-User: ann\r\n").await.0, rig.used()), (id, 1));
    assert_eq!(ended_at_all(&rig), 0);
}

#[tokio::test]
async fn other_methods_and_protocols_follow_the_session_and_are_no_polls() {
    let (rig, mut a, mut b) = (Rig::routed(Sessions::Polls, by_header), Backend::start().await, Backend::start().await);
    rig.adopt(vec![ready("a", a.address, 9)]);
    polled(&rig, &mut a, "X-User: ann\r\n").await;
    // Of five backends most keys have another first in their order.
    let views = (0..4).map(|n| ready(&format!("b{n}"), b.address, 9)).chain([ready("a", a.address, 9)]);
    rig.adopt(views.collect());
    for method in ["DELETE", "OPTIONS", "PUT", "HEAD"] {
        let request = POLL_OF_ANN.replace("GET", method);
        let (answer, ()) = tokio::join!(rig.raw(&request), async {
            let asked = a.next().await;
            assert_eq!(asked.session(), "", "{method}");
            asked.answer("HTTP/1.1 204 No Content\r\n\r\n");
        });
        assert!(answer.starts_with("HTTP/1.1 204 ") && field(&answer, "holdline-session").is_empty(), "{answer}");
    }
    assert_eq!(rig.used(), 1);
    let upgrade = HANDSHAKE.replace("Sec-WebSocket-Protocol", "X-User: ann\r\nSec-WebSocket-Protocol");
    let (answer, ()) = tokio::join!(rig.raw(&upgrade), async { a.next().await.answer(DENIED) });
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(b.asked.try_recv().is_err());
}

#[tokio::test]
async fn a_gateway_that_stops_takes_leave_of_them() {
    let (rig, mut a) = (Rig::routed(Sessions::Polls, by_header), Backend::start().await);
    rig.adopt(vec![ready("a", a.address, 9)]);
    polled(&rig, &mut a, "X-User: ann\r\n").await;
    let hanging = send(&rig, "X-User: bob\r\n").await;
    let asked = a.next().await;
    let stopped = rig.gateway.shutdown(Duration::from_secs(10));
    let ((), answer) = tokio::join!(within(stopped), async {
        rig.until("who has no poll is gone", |c| c.backends[0].used == 1).await;
        asked.answer(OK);
        read(hanging).await
    });
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    assert_eq!(ended(&rig, EndCause::Shutdown), 2);
}

#[tokio::test]
async fn a_hundred_clients_with_overlapping_polls_are_a_hundred_sessions() {
    const CLIENTS: usize = 100;
    let (rig, a) = (Rig::routed(Sessions::Polls, by_header), Backend::start().await);
    rig.adopt(vec![ready("a", a.address, CLIENTS as u32 / 2), ready("b", a.address, CLIENTS as u32 / 2)]);
    let Backend { mut asked, serving: _serving, .. } = a;
    let answering = tokio::spawn(async move {
        while let Some(one) = asked.recv().await {
            one.answer(OK);
        }
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let address = rig.address;
            tokio::spawn(async move {
                let poll = format!("GET /poll HTTP/1.1\r\nHost: h\r\nX-User: user{n}\r\n\r\n");
                let mut ids = std::collections::BTreeSet::new();
                let (mut one, mut other) =
                    (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
                for _ in 0..10 {
                    one.write_all(poll.as_bytes()).await.unwrap();
                    other.write_all(poll.as_bytes()).await.unwrap();
                    for socket in [&mut one, &mut other] {
                        let head = within(read_head(socket)).await;
                        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                        ids.insert(field(&head, "holdline-session"));
                        within(socket.read_exact(&mut [0; 2])).await.unwrap();
                    }
                }
                ids
            })
        })
        .collect();
    let mut ids = std::collections::BTreeSet::new();
    for client in clients {
        let own = client.await.unwrap();
        assert_eq!(own.len(), 1, "{own:?}");
        ids.extend(own);
        let used: Vec<_> = rig.counts().backends.iter().map(|b| b.used).collect();
        assert!(used.iter().all(|used| *used <= CLIENTS as u32 / 2), "{used:?}");
    }
    assert_eq!(ids.len(), CLIENTS);
    assert_eq!((rig.used(), rig.counts().admitted_total, rig.polling()), (CLIENTS as u32, CLIENTS as u64, CLIENTS));
    rig.gateway.end_sessions(&"chat".into(), &"a".into(), close(u32::MAX, EndCause::Rebalanced)).await;
    rig.gateway.end_sessions(&"chat".into(), &"b".into(), close(u32::MAX, EndCause::Rebalanced)).await;
    rig.until("free", |c| c.backends.iter().all(|b| b.used == 0) && c.ended_total == CLIENTS as u64).await;
    assert_eq!(rig.polling(), 0);
    answering.abort();
}
