//! What comes slowly or stops: row 22. A head is in `http`, and here are TLS, bodies, and handshakes that hold a seat.

use std::net::SocketAddr;
use std::time::Duration;

use holdline::clock::Clock;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::scripted::Reply;
use super::{Driven, Edge, HANDSHAKE, SWITCH, fleet, head, to_end};
use crate::support::backend::Backend;
use crate::support::holdline::Holdline;
use crate::support::soon;
use crate::tls::Certificates;

/// Between two bytes of somebody who drips.
const DRIP: Duration = Duration::from_millis(40);

const TIMEOUT: Duration = Duration::from_secs(1);

/// Sends `bytes` one by one, then nothing more, until the other side ends it; what it said before that, and when it ended.
async fn drip(address: SocketAddr, bytes: &[u8]) -> (Vec<u8>, Duration) {
    let clock = Clock::start();
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let dripping = async {
        for byte in bytes {
            if write.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(DRIP).await;
        }
        std::future::pending().await
    };
    let mut heard = Vec::new();
    let hearing = async { drop(soon("the end", read.read_to_end(&mut heard)).await) };
    tokio::select! {
        () = hearing => {}
        // It could not be written to any more: its end is to be read.
        () = dripping => drop(soon("the end", read.read_to_end(&mut heard)).await),
    }
    (heard, clock.now().since_start())
}

/// A good first flight of a client.
fn client_hello(certificates: &Certificates) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut bytes = Vec::new();
    ClientConnection::new(certificates.client(), name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn row_22_a_tls_handshake_that_drips_or_stops() {
    let (certificates, backend) = (Certificates::new(), Backend::start().await);
    let limits = "limits: { head_timeout: 1s }\n";
    let holdline = Holdline::start(&(certificates.listeners() + limits + &fleet(backend.address, "")));
    holdline.until_ready().await;
    let hello = client_hello(&certificates);
    assert!(DRIP * hello.len() as u32 > 2 * TIMEOUT, "it would take {:?}", DRIP * hello.len() as u32);

    // One that drips, one that stops before its first record is whole, one that stops between two records of TLS, one that says nothing.
    let (first, whole) = (&hello[..20], &hello[..]);
    let stops = async |bytes: &[u8]| {
        let clock = Clock::start();
        let mut stream = TcpStream::connect(holdline.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut heard = Vec::new();
        let _ = soon("the end", stream.read_to_end(&mut heard)).await;
        (heard, clock.now().since_start())
    };
    let (dripped, early, between, silent) = tokio::join!(drip(holdline.address, whole), stops(first), stops(whole), stops(b""));
    for (what, (heard, after)) in [("drips", &dripped), ("stops", &early), ("stops between", &between), ("is silent", &silent)] {
        assert!((TIMEOUT..4 * TIMEOUT).contains(after), "{what}: {after:?}");
        let is_answered = what == "stops between";
        assert_eq!(!heard.is_empty(), is_answered, "{what}: only a whole hello is answered: {} bytes", heard.len());
    }
    assert_eq!(holdline.metric("holdline_bad_input_total", "").await, 4.0);

    // As slow as that is no fault in itself: one that is through in time is served.
    let mut stream = TcpStream::connect(holdline.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut connection = ClientConnection::new(certificates.client(), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    for byte in hello {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = [0; 6];
    soon("an answer", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!((answer[0], answer[5]), (22, 2), "a ServerHello");
    assert_eq!(holdline.fleet().await["sessions"], 0);
}

#[tokio::test]
async fn row_22_a_body_that_stops_or_drips_takes_no_seat() {
    let edge = Edge::start_with("timeouts: { response: 1s }", |_| Reply::ok()).await;
    let post = "POST /slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 40\r\n\r\n";
    let mut stopped = edge.connect().await;
    stopped.write_all(format!("{post}half").as_bytes()).await.unwrap();
    edge.backend.until_received("half").await;
    assert_eq!(edge.holdline.fleet().await["sessions"], 0);
    let answer = to_end(&mut stopped).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    // What the backend has of it is no request, and the next client's does not come behind it.
    edge.backend.until_over(1, 0).await;
    edge.until_counted("holdline_bad_input_total", "reason=\"request_body\"", 1.0).await;

    // While it moves it is only slow, however long it takes in sum.
    let clock = Clock::start();
    let mut drips = edge.connect().await;
    drips.write_all(post.as_bytes()).await.unwrap();
    for _ in 0..40 {
        drips.write_all(b"x").await.unwrap();
        tokio::time::sleep(DRIP).await;
    }
    let answer = to_end(&mut drips).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(clock.now().since_start() > TIMEOUT);
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_22_a_handshake_that_is_half_open_holds_its_seat_until_the_timeout_and_no_longer() {
    let (driven, holdline) = Driven::start(
        "capacity: 1\n    queue: { length: 1, timeout: 60s }\n    timeouts: { connect: 1s, handshake: 1s }\n    heartbeat: { interval: 30s, timeout: 1s, suspect_after: 10m, dead_after: 20m }",
    )
    .await;
    holdline.until_ready().await;
    let asks = async || {
        let mut client = TcpStream::connect(holdline.address).await.unwrap();
        client.write_all(format!("{HANDSHAKE}\r\n").as_bytes()).await.unwrap();
        client
    };
    // Clients that are connected and ask for nothing hold none.
    let silent = TcpStream::connect(holdline.address).await.unwrap();
    let mut half = TcpStream::connect(holdline.address).await.unwrap();
    half.write_all(HANDSHAKE.as_bytes()).await.unwrap();

    let clock = Clock::start();
    let mut first = asks().await;
    let (backend, _) = driven.request().await;
    let mut next = asks().await;
    holdline.until("the next one waits", |fleet| fleet["sessions"] == 1 && fleet["queued"] == 1).await;
    // A backend that is on its way to an answer for ever is not waited for either.
    let (mut from_holdline, mut to_holdline) = backend.into_split();
    let dripping = async {
        for byte in SWITCH.bytes() {
            if to_holdline.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(DRIP).await;
        }
    };
    let refused = async {
        let answer = to_end(&mut first).await;
        assert!(answer.starts_with("HTTP/1.1 504 ") && answer.to_lowercase().contains("holdline-cause: backend_unreachable"));
        let after = clock.now().since_start();
        assert!((TIMEOUT..4 * TIMEOUT).contains(&after), "{after:?}");
    };
    let served = async {
        let (mut backend, _) = driven.request().await;
        backend.write_all(format!("{SWITCH}\r\n").as_bytes()).await.unwrap();
        assert!(head(&mut next).await.starts_with("HTTP/1.1 101 "), "the seat is its own now");
        backend
    };
    let gave_up = async { drop(from_holdline.read_to_end(&mut Vec::new()).await) };
    let ((), (), served, ()) = tokio::join!(dripping, refused, served, gave_up);
    holdline.until("one seat, which the second has", |fleet| fleet["sessions"] == 1 && fleet["queued"] == 0).await;
    drop((silent, half, served, next));
    holdline.until("all is free", |fleet| fleet["sessions"] == 0).await;
}
