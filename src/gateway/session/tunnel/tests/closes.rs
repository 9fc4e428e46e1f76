//! Closes that are sent in part, or are not answered: limits and orders hold for their session as for any other.

use holdline_core::policy::Timeouts;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::rig::*;
use crate::gateway::session::tunnel::*;

const HALF_SECOND: Duration = Duration::from_millis(500);

/// Sends `frame` twice a second until the socket takes no more.
async fn keep_sending(socket: &mut TcpStream, frame: &[u8]) {
    let mut every = tokio::time::interval(HALF_SECOND);
    while socket.write_all(frame).await.is_ok() {
        every.tick().await;
    }
}

/// Reads whole frames of `frame`, up to our Close; its code and reason.
async fn close_behind(socket: &mut TcpStream, frame: &[u8]) -> (u16, String) {
    loop {
        let mut first = [0];
        socket.peek(&mut first).await.unwrap();
        if first[0] != frame[0] {
            return expect_close_for(socket).await;
        }
        expect(socket, frame).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_of_a_close_frees_no_client_from_its_limits() {
    local(async {
        for cause in [EndCause::SessionTimeout, EndCause::IdleTimeout] {
            let limit = Some(Duration::from_secs(3));
            let limits = match cause {
                EndCause::SessionTimeout => Timeouts { session: limit, ..timeouts() },
                _ => Timeouts { idle: limit, ..timeouts() },
            };
            let mut rig = Rig::with(limits, keepalive(), Early::default(), |s| s).await;
            let opened = rig.clock.now();
            rig.client.write_all(&[0x88]).await.unwrap();
            expect(&mut rig.backend, &[0x88]).await;
            let frame = message(false, b"on and on");
            let sends = async {
                match cause {
                    EndCause::SessionTimeout => keep_sending(&mut rig.backend, &frame).await,
                    _ => std::future::pending().await,
                }
            };
            let told = tokio::select! {
                told = close_behind(&mut rig.client, &frame) => told,
                () = sends => unreachable!("the backend is read"),
            };
            assert_eq!(told, (1001, cause.as_str().to_owned()));
            assert_eq!(rig.clock.now().since(opened).as_secs(), 3);
            // Behind half a Close nothing of ours may follow.
            assert_eq!(rest(&mut rig.backend).await, b"");
            assert_eq!(rig.clock.now().since(opened).as_secs(), 8);
            rig.backend.shutdown().await.unwrap();
            rig.ended(cause).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_reaches_a_client_that_sent_half_a_close_and_its_other_half_is_the_backends() {
    local(async {
        let mut rig = Rig::new().await;
        let (close, frame) = (client_close(1000), message(false, b"on and on"));
        rig.client.write_all(&close[..3]).await.unwrap();
        expect(&mut rig.backend, &close[..3]).await;
        rig.backend.write_all(&frame[..4]).await.unwrap();
        expect(&mut rig.client, &frame[..4]).await;
        assert!(rig.order(DrainMode::Close, EndCause::Drained));
        rig.backend.write_all(&frame[4..]).await.unwrap();
        expect(&mut rig.client, &frame[4..]).await;
        assert_eq!(expect_close(&mut rig.client).await, 1012);
        rig.client.write_all(&close[3..]).await.unwrap();
        expect(&mut rig.backend, &close[3..]).await;
        rig.backend.write_all(&close::frame(1000, "", None)).await.unwrap();
        rig.backend.shutdown().await.unwrap();
        assert_eq!(rest(&mut rig.backend).await, b"", "one Close is enough");
        assert_eq!(rest(&mut rig.client).await, b"");
        rig.ended(EndCause::Drained).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn half_a_close_of_a_backend_frees_nobody_from_limits_and_orders() {
    local(async {
        for cut in [false, true] {
            let limits = Timeouts { session: Some(Duration::from_secs(3)), ..timeouts() };
            let mut rig = Rig::with(limits, keepalive(), Early::default(), |s| s).await;
            let opened = rig.clock.now();
            rig.backend.write_all(&[0x88]).await.unwrap();
            expect(&mut rig.client, &[0x88]).await;
            if cut {
                tokio::time::sleep(HALF_SECOND).await;
                assert!(rig.order(DrainMode::Close, EndCause::Drained));
                tokio::time::sleep(HALF_SECOND).await;
                assert!(rig.order(DrainMode::Cut, EndCause::Cut));
            }
            keep_sending(&mut rig.client, &message(true, b"on and on")).await;
            // There was no boundary for a Close of ours, which had five seconds.
            let took = rig.clock.now().since(opened).as_secs();
            assert!(if cut { took < 3 } else { (8..10).contains(&took) }, "{took} s");
            rig.backend.shutdown().await.unwrap();
            rig.ended(if cut { EndCause::Cut } else { EndCause::SessionTimeout }).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn half_a_close_and_an_end_are_a_loss() {
    local(async {
        let mut rig = Rig::new().await;
        rig.client.write_all(&client_close(1000)[..3]).await.unwrap();
        rig.client.shutdown().await.unwrap();
        assert_eq!(rest(&mut rig.backend).await, client_close(1000)[..3]);
        rig.backend.shutdown().await.unwrap();
        assert_eq!(rest(&mut rig.client).await, b"");
        rig.ended(EndCause::ClientLost).await;

        let mut rig = Rig::new().await;
        rig.backend.write_all(&[0x88]).await.unwrap();
        rig.backend.shutdown().await.unwrap();
        assert_eq!(rest(&mut rig.client).await, [0x88], "no second frame in the middle of one");
        rig.client.shutdown().await.unwrap();
        rig.ended(EndCause::BackendLost).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_streams_on_behind_a_clients_close_has_five_seconds() {
    local(async {
        let mut rig = Rig::new().await;
        let (closed, frame) = (rig.clock.now(), message(false, b"on and on"));
        rig.client.write_all(&client_close(1000)).await.unwrap();
        expect(&mut rig.backend, &client_close(1000)).await;
        let told = tokio::select! {
            told = close_behind(&mut rig.client, &frame) => told,
            () = keep_sending(&mut rig.backend, &frame) => unreachable!("the backend is read"),
        };
        assert_eq!((told.0, rig.clock.now().since(closed).as_secs()), (1001, 5));
        // It heard our end, and does not heed that either.
        assert_eq!(rest(&mut rig.backend).await, b"");
        keep_sending(&mut rig.backend, &frame).await;
        assert!((10..12).contains(&rig.clock.now().since(closed).as_secs()));
        rig.ended(EndCause::ClientClosed).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_talks_on_behind_a_backends_close_has_five_seconds() {
    local(async {
        let mut rig = Rig::new().await;
        let (closed, frame) = (rig.clock.now(), message(true, b"on and on"));
        rig.backend.write_all(&close::frame(4000, "", None)).await.unwrap();
        expect(&mut rig.client, &close::frame(4000, "", None)).await;
        keep_sending(&mut rig.client, &frame).await;
        assert!((5..7).contains(&rig.clock.now().since(closed).as_secs()));
        let up = rest(&mut rig.backend).await;
        let (said, close) = up.split_at(up.len() - 8);
        assert_eq!(said, frame.repeat(said.len() / frame.len()), "whole frames, then our Close");
        assert_eq!(close[..2], [0x88, 0x82]);
        rig.backend.shutdown().await.unwrap();
        rig.ended(EndCause::BackendClosed).await;
    })
    .await;
}

/// How long the backend's connection stands behind both Closes, if it does not end it itself.
async fn stands(rig: &mut Rig) -> Duration {
    let closed = rig.clock.now();
    rig.client.shutdown().await.unwrap();
    assert_eq!(rest(&mut rig.backend).await, b"");
    rig.clock.now().since(closed)
}

#[tokio::test(start_paused = true)]
async fn behind_both_closes_the_backend_ends_its_connection_first() {
    local(async {
        let second = Duration::from_secs(1)..Duration::from_millis(1_300);
        // Each way in which both Closes can have been sent, and the time that the backend has.
        let mut rig = Rig::new().await;
        rig.client.write_all(&client_close(1000)).await.unwrap();
        expect(&mut rig.backend, &client_close(1000)).await;
        rig.backend.write_all(&close::frame(1000, "", None)).await.unwrap();
        // The client does not wait for it.
        assert_eq!(rest(&mut rig.client).await, close::frame(1000, "", None));
        assert_eq!(rig.seats.used(), 1, "the backend may count it still");
        let stood = stands(&mut rig).await;
        assert!(second.contains(&stood), "{stood:?}");
        rig.backend.shutdown().await.unwrap();
        rig.ended(EndCause::ClientClosed).await;

        for (cause, time) in [(EndCause::Drained, second), (EndCause::Shutdown, Duration::ZERO..Duration::from_millis(1))] {
            let mut rig = Rig::new().await;
            assert!(rig.order(DrainMode::Close, cause));
            let code = expect_close(&mut rig.client).await;
            rig.client.write_all(&client_close(code)).await.unwrap();
            assert_eq!(expect_masked_close(&mut rig.backend).await, Some(1001));
            rig.backend.write_all(&close::frame(1001, "", None)).await.unwrap();
            let stood = stands(&mut rig).await;
            assert!(time.contains(&stood), "{cause:?}: {stood:?}");
            rig.backend.shutdown().await.unwrap();
            rig.ended(cause).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_ends_its_connection_first_frees_its_seat_at_once() {
    local(async {
        let mut rig = Rig::new().await;
        rig.client.write_all(&client_close(1000)).await.unwrap();
        expect(&mut rig.backend, &client_close(1000)).await;
        let closed = rig.clock.now();
        rig.backend.write_all(&close::frame(1000, "", None)).await.unwrap();
        rig.backend.shutdown().await.unwrap();
        assert_eq!(rest(&mut rig.backend).await, b"");
        let (clock, seats) = (rig.clock, rig.seats.clone());
        rig.client.shutdown().await.unwrap();
        rig.ended(EndCause::ClientClosed).await;
        assert_eq!((seats.used(), clock.now().since(closed)), (0, Duration::ZERO));
    })
    .await;
}
