//! Backends that go without a Close.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::rig::*;
use crate::gateway::session::tunnel::*;

/// Puts another socket in the place of `socket`, whose peer sees its end.
async fn replaced(socket: &mut TcpStream) -> TcpStream {
    std::mem::replace(socket, pair().await.0)
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_lost_between_two_frames_is_told_by_1012() {
    local(async {
        let fragment = [&[0x02, 4][..], b"half"].concat();
        for (sent, is_reset) in [(vec![], true), (vec![], false), (message(false, b"whole"), true), (fragment, false)] {
            let mut rig = Rig::new().await;
            rig.backend.write_all(&sent).await.unwrap();
            expect(&mut rig.client, &sent).await;
            let lost = replaced(&mut rig.backend).await;
            if is_reset {
                lost.reset_on_close();
            }
            drop(lost);
            assert_eq!(expect_close_for(&mut rig.client).await, (1012, "backend_lost".to_owned()));
            rig.client.write_all(&client_close(1012)).await.unwrap();
            assert_eq!(rest(&mut rig.client).await, b"");
            rig.client.shutdown().await.unwrap();
            rig.ended(EndCause::BackendLost).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_lost_inside_of_a_frame_leaves_no_second_one() {
    local(async {
        for is_reset in [true, false] {
            let mut rig = Rig::new().await;
            let half = &message(false, &[7; 1000])[..500];
            rig.backend.write_all(half).await.unwrap();
            expect(&mut rig.client, half).await;
            let lost = replaced(&mut rig.backend).await;
            if is_reset {
                lost.reset_on_close();
            }
            drop(lost);
            assert_eq!(rest(&mut rig.client).await, b"");
            rig.client.shutdown().await.unwrap();
            rig.ended(EndCause::BackendLost).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_slow_client_gets_all_frames_before_the_close() {
    local(async {
        let mut rig = Rig::new().await;
        let frames = message(false, &[7; 100_000]).repeat(100);
        let mut backend = replaced(&mut rig.backend).await;
        let write = async {
            backend.write_all(&frames).await.unwrap();
            drop(backend);
        };
        let read = async {
            expect(&mut rig.client, &frames).await;
            assert_eq!(expect_close(&mut rig.client).await, 1012);
        };
        tokio::join!(write, read);
        rig.client.write_all(&client_close(1012)).await.unwrap();
        assert_eq!(rest(&mut rig.client).await, b"");
        rig.client.shutdown().await.unwrap();
        rig.ended(EndCause::BackendLost).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_holds_no_seat_of_a_backend_that_broke() {
    local(async {
        let mut rig = Rig::new().await;
        let lost = replaced(&mut rig.backend).await;
        lost.reset_on_close();
        drop(lost);
        assert_eq!(expect_close(&mut rig.client).await, 1012);
        assert_eq!(rig.seats.used(), 0);
        let told_at = rig.clock.now();
        assert_eq!(rest(&mut rig.client).await, b"");
        let waited = rig.clock.now().since(told_at);
        assert!((STEP_MAX..STEP_MAX + Duration::from_secs(1)).contains(&waited), "{waited:?}");
        rig.ended(EndCause::BackendLost).await;
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_only_half_closes_still_hears_the_client() {
    local(async {
        let mut rig = Rig::new().await;
        rig.backend.shutdown().await.unwrap();
        assert_eq!(expect_close(&mut rig.client).await, 1012);
        let last = message(true, b"sent before the Close was read");
        rig.client.write_all(&[&last[..], &client_close(1012)].concat()).await.unwrap();
        expect(&mut rig.backend, &last).await;
        assert_eq!(expect_masked_close(&mut rig.backend).await, Some(1001));
        assert_eq!(rest(&mut rig.backend).await, b"");
        assert_eq!(rest(&mut rig.client).await, b"");
        rig.client.shutdown().await.unwrap();
        rig.ended(EndCause::BackendLost).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_has_ended_is_told_nothing() {
    local(async {
        let mut rig = Rig::new().await;
        rig.client.shutdown().await.unwrap();
        assert_eq!(rest(&mut rig.backend).await, b"");
        drop(replaced(&mut rig.backend).await);
        let mut got = Vec::new();
        rig.client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"");
        rig.ended(EndCause::ClientLost).await;
    })
    .await;
}
