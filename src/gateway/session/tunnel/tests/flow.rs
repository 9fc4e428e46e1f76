//! Bytes, and ends that the peers begin.

use std::task::ready;

use holdline_core::policy::Timeouts;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::rig::*;
use crate::gateway::session::timer::{SET_UP_AFTER, TICK};
use crate::gateway::session::tunnel::*;

/// Takes few bytes at once, and is often not ready.
struct Grudging {
    io: TcpStream,
    rng: SmallRng,
}

impl Grudging {
    fn new(io: TcpStream) -> Self {
        Grudging { io, rng: SmallRng::seed_from_u64(11) }
    }
}

impl AsyncRead for Grudging {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let most = self.rng.random_range(1..300).min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
        let n = part.filled().len();
        buffer.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Grudging {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        if self.rng.random_bool(0.5) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = self.rng.random_range(1..200).min(bytes.len());
        Pin::new(&mut self.io).poll_write(cx, &bytes[..most])
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Transport for Grudging {
    fn reset_on_close(&self) {
        self.io.reset_on_close();
    }
}

/// Messages of all lengths, about `total` bytes of them.
fn messages(masked: bool, total: usize, seed: u64) -> Vec<u8> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut bytes = Vec::new();
    while bytes.len() < total {
        let longest = [10, 200, 3_000, 90_000][rng.random_range(0..4)];
        let payload: Vec<u8> = (0..rng.random_range(0..longest)).map(|_| rng.random()).collect();
        bytes.extend(message(masked, &payload));
    }
    bytes
}

/// Writes `bytes` in random pieces.
async fn write_in_pieces(socket: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8], seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while !bytes.is_empty() {
        let n = rng.random_range(1..5_000).min(bytes.len());
        socket.write_all(&bytes[..n]).await.unwrap();
        bytes = &bytes[n..];
        if rng.random_bool(0.3) {
            tokio::task::yield_now().await;
        }
    }
}

/// Both sides write and read at once.
async fn exchange(rig: &mut Rig, up: &[u8], down: &[u8]) {
    let (mut client_in, mut client_out) = rig.client.split();
    let (mut backend_in, mut backend_out) = rig.backend.split();
    let (mut got_up, mut got_down) = (vec![0; up.len()], vec![0; down.len()]);
    let (_, _, a, b) = tokio::join!(
        write_in_pieces(&mut client_out, up, 1),
        write_in_pieces(&mut backend_out, down, 2),
        backend_in.read_exact(&mut got_up),
        client_in.read_exact(&mut got_down),
    );
    a.unwrap();
    b.unwrap();
    assert!(got_up == up && got_down == down, "a byte was changed, lost or moved");
}

#[test]
fn it_is_small() {
    // tokio adds 104 bytes and rounds up to whole 128s: with one word more a session would cost 128 bytes more.
    // A socket has a word more where tokio is built with its multi-thread runtime, as for other packages of the workspace.
    assert_eq!(size_of::<Tunnel<Socket, Socket>>(), 2 * size_of::<TcpStream>() + 88);
}

#[tokio::test]
async fn bytes_go_both_ways_in_any_split() {
    local(async {
        let mut rig = Rig::new().await;
        let (up, down) = (messages(true, 2_000_000, 3), messages(false, 2_000_000, 4));
        exchange(&mut rig, &up, &down).await;
        part_politely(&mut rig).await;
        let counted = rig.ended(EndCause::ClientClosed).await;
        assert_eq!(counted, (up.len() as u64 + 8, down.len() as u64 + 4));
    })
    .await;
}

#[tokio::test]
async fn sockets_that_take_little_get_everything_in_order() {
    local(async {
        let mut rig = Rig::with(timeouts(), keepalive(), Early::default(), Grudging::new).await;
        let (up, down) = (messages(true, 100_000, 5), messages(false, 100_000, 6));
        exchange(&mut rig, &up, &down).await;
        assert!(rig.order(DrainMode::Close, EndCause::Drained));
        assert_eq!(expect_close(&mut rig.client).await, 1012);
        rig.client.write_all(&client_close(1012)).await.unwrap();
        assert_eq!(expect_masked_close(&mut rig.backend).await, Some(1001));
        drop(rig.backend);
        let (near, far) = pair().await;
        rig.backend = near;
        drop(far);
        assert_eq!(rest(&mut rig.client).await, b"");
        rig.client.shutdown().await.unwrap();
        rig.ended(EndCause::Drained).await;
    })
    .await;
}

#[tokio::test]
async fn what_was_read_ahead_comes_first() {
    local(async {
        let (up, down) = (message(true, b"early"), message(false, b"bird"));
        let early = Early { to_backend: &up, to_client: &down };
        let mut rig = Rig::with(timeouts(), keepalive(), early, |s| s).await;
        rig.client.write_all(&message(true, b"later")).await.unwrap();
        expect(&mut rig.backend, &[&up[..], &message(true, b"later")].concat()).await;
        expect(&mut rig.client, &down).await;
        part_politely(&mut rig).await;
        rig.ended(EndCause::ClientClosed).await;
    })
    .await;
}

#[tokio::test]
async fn a_close_of_the_backend_is_its_cause() {
    local(async {
        let mut rig = Rig::new().await;
        rig.backend.write_all(&close::frame(4000, "done", None)).await.unwrap();
        expect(&mut rig.client, &close::frame(4000, "done", None)).await;
        rig.client.write_all(&client_close(4000)).await.unwrap();
        expect(&mut rig.backend, &client_close(4000)).await;
        rig.backend.shutdown().await.unwrap();
        assert_eq!(rest(&mut rig.backend).await, b"");
        assert_eq!(rest(&mut rig.client).await, b"");
        rig.client.shutdown().await.unwrap();
        rig.ended(EndCause::BackendClosed).await;
    })
    .await;
}

#[tokio::test]
async fn nothing_follows_a_close() {
    local(async {
        let mut rig = Rig::new().await;
        let close = client_close(1000);
        rig.client.write_all(&[&close[..], &message(true, b"ghost")].concat()).await.unwrap();
        rig.client.shutdown().await.unwrap();
        assert_eq!(rest(&mut rig.backend).await, close);
        rig.backend.shutdown().await.unwrap();
        rig.ended(EndCause::ClientClosed).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_only_half_closes_still_hears_the_backend() {
    local(async {
        let mut rig = Rig::new().await;
        rig.client.write_all(&message(true, b"last words")).await.unwrap();
        rig.client.shutdown().await.unwrap();
        assert_eq!(rest(&mut rig.backend).await, message(true, b"last words"));
        assert_eq!(rig.seats.used(), 1, "the backend has not ended");
        rig.backend.write_all(&message(false, b"answer")).await.unwrap();
        rig.backend.shutdown().await.unwrap();
        assert_eq!(rest(&mut rig.client).await, message(false, b"answer"));
        rig.ended(EndCause::ClientLost).await;
    })
    .await;
}

impl Transport for tokio::io::DuplexStream {
    fn reset_on_close(&self) {}
}

#[tokio::test]
async fn a_close_that_meets_ours_reaches_the_backend_once() {
    local(async {
        let (mut client, client_far) = tokio::io::duplex(1 << 10);
        let (mut backend, backend_far) = tokio::io::duplex(1 << 10);
        let far = std::cell::RefCell::new(vec![backend_far, client_far]);
        let rig = Rig::with(timeouts(), keepalive(), Early::default(), |_| far.borrow_mut().pop().unwrap()).await;
        tokio::task::yield_now().await;
        // Both are there when the tunnel looks next.
        client.write_all(&client_close(1000)).await.unwrap();
        assert!(rig.order(DrainMode::Close, EndCause::Drained));
        let mut heard = vec![0; client_close(1000).len()];
        backend.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, client_close(1000));
        backend.write_all(&close::frame(1000, "", None)).await.unwrap();
        let (mut to_backend, mut to_client) = (Vec::new(), Vec::new());
        backend.read_to_end(&mut to_backend).await.unwrap();
        client.read_to_end(&mut to_client).await.unwrap();
        assert_eq!((to_backend, to_client), (vec![], close::frame(1000, "", None)));
        drop((client, backend));
        rig.ended(EndCause::ClientClosed).await;
    })
    .await;
}

#[tokio::test]
async fn a_half_closed_session_obeys_a_drain_at_the_end_of_a_frame() {
    local(async {
        let mut rig = Rig::new().await;
        rig.client.shutdown().await.unwrap();
        assert_eq!(rest(&mut rig.backend).await, b"");
        let frame = message(false, b"on and on");
        rig.backend.write_all(&frame[..5]).await.unwrap();
        expect(&mut rig.client, &frame[..5]).await;
        assert!(rig.order(DrainMode::Close, EndCause::Drained));
        assert!(!rig.order(DrainMode::Close, EndCause::Drained), "it is leaving already");
        rig.backend.write_all(&[&frame[5..], &frame[..]].concat()).await.unwrap();
        expect(&mut rig.client, &frame[5..]).await;
        assert_eq!(expect_close(&mut rig.client).await, 1012);
        assert_eq!(rest(&mut rig.client).await, b"");
        rig.backend.shutdown().await.unwrap();
        // Its end began before the drain.
        rig.ended(EndCause::ClientLost).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_session_has_its_session_limit() {
    local(async {
        let limits = Timeouts { session: Some(Duration::from_secs(60)), ..timeouts() };
        let mut rig = Rig::with(limits, keepalive(), Early::default(), |s| s).await;
        let opened = rig.clock.now();
        rig.client.shutdown().await.unwrap();
        let frame = message(false, b"on and on");
        let mut every = tokio::time::interval(Duration::from_secs(1));
        while rig.backend.write_all(&frame).await.is_ok() && !rig.task.is_finished() {
            every.tick().await;
        }
        assert!((60..75).contains(&rig.clock.now().since(opened).as_secs()));
        rig.ended(EndCause::ClientLost).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_connection_with_the_backend_is_set_up_once_the_session_has_lasted() {
    local(async {
        let sockets = std::cell::RefCell::new(Vec::new());
        let watched = |socket: TcpStream| {
            sockets.borrow_mut().push(SockRef::from(&socket).try_clone().unwrap());
            socket
        };
        let rig = Rig::with(timeouts(), keepalive(), Early::default(), watched).await;
        let probed = || sockets.borrow().iter().map(|s| s.keepalive().unwrap()).collect::<Vec<_>>();
        tokio::time::sleep(SET_UP_AFTER).await;
        assert_eq!(probed(), [false, false]);
        tokio::time::sleep(4 * TICK).await;
        // The client's was set up by its listener.
        assert_eq!(probed(), [false, true]);
        drop(rig);
    })
    .await;
}
