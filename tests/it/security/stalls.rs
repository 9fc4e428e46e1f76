//! Drains that meet a frame which stalls half-way: row 21. Whatever is begun is ended, or followed by nothing. How thousands fare that are
//! all in the middle of something is in `torn_frames`.

use std::net::SocketAddr;
use std::time::Duration;

use holdline::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Driven, HANDSHAKE, SWITCH, head};
use crate::support::backend::Backend;
use crate::support::holdline::Holdline;
use crate::support::soon;

/// What a drained client is told.
const TOLD: &[u8] = b"\x88\x09\x03\xf4drained";

const DEADLINE: Duration = Duration::from_secs(3);

/// A session of the backend that will be drained: both ends.
struct Session {
    client: TcpStream,
    backend: TcpStream,
}

/// Two sessions on backend `a`, and room for both on `b`.
struct Fleet {
    holdline: Holdline,
    stalls: Session,
    /// At a boundary, so it goes at once. Both are told in one step, on one thread: whoever sees it go knows that the other was told.
    witness: Session,
    _b: Backend,
}

impl Fleet {
    async fn start() -> Self {
        let (a, b) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Backend::start().await);
        let holdline = Holdline::start(&format!(
            "threads: 1\nfleets:\n  chat:\n    backends:\n      static: [ {{ id: a, address: \"{}\" }}, {{ id: b, address: \"{}\" }} ]\n    \
             capacity: 10\n    drain: {{ deadline: {}s }}\n",
            a.local_addr().unwrap(),
            b.address,
            DEADLINE.as_secs()
        ));
        holdline.until_ready().await;
        assert!(holdline.cli(&["drain", "b", "--wait"]).await.status.success());
        let driven = Driven(a);
        let (stalls, witness) = (Session::open(holdline.address, &driven).await, Session::open(holdline.address, &driven).await);
        assert!(holdline.cli(&["undrain", "b"]).await.status.success());
        Fleet { holdline, stalls, witness, _b: b }
    }

    /// Drains `a`, which starts the clock. Afterwards both sessions have been told to go, and the witness has gone.
    async fn drain(&mut self) -> Clock {
        let clock = Clock::start();
        assert!(self.holdline.cli(&["drain", "a", "--over", "1ms"]).await.status.success());
        expect(&mut self.witness.client, TOLD).await;
        self.witness.client.write_all(&masked(0x88, &1012u16.to_be_bytes())).await.unwrap();
        self.witness.backend.shutdown().await.unwrap();
        clock
    }

    /// The backend takes note of the ends. Both seats are free, and the session that stalled has ended for this cause.
    async fn ended(self, cause: &str) {
        let Fleet { holdline, stalls, witness, .. } = self;
        drop((stalls, witness));
        holdline.until("drained", |fleet| fleet["backends"][0]["phase"] == "drained" && fleet["sessions"] == 0).await;
        let ended = async |cause: &str| holdline.metric("holdline_sessions_ended_total", cause).await;
        let alike = if cause == "drained" { 2.0 } else { 1.0 };
        assert_eq!(ended(&format!("cause=\"{cause}\"")).await, alike);
        assert_eq!(ended("").await, 2.0);
    }
}

impl Session {
    async fn open(address: SocketAddr, driven: &Driven) -> Self {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(format!("{HANDSHAKE}\r\n").as_bytes()).await.unwrap();
        let (mut backend, _) = driven.request().await;
        backend.write_all(format!("{SWITCH}\r\n").as_bytes()).await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
        Session { client, backend }
    }
}

async fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut came = vec![0; bytes.len()];
    soon("the bytes", stream.read_exact(&mut came)).await.unwrap();
    assert_eq!(came, bytes);
}

/// All that still comes. A reset is an end as good.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut came = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut came)).await;
    came
}

/// A client's frame; the mask is zeros.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u16;
    match len {
        0..126 => [&[first, 0x80 | len as u8, 0, 0, 0, 0], payload].concat(),
        _ => [&[first, 0xfe][..], &len.to_be_bytes(), &[0; 4], payload].concat(),
    }
}

/// A backend's frame of a thousand bytes.
fn thousand() -> Vec<u8> {
    [&[0x82, 126, 0x03, 0xe8][..], &[b'x'; 1_000]].concat()
}

/// A Close of Holdline's to a backend, behind which nothing comes.
fn is_close_to_backend(bytes: &[u8], code: u16) -> bool {
    matches!(bytes, [0x88, 0x82, a, b, _, _, c, d] if [a ^ c, b ^ d] == code.to_be_bytes())
}

#[tokio::test]
async fn row_21_a_frame_of_the_backend_is_waited_for_and_nothing_follows_but_the_close() {
    let mut fleet = Fleet::start().await;
    let frame = thousand();
    fleet.stalls.backend.write_all(&frame[..500]).await.unwrap();
    expect(&mut fleet.stalls.client, &frame[..500]).await;
    fleet.drain().await;
    // The rest, and the front of another one, which came too late.
    fleet.stalls.backend.write_all(&[&frame[500..], &frame[..700]].concat()).await.unwrap();
    expect(&mut fleet.stalls.client, &[&frame[500..], TOLD].concat()).await;
    fleet.stalls.client.write_all(&masked(0x88, &1012u16.to_be_bytes())).await.unwrap();
    assert_eq!(rest(&mut fleet.stalls.client).await, b"");
    let heard = rest(&mut fleet.stalls.backend).await;
    assert!(is_close_to_backend(&heard, 1001), "{heard:02x?}");
    fleet.ended("drained").await;
}

#[tokio::test]
async fn row_21_a_frame_of_the_backend_that_does_not_end_is_followed_by_the_end_at_the_deadline() {
    let mut fleet = Fleet::start().await;
    let frame = thousand();
    fleet.stalls.backend.write_all(&frame[..500]).await.unwrap();
    expect(&mut fleet.stalls.client, &frame[..500]).await;
    // The other direction is in the middle of a frame too.
    let said = masked(0x82, &[b'y'; 300]);
    fleet.stalls.client.write_all(&said[..100]).await.unwrap();
    expect(&mut fleet.stalls.backend, &said[..100]).await;
    let clock = fleet.drain().await;
    let (to_client, to_backend) = tokio::join!(rest(&mut fleet.stalls.client), rest(&mut fleet.stalls.backend));
    assert_eq!((to_client, to_backend), (Vec::new(), Vec::new()));
    assert!(clock.now().since_start() >= DEADLINE, "{:?}", clock.now());
    fleet.ended("cut").await;
}

#[tokio::test]
async fn row_21_a_frame_of_the_client_is_waited_for_and_all_before_its_close_arrives() {
    let mut fleet = Fleet::start().await;
    let frame = masked(0x02, &[b'y'; 300]);
    fleet.stalls.client.write_all(&frame[..7]).await.unwrap();
    expect(&mut fleet.stalls.backend, &frame[..7]).await;
    fleet.drain().await;
    expect(&mut fleet.stalls.client, TOLD).await;
    let last = masked(0x80, b"the end of the message");
    fleet.stalls.client.write_all(&[&frame[7..], &last, &masked(0x88, &1012u16.to_be_bytes())].concat()).await.unwrap();
    expect(&mut fleet.stalls.backend, &[&frame[7..], &last].concat()).await;
    let heard = rest(&mut fleet.stalls.backend).await;
    assert!(is_close_to_backend(&heard, 1001), "{heard:02x?}");
    assert_eq!(rest(&mut fleet.stalls.client).await, b"");
    fleet.ended("drained").await;
}

#[tokio::test]
async fn row_21_a_frame_of_the_client_that_does_not_end_is_followed_by_the_end_at_the_deadline() {
    let mut fleet = Fleet::start().await;
    let frame = masked(0x82, &[b'y'; 300]);
    fleet.stalls.client.write_all(&frame[..100]).await.unwrap();
    expect(&mut fleet.stalls.backend, &frame[..100]).await;
    let clock = fleet.drain().await;
    expect(&mut fleet.stalls.client, TOLD).await;
    let (to_client, to_backend) = tokio::join!(rest(&mut fleet.stalls.client), rest(&mut fleet.stalls.backend));
    assert_eq!((to_client, to_backend), (Vec::new(), Vec::new()));
    assert!(clock.now().since_start() >= DEADLINE, "{:?}", clock.now());
    fleet.ended("drained").await;
}
