//! Losses, and ends that we begin.

use std::io::ErrorKind;
use std::task::ready;

use holdline_core::drain::Ending;
use holdline_core::policy::{KeepalivePolicy, Timeouts};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::rig::*;
use crate::gateway::session::target::SessionFilter;
use crate::gateway::session::tunnel::*;

#[tokio::test(start_paused = true)]
async fn a_clients_reset_is_a_loss_and_frees_the_seat() {
    local(async {
        let mut rig = Rig::new().await;
        rig.client.reset_on_close();
        let (near, _) = pair().await;
        drop(std::mem::replace(&mut rig.client, near));
        assert_eq!(rest(&mut rig.backend).await, b"");
        drop(std::mem::replace(&mut rig.backend, pair().await.0));
        rig.ended(EndCause::ClientLost).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_never_ends_is_reset_and_only_then_free() {
    local(async {
        let mut rig = Rig::new().await;
        rig.client.write_all(&client_close(1000)).await.unwrap();
        expect(&mut rig.backend, &client_close(1000)).await;
        rig.backend.write_all(&close::frame(1000, "", None)).await.unwrap();
        assert_eq!(rest(&mut rig.backend).await, b"");
        let ended_at = rig.clock.now();
        assert_eq!(rig.seats.used(), 1);
        let error = loop {
            // A paused clock moves on while nothing is ready, so this waits for the reset, not for a time.
            match rig.backend.ready(tokio::io::Interest::ERROR).await.map(|_| rig.backend.take_error()) {
                Ok(Ok(Some(error))) => break error,
                Ok(Ok(None)) => tokio::task::yield_now().await,
                Ok(Err(error)) | Err(error) => break error,
            }
        };
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
        assert!(rig.clock.now().since(ended_at) >= STEP_MAX);
        rig.ended(EndCause::ClientClosed).await;
    })
    .await;
}

#[tokio::test]
async fn a_drain_waits_for_the_end_of_the_frame_and_tears_nothing() {
    local(async {
        let mut rig = Rig::new().await;
        let big = message(false, &[7; 300_000]);
        let half = big.len() / 2;
        rig.backend.write_all(&big[..half]).await.unwrap();
        expect(&mut rig.client, &big[..half]).await;
        assert!(rig.order(DrainMode::Close, EndCause::Drained));
        assert!(!rig.order(DrainMode::Close, EndCause::Rebalanced), "it is leaving already");
        // Behind the frame more follows at once: none of it may reach the client.
        let more = [&big[half..], &message(false, b"too late"), &message(false, &[1; 5])[..4]].concat();
        let write = async { rig.backend.write_all(&more).await.unwrap() };
        let read = async {
            expect(&mut rig.client, &big[half..]).await;
            assert_eq!(expect_close(&mut rig.client).await, 1012);
        };
        tokio::join!(write, read);
        // What the client says before its Close still arrives, its Close is ours to answer.
        rig.client.write_all(&message(true, b"bye")).await.unwrap();
        expect(&mut rig.backend, &message(true, b"bye")).await;
        rig.client.write_all(&client_close(1012)).await.unwrap();
        assert_eq!(expect_masked_close(&mut rig.backend).await, Some(1001));
        assert_eq!(rest(&mut rig.client).await, b"");
        rig.client.shutdown().await.unwrap();
        assert_eq!(rig.seats.used(), 1);
        rig.backend.write_all(&[1; 3]).await.unwrap();
        rig.backend.write_all(&close::frame(1001, "", None)).await.unwrap();
        assert_eq!(rest(&mut rig.backend).await, b"");
        rig.backend.shutdown().await.unwrap();
        rig.ended(EndCause::Drained).await;
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_never_pauses_can_be_drained() {
    local(async {
        let mut rig = Rig::new().await;
        let frame = message(false, &[3; 10_007]);
        let (mut backend_in, mut backend_out) = rig.backend.split();
        let firehose = async {
            loop {
                backend_out.write_all(&frame).await.unwrap();
            }
        };
        let watch = async {
            expect(&mut rig.client, &frame).await;
            let chosen = rig.registry.candidates(&SessionFilter::default(), 1, DrainMode::Close);
            rig.registry.end(&chosen, Ending { mode: DrainMode::Close, cause: EndCause::Rebalanced });
            // Whole frames, then the Close.
            let mut head = [0; 4];
            loop {
                rig.client.read_exact(&mut head).await.unwrap();
                if head[0] == 0x88 {
                    break;
                }
                assert_eq!(head, frame[..4]);
                expect(&mut rig.client, &frame[4..]).await;
            }
            rig.client.write_all(&client_close(1012)).await.unwrap();
            backend_in.read_exact(&mut [0; 8]).await.unwrap();
        };
        tokio::select! {
            () = watch => {}
            () = firehose => unreachable!("a loop without an end"),
        }
        (rig.client, rig.backend) = pair().await;
        rig.ended(EndCause::Rebalanced).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_the_close_has_five_seconds() {
    local(async {
        let mut rig = Rig::new().await;
        assert!(rig.order(DrainMode::Close, EndCause::Shutdown));
        assert_eq!(expect_close(&mut rig.client).await, 1001);
        let asked_at = rig.clock.now();
        assert_eq!(expect_masked_close(&mut rig.backend).await, Some(1001));
        let waited = rig.clock.now().since(asked_at);
        assert!((STEP_MAX..STEP_MAX + Duration::from_secs(1)).contains(&waited), "{waited:?}");
        rig.backend.shutdown().await.unwrap();
        rig.ended(EndCause::Shutdown).await;
    })
    .await;
}

#[tokio::test]
async fn a_frame_that_stalls_is_cut_without_another_one_behind_it() {
    local(async {
        let mut rig = Rig::new().await;
        let half = &message(false, &[7; 1000])[..500];
        rig.backend.write_all(half).await.unwrap();
        expect(&mut rig.client, half).await;
        assert!(rig.order(DrainMode::Close, EndCause::Drained));
        tokio::task::yield_now().await;
        assert!(rig.order(DrainMode::Cut, EndCause::Cut), "the deadline of a drain cuts what is left");
        assert_eq!(rest(&mut rig.client).await, b"");
        assert_eq!(rest(&mut rig.backend).await, b"");
        rig.backend.shutdown().await.unwrap();
        rig.ended(EndCause::Cut).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn idle_and_old_sessions_are_asked_to_go() {
    local(async {
        for cause in [EndCause::IdleTimeout, EndCause::SessionTimeout] {
            let limit = Some(Duration::from_secs(60));
            let mut limits = timeouts();
            match cause {
                EndCause::IdleTimeout => limits.idle = limit,
                _ => limits.session = limit,
            }
            let mut rig = Rig::with(limits, keepalive(), Early::default(), |s| s).await;
            let opened_at = rig.clock.now();
            assert_eq!(expect_close(&mut rig.client).await, 1001);
            let waited = rig.clock.now().since(opened_at);
            assert!((Duration::from_secs(60)..Duration::from_millis(60_500)).contains(&waited), "{waited:?}");
            rig.client.write_all(&client_close(1001)).await.unwrap();
            assert_eq!(expect_masked_close(&mut rig.backend).await, Some(1001));
            rig.backend.shutdown().await.unwrap();
            rig.client.shutdown().await.unwrap();
            rig.ended(cause).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_too_old_in_the_middle_of_a_frame_is_cut_in_the_end() {
    local(async {
        let limits = Timeouts { session: Some(Duration::from_secs(60)), ..timeouts() };
        let mut rig = Rig::with(limits, keepalive(), Early::default(), |s| s).await;
        let half = &message(false, &[7; 1000])[..500];
        rig.backend.write_all(half).await.unwrap();
        assert_eq!(rest(&mut rig.client).await, half);
        assert_eq!(rest(&mut rig.backend).await, b"");
        rig.backend.shutdown().await.unwrap();
        rig.ended(EndCause::SessionTimeout).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_holds_the_backend_up_and_is_given_up() {
    local(async {
        let mut rig = Rig::new().await;
        let (mut backend_in, mut backend_out) = rig.backend.split();
        let mut written = 0_usize;
        let write = async {
            // One frame, so that it does not matter where a write was cut.
            backend_out.write_all(&[0x82, 127, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
            loop {
                written += backend_out.write(&[0; 100_000]).await.unwrap();
            }
        };
        let mut close = [0; 8];
        let told = tokio::select! {
            told = backend_in.read_exact(&mut close) => told,
            () = write => unreachable!("a loop without an end"),
        };
        assert_eq!(told.unwrap(), 8);
        assert_eq!(close[0], 0x88, "our Close, so that the backend learns of the end properly");
        assert!(written < 64 << 20, "{written} bytes were taken for a client that does not read");
        rig.backend = pair().await.0;
        rig.ended(EndCause::WriteTimeout).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_pinged_and_one_that_does_not_answer_is_given_up() {
    local(async {
        let pinging = KeepalivePolicy { ping: Some(Duration::from_secs(30)), ..keepalive() };
        let mut rig = Rig::with(timeouts(), pinging, Early::default(), |s| s).await;
        expect(&mut rig.client, &PING).await;
        let pong = [0x8a, 0x80, 0, 0, 0, 0];
        rig.client.write_all(&pong).await.unwrap();
        expect(&mut rig.backend, &pong).await;
        expect(&mut rig.client, &PING).await;
        let pinged_at = rig.clock.now();
        assert_eq!(expect_masked_close(&mut rig.backend).await, Some(1001));
        let waited = rig.clock.now().since(pinged_at);
        assert!((Duration::from_secs(20)..Duration::from_millis(20_500)).contains(&waited), "{waited:?}");
        rig.backend.shutdown().await.unwrap();
        rig.ended(EndCause::KeepaliveTimeout).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_owes_the_backend_a_pong_is_not_asked_again_and_is_given_up_as_well() {
    local(async {
        let pinging = KeepalivePolicy { ping: Some(Duration::from_secs(30)), ..keepalive() };
        let mut rig = Rig::with(timeouts(), pinging, Early::default(), |s| s).await;
        let ping = [0x89, 1, b'x'];
        rig.backend.write_all(&ping).await.unwrap();
        expect(&mut rig.client, &ping).await;
        // Whatever it says, it says something: its time begins anew.
        tokio::time::sleep(Duration::from_secs(40)).await;
        rig.client.write_all(&message(true, b"x")).await.unwrap();
        expect(&mut rig.backend, &message(true, b"x")).await;
        let heard_at = rig.clock.now();
        assert_eq!(expect_masked_close(&mut rig.backend).await, Some(1001));
        let waited = rig.clock.now().since(heard_at);
        assert!((Duration::from_secs(50)..Duration::from_millis(50_500)).contains(&waited), "{waited:?}");
        assert_eq!(rest(&mut rig.client).await, b"", "no Ping of ours");
        rig.backend.shutdown().await.unwrap();
        rig.ended(EndCause::KeepaliveTimeout).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_not_read_is_not_given_up_for_its_silence() {
    local(async {
        let secs = Duration::from_secs;
        let pinging = KeepalivePolicy { ping: Some(secs(5)), timeout: secs(2), ..keepalive() };
        let limits = Timeouts { write: secs(60), ..timeouts() };
        let mut rig = Rig::with(limits, pinging, Early::default(), |s| s).await;
        // The backend takes nothing until the socket to it is full.
        let filling = async {
            let big = message(true, &[7; 100_000]);
            loop {
                rig.client.write_all(&big).await.unwrap();
            }
        };
        assert!(tokio::time::timeout(secs(20), filling).await.is_err());
        assert!(!rig.task.is_finished());
        drop((rig.client, rig.backend));
        (rig.client, rig.backend) = pair().await;
        rig.ended(EndCause::ClientLost).await;
    })
    .await;
}

#[tokio::test]
async fn who_breaks_the_protocol_is_told_and_the_bad_frame_goes_nowhere() {
    local(async {
        let mut rig = Rig::new().await;
        let good = message(true, b"good");
        rig.client.write_all(&[&good[..], &message(false, b"unmasked")].concat()).await.unwrap();
        expect(&mut rig.backend, &good).await;
        assert_eq!(expect_masked_close(&mut rig.backend).await, Some(1001));
        assert_eq!(expect_close(&mut rig.client).await, 1002);
        drop((rig.client, rig.backend));
        (rig.client, rig.backend) = pair().await;
        rig.ended(EndCause::ProtocolError).await;

        let mut rig = Rig::new().await;
        rig.backend.write_all(&[0x83, 0]).await.unwrap();
        assert_eq!(expect_close(&mut rig.client).await, 1014);
        assert_eq!(expect_masked_close(&mut rig.backend).await, Some(1002));
        drop((rig.client, rig.backend));
        (rig.client, rig.backend) = pair().await;
        rig.ended(EndCause::ProtocolError).await;
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_that_is_dropped_resets_the_backend_and_frees_the_seat() {
    local(async {
        let mut rig = Rig::new().await;
        rig.client.write_all(&message(true, b"x")).await.unwrap();
        expect(&mut rig.backend, &message(true, b"x")).await;
        rig.task.abort();
        let error = rig.backend.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        rig.ended(EndCause::Cut).await;
    })
    .await;
}

/// Breaks in the way that no code should.
struct Panicking(TcpStream);

impl AsyncRead for Panicking {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut self.0).poll_read(cx, buffer))?;
        assert!(buffer.filled().is_empty(), "a bug");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Panicking {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Transport for Panicking {
    fn reset_on_close(&self) {
        self.0.reset_on_close();
    }
}

#[tokio::test]
async fn a_panic_ends_one_session_and_leaks_no_seat() {
    local(async {
        let mut rig = Rig::with(timeouts(), keepalive(), Early::default(), Panicking).await;
        rig.client.write_all(&message(true, b"boo")).await.unwrap();
        let error = rig.backend.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        rig.ended(EndCause::Cut).await;
    })
    .await;
}
