//! Clients that leave before their session began: row 24. The only seat comes back, and comes back once.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Driven, HANDSHAKE, SWITCH, fleet, head, to_end};
use crate::support::backend::Backend;
use crate::support::client;
use crate::support::holdline::Holdline;

/// One seat, and nobody else may wait for it.
const ONE_SEAT: &str = "capacity: 1\n    queue: { length: 0, timeout: 60s }\n    heartbeat: { interval: 30s, timeout: 1s, suspect_after: 10m, dead_after: 20m }";

async fn asking(address: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(format!("{HANDSHAKE}\r\n").as_bytes()).await.unwrap();
    client
}

/// Leaves without a FIN.
fn reset(client: TcpStream) {
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
}

async fn free(holdline: &Holdline) {
    holdline.until("the seat is free", |fleet| fleet["sessions"] == 0 && fleet["queued"] == 0).await;
}

/// The seat can be taken once, and not twice.
async fn is_one_seat(holdline: &Holdline, driven: &Driven) {
    let mut client = asking(holdline.address).await;
    let (mut backend, _) = driven.request().await;
    backend.write_all(format!("{SWITCH}\r\n").as_bytes()).await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
    let refused = to_end(&mut asking(holdline.address).await).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
}

#[tokio::test]
async fn row_24_a_client_that_leaves_the_queue() {
    let backend = Backend::start().await;
    let holdline = Holdline::start(&fleet(backend.address, "capacity: 1\n    queue: { length: 2, timeout: 60s }"));
    holdline.until_ready().await;
    let held = client::websocket(holdline.address, "/").await.unwrap();
    let (first, second) = (asking(holdline.address).await, asking(holdline.address).await);
    holdline.until("both wait", |fleet| fleet["queued"] == 2).await;
    drop(first);
    holdline.until("one waits", |fleet| fleet["queued"] == 1).await;
    reset(second);
    holdline.until("nobody waits", |fleet| fleet["queued"] == 0 && fleet["sessions"] == 1).await;
    client::leave(held).await;
    free(&holdline).await;
    let mut next = client::websocket(holdline.address, "/").await.unwrap();
    client::echo(&mut next, "one seat").await;
    assert_eq!(backend.sessions_max(), 1);
}

#[tokio::test]
async fn row_24_a_client_that_leaves_before_the_backend_answered() {
    let (driven, holdline) = Driven::start(ONE_SEAT).await;
    holdline.until_ready().await;
    for leave in [drop as fn(TcpStream), reset] {
        let client = asking(holdline.address).await;
        let (mut backend, _) = driven.request().await;
        assert_eq!(holdline.fleet().await["sessions"], 1);
        leave(client);
        // Holdline ends its side, and the seat is free when the backend ended its own.
        to_end(&mut backend).await;
        drop(backend);
        free(&holdline).await;
    }
    assert_eq!(holdline.metric("holdline_handshakes_total", "result=\"gone\"").await, 2.0);
    is_one_seat(&holdline, &driven).await;
}

#[tokio::test]
async fn row_24_a_client_that_leaves_between_the_101_and_the_first_byte() {
    let (driven, holdline) = Driven::start(ONE_SEAT).await;
    holdline.until_ready().await;
    for leave in [drop as fn(TcpStream), reset] {
        let mut client = asking(holdline.address).await;
        let (mut backend, _) = driven.request().await;
        backend.write_all(format!("{SWITCH}\r\n").as_bytes()).await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
        leave(client);
        to_end(&mut backend).await;
        drop(backend);
        free(&holdline).await;
    }
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "").await, 2.0);
    is_one_seat(&holdline, &driven).await;
}

/// A port that takes no connection any more: its queue is full, and the kernel drops what asks for a place.
struct Full {
    listener: Socket,
    address: SocketAddr,
}

impl Full {
    fn bind() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        Full { listener, address }
    }

    /// Takes the probe that is in the queue, then fills it.
    async fn fill(&self) -> Vec<TcpStream> {
        drop(self.listener.accept());
        let mut held = Vec::new();
        // The second place is the one that only a full queue refuses.
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(self.address)).await {
            held.push(stream);
        }
        held
    }
}

#[tokio::test]
async fn row_24_a_client_that_leaves_during_the_dial() {
    let full = Full::bind();
    let holdline =
        Holdline::start(&fleet(full.address, &format!("{ONE_SEAT}\n    timeouts: {{ connect: 60s, handshake: 60s }}")));
    holdline.until_ready().await;
    let held = full.fill().await;
    for leave in [drop as fn(TcpStream), reset] {
        let client = asking(holdline.address).await;
        holdline.until("the seat is taken", |fleet| fleet["sessions"] == 1).await;
        leave(client);
        free(&holdline).await;
    }
    drop(held);
    assert_eq!(holdline.metric("holdline_handshakes_total", "result=\"gone\"").await, 2.0);
    let first = asking(holdline.address).await;
    holdline.until("the seat is taken", |fleet| fleet["sessions"] == 1).await;
    assert!(to_end(&mut asking(holdline.address).await).await.starts_with("HTTP/1.1 503 "), "there is one seat, not two");
    drop(first);
}
