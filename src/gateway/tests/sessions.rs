//! Dial, exchange, answer, end.

use std::time::Duration;

use futures_util::StreamExt;
use holdline_core::cause::{EndCause, Phase};
use holdline_core::event::Event;
use holdline_core::policy::Affinity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::support::*;
use crate::gateway::admission::fleet::tests::ready;
use crate::gateway::{SessionFilter, SessionKind};

#[tokio::test]
async fn a_session_is_listed_and_told_to_end() {
    let (rig, server) = (Rig::start(|_| ()), Echo::start().await);
    rig.adopt(vec![server.view("a", 9)]);
    let mut socket = rig.open().await.unwrap();
    assert!(echo(&mut socket, "hello").await);
    let listed = rig.gateway.sessions(SessionFilter::default()).await;
    assert_eq!((listed.len(), listed[0].kind, listed[0].backend.as_str()), (1, SessionKind::WebSocket, "a"));
    let ended = rig.gateway.end_sessions(&"chat".into(), &"a".into(), close(5, EndCause::Drained)).await;
    assert_eq!(ended, 1);
    let Some(Ok(Message::Close(Some(frame)))) = within(socket.next()).await else { panic!("no Close") };
    assert_eq!(u16::from(frame.code), 1012);
    while within(socket.next()).await.is_some_and(|m| m.is_ok()) {}
    rig.until("free", |c| c.backends[0].used == 0 && c.ended_total == 1).await;
    rig.until("counted", |c| (c.backends[0].moved_total, c.backends[0].cut_total) == (1, 0)).await;
    let _cut = rig.open().await.unwrap();
    assert_eq!(rig.gateway.end_sessions(&"chat".into(), &"a".into(), cut(5)).await, 1);
    rig.until("cut", |c| c.backends[0].used == 0 && (c.backends[0].moved_total, c.backends[0].cut_total) == (1, 1)).await;
    assert!(rig.tells(r#"holdline_moves_total{fleet="chat",mode="close",result="moved"} 1"#));
}

#[tokio::test]
async fn a_cookie_leads_back_and_only_to_a_backend_that_takes_sessions() {
    let (rig, a, b) = (
        Rig::start(|p| p.affinity = Affinity::Cookie { name: "hl".into(), keys: None }),
        Echo::start().await,
        Echo::start().await,
    );
    rig.adopt(vec![a.view("a", 9), b.view("b", 9)]);
    let open = |cookie: Option<String>| {
        let mut request = format!("ws://{}/", rig.address).into_client_request().unwrap();
        if let Some(cookie) = cookie {
            request.headers_mut().insert("cookie", cookie.parse().unwrap());
        }
        tokio_tungstenite::connect_async(request)
    };
    let (first, response) = within(open(None)).await.unwrap();
    let set = response.headers()["set-cookie"].to_str().unwrap();
    assert!(set.contains("HttpOnly") && response.headers().contains_key("holdline-session"), "{set}");
    let cookie = set.split(';').next().unwrap().to_owned();
    let home = rig.gateway.sessions(SessionFilter::default()).await[0].backend.clone();
    let mut held = vec![first];
    for more in 2..=5 {
        let (socket, response) = within(open(Some(cookie.clone()))).await.unwrap();
        assert!(!response.headers().contains_key("set-cookie"));
        assert_eq!(rig.gateway.used(&"chat".into(), &home), more);
        held.push(socket);
    }
    // Draining: another at once, and a new cookie.
    let views = [("a", &a), ("b", &b)].map(|(id, server)| match id == home.as_str() {
        true => in_phase(server.view(id, 9), Phase::Draining),
        false => server.view(id, 9),
    });
    rig.adopt(views.into());
    let (_moved, response) = within(open(Some(cookie))).await.unwrap();
    assert!(response.headers().contains_key("set-cookie"));
    assert_eq!(rig.gateway.used(&"chat".into(), &home), 5);
}

#[tokio::test]
async fn a_dead_backend_is_passed_and_reported() {
    let (mut rig, server) = (Rig::start(|_| ()), Echo::start().await);
    rig.adopt(vec![ready("dead", nobody().await, 9), server.view("a", 9)]);
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(rig.open().await.unwrap());
    }
    assert_eq!((rig.gateway.used(&"chat".into(), &"a".into()), rig.used()), (6, 6));
    let failed = async {
        loop {
            if let Some(Event::Dial { backend, connected: false, .. }) = rig.events.recv().await {
                break backend;
            }
        }
    };
    assert_eq!(within(failed).await.as_str(), "dead");
}

#[tokio::test]
async fn nobody_to_reach_is_a_502_after_three_dials() {
    let mut rig = Rig::start(|_| ());
    let mut dead = Vec::new();
    for (id, dials) in [("a", 1), ("b", 2), ("c", 3), ("d", 3)] {
        dead.push(ready(id, nobody().await, 9));
        rig.adopt(dead.clone());
        assert_eq!(refusal(rig.open().await.unwrap_err()), (502, Some("backend_unreachable".into())));
        let mut dialled = Vec::new();
        while let Ok(Event::Dial { backend, connected: false, .. }) = rig.events.try_recv() {
            dialled.push(backend);
        }
        dialled.sort();
        dialled.dedup();
        assert_eq!(dialled.len(), dials, "{dialled:?}");
    }
    assert_eq!(rig.used(), 0);
}

#[tokio::test]
async fn an_answer_that_is_no_101_is_relayed_and_the_seat_is_free() {
    let rig = Rig::start(|_| ());
    let (address, mut heard) = scripted("HTTP/1.1 401 Who\r\nContent-Length: 8\r\nX-Why: y\r\n\r\nno entry").await;
    rig.adopt(vec![ready("a", address, 1)]);
    let request = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
    let answer = rig.raw(request).await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("X-Why: y\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nno entry"), "{answer}");
    let head = within(heard.recv()).await.unwrap();
    assert!(head.contains("X-Forwarded-For: 127.0.0.1\r\n") && !head.contains("6.6.6.6"), "{head}");
    rig.until("free", |c| c.backends[0].used == 0 && c.ended_total == 1).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let rig = Rig::start(|_| ());
    let (address, _heard) = scripted("HTTP/1.1 401 Who\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nno \r\nzz\r\n").await;
    rig.adopt(vec![ready("a", address, 1)]);
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n").await.unwrap();
    let mut seen = Vec::new();
    let reset = within(client.read_to_end(&mut seen)).await.is_err();
    assert!(reset && !String::from_utf8_lossy(&seen).ends_with("0\r\n\r\n"));
    rig.until("free", |c| c.backends[0].used == 0).await;
}

#[tokio::test]
async fn a_101_that_answers_another_key_is_a_502() {
    let rig = Rig::start(|_| ());
    let bad = "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n";
    let (address, _heard) = scripted(bad).await;
    rig.adopt(vec![ready("a", address, 1)]);
    assert_eq!(refusal(rig.open().await.unwrap_err()), (502, Some("backend_invalid".into())));
    rig.until("free", |c| c.backends[0].used == 0 && c.ended_total == 1).await;
}

#[tokio::test]
async fn rubbish_is_a_502_and_silence_a_504() {
    let rig = Rig::start(|p| p.timeouts.handshake = Duration::from_millis(300));
    let (rubbish, _heard) = scripted("SSH-2.0-OpenSSH_9.7\r\n").await;
    rig.adopt(vec![ready("rubbish", rubbish, 1)]);
    assert_eq!(refusal(rig.open().await.unwrap_err()), (502, Some("backend_invalid".into())));
    let (silent, _heard) = scripted("").await;
    rig.adopt(vec![ready("silent", silent, 1)]);
    assert_eq!(refusal(rig.open().await.unwrap_err()), (504, Some("backend_unreachable".into())));
    rig.until("free", |c| c.backends.iter().all(|b| b.used == 0)).await;
}

#[tokio::test]
async fn an_event_stream_is_a_session() {
    let rig = Rig::start(|_| ());
    let (address, mut heard) = scripted("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
    rig.adopt(vec![ready("a", address, 1)]);
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    let request = b"GET /feed HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\nAccept-Encoding: gzip\r\n\r\n";
    client.write_all(request).await.unwrap();
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Holdline-Session: "), "{head}");
    let mut chunk = [0; 14];
    within(client.read_exact(&mut chunk)).await.unwrap();
    assert_eq!(&chunk, b"9\r\ndata: 1\n\n\r\n");
    assert!(!within(heard.recv()).await.unwrap().to_ascii_lowercase().contains("accept-encoding"));
    assert_eq!(rig.gateway.sessions(SessionFilter::default()).await[0].kind, SessionKind::Sse);
    drop(client);
    rig.until("free", |c| c.backends[0].used == 0 && c.ended_total == 1).await;
}

#[tokio::test]
async fn a_compressed_event_stream_is_relayed_and_can_only_be_cut() {
    let rig = Rig::start(|_| ());
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n\x1fgz\r\n";
    let (address, _heard) = scripted(answer).await;
    rig.adopt(vec![ready("a", address, 1)]);
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n").await.unwrap();
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Content-Encoding: gzip\r\n"), "{head}");
    let mut chunk = [0; 8];
    within(client.read_exact(&mut chunk)).await.unwrap();
    assert_eq!((&chunk, rig.used()), (b"3\r\n\x1fgz\r\n", 1));
    let told = rig.gateway.end_sessions(&"chat".into(), &"a".into(), close(9, EndCause::Drained)).await;
    let mut rest = Vec::new();
    // Whether it ends or is reset, it does not look whole.
    let _ = within(client.read_to_end(&mut rest)).await;
    assert_eq!((told, rest), (1, vec![]));
    rig.until("free", |c| c.backends[0].used == 0 && c.ended_total == 1).await;
}

#[tokio::test]
async fn early_bytes_go_with_the_session() {
    let (rig, server) = (Rig::start(|_| ()), Echo::start().await);
    rig.adopt(vec![server.view("a", 1)]);
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    let handshake = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let text = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    client.write_all(&[&handshake[..], &text].concat()).await.unwrap();
    assert!(read_head(&mut client).await.to_ascii_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="));
    let mut back = [0; 4];
    within(client.read_exact(&mut back)).await.unwrap();
    assert_eq!(back, [0x81, 2, b'h', b'i']);
}

#[tokio::test]
async fn shutdown_closes_with_1001_and_ends() {
    let (rig, server) = (Rig::start(|_| ()), Echo::start().await);
    rig.adopt(vec![server.view("a", 99)]);
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(rig.open().await.unwrap());
    }
    let watching = futures_util::future::join_all(sockets.into_iter().map(|mut socket| async move {
        let Some(Ok(Message::Close(Some(frame)))) = within(socket.next()).await else { panic!("no Close") };
        while within(socket.next()).await.is_some_and(|m| m.is_ok()) {}
        u16::from(frame.code)
    }));
    let (codes, ()) = tokio::join!(watching, rig.gateway.shutdown(Duration::from_secs(2)));
    assert_eq!(codes, [1001; 20]);
    assert_eq!(rig.used(), 0);
    assert!(TcpStream::connect(rig.address).await.is_err());
}

#[tokio::test]
async fn what_no_backend_may_see_is_answered_by_the_gateway() {
    let (rig, server) = (Rig::start(|_| ()), Echo::start().await);
    rig.adopt(vec![server.view("a", 1)]);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "405"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n\r\n",
            "426",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n", "400"),
    ] {
        let answer = rig.raw(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
    assert_eq!(server.most.load(std::sync::atomic::Ordering::SeqCst), 0);
}
