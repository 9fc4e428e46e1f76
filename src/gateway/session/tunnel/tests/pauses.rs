//! A thread that was held up (a stopped process, a machine that slept) reads its sockets before it obeys timeouts.

use holdline_core::policy::{KeepalivePolicy, Timeouts};
use tokio::io::AsyncWriteExt;

use super::rig::*;
use crate::gateway::session::tunnel::*;

/// The clock goes on, the thread does not.
const PAUSE: Duration = Duration::from_secs(25);

#[tokio::test(start_paused = true)]
async fn who_spoke_while_the_thread_stood_still_was_not_idle() {
    local(async {
        let idle = Duration::from_secs(15);
        let mut rig = Rig::with(Timeouts { idle: Some(idle), ..timeouts() }, keepalive(), Early::default(), |s| s).await;
        tokio::time::sleep(idle - Duration::from_millis(200)).await;
        let frame = message(true, b"I am here");
        rig.client.write_all(&frame).await.unwrap();
        tokio::time::advance(PAUSE).await;
        expect(&mut rig.backend, &frame).await;
        let heard = rig.clock.now();
        assert_eq!(expect_close_for(&mut rig.client).await, (1001, "idle_timeout".to_owned()));
        let silent = rig.clock.now().since(heard);
        assert!((idle..idle + Duration::from_millis(500)).contains(&silent), "{silent:?}");
        drop((rig.client, rig.backend));
        (rig.client, rig.backend) = pair().await;
        rig.ended(EndCause::IdleTimeout).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pong_that_came_while_the_thread_stood_still_counts() {
    local(async {
        let pinging = KeepalivePolicy { ping: Some(Duration::from_secs(30)), ..keepalive() };
        let mut rig = Rig::with(timeouts(), pinging, Early::default(), |s| s).await;
        expect(&mut rig.client, &PING).await;
        let pong = [0x8a, 0x80, 0, 0, 0, 0];
        rig.client.write_all(&pong).await.unwrap();
        tokio::time::advance(PAUSE).await;
        expect(&mut rig.backend, &pong).await;
        expect(&mut rig.client, &PING).await;
        drop((rig.client, rig.backend));
        (rig.client, rig.backend) = pair().await;
        rig.ended(EndCause::ClientLost).await;
    })
    .await;
}
