//! Plain HTTP through kept connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use holdline_core::cause::Phase;
use holdline_core::policy::Affinity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::*;
use crate::gateway::admission::fleet::tests::ready;

/// Answers every request with its own name, on connections that stay open for `per_connection` requests and then close without a word.
async fn named(name: &'static str, per_connection: usize) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                for _ in 0..per_connection {
                    if read_head(&mut stream).await.is_empty() {
                        return;
                    }
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
                // One more request is read and never answered: it meets a connection that dies.
                read_head(&mut stream).await;
            });
        }
    });
    (address, accepted)
}

async fn get(rig: &Rig, fields: &str) -> String {
    rig.raw(&format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n")).await
}

fn is_ok(answer: &str, body: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&format!("\r\n\r\n{body}"))
}

#[tokio::test]
async fn connections_to_backends_are_used_again() {
    let rig = Rig::start(|_| ());
    let (address, accepted) = named("a", 1000).await;
    rig.adopt(vec![ready("a", address, 9)]);
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    for _ in 0..10 {
        client.write_all(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 "));
        assert_eq!(within(client.read_u8()).await.unwrap(), b'a');
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
    rig.until("no request", |c| c.requests == 0 && c.backends[0].requests == 0).await;
    assert_eq!((rig.used(), rig.counts().admitted_total), (0, 0));
}

#[tokio::test]
async fn a_request_that_met_a_dying_connection_is_sent_again_if_it_may() {
    let rig = Rig::start(|_| ());
    let (address, accepted) = named("a", 1).await;
    rig.adopt(vec![ready("a", address, 9)]);
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    for _ in 0..3 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 "));
        within(client.read_u8()).await.unwrap();
    }
    assert!(accepted.load(Ordering::SeqCst) >= 2);
    client.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 502 "), "a POST is not sent twice");
}

#[tokio::test]
async fn bodies_go_both_ways() {
    let rig = Rig::start(|_| ());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.adopt(vec![ready("a", listener.local_addr().unwrap(), 9)]);
    let request = "POST /up?q HTTP/1.1\r\nHost: h\r\nConnection: close\r\nExpect: 100-continue\r\nUpgrade: foo\r\nContent-Length: 5\r\n\r\nhello";
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\nKeep-Alive: timeout=5\r\n\r\n").await.unwrap();
        stream.write_all(b"3\r\nabc\r\n0\r\n\r\n").await.unwrap();
        (head, body)
    };
    let (answer, (head, body)) = tokio::join!(rig.raw(request), serve);
    assert!(head.starts_with("post /up?q http/1.1\r\n") && head.contains("x-forwarded-for: 127.0.0.1\r\n"), "{head}");
    assert!(!head.contains("expect") && !head.contains("upgrade"), "{head}");
    assert_eq!(&body, b"hello");
    assert!(answer.contains("HTTP/1.1 201 ") && answer.contains("3\r\nabc\r\n") && !answer.contains("eep-alive"), "{answer}");
}

#[tokio::test]
async fn a_token_is_followed_to_a_draining_backend() {
    let rig = Rig::start(|p| p.affinity = Affinity::Cookie { name: "hl".into(), keys: None });
    let ((a, _), (b, _)) = (named("a", 1000).await, named("b", 1000).await);
    rig.adopt(vec![ready("a", a, 9)]);
    let first = get(&rig, "").await;
    assert!(is_ok(&first, "a"), "{first}");
    let cookie = first.to_ascii_lowercase().find("set-cookie: ").map(|at| first[at + 12..].split(';').next().unwrap()).unwrap();
    rig.adopt(vec![in_phase(ready("a", a, 9), Phase::Draining), ready("b", b, 9)]);
    let again = get(&rig, &format!("Cookie: {cookie}\r\n")).await;
    assert!(is_ok(&again, "a") && !again.to_ascii_lowercase().contains("set-cookie"), "{again}");
    assert!(is_ok(&get(&rig, "").await, "b"));
}

#[tokio::test]
async fn a_request_wakes_a_fleet_of_zero_and_waits() {
    let rig = Rig::start(|_| ());
    let (a, _) = named("a", 9).await;
    let asking = get(&rig, "");
    tokio::pin!(asking);
    tokio::select! {
        _ = &mut asking => panic!("there is no backend"),
        () = rig.until("it waits", |c| c.no_backend_total == 1 && c.requests == 1) => {}
    }
    rig.adopt(vec![ready("a", a, 1)]);
    assert!(is_ok(&within(asking).await, "a"));
    // It waited in the queue and held no seat.
    let counts = rig.counts();
    assert_eq!((counts.admitted_total, counts.ended_total, rig.used()), (0, 0, 0));
}

#[tokio::test]
async fn a_backend_that_is_late_or_gone_is_told_apart() {
    let rig = Rig::start(|p| p.timeouts.response = Duration::from_millis(200));
    let (silent, _heard) = scripted("").await;
    rig.adopt(vec![ready("silent", silent, 1)]);
    assert!(get(&rig, "").await.starts_with("HTTP/1.1 504 "));
    rig.adopt(vec![ready("dead", nobody().await, 1)]);
    let answer = get(&rig, "").await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("holdline-cause: backend_unreachable"), "{answer}");
}

#[tokio::test]
async fn a_body_that_the_client_does_not_send_is_a_408() {
    let rig = Rig::start(|p| p.timeouts.response = Duration::from_millis(200));
    let (silent, _heard) = scripted("").await;
    rig.adopt(vec![ready("a", silent, 1)]);
    let answer = rig.raw("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf").await;
    // The client caused it, so no cause is given.
    assert!(answer.starts_with("HTTP/1.1 408 ") && !answer.contains("holdline-cause"), "{answer}");
    assert!(rig.tells(r#"holdline_bad_input_total{reason="request_body"} 1"#));
    rig.until("no request", |c| c.requests == 0 && c.backends[0].requests == 0).await;
}

#[tokio::test]
async fn a_body_that_the_backend_does_not_take_is_a_504() {
    let rig = Rig::start(|p| p.timeouts.response = Duration::from_millis(300));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.adopt(vec![ready("a", listener.local_addr().unwrap(), 1)]);
    let (mut reader, mut writer) = TcpStream::connect(rig.address).await.unwrap().into_split();
    writer.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 900000000\r\n\r\n").await.unwrap();
    let flood = async { while writer.write_all(&[b'x'; 64 << 10]).await.is_ok() {} };
    let mut head = [0; 13];
    // The gateway closes after its answer, so a write may fail before the answer is read.
    let answered = futures_util::future::join(flood, reader.read_exact(&mut head));
    within(answered).await.1.unwrap();
    assert_eq!(&head, b"HTTP/1.1 504 ");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_given_up() {
    let rig = Rig::start(|p| p.timeouts.write = Duration::from_millis(200));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.adopt(vec![ready("a", listener.local_addr().unwrap(), 1)]);
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let (mut backend, _) = within(listener.accept()).await.unwrap();
    read_head(&mut backend).await;
    backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n").await.unwrap();
    // It ends because the gateway closes its connection.
    within(async { while backend.write_all(&[b'x'; 64 << 10]).await.is_ok() {} }).await;
    rig.until("no request", |c| c.requests == 0 && c.backends[0].requests == 0).await;
}

#[tokio::test]
async fn a_connection_whose_request_was_answered_too_early_is_closed() {
    let rig = Rig::start(|_| ());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.adopt(vec![ready("a", listener.local_addr().unwrap(), 1)]);
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf").await.unwrap();
    let (mut backend, _) = within(listener.accept()).await.unwrap();
    read_head(&mut backend).await;
    backend.write_all(b"HTTP/1.1 413 No\r\nContent-Length: 3\r\n\r\nno\n").await.unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 413 "));
    // The client neither sends the rest nor goes.
    let mut rest = Vec::new();
    let _ = within(backend.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"half");
    rig.until("no request", |c| c.requests == 0 && c.backends[0].requests == 0).await;
}

#[tokio::test]
async fn requests_with_bodies_share_a_connection() {
    let rig = Rig::start(|_| ());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.adopt(vec![ready("a", listener.local_addr().unwrap(), 1)]);
    let bodies = ["Content-Length: 2\r\n\r\nhi", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"];
    let serve = async {
        let (mut backend, _) = listener.accept().await.unwrap();
        for body in bodies.iter().cycle().take(4) {
            read_head(&mut backend).await;
            backend.read_exact(&mut vec![0; body.split_once("\r\n\r\n").unwrap().1.len()]).await.unwrap();
            backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
    };
    let ask = async {
        let mut client = TcpStream::connect(rig.address).await.unwrap();
        for body in bodies.iter().cycle().take(4) {
            client.write_all(format!("POST / HTTP/1.1\r\nHost: h\r\n{body}").as_bytes()).await.unwrap();
            assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 "));
        }
    };
    within(futures_util::future::join(serve, ask)).await;
}

#[tokio::test]
async fn a_waiting_request_needs_a_backend_but_no_seat() {
    let rig = Rig::start(|_| ());
    let (a, _) = named("a", 9).await;
    let asking = get(&rig, "");
    tokio::pin!(asking);
    tokio::select! {
        _ = &mut asking => panic!("there is no backend"),
        () = rig.until("it waits", |c| c.queued == 1) => {}
    }
    // Ready, and full with sessions that came by other ways.
    rig.adopt(vec![ready("a", a, 0)]);
    assert!(is_ok(&within(asking).await, "a"));
    rig.until("it left the queue", |c| c.queued == 0).await;
}
