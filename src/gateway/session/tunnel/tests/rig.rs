//! A tunnel between two real sockets, driven by a test.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdline_core::cause::EndCause;
use holdline_core::drain::Ending;
use holdline_core::ids::SessionId;
use holdline_core::policy::{DrainMode, KeepalivePolicy, Timeouts};
use holdline_core::seats::Seats;
use holdline_core::wire::close;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet};

use crate::clock::Clock;
use crate::gateway::limits::permit::ConnectionPermit;
use crate::gateway::session::kind::SessionKind;
use crate::gateway::session::registry::{Registry, keep_time};
use crate::gateway::session::seat::tests::taken_seat;
use crate::gateway::session::target::{Ended, Session, SessionFilter, SessionObserver, SessionTarget};
use crate::gateway::session::tunnel::*;

/// What was told of the session.
#[derive(Default)]
pub(super) struct Record {
    ends: Mutex<Vec<(EndCause, u64, u64)>>,
    bytes: Mutex<(u64, u64)>,
}

impl SessionObserver for Record {
    fn bytes(&self, from_clients: u64, to_clients: u64) {
        let mut bytes = self.bytes.lock();
        *bytes = (bytes.0 + from_clients, bytes.1 + to_clients);
    }

    fn ended(&self, end: &Ended<'_>) {
        self.ends.lock().push((end.cause, end.bytes_in, end.bytes_out));
    }
}

pub(super) struct Rig {
    pub(super) client: TcpStream,
    pub(super) backend: TcpStream,
    pub(super) registry: Rc<Registry>,
    pub(super) clock: Clock,
    pub(super) seats: Arc<Seats>,
    record: Arc<Record>,
    pub(super) task: JoinHandle<()>,
}

pub(super) fn timeouts() -> Timeouts {
    let secs = Duration::from_secs;
    Timeouts { connect: secs(2), handshake: secs(10), response: secs(60), write: secs(30), idle: None, session: None }
}

pub(super) fn keepalive() -> KeepalivePolicy {
    let secs = Duration::from_secs;
    KeepalivePolicy { tcp: Some(secs(60)), ping: None, timeout: secs(20) }
}

/// Runs a test on one thread, as a data thread would.
pub(super) async fn local<T>(test: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(test).await
}

pub(super) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

impl Rig {
    pub(super) async fn new() -> Rig {
        Rig::with(timeouts(), keepalive(), Early::default(), |s| s).await
    }

    /// `wrap` is put around the sockets that the tunnel holds.
    pub(super) async fn with<S: Transport + 'static>(
        timeouts: Timeouts,
        keepalive: KeepalivePolicy,
        early: Early<'_>,
        wrap: impl Fn(TcpStream) -> S,
    ) -> Rig {
        let clock = Clock::start();
        let registry = Registry::new(clock, 7);
        tokio::task::spawn_local(keep_time(Rc::clone(&registry)));
        let ((client, client_far), (backend_far, backend)) = (pair().await, pair().await);
        let record = Arc::new(Record::default());
        let (seat, seats) = taken_seat();
        let watch = Arc::clone(&record) as Arc<dyn SessionObserver>;
        let session = Session {
            id: SessionId(1),
            kind: SessionKind::WebSocket,
            client: client.local_addr().unwrap(),
            target: SessionTarget::new("chat".into(), "b1".into(), &timeouts, &keepalive, watch),
            seat,
            permit: Some(ConnectionPermit::alone()),
        };
        let tunnel = Tunnel::new(wrap(client_far), wrap(backend_far), early, registry.enter(session));
        let task = tokio::task::spawn_local(tunnel);
        Rig { client, backend, registry, clock, seats, record, task }
    }

    /// Orders the session to end; whether one was there to obey.
    pub(super) fn order(&self, mode: DrainMode, cause: EndCause) -> bool {
        let chosen = self.registry.candidates(&SessionFilter::default(), 1, mode);
        self.registry.end(&chosen, Ending { mode, cause }) == 1
    }

    /// Waits for the tunnel's end; it ended once, for this cause, and gave its seat back once.
    pub(super) async fn ended(self, cause: EndCause) -> (u64, u64) {
        // What aborted it is the test's own business.
        let _ = self.task.await;
        let ends = self.record.ends.lock().clone();
        assert_eq!(ends.iter().map(|e| e.0).collect::<Vec<_>>(), [cause]);
        assert_eq!(self.seats.used(), 0, "the seat was given back");
        assert!(self.registry.is_empty());
        assert_eq!(*self.record.bytes.lock(), (ends[0].1, ends[0].2));
        (ends[0].1, ends[0].2)
    }
}

/// A message frame with this payload, masked when it comes from a client.
pub(super) fn message(masked: bool, payload: &[u8]) -> Vec<u8> {
    let bit = if masked { 0x80 } else { 0 };
    let mut bytes = vec![0x82];
    match payload.len() {
        n @ 0..=125 => bytes.push(bit | n as u8),
        n @ 126..=0xffff => bytes.extend([&[bit | 126][..], &(n as u16).to_be_bytes()].concat()),
        n => bytes.extend([&[bit | 127][..], &(n as u64).to_be_bytes()].concat()),
    }
    if masked {
        bytes.extend([0; 4]);
    }
    bytes.extend(payload);
    bytes
}

/// A client's Close.
pub(super) fn client_close(code: u16) -> Vec<u8> {
    close::frame(code, "", Some([5, 6, 7, 8]))
}

pub(super) async fn expect(socket: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    socket.read_exact(&mut got).await.unwrap();
    assert!(got == bytes, "{} bytes differ", bytes.len());
}

/// Reads to the end, which must be a FIN; what came.
pub(super) async fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    socket.read_to_end(&mut got).await.unwrap();
    got
}

/// Reads a masked Close, and nothing before it; its code.
pub(super) async fn expect_masked_close(socket: &mut TcpStream) -> Option<u16> {
    let mut head = [0; 6];
    socket.read_exact(&mut head).await.unwrap();
    let [first, second, mask @ ..] = head;
    assert!(first == 0x88 && second & 0x80 != 0, "{head:?}");
    let mut payload = vec![0; usize::from(second & 0x7f)];
    socket.read_exact(&mut payload).await.unwrap();
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    payload.first_chunk().map(|code| u16::from_be_bytes(*code))
}

/// Reads our Close to the client, reason included; its code.
pub(super) async fn expect_close(socket: &mut TcpStream) -> u16 {
    expect_close_for(socket).await.0
}

/// The same with its reason.
pub(super) async fn expect_close_for(socket: &mut TcpStream) -> (u16, String) {
    let mut head = [0; 4];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(head[0], 0x88);
    let mut reason = vec![0; usize::from(head[1]) - 2];
    socket.read_exact(&mut reason).await.unwrap();
    (u16::from_be_bytes([head[2], head[3]]), String::from_utf8(reason).unwrap())
}

/// The client asks for the end and the backend answers; both then end, the backend first.
pub(super) async fn part_politely(rig: &mut Rig) {
    rig.client.write_all(&client_close(1000)).await.unwrap();
    expect(&mut rig.backend, &client_close(1000)).await;
    rig.backend.write_all(&close::frame(1000, "", None)).await.unwrap();
    expect(&mut rig.client, &close::frame(1000, "", None)).await;
    assert_eq!(rest(&mut rig.client).await, b"");
    rig.backend.shutdown().await.unwrap();
    assert_eq!(rest(&mut rig.backend).await, b"");
    rig.client.shutdown().await.unwrap();
}
