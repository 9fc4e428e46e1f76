//! The end of a gateway: quick when it may be, never longer than its deadline.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use super::support::*;
use crate::gateway::admission::fleet::tests::ready;

/// Longer than a test may take: what ends before it did not wait for it.
const LONG: Duration = Duration::from_secs(300);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn a_nearly_empty_gateway_does_not_use_its_deadline_up() {
    let (rig, server) = (Rig::start(|_| ()), Echo::start().await);
    rig.adopt(vec![server.view("a", 9)]);
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(rig.open().await.unwrap());
    }
    let watching = futures_util::future::join_all(sockets.iter_mut().map(async |socket| {
        let Some(Ok(Message::Close(Some(frame)))) = within(socket.next()).await else { panic!("no Close") };
        while within(socket.next()).await.is_some_and(|m| m.is_ok()) {}
        u16::from(frame.code)
    }));
    let (codes, ()) = tokio::join!(watching, within(rig.gateway.shutdown(LONG)));
    assert_eq!(codes, [1001; 4]);
}

#[tokio::test]
async fn idle_connections_are_closed_at_once_and_requests_in_flight_finish() {
    let rig = Rig::start(|p| p.timeouts.response = LONG);
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.adopt(vec![ready("a", backend.local_addr().unwrap(), 9)]);
    // One that never asked, one that was answered and may ask again, one that is being answered.
    let mut fresh = TcpStream::connect(rig.address).await.unwrap();
    let mut kept = TcpStream::connect(rig.address).await.unwrap();
    kept.write_all(REQUEST).await.unwrap();
    let (mut serving, _) = within(backend.accept()).await.unwrap();
    read_head(&mut serving).await;
    serving.write_all(b"HTTP/1.1 204 x\r\nConnection: close\r\n\r\n").await.unwrap();
    read_head(&mut kept).await;
    let mut asking = TcpStream::connect(rig.address).await.unwrap();
    asking.write_all(REQUEST).await.unwrap();
    let (mut serving, _) = within(backend.accept()).await.unwrap();
    read_head(&mut serving).await;

    let clients = async {
        assert_eq!(within(fresh.read(&mut [0; 1])).await.unwrap(), 0);
        assert_eq!(within(kept.read(&mut [0; 1])).await.unwrap(), 0);
        assert_eq!(asking.try_read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        serving.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        let mut answer = Vec::new();
        within(asking.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"\r\n\r\nhi"));
    };
    tokio::join!(clients, within(rig.gateway.shutdown(LONG)));
}

#[tokio::test]
async fn a_request_without_an_answer_is_dropped_at_the_deadline() {
    let rig = Rig::start(|p| p.timeouts.response = LONG);
    let (silent, mut heard) = scripted("").await;
    rig.adopt(vec![ready("a", silent, 9)]);
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    client.write_all(REQUEST).await.unwrap();
    within(heard.recv()).await.unwrap();
    within(rig.gateway.shutdown(Duration::from_millis(300))).await;
    // Ended or reset: there is no answer.
    assert!(matches!(within(client.read(&mut [0; 1])).await, Ok(0) | Err(_)));
}
