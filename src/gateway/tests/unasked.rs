//! Event streams in answer to plain requests, expected or not.

use std::time::Duration;

use holdline_core::cause::{EndCause, Phase};
use holdline_core::policy::Affinity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::*;
use crate::config::units::Sessions;
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
    assert_eq!(rig.gateway.sessions(SessionFilter::default()).await.len(), 1);
    assert!(rig.tells(r#"holdline_handshakes_total{fleet="chat",result="opened"} 1"#));
    drop(client);
    ended(&rig, "client_closed").await;
}

const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream, application/json\r\nContent-Length: 2\r\n\r\nhi";

/// Accepts what comes and answers each with a stream; what it holds on to ends by being dropped.
async fn answer_all(listener: &TcpListener, count: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        let (mut backend, _) = within(listener.accept()).await.unwrap();
        read_head(&mut backend).await;
        backend.write_all(STREAM.as_bytes()).await.unwrap();
        held.push(backend);
    }
    held
}

#[tokio::test]
async fn what_a_backend_executed_is_kept_beyond_its_limit_and_nobody_is_placed_until_it_is_below() {
    let rig = Rig::start(|_| ());
    let listener = listening(&rig, 3).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(connect(&rig, POST).await);
    }
    let mut backends = answer_all(&listener, 12).await;
    for client in &mut clients {
        assert!(read_head(client).await.starts_with("HTTP/1.1 200 "));
        expect(client, b"9\r\ndata: 1\n\n\r\n").await;
    }
    assert_eq!((rig.used(), rig.counts().refused_total), (12, 0));
    for line in [
        r#"holdline_unasked_streams_total{fleet="chat",seat="free"} 3"#,
        r#"holdline_unasked_streams_total{fleet="chat",seat="beyond_limit"} 9"#,
        r#"holdline_handshakes_total{fleet="chat",result="opened"} 12"#,
    ] {
        assert!(rig.tells(line), "{line}");
    }
    let mut waiting = connect(&rig, HANDSHAKE.as_bytes()).await;
    rig.until("it waits", |c| c.queued == 1).await;
    backends.drain(..9);
    clients.drain(..9);
    rig.until("as many as may be", |c| c.backends[0].used == 3).await;
    assert_eq!(rig.counts().queued, 1);
    drop((clients.pop(), backends.pop()));
    let (mut backend, _) = within(listener.accept()).await.unwrap();
    read_head(&mut backend).await;
    backend.write_all(SWITCHED.as_bytes()).await.unwrap();
    assert!(read_head(&mut waiting).await.starts_with("HTTP/1.1 101 "));
    // An order to leave reaches those, too.
    let told = rig.gateway.end_sessions(&"chat".into(), &"a".into(), cut(12)).await;
    assert_eq!(told, 3);
    drop((clients, backends, backend, waiting));
    rig.until("free", |c| c.backends[0].used == 0 && c.ended_total == 13).await;
}

#[tokio::test]
async fn one_that_begins_on_a_backend_that_drains_or_went_is_counted() {
    let rig = Rig::start(|_| ());
    let listener = listening(&rig, 3).await;
    let mut clients = [connect(&rig, GET).await, connect(&rig, GET).await];
    let mut backends = [within(listener.accept()).await.unwrap().0, within(listener.accept()).await.unwrap().0];
    rig.adopt(vec![in_phase(ready("a", listener.local_addr().unwrap(), 3), Phase::Draining)]);
    for (n, backend) in (1..).zip(&mut backends) {
        read_head(backend).await;
        backend.write_all(STREAM.as_bytes()).await.unwrap();
        rig.until("it is a session", |c| c.backends[0].used == n && c.backends[0].requests == 2 - n).await;
        rig.adopt(Vec::new());
    }
    let told = rig.gateway.end_sessions(&"chat".into(), &"a".into(), close(9, EndCause::Drained)).await;
    assert_eq!(told, 2);
    for client in &mut clients {
        let mut rest = String::new();
        within(client.read_to_string(&mut rest)).await.unwrap();
        assert!(rest.contains("retry: ") && rest.ends_with("\r\n0\r\n\r\n"), "{rest}");
    }
}

#[tokio::test]
async fn one_that_is_expected_waits_for_its_seat_before_the_dial() {
    let expected = [
        (Sessions::Streams, POST),
        (Sessions::Streams, GET),
        (Sessions::Auto, b"POST / HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\nContent-Length: 2\r\n\r\nhi"),
    ];
    for (sessions, request) in expected {
        let rig = Rig::routed(sessions, |p| p.queue.length = 9);
        let listener = listening(&rig, 3).await;
        let mut clients = Vec::new();
        for _ in 0..12 {
            clients.push(connect(&rig, request).await);
        }
        rig.until("nine wait", |c| c.queued == 9 && c.backends[0].used == 3).await;
        let refused = read_head(&mut connect(&rig, request).await).await;
        assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("holdline-cause: queue_full"), "{refused}");
        for round in 1..=4 {
            let backends = answer_all(&listener, 3).await;
            // The next is admitted when one of these ends.
            rig.until("three are open", |_| {
                rig.tells(&format!(r#"holdline_handshakes_total{{fleet="chat",result="opened"}} {}"#, 3 * round))
            })
            .await;
            assert_eq!((rig.used(), rig.counts().queued), (3, 12 - 3 * round));
            drop(backends);
        }
        for client in &mut clients {
            let head = read_head(client).await;
            assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Holdline-Session: "), "{head}");
        }
        drop(clients);
        rig.until("free", |c| c.backends[0].used == 0 && c.admitted_total == 12 && c.ended_total == 12).await;
        assert!(rig.tells(r#"holdline_unasked_streams_total{fleet="chat",seat="free"} 0"#));
    }
}

#[tokio::test]
async fn an_answer_that_is_no_stream_frees_the_seat_and_keeps_both_connections() {
    let rig = Rig::routed(Sessions::Streams, |_| ());
    let listener = listening(&rig, 1).await;
    let mut client = connect(&rig, POST).await;
    let (mut backend, _) = within(listener.accept()).await.unwrap();
    assert!(read_head(&mut backend).await.contains("holdline-session: "));
    assert_eq!(rig.used(), 1);
    backend.write_all(b"HTTP/1.1 400 No\r\nContent-Length: 5\r\n\r\nwh").await.unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 400 "));
    assert_eq!(rig.used(), 0);
    assert!(rig.tells(r#"holdline_handshakes_total{fleet="chat",result="answered"} 1"#));
    backend.write_all(b"at?").await.unwrap();
    expect(&mut client, b"what?").await;
    // Other methods are plain requests.
    client.write_all(b"DELETE / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    expect(&mut backend, b"hi").await;
    assert!(read_head(&mut backend).await.starts_with("DELETE / "));
    assert_eq!(rig.used(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_frees_the_seat_when_the_backend_ended() {
    let rig = Rig::routed(Sessions::Streams, |_| ());
    let listener = listening(&rig, 1).await;
    let client = connect(&rig, POST).await;
    let (mut backend, _) = within(listener.accept()).await.unwrap();
    read_head(&mut backend).await;
    drop(client);
    let mut rest = Vec::new();
    within(backend.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rig.used(), 1);
    drop(backend);
    rig.until("free", |c| c.backends[0].used == 0 && c.ended_total == 1).await;
    assert!(rig.tells(r#"holdline_handshakes_total{fleet="chat",result="gone"} 1"#));
}

#[tokio::test]
async fn one_whose_dial_fails_goes_elsewhere_with_another_seat() {
    let rig = Rig::routed(Sessions::Streams, |_| ());
    let (address, mut heard) = scripted(STREAM).await;
    let dead = ready("dead", nobody().await, 9);
    rig.adopt(vec![dead.clone(), ready("a", address, 9)]);
    for n in 1..=4 {
        let mut client = connect(&rig, POST).await;
        assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 "));
        within(heard.recv()).await.unwrap();
        assert_eq!(rig.used(), 1);
        drop(client);
        rig.until("free", |c| c.backends.iter().all(|b| b.used == 0) && c.admitted_total == c.ended_total).await;
        assert!(rig.tells(&format!(r#"holdline_handshakes_total{{fleet="chat",result="opened"}} {n}"#)));
    }
    rig.adopt(vec![dead]);
    let refused = read_head(&mut connect(&rig, POST).await).await;
    assert!(refused.starts_with("HTTP/1.1 502 ") && refused.contains("holdline-cause: backend_unreachable"), "{refused}");
    assert_eq!(rig.used(), 0);
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
    let told = rig.gateway.end_sessions(&"chat".into(), &"a".into(), close(9, EndCause::Drained)).await;
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
        rig.gateway.end_sessions(&"chat".into(), &"a".into(), cut(9)).await
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
