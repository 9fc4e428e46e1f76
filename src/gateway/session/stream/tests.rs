//! The relay between real sockets, in paused time.

mod limits;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::drain::Ending;
use holdline_core::ids::SessionId;
use holdline_core::policy::{FleetPolicy, ProviderPolicy, Timeouts};
use holdline_core::seats::Seats;
use holdline_core::time::Moment;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet};

use super::*;
use crate::clock::Clock;
use crate::gateway::limits::permit::ConnectionPermit;
use crate::gateway::session::kind::SessionKind;
use crate::gateway::session::registry::{Candidate, keep_time};
use crate::gateway::session::seat::tests::taken_seat;
use crate::gateway::session::target::{Ended, SessionFilter, SessionObserver, SessionTarget};

const CHUNKED: head::Body = head::Body::Chunked;
const UNTIL_CLOSE: head::Body = head::Body::UntilClose;

/// What became of the session.
#[derive(Default)]
struct Record {
    ended: Mutex<Vec<(EndCause, u64)>>,
}

impl SessionObserver for Record {
    fn bytes(&self, _: u64, _: u64) {}

    fn ended(&self, end: &Ended<'_>) {
        self.ended.lock().push((end.cause, end.bytes_out));
    }
}

/// One relayed stream, seen from both ends.
struct Bench {
    client: TcpStream,
    backend: TcpStream,
    registry: Rc<Registry>,
    record: Arc<Record>,
    seats: Arc<Seats>,
    relay: JoinHandle<()>,
    opened: Moment,
    clock: Clock,
}

impl Bench {
    /// Relays a body of this framing, in chunks.
    async fn open(body: head::Body) -> Bench {
        Bench::open_with(Reframe::new(body, true, true), b"", |_| ()).await
    }

    async fn open_with(body: Reframe, early: &[u8], change: impl FnOnce(&mut Timeouts)) -> Bench {
        let enter = |client, backend, session, registry: &Rc<Registry>| {
            Stream::new(client, backend, Vec::new(), body, early, registry.enter(session))
        };
        Bench::start(enter, change).await
    }

    async fn start(
        relay: impl FnOnce(Socket, Socket, Session, &Rc<Registry>) -> Stream<Socket, Socket>,
        change: impl FnOnce(&mut Timeouts),
    ) -> Bench {
        let (client, client_side) = pair().await;
        let (backend, backend_side) = pair().await;
        let clock = Clock::start();
        let registry = Registry::new(clock, 1);
        tokio::task::spawn_local(keep_time(Rc::clone(&registry)));
        let record = Arc::new(Record::default());
        let (seat, seats) = taken_seat();
        let session = Session {
            id: SessionId(7),
            kind: SessionKind::Sse,
            client: SocketAddr::from(([127, 0, 0, 1], 9)),
            target: target(change, record.clone()),
            seat,
            permit: Some(ConnectionPermit::alone()),
        };
        let relay = tokio::task::spawn_local(relay(Socket::Plain(client_side), Socket::Plain(backend_side), session, &registry));
        Bench { client, backend, registry, record, seats, relay, opened: clock.now(), clock }
    }

    /// What the client reads, up to and with `end`.
    async fn read_until(&mut self, end: &str) -> String {
        let mut got = Vec::new();
        while !got.ends_with(end.as_bytes()) {
            got.push(self.client.read_u8().await.unwrap());
        }
        String::from_utf8(got).unwrap()
    }

    /// What the client reads to the end.
    async fn read_all(&mut self) -> String {
        let mut got = String::new();
        self.client.read_to_string(&mut got).await.unwrap();
        got
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.backend.write_all(bytes).await.unwrap();
    }

    fn order(&self, mode: DrainMode, cause: EndCause) -> u32 {
        let chosen: Vec<Candidate> = self.registry.candidates(&SessionFilter::default(), 1, mode);
        self.registry.end(&chosen, Ending { mode, cause })
    }

    fn elapsed(&self) -> Duration {
        self.clock.now().since(self.opened)
    }

    /// Both ends close, the relay is done: one cause, one seat back, nobody listed.
    async fn ends_by(mut self, cause: EndCause) {
        drop(self.client);
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = self.backend.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "an event stream's client says nothing to the backend");
        drop(self.backend);
        if !self.relay.is_finished() {
            self.relay.await.unwrap();
        }
        let causes: Vec<_> = self.record.ended.lock().iter().map(|(cause, _)| *cause).collect();
        assert_eq!((causes, self.seats.used(), self.registry.len()), (vec![cause], 0, 0));
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

fn target(change: impl FnOnce(&mut Timeouts), watch: Arc<dyn SessionObserver>) -> Arc<SessionTarget> {
    let FleetPolicy { mut timeouts, keepalive, .. } = crate::test_policy::fleet("feed", ProviderPolicy::Static(Vec::new()));
    change(&mut timeouts);
    SessionTarget::new("feed".into(), "b1".into(), &timeouts, &keepalive, watch)
}

fn reset(socket: TcpStream) {
    SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn an_idle_stream_is_small() {
    // Two sockets of 32 bytes, the registry's part, the state of the body; no buffer.
    assert!(size_of::<Stream<Socket, Socket>>() <= 200, "{}", size_of::<Stream<Socket, Socket>>());
}

/// Runs `test` as a data thread would.
async fn on_thread<F: Future<Output = ()>>(test: F) {
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn the_clients_head_comes_first() {
    on_thread(async {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 11\r\n\r\ndata: 1\n\n:\nmore";
        let response = head::parse(bytes).unwrap().unwrap();
        let (body, early) = (response.body().unwrap(), &bytes[response.len..]);
        let start = Start { response: &response, body, is_http11: true, set_cookie: Some("holdline=x"), early };
        let relay = |client, backend, session, registry: &Rc<Registry>| run(client, backend, start, session, registry);
        let mut bench = Bench::start(relay, |_| ()).await;
        let got = bench.read_all().await;
        let (head, body) = got.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nTransfer-Encoding: chunked\r\n") && !head.contains("Content-Length"), "{head}");
        assert!(head.contains("\r\nHoldline-Session: 0000000000000007\r\nSet-Cookie: holdline=x"), "{head}");
        assert_eq!(body, "b\r\ndata: 1\n\n:\n\r\n0\r\n\r\n");
        bench.ends_by(EndCause::BackendClosed).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_are_chunked_anew_and_a_complete_body_ends_properly() {
    on_thread(async {
        let mut bench = Bench::open(CHUNKED).await;
        bench.send(b"6\r\ndata: \r\n3\r\n1\n\n\r\n").await;
        assert_eq!(bench.read_until("\n\n\r\n").await, "9\r\ndata: 1\n\n\r\n");
        bench.send(b"0\r\n\r\nnoise").await;
        assert_eq!(bench.read_all().await, "0\r\n\r\n");
        bench.ends_by(EndCause::BackendClosed).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn early_bytes_come_first_and_old_clients_get_no_chunks() {
    on_thread(async {
        let body = Reframe::new(CHUNKED, false, true);
        let mut bench = Bench::open_with(body, b"9\r\ndata: 1\n\n\r\n9\r\nda", |_| ()).await;
        bench.send(b"ta: 2\n\n\r\n0\r\n\r\n").await;
        assert_eq!(bench.read_all().await, "data: 1\n\ndata: 2\n\n");
        bench.ends_by(EndCause::BackendClosed).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_of_a_length_may_be_over_at_once() {
    on_thread(async {
        let body = Reframe::new(head::Body::Length(3), true, true);
        let mut bench = Bench::open_with(body, b":\n\nnoise", |_| ()).await;
        assert_eq!(bench.read_all().await, "3\r\n:\n\n\r\n0\r\n\r\n");
        bench.ends_by(EndCause::BackendClosed).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_until_close_ends_with_a_fin() {
    on_thread(async {
        let mut bench = Bench::open(UNTIL_CLOSE).await;
        bench.send(b"data: 1\n\n").await;
        bench.backend.shutdown().await.unwrap();
        assert_eq!(bench.read_all().await, "9\r\ndata: 1\n\n\r\n0\r\n\r\n");
        bench.ends_by(EndCause::BackendClosed).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_dies_leaves_a_body_without_its_end() {
    on_thread(async {
        let mut bench = Bench::open(CHUNKED).await;
        bench.send(b"9\r\ndata: ").await;
        assert_eq!(bench.read_until("data: \r\n").await, "6\r\ndata: \r\n");
        reset(std::mem::replace(&mut bench.backend, pair().await.0));
        assert_eq!(bench.read_all().await, "");
        bench.ends_by(EndCause::BackendLost).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_dies_between_two_events_leaves_a_proper_end() {
    on_thread(async {
        for (sent, is_reset) in [(&b""[..], true), (b"9\r\ndata: 1\n\n\r\n", false), (b"9\r\ndata: 1\n\n\r\n", true)] {
            let mut bench = Bench::open(CHUNKED).await;
            bench.send(sent).await;
            let mut got = vec![0; sent.len()];
            bench.client.read_exact(&mut got).await.unwrap();
            assert_eq!(got, sent);
            let lost = std::mem::replace(&mut bench.backend, pair().await.0);
            match is_reset {
                true => reset(lost),
                false => drop(lost),
            }
            let goodbye = bench.read_all().await;
            let retry = goodbye.strip_suffix("\n\n\r\n0\r\n\r\n").and_then(|g| g.split_once("retry: ")).unwrap().1;
            assert!((500..=1500).contains(&retry.parse::<u32>().unwrap()), "{retry}");
            bench.ends_by(EndCause::BackendLost).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_breaks_its_framing_is_left() {
    on_thread(async {
        let mut bench = Bench::open(CHUNKED).await;
        bench.send(b"1\r\nab\r\n").await;
        assert_eq!(bench.read_all().await, "1\r\na\r\n");
        bench.ends_by(EndCause::ProtocolError).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_seat_is_back_when_the_backend_ended_after_the_client() {
    on_thread(async {
        let mut bench = Bench::open(CHUNKED).await;
        bench.client.shutdown().await.unwrap();
        assert_eq!(bench.backend.read(&mut [0; 8]).await.unwrap(), 0);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!((bench.seats.used(), bench.record.ended.lock().len()), (1, 0));
        bench.backend.shutdown().await.unwrap();
        bench.ends_by(EndCause::ClientClosed).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_writes_to_nobody_is_reset_at_its_next_byte() {
    on_thread(async {
        for cause in [EndCause::ClientClosed, EndCause::ClientLost, EndCause::Drained] {
            let mut bench = Bench::open(CHUNKED).await;
            match cause {
                EndCause::ClientClosed => bench.client.shutdown().await.unwrap(),
                EndCause::ClientLost => reset(std::mem::replace(&mut bench.client, pair().await.0)),
                _ => assert_eq!(bench.order(DrainMode::Close, cause), 1),
            }
            assert_eq!(bench.backend.read(&mut [0; 8]).await.unwrap(), 0);
            bench.send(b"1\r\na\r\n").await;
            let error = loop {
                // A paused clock moves on while nothing is ready, so this waits for the reset, not for a time.
                let ready = bench.backend.ready(tokio::io::Interest::ERROR).await.unwrap();
                match bench.backend.take_error().unwrap() {
                    Some(error) => break error,
                    None => assert!(ready.is_error()),
                }
            };
            assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
            assert_eq!((bench.seats.used(), bench.elapsed().as_secs()), (0, 0));
            bench.ends_by(cause).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_never_ends_is_reset_after_five_seconds() {
    on_thread(async {
        let mut bench = Bench::open(CHUNKED).await;
        reset(std::mem::replace(&mut bench.client, pair().await.0));
        (&mut bench.relay).await.unwrap();
        assert!((Duration::from_secs(5)..Duration::from_secs(6)).contains(&bench.elapsed()), "{:?}", bench.elapsed());
        assert_eq!(bench.backend.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(bench.backend.write_all(b"x").await.is_err() || bench.backend.read_u8().await.is_err());
        assert_eq!(*bench.record.ended.lock().first().map(|(cause, _)| cause).unwrap(), EndCause::ClientLost);
        assert_eq!(bench.seats.used(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_the_end_of_the_event() {
    on_thread(async {
        let mut bench = Bench::open(UNTIL_CLOSE).await;
        bench.send(b"data: 1\n").await;
        bench.read_until("data: 1\n\r\n").await;
        assert_eq!(bench.order(DrainMode::Close, EndCause::Drained), 1);
        assert_eq!(bench.order(DrainMode::Close, EndCause::Drained), 0, "told once");
        tokio::time::sleep(Duration::from_secs(60)).await;
        bench.send(b"data: 2\n\ndata: 3\n").await;
        let rest = bench.read_all().await;
        let (event, goodbye) = rest.split_once("data: 2\n\n\r\n").unwrap();
        let retry = goodbye.strip_suffix("\n\n\r\n0\r\n\r\n").and_then(|g| g.split_once("retry: ")).unwrap().1;
        assert_eq!(event, "9\r\n");
        assert!((500..=1500).contains(&retry.parse::<u32>().unwrap()), "{retry}");
        bench.ends_by(EndCause::Drained).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn between_two_events_a_drain_is_obeyed_at_once() {
    on_thread(async {
        let mut bench = Bench::open(CHUNKED).await;
        assert_eq!(bench.order(DrainMode::Close, EndCause::Rebalanced), 1);
        assert!(bench.read_all().await.contains("retry: "));
        assert!(bench.elapsed() < Duration::from_millis(100));
        bench.ends_by(EndCause::Rebalanced).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_told_all_and_never_closes_is_closed() {
    on_thread(async {
        let mut bench = Bench::open(CHUNKED).await;
        assert_eq!(bench.order(DrainMode::Close, EndCause::Shutdown), 1);
        assert!(bench.read_all().await.ends_with("0\r\n\r\n"));
        assert_eq!(bench.backend.read(&mut [0; 8]).await.unwrap(), 0);
        bench.backend.shutdown().await.unwrap();
        (&mut bench.relay).await.unwrap();
        assert!((Duration::from_secs(5)..Duration::from_secs(6)).contains(&bench.elapsed()), "{:?}", bench.elapsed());
        bench.ends_by(EndCause::Shutdown).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_waits_for_nothing() {
    on_thread(async {
        let mut bench = Bench::open(UNTIL_CLOSE).await;
        bench.send(b"data: 1\n").await;
        bench.read_until("data: 1\n\r\n").await;
        assert_eq!(bench.order(DrainMode::Close, EndCause::Drained), 1);
        assert_eq!(bench.order(DrainMode::Cut, EndCause::Cut), 1);
        assert_eq!(bench.read_all().await, "");
        bench.ends_by(EndCause::Cut).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn compressed_events_cannot_be_waited_for() {
    on_thread(async {
        let body = Reframe::new(CHUNKED, true, false);
        let mut bench = Bench::open_with(body, b"", |_| ()).await;
        assert_eq!(bench.order(DrainMode::Close, EndCause::Drained), 1);
        assert_eq!(bench.read_all().await, "");
        bench.ends_by(EndCause::Drained).await;
    })
    .await;
}
