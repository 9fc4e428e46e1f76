//! Queue, refusal, aborts: seats come back exactly once.

use std::time::Duration;

use futures_util::StreamExt;
use holdline_core::event::Event;
use holdline_core::policy::{QueuePolicy, RefuseWith};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::gateway::admission::fleet::tests::ready;
use crate::gateway::limits::descriptors::Descriptors;

use super::support::*;
use crate::clock::Clock;

#[tokio::test]
async fn a_waiter_gets_the_seat_that_another_leaves() {
    let (rig, echo_server) = (Rig::start(|_| ()), Echo::start().await);
    rig.adopt(vec![echo_server.view("a", 1)]);
    let mut first = rig.open().await.unwrap();
    let waiting = rig.open();
    tokio::pin!(waiting);
    tokio::select! {
        _ = &mut waiting => panic!("there is no second seat"),
        () = rig.until("one waits", |c| c.queued == 1) => {}
    }
    first.close(None).await.unwrap();
    let mut second = within(waiting).await.unwrap();
    assert!(echo(&mut second, "hello").await);
    assert_eq!(echo_server.most.load(std::sync::atomic::Ordering::SeqCst), 1);
    drop(second);
    rig.until("free", |c| c.admitted_total == 2 && c.ended_total == 2 && c.backends[0].used == 0).await;
}

#[tokio::test]
async fn one_that_waits_after_a_failed_dial_is_not_sent_back_there() {
    let (mut rig, server) = (Rig::start(|_| ()), Echo::start().await);
    rig.adopt(vec![server.view("a", 1)]);
    let mut held = rig.open().await.unwrap();
    rig.adopt(vec![server.view("a", 1), ready("dead", nobody().await, 9)]);
    let mut opened = {
        let waiting = rig.open();
        tokio::pin!(waiting);
        tokio::select! {
            _ = &mut waiting => panic!("there is a seat nowhere but where the dial failed"),
            () = rig.until("one waits", |c| c.queued == 1) => {}
        }
        held.close(None).await.unwrap();
        within(waiting).await.unwrap()
    };
    assert!(echo(&mut opened, "hello").await);
    let mut failed = 0;
    while let Ok(event) = rig.events.try_recv() {
        failed += u32::from(matches!(event, Event::Dial { connected: false, .. }));
    }
    assert_eq!(failed, 1);
}

#[tokio::test]
async fn a_raised_limit_and_a_new_backend_let_waiters_in() {
    let (rig, server) = (Rig::start(|_| ()), Echo::start().await);
    // There is no backend yet: a fleet of zero is to be started.
    let opening = rig.open();
    tokio::pin!(opening);
    tokio::select! {
        _ = &mut opening => panic!("there is no backend"),
        () = rig.until("one waits", |c| c.queued == 1 && c.no_backend_total == 1) => {}
    }
    rig.adopt(vec![server.view("a", 1)]);
    let _held = within(opening).await.unwrap();
    assert_eq!(rig.used(), 1);
}

#[tokio::test]
async fn refused_when_the_queue_is_full_and_when_time_is_up() {
    let (rig, server) =
        (Rig::start(|p| p.queue = QueuePolicy { length: 1, timeout: Duration::from_millis(300) }), Echo::start().await);
    rig.adopt(vec![server.view("a", 1)]);
    let _held = rig.open().await.unwrap();
    let late = rig.open();
    tokio::pin!(late);
    tokio::select! {
        _ = &mut late => panic!("it waits first"),
        () = rig.until("one waits", |c| c.queued == 1) => {}
    }
    assert_eq!(refusal(rig.open().await.unwrap_err()), (503, Some("queue_full".into())));
    assert_eq!(refusal(within(late).await.unwrap_err()), (503, Some("queue_timeout".into())));
    assert_eq!((rig.counts().refused_total, rig.used()), (2, 1));
}

#[tokio::test]
async fn refused_by_a_close_that_a_browser_can_read() {
    let rig = Rig::start(|p| {
        p.queue.length = 0;
        p.refuse.with = RefuseWith::Close;
    });
    let mut socket = rig.open().await.unwrap();
    let Some(Ok(Message::Close(Some(frame)))) = within(socket.next()).await else { panic!("no Close") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1013, "no_backend"));
    let mut raw = TcpStream::connect(rig.address).await.unwrap();
    raw.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    assert!(read_head(&mut raw).await.contains("Sec-WebSocket-Protocol: v2\r\n"));
    let stream = rig.raw("GET / HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n").await;
    assert!(stream.starts_with("HTTP/1.1 200 ") && stream.contains("\r\n\r\nretry: "), "{stream}");
}

#[tokio::test]
async fn who_leaves_the_queue_leaves_at_once() {
    let (rig, server) = (Rig::start(|_| ()), Echo::start().await);
    rig.adopt(vec![server.view("a", 1)]);
    let mut held = rig.open().await.unwrap();
    let mut plain = TcpStream::connect(rig.address).await.unwrap();
    plain.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    rig.until("one waits", |c| c.queued == 1).await;
    // One that sent early bytes stays readable: its end is seen all the same.
    let mut eager = TcpStream::connect(rig.address).await.unwrap();
    eager.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    rig.until("two wait", |c| c.queued == 2).await;
    eager.write_all(&[0x81, 0x80, 1, 2, 3, 4]).await.unwrap();
    drop(plain);
    rig.until("one left", |c| c.queued == 1).await;
    drop(eager);
    rig.until("both left", |c| c.queued == 0).await;
    held.close(None).await.unwrap();
    rig.until("free", |c| c.backends[0].used == 0).await;
    assert_eq!(rig.counts().refused_total, 0);
}

#[tokio::test]
async fn a_client_that_leaves_during_the_exchange_gives_the_seat_back_when_the_backend_ended() {
    let rig = Rig::start(|_| ());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.adopt(vec![ready("a", listener.local_addr().unwrap(), 1)]);
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let (mut backend, _) = within(listener.accept()).await.unwrap();
    assert!(read_head(&mut backend).await.contains("Holdline-Session: "));
    drop(client);
    let mut rest = Vec::new();
    within(backend.read_to_end(&mut rest)).await.unwrap();
    // Our end was seen; the backend still counts its session until it ends it.
    assert_eq!(rig.used(), 1);
    drop(backend);
    rig.until("free", |c| c.backends[0].used == 0 && c.ended_total == 1).await;
}

#[tokio::test]
async fn a_stopping_gateway_refuses_who_waits() {
    let rig = Rig::start(|_| ());
    let opening = rig.open();
    tokio::pin!(opening);
    tokio::select! {
        _ = &mut opening => panic!("there is no backend"),
        () = rig.until("one waits", |c| c.queued == 1) => {}
    }
    let (opened, ()) = tokio::join!(opening, rig.gateway.shutdown(Duration::from_secs(5)));
    assert_eq!(refusal(opened.unwrap_err()), (503, Some("draining".into())));
}

#[tokio::test]
async fn a_storm_waits_and_is_let_in_at_the_rate() {
    const RATE: f64 = 50.0;
    // What may come at once after a pause, of a rate of 50/s: one, and as many as 100 ms less one interval allow.
    const AT_ONCE: f64 = 5.0;
    let (rig, server) = (Rig::start(|p| p.admit_rate = Some(RATE)), Echo::start().await);
    rig.adopt(vec![server.view("a", 100)]);
    let clock = Clock::start();
    let storm = futures_util::future::join_all((0..25).map(|_| rig.open()));
    let watched = async {
        let mut queued_most = 0;
        let mut again = tokio::time::interval(Duration::from_millis(2));
        loop {
            let counts = rig.counts();
            let allowed = AT_ONCE + RATE * clock.now().since_start().as_secs_f64();
            assert!(counts.admitted_total as f64 <= allowed, "{} of {allowed}", counts.admitted_total);
            queued_most = queued_most.max(counts.queued);
            if counts.admitted_total == 25 {
                return queued_most;
            }
            again.tick().await;
        }
    };
    let (opened, queued_most) = within(futures_util::future::join(storm, watched)).await;
    assert!(opened.iter().all(Result::is_ok) && queued_most >= 10, "{queued_most} waited");
    assert_eq!((rig.used(), rig.counts().refused_total), (25, 0));
}

#[tokio::test]
async fn accept_pauses_while_there_are_as_many_clients_as_may_be() {
    let rig = Rig::start_on(1, Descriptors::within(8), |p| p.queue.length = 0);
    let ask = async |client: &mut TcpStream| client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let answered = async |client: &mut TcpStream| {
        let head = read_head(client).await.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap().parse().unwrap();
        within(client.read_exact(&mut vec![0; length])).await.unwrap();
    };
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = TcpStream::connect(rig.address).await.unwrap();
        ask(&mut client).await;
        answered(&mut client).await;
        clients.push(client);
    }
    let mut sixth = TcpStream::connect(rig.address).await.unwrap();
    ask(&mut sixth).await;
    for client in &mut clients {
        ask(client).await;
        answered(client).await;
    }
    assert_eq!(sixth.try_read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(clients.pop());
    answered(&mut sixth).await;
}

#[tokio::test]
async fn a_thread_that_waits_for_a_client_keeps_no_place_that_another_needs() {
    // As many threads as there is room for clients.
    let (rig, server) = (Rig::start_on(8, Descriptors::within(12), |_| ()), Echo::start().await);
    rig.adopt(vec![server.view("a", 100)]);
    let _held = within(rig.open()).await.unwrap();
    // Sooner or later one meets the thread of the one that is held.
    for _ in 0..60 {
        drop(within(rig.open()).await.unwrap());
        eventually("it has left", || rig.used() == 1).await;
    }
}
