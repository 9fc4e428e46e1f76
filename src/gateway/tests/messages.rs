//! What of a message crosses besides its head and its body: interim responses and trailers.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::*;
use crate::config::units::Sessions;
use crate::gateway::admission::fleet::tests::ready;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const HINTS: &[u8] =
    b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nHoldline-Cause: forged\r\nConnection: x\r\nX: 1\r\n\r\n";
const HINTED: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn listening(rig: &Rig) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.adopt(vec![ready("a", listener.local_addr().unwrap(), 9)]);
    listener
}

async fn connect(rig: &Rig, request: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    client.write_all(request).await.unwrap();
    client
}

async fn accept(listener: &TcpListener) -> (TcpStream, String) {
    let (mut backend, _) = within(listener.accept()).await.unwrap();
    let head = within(read_head(&mut backend)).await;
    (backend, head)
}

async fn expect(socket: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    within(socket.read_exact(&mut got)).await.unwrap();
    assert_eq!(got.escape_ascii().to_string(), bytes.escape_ascii().to_string());
}

#[tokio::test]
async fn interim_responses_go_to_the_client_before_the_answer_is_there() {
    let (request_only, streams) = (Rig::start(|_| ()), Rig::routed(Sessions::Streams, |_| ()));
    for rig in [request_only, streams] {
        let listener = listening(&rig).await;
        let mut client = connect(&rig, GET).await;
        let (mut backend, _) = accept(&listener).await;
        // A head that is cut anywhere, then one whole, then one with its answer.
        for piece in [&HINTS[..10], &HINTS[10..60], &HINTS[60..]] {
            backend.write_all(piece).await.unwrap();
            backend.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        expect(&mut client, HINTED.as_bytes()).await;
        backend.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.unwrap();
        expect(&mut client, b"HTTP/1.1 102 Processing\r\n\r\n").await;
        backend.write_all(&[HINTS, ANSWER].concat()).await.unwrap();
        expect(&mut client, HINTED.as_bytes()).await;
        assert!(within(read_head(&mut client)).await.starts_with("HTTP/1.1 200 OK\r\n"));
        expect(&mut client, b"ok").await;
    }
}

#[tokio::test]
async fn they_come_between_two_answers_and_the_connection_goes_on() {
    let rig = Rig::start(|_| ());
    let listener = listening(&rig).await;
    let mut client = connect(&rig, &GET.repeat(3)).await;
    let (mut backend, _) = accept(&listener).await;
    for round in 0..3 {
        if round > 0 {
            assert!(within(read_head(&mut backend)).await.starts_with("GET / "));
        }
        backend.write_all(&[HINTS, ANSWER].concat()).await.unwrap();
        expect(&mut client, HINTED.as_bytes()).await;
        assert!(within(read_head(&mut client)).await.starts_with("HTTP/1.1 200 OK\r\n"));
        expect(&mut client, b"ok").await;
    }
}

/// Of a client that does not read, the next answer's interim responses stay behind the first answer, or are dropped.
#[tokio::test]
async fn they_never_tear_an_answer_that_is_not_out_yet() {
    const LARGE: usize = 4 << 20;
    let rig = Rig::start(|_| ());
    let listener = listening(&rig).await;
    let mut client = connect(&rig, &GET.repeat(2)).await;
    let (mut backend, _) = accept(&listener).await;
    let served = tokio::spawn(async move {
        backend.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes()).await.unwrap();
        backend.write_all(&vec![b'x'; LARGE]).await.unwrap();
        read_head(&mut backend).await;
        backend.write_all(&[HINTS, ANSWER].concat()).await.unwrap();
        backend
    });
    assert!(within(read_head(&mut client)).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let mut body = vec![0; LARGE];
    within(client.read_exact(&mut body)).await.unwrap();
    assert!(body.iter().all(|b| *b == b'x'));
    let mut head = within(read_head(&mut client)).await;
    if head == HINTED {
        head = within(read_head(&mut client)).await;
    }
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    expect(&mut client, b"ok").await;
    drop(served.await.unwrap());
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_none() {
    let rig = Rig::start(|_| ());
    for request in ["GET / HTTP/1.0\r\nHost: h\r\n\r\n", "GET / HTTP/1.0\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n"] {
        let listener = listening(&rig).await;
        let mut client = connect(&rig, request.as_bytes()).await;
        let (mut backend, _) = accept(&listener).await;
        backend.write_all(&[HINTS, ANSWER].concat()).await.unwrap();
        assert!(within(read_head(&mut client)).await.contains(" 200 OK\r\n"));
    }
}

#[tokio::test]
async fn a_handshake_has_them_before_its_101() {
    let rig = Rig::start(|_| ());
    let listener = listening(&rig).await;
    let mut client = connect(&rig, HANDSHAKE.as_bytes()).await;
    let (mut backend, _) = accept(&listener).await;
    backend.write_all(HINTS).await.unwrap();
    expect(&mut client, HINTED.as_bytes()).await;
    backend.write_all(&[HINTS, SWITCHED.as_bytes()].concat()).await.unwrap();
    expect(&mut client, HINTED.as_bytes()).await;
    assert!(within(read_head(&mut client)).await.starts_with("HTTP/1.1 101 "));
    assert_eq!(rig.used(), 1);
}

const ASKING: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nConnection: TE\r\n\r\n";
const TRAILED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Set-Cookie, Holdline-Cause\r\n\r\n\
    2\r\nok\r\n0\r\nX-Sum: 7\r\nSet-Cookie: a=b\r\nHoldline-Cause: forged\r\nX-Other: 1\r\n\r\n";

#[tokio::test]
async fn trailers_of_an_answer_cross_to_a_client_that_takes_them() {
    let rig = Rig::start(|_| ());
    let listener = listening(&rig).await;
    let mut client = connect(&rig, ASKING).await;
    let (mut backend, head) = accept(&listener).await;
    assert!(head.contains("te: trailers\r\n") && head.contains("connection: te\r\n"), "{head}");
    for _ in 0..2 {
        backend.write_all(TRAILED).await.unwrap();
        let head = within(read_head(&mut client)).await;
        assert!(head.contains("trailer: X-Sum\r\n"), "{head}");
        expect(&mut client, b"2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n").await;
        // Both connections can be used again.
        client.write_all(ASKING).await.unwrap();
        assert!(within(read_head(&mut backend)).await.starts_with("GET / "));
    }
}

#[tokio::test]
async fn a_client_that_does_not_take_trailers_gets_none() {
    let rig = Rig::start(|_| ());
    let listener = listening(&rig).await;
    let mut client = connect(&rig, GET).await;
    let (mut backend, head) = accept(&listener).await;
    assert!(!head.to_ascii_lowercase().contains("\r\nte:"), "{head}");
    backend.write_all(TRAILED).await.unwrap();
    let head = within(read_head(&mut client)).await.to_ascii_lowercase();
    assert!(!head.contains("trailer"), "{head}");
    expect(&mut client, b"2\r\nok\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn trailers_of_a_request_cross_save_those_that_may_not() {
    let rig = Rig::start(|_| ());
    let listener = listening(&rig).await;
    let post =
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Authorization, X-Forwarded-For\r\n\r\n\
        2\r\nhi\r\n0\r\nX-Sum: 7\r\nAuthorization: Basic x\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
    let mut client = connect(&rig, post).await;
    let (mut backend, head) = accept(&listener).await;
    assert!(head.contains("trailer: X-Sum\r\n"), "{head}");
    for _ in 0..2 {
        expect(&mut backend, b"2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n").await;
        backend.write_all(ANSWER).await.unwrap();
        assert!(within(read_head(&mut client)).await.starts_with("HTTP/1.1 200 OK\r\n"));
        expect(&mut client, b"ok").await;
        // The request was whole: its connection is used again.
        client.write_all(post).await.unwrap();
        within(read_head(&mut backend)).await;
    }
}
