//! A data thread that lost a task.

use std::time::Duration;

use futures_util::StreamExt;
use tokio_tungstenite::tungstenite::Message;

use super::support::*;

const SESSIONS: usize = 16;

#[tokio::test]
async fn a_thread_that_lost_its_orders_is_noticed_and_all_sessions_are_closed_properly() {
    let (rig, server) = (Rig::start(|_| ()), Echo::start().await);
    rig.adopt(vec![server.view("a", SESSIONS as u32)]);
    let mut sockets = Vec::new();
    for _ in 0..SESSIONS {
        sockets.push(rig.open().await.unwrap());
    }
    let failed = tokio::spawn(std::sync::Arc::clone(&rig.gateway).failed());
    rig.gateway.break_orders(0).await;
    within(failed).await.unwrap();
    assert_eq!(rig.used(), SESSIONS as u32, "they go on until the gateway is stopped");
    let codes = futures_util::future::join_all(sockets.iter_mut().map(async |socket| {
        let Some(Ok(Message::Close(Some(frame)))) = within(socket.next()).await else { panic!("no Close") };
        while within(socket.next()).await.is_some_and(|m| m.is_ok()) {}
        u16::from(frame.code)
    }));
    let (codes, ()) = tokio::join!(codes, within(rig.gateway.shutdown(Duration::from_secs(300))));
    assert_eq!(codes, [1001; SESSIONS]);
}
