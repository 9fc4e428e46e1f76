//! Clients that leave while their session is opened: the seat comes back, once.

use std::net::SocketAddr;
use std::time::Duration;

use holdline_core::event::FleetCounts;
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::support::*;
use crate::gateway::admission::fleet::tests::ready;

async fn ask(rig: &Rig) -> TcpStream {
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    client
}

fn is_back_once(counts: &FleetCounts) -> bool {
    (counts.admitted_total, counts.ended_total, counts.backends[0].used) == (1, 1, 0)
}

/// A listener whose queue is full: whoever connects waits for an answer. Kept while both are.
async fn never_connects() -> (SocketAddr, Socket, TcpStream) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    // The kernel takes one more than the length.
    let queued = TcpStream::connect(address).await.unwrap();
    (address, listener, queued)
}

#[tokio::test]
async fn during_the_connect() {
    let rig = Rig::start(|p| (p.timeouts.connect, p.timeouts.handshake) = (SOON * 2, SOON * 2));
    let (address, _listener, _queued) = never_connects().await;
    rig.adopt(vec![ready("a", address, 1)]);
    let client = ask(&rig).await;
    rig.until("it dials", |c| c.backends[0].used == 1).await;
    drop(client);
    rig.until("free", is_back_once).await;
    assert!(rig.tells(r#"holdline_handshakes_total{fleet="chat",result="gone"} 1"#));
}

#[tokio::test]
async fn a_connect_that_takes_too_long_is_a_502() {
    let rig = Rig::start(|p| (p.timeouts.connect, p.queue.length) = (Duration::from_millis(50), 0));
    let (address, _listener, _queued) = never_connects().await;
    rig.adopt(vec![ready("a", address, 1)]);
    assert_eq!(refusal(rig.open().await.unwrap_err()), (502, Some("backend_unreachable".into())));
    rig.until("free", |c| c.backends[0].used == 0 && c.admitted_total == c.ended_total).await;
}

#[tokio::test]
async fn between_the_101_and_the_first_byte() {
    let rig = Rig::start(|_| ());
    let (address, _heard) = scripted(SWITCHED).await;
    rig.adopt(vec![ready("a", address, 1)]);
    let mut client = ask(&rig).await;
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 101 "));
    drop(client);
    rig.until("free", is_back_once).await;
    assert!(rig.tells(r#"holdline_sessions_ended_total{cause="client_lost",fleet="chat"} 1"#));
}

#[tokio::test]
async fn whenever_they_leave_no_seat_is_lost() {
    const CLIENTS: u64 = 200;
    let (rig, server) = (Rig::start(|p| p.queue.length = 1000), Echo::start().await);
    rig.adopt(vec![server.view("a", 7)]);
    for turn in 0..CLIENTS {
        let client = ask(&rig).await;
        // Another moment each time: in the queue, at the dial, in the exchange, behind the 101.
        for _ in 0..turn % 20 {
            tokio::task::yield_now().await;
        }
        drop(client);
    }
    rig.until("free", |c| c.queued == 0 && c.backends[0].used == 0 && c.admitted_total == c.ended_total).await;
    let mut held = Vec::new();
    for _ in 0..7 {
        held.push(rig.open().await.unwrap());
    }
    assert_eq!(rig.used(), 7);
}
