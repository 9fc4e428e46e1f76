//! Event streams in answer to requests that did not ask for one.

use std::time::Duration;

use holdline_core::cause::EndCause;
use holdline_core::policy::{Affinity, DrainMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::*;
use crate::gateway::SessionFilter;
use crate::gateway::admission::fleet::tests::ready;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// The head of a stream that ends with its connection, and an event.
const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";

async fn listening(rig: &Rig, limit: u32) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.adopt(vec![ready("a", listener.local_addr().unwrap(), limit)]);
    listener
}

async fn connect(rig: &Rig, request: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    client.write_all(request).await.unwrap();
    client
}

async fn expect(socket: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    within(socket.read_exact(&mut got)).await.unwrap();
    assert_eq!(got.escape_ascii().to_string(), bytes.escape_ascii().to_string());
}

async fn ended(rig: &Rig, cause: &str) {
    rig.until("free", |c| c.backends[0].used == 0 && c.ended_total == 1).await;
    assert!(rig.tells(&format!(r#"holdline_sessions_ended_total{{cause="{cause}",fleet="chat"}} 1"#)));
}

#[tokio::test]
async fn it_takes_a_seat_and_is_no_request_any_more() {
    let rig = Rig::start(|p| p.affinity = Affinity::Cookie { name: "hl".into(), keys: None });
    let (address, _heard) = scripted(STREAM).await;
    rig.adopt(vec![ready("a", address, 1)]);
    let mut client = connect(&rig, GET).await;
    let head = read_head(&mut client).await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 ") && head.contains("transfer-encoding: chunked"), "{head}");
    assert!(head.contains("holdline-session: ") && head.contains("set-cookie: hl="), "{head}");
    expect(&mut client, b"9\r\ndata: 1\n\n\r\n").await;
    let counts = rig.counts();
    assert_eq!((rig.used(), counts.requests, counts.backends[0].requests), (1, 0, 0));
    let second = rig.raw("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    assert!(second.starts_with("HTTP/1.1 503 ") && second.contains("holdline-cause: capacity"), "{second}");
    assert_eq!(rig.gateway.sessions(SessionFilter::default()).await.len(), 1);
    drop(client);
    ended(&rig, "client_closed").await;
}

#[tokio::test]
async fn a_client_that_breaks_off_is_lost() {
    let rig = Rig::start(|_| ());
    let (address, _heard) = scripted(STREAM).await;
    rig.adopt(vec![ready("a", address, 1)]);
    let mut client = connect(&rig, GET).await;
    read_head(&mut client).await;
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    ended(&rig, "client_lost").await;
}

#[tokio::test]
async fn it_leaves_between_two_events() {
    let rig = Rig::start(|_| ());
    let (address, _heard) = scripted(STREAM).await;
    rig.adopt(vec![ready("a", address, 1)]);
    let mut client = connect(&rig, GET).await;
    read_head(&mut client).await;
    expect(&mut client, b"9\r\ndata: 1\n\n\r\n").await;
    let told = rig.gateway.end_sessions(&"chat".into(), &"a".into(), 9, DrainMode::Close, EndCause::Drained).await;
    assert_eq!(told, 1);
    let mut rest = String::new();
    within(client.read_to_string(&mut rest)).await.unwrap();
    assert!(rest.contains("retry: ") && rest.ends_with("\r\n0\r\n\r\n"), "{rest}");
    drop(client);
    ended(&rig, "drained").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_hold_up_a_cut() {
    let rig = Rig::start(|_| ());
    let listener = listening(&rig, 1).await;
    let _client = connect(&rig, GET).await;
    let (mut backend, _) = within(listener.accept()).await.unwrap();
    read_head(&mut backend).await;
    backend.write_all(STREAM.as_bytes()).await.unwrap();
    let flood = async { while backend.write_all(&[b'x'; 64 << 10]).await.is_ok() {} };
    let cut = async {
        rig.until("it is a session", |c| c.backends[0].used == 1).await;
        rig.gateway.end_sessions(&"chat".into(), &"a".into(), 9, DrainMode::Cut, EndCause::Cut).await
    };
    let (_, told) = within(futures_util::future::join(flood, cut)).await;
    assert_eq!(told, 1);
    drop(backend);
    ended(&rig, "cut").await;
}

#[tokio::test]
async fn answers_before_it_on_the_connection_come_first() {
    let rig = Rig::start(|_| ());
    let listener = listening(&rig, 1).await;
    let mut client = connect(&rig, &GET.repeat(2)).await;
    let (mut backend, _) = within(listener.accept()).await.unwrap();
    read_head(&mut backend).await;
    backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst").await.unwrap();
    // The same connection is used again, and is the stream's from its head on.
    read_head(&mut backend).await;
    backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-").await.unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 "));
    expect(&mut client, b"first").await;
    backend.write_all(b"stream\r\nContent-Length: 18\r\n\r\ndata: 1\n\ndata").await.unwrap();
    assert!(read_head(&mut client).await.contains("Connection: close\r\n"));
    expect(&mut client, b"d\r\ndata: 1\n\ndata\r\n").await;
    backend.write_all(b": 2\n\n").await.unwrap();
    expect(&mut client, b"5\r\n: 2\n\n\r\n0\r\n\r\n").await;
    drop((client, backend));
    ended(&rig, "backend_closed").await;
}

#[tokio::test]
async fn it_begins_when_its_request_is_whole() {
    let rig = Rig::start(|_| ());
    let listener = listening(&rig, 1).await;
    let mut client = connect(&rig, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nhalf").await;
    let (mut backend, _) = within(listener.accept()).await.unwrap();
    read_head(&mut backend).await;
    backend.write_all(STREAM.as_bytes()).await.unwrap();
    expect(&mut backend, b"half").await;
    assert_eq!(rig.used(), 0);
    client.write_all(b"half").await.unwrap();
    expect(&mut backend, b"half").await;
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 "));
    expect(&mut client, b"9\r\ndata: 1\n\n\r\n").await;
    assert_eq!(rig.used(), 1);
    drop((client, backend));
    rig.until("free", |c| c.backends[0].used == 0 && c.ended_total == 1).await;
}

#[tokio::test]
async fn a_request_that_does_not_become_whole_is_a_408() {
    let rig = Rig::start(|p| p.timeouts.response = Duration::from_millis(200));
    let (address, _heard) = scripted(STREAM).await;
    rig.adopt(vec![ready("a", address, 1)]);
    let answer = rig.raw("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!((rig.used(), rig.counts().requests), (0, 0));
}

#[tokio::test]
async fn an_old_client_gets_it_until_the_connection_closes() {
    let rig = Rig::start(|_| ());
    let (address, _heard) =
        scripted("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\ndata: 1\n\n").await;
    rig.adopt(vec![ready("a", address, 1)]);
    let answer = rig.raw("GET / HTTP/1.0\r\nHost: h\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\ndata: 1\n\n") && !answer.contains("ransfer"), "{answer}");
    ended(&rig, "backend_closed").await;
}

#[tokio::test]
async fn an_answer_without_a_body_is_none() {
    let rig = Rig::start(|_| ());
    let listener = listening(&rig, 1).await;
    let mut client = connect(&rig, b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (mut backend, _) = within(listener.accept()).await.unwrap();
    for _ in 0..2 {
        read_head(&mut backend).await;
        backend.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\n").await.unwrap();
        assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 "));
        assert_eq!(rig.used(), 0);
        client.write_all(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    }
}
