//! WebSocket frames that break the rules, or that are only made to be a burden: rows 19 and 20.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::scripted::Reply;
use super::{Driven, Edge, HANDSHAKE, SWITCH, fleet, head};
use crate::support::backend::Backend;
use crate::support::client::{self, PATIENCE};
use crate::support::holdline::Holdline;
use crate::support::soon;

/// Resident memory may move by so many bytes for other reasons: allocators keep pages, and the kernel counts late.
const SLACK: f64 = 12.0 * 1024.0 * 1024.0;

/// A client's frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short frame");
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// A session opened by hand.
async fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{HANDSHAKE}\r\n").as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    stream
}

/// What a session is told after `bytes`: all until its end.
async fn verdict(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = open(address).await;
    stream.write_all(bytes).await.unwrap();
    let mut told = Vec::new();
    // A reset is an end as good.
    let _ = soon("the session's end", stream.read_to_end(&mut told)).await;
    told
}

#[tokio::test]
async fn row_19_frames_that_break_the_rules_get_the_verdict_of_the_backend_or_1002() {
    let long = [&[0x89, 0xfe, 0, 126, 0, 0, 0, 0][..], &[b'x'; 126]].concat();
    let cases: [(&str, Vec<u8>); 12] = [
        ("unmasked", vec![0x81, 0x02, b'h', b'i']),
        ("reserved bit 2", frame(0xa1, b"hi")),
        ("reserved bit 3", frame(0x91, b"hi")),
        ("reserved bit 1 on a ping", frame(0xc9, b"")),
        ("reserved opcode", frame(0x83, b"hi")),
        ("reserved control opcode", frame(0x8b, b"")),
        ("a long ping", long),
        ("a fragmented ping", frame(0x09, b"hi")),
        ("a length with its top bit set", vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("a continuation of nothing", frame(0x80, b"hi")),
        ("a Close code that may not be sent", frame(0x88, &1005u16.to_be_bytes())),
        ("data behind a Close", [frame(0x88, &1000u16.to_be_bytes()), frame(0x81, b"late")].concat()),
    ];
    let backend = Backend::start().await;
    let holdline = Holdline::start(&fleet(backend.address, ""));
    holdline.until_ready().await;
    for (what, bytes) in cases {
        let (alone, told) = (verdict(backend.address, &bytes).await, verdict(holdline.address, &bytes).await);
        let is_1002 = told.first() == Some(&0x88) && told.get(2..4) == Some(&1002u16.to_be_bytes());
        assert!(told == alone || is_1002, "{what}: {told:02x?} instead of {alone:02x?}");
        holdline.until("the seat is free", |fleet| fleet["sessions"] == 0).await;
    }
    let mut next = client::websocket(holdline.address, "/").await.unwrap();
    client::echo(&mut next, "unharmed").await;
}

/// A backend that switches and then reads whatever comes.
async fn sink(more: &str) -> Edge {
    Edge::start_with(more, |request| match request.contains("/ws ") {
        true => Reply::bytes(format!("{SWITCH}\r\n")).wait(),
        false => Reply::ok(),
    })
    .await
}

async fn until_timed_out(holdline: &Holdline) {
    let timed_out = async {
        while holdline.metric("holdline_sessions_ended_total", "cause=\"write_timeout\"").await < 1.0 {
            tokio::task::yield_now().await;
        }
    };
    soon("the session's cause is write_timeout", timed_out).await;
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "").await, 1.0, "and no other");
}

async fn resident(holdline: &Holdline) -> f64 {
    holdline.metric("process_resident_memory_bytes", "").await
}

#[tokio::test]
async fn row_20_one_message_in_endless_fragments_of_a_byte() {
    let edge = sink("").await;
    let mut client = open(edge.holdline.address).await;
    let fragments = frame(0x00, b"x").repeat(8 << 10);
    client.write_all(&frame(0x01, b"x")).await.unwrap();
    client.write_all(&fragments).await.unwrap();
    let before = resident(&edge.holdline).await;
    for _ in 0..32 {
        soon("it is taken", client.write_all(&fragments)).await.unwrap();
    }
    client.write_all(&frame(0x80, b"the end")).await.unwrap();
    edge.backend.until_received("the end").await;
    let grown = resident(&edge.holdline).await - before;
    assert!(grown < SLACK, "{grown} bytes for a quarter of a million fragments");
    drop(client);
    edge.is_unharmed().await;
}

#[tokio::test]
async fn row_20_a_flood_of_pings_from_a_client_that_does_not_read() {
    // The backend answers each Ping, so both directions fill up.
    let backend = Backend::start().await;
    let holdline = Holdline::start(&fleet(backend.address, "timeouts: { write: 1s }"));
    holdline.until_ready().await;
    let before = resident(&holdline).await;
    let mut client = open(holdline.address).await;
    let pings = frame(0x89, &[b'x'; 100]).repeat(1 << 10);
    let flood = async { while client.write_all(&pings).await.is_ok() {} };
    soon("the session is ended", flood).await;
    let grown = resident(&holdline).await - before;
    assert!(grown < SLACK, "{grown} bytes for one client");
    until_timed_out(&holdline).await;
    holdline.until("the seat is free", |fleet| fleet["sessions"] == 0).await;
}

#[tokio::test]
async fn row_20_a_backend_that_does_not_read() {
    let (driven, holdline) = Driven::start("timeouts: { write: 1s }").await;
    let before = resident(&holdline).await;
    let mut client = TcpStream::connect(holdline.address).await.unwrap();
    client.write_all(format!("{HANDSHAKE}\r\n").as_bytes()).await.unwrap();
    let (mut backend, _) = driven.request().await;
    backend.write_all(format!("{SWITCH}\r\n").as_bytes()).await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
    let message = [&[0x82, 0xff][..], &(1u64 << 40).to_be_bytes(), &[0; 4], &[b'x'; 64 << 10]].concat();
    client.write_all(&message).await.unwrap();
    let flood = async { while client.write_all(&message[14..]).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, flood).await.expect("the session is ended");
    let grown = resident(&holdline).await - before;
    assert!(grown < SLACK, "{grown} bytes behind one backend that does not read");
    until_timed_out(&holdline).await;
    drop(backend);
    holdline.until("the seat is free", |fleet| fleet["sessions"] == 0).await;
}
