//! When things go wrong: each has a clear message or cause, and nothing is lost that could have been kept.

use std::net::TcpListener;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::backend::{After, Backend, raw};
use crate::support::client::{self, PATIENCE, refusal};
use crate::support::holdline::{Holdline, run_to_failure};
use crate::support::network;

fn fleet_at(address: impl std::fmt::Display, rest: &str) -> String {
    format!(
        "fleets:\n  chat:\n    backends:\n      static: [ {{ id: a, address: \"{address}\" }} ]\n    capacity: 10\n    {rest}\n"
    )
}

#[test]
fn a_taken_port_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for config in [
        format!("listeners: [ {{ address: \"{address}\" }} ]\n{}", fleet_at("127.0.0.1:1", "")),
        format!("admin: {{ address: \"{address}\" }}\n{}", fleet_at("127.0.0.1:1", "")),
    ] {
        let (status, stderr) = run_to_failure(&config);
        assert_eq!(status, 2, "{stderr}");
        assert!(stderr.contains(&address.to_string()) && stderr.contains("in use"), "{stderr}");
    }
}

#[test]
fn a_command_that_does_not_exist_is_named_before_anything_starts() {
    let (status, stderr) = run_to_failure(
        "fleets:\n  chat:\n    backends:\n      process: { command: [no-such-program, \"{port}\"], ports: \"20000-20009\" }\n    capacity: 10\n    scale: { min: 1, max: 5 }\n",
    );
    assert_eq!(status, 2, "{stderr}");
    assert!(stderr.contains("no-such-program"), "{stderr}");
}

#[tokio::test]
async fn a_child_that_never_becomes_ready_is_stopped_and_said() {
    let network = network::own();
    let (first, last) = network.ports();
    let holdline = Holdline::start(&format!(
        "fleets:\n  chat:\n    backends:\n      process: {{ command: [sleep, \"1000\"], ports: \"{first}-{last}\", env: {{ PORT: \"{{port}}\" }}, ready_timeout: 1s, stop_timeout: 1s }}\n    \
         capacity: 10\n    scale: {{ min: 1, max: 1 }}\n"
    ));
    let line = holdline.log_line("no good heartbeat");
    assert!(line.to_string().contains("chat-1"), "{line}");
    // It is tried again, with a backoff, under a new id.
    holdline.until("the next one", |fleet| fleet["backends"].as_array().unwrap().iter().any(|b| b["id"] == "chat-2")).await;
}

#[tokio::test]
async fn a_backend_that_refuses_is_no_backend() {
    let network = network::own();
    let closed = format!("127.0.0.1:{}", network.ports().0);
    let holdline = Holdline::start(&fleet_at(closed, "queue: { length: 10, timeout: 500ms }"));
    let error = client::websocket(holdline.address, "/").await.unwrap_err();
    let (status, cause) = refusal(&error);
    assert_eq!(status, 503);
    assert!(["no_backend", "queue_timeout"].contains(&cause.as_str()), "{cause}");
}

#[tokio::test]
async fn a_backend_that_stalls_frees_the_seat_at_the_handshake_timeout() {
    let stalled = raw(b"", After::Stall).await;
    let holdline = Holdline::start(&fleet_at(stalled, "timeouts: { connect: 300ms, handshake: 500ms }"));
    holdline.until_ready().await;
    let error = client::websocket(holdline.address, "/").await.unwrap_err();
    assert_eq!(refusal(&error), (504, "backend_unreachable".to_owned()));
    holdline.until("the seat is free", |fleet| fleet["sessions"] == 0).await;
}

#[tokio::test]
async fn rubbish_and_false_answers_are_502_and_free_the_seat() {
    let answers: [&[u8]; 4] = [
        b"rubbish\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: bm90IGl0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: unasked\r\n\r\n",
    ];
    for answer in answers {
        let backend = raw(answer, After::Stall).await;
        let holdline = Holdline::start(&fleet_at(backend, ""));
        holdline.until_ready().await;
        let error = client::websocket(holdline.address, "/").await.unwrap_err();
        assert_eq!(refusal(&error), (502, "backend_invalid".to_owned()), "{}", String::from_utf8_lossy(answer));
        holdline.until("the seat is free", |fleet| fleet["sessions"] == 0).await;
    }
}

#[tokio::test]
async fn another_answer_than_101_is_relayed_as_it_is() {
    let backend =
        raw(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 7\r\n\r\nno such", After::Stall).await;
    let holdline = Holdline::start(&fleet_at(backend, ""));
    holdline.until_ready().await;
    let error = client::websocket(holdline.address, "/").await.unwrap_err();
    let tokio_tungstenite::tungstenite::Error::Http(response) = error else { panic!("{error:?}") };
    assert_eq!((response.status().as_u16(), response.headers()["www-authenticate"].to_str().unwrap()), (401, "Bearer"));
    holdline.until("the seat is free", |fleet| fleet["sessions"] == 0).await;
}

#[tokio::test]
async fn a_backend_that_dies_inside_a_frame_leaves_no_second_frame() {
    let backend = raw(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n\x81\x7e\x10\x00half of it",
        After::Close,
    )
    .await;
    let holdline = Holdline::start(&fleet_at(backend, ""));
    holdline.until_ready().await;
    let mut stream = TcpStream::connect(holdline.address).await.unwrap();
    let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    // A reset is as good an end as a FIN here.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut seen)).await.expect("an end");
    let head = seen.windows(4).position(|w| w == b"\r\n\r\n").expect("the 101 arrived") + 4;
    assert_eq!(&seen[head..], b"\x81\x7e\x10\x00half of it", "no Close inside of a frame");
    holdline.until("the seat is free", |fleet| fleet["sessions"] == 0).await;
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "cause=\"backend_lost\"").await, 1.0);
}

#[tokio::test]
async fn a_client_that_never_reads_ends_with_write_timeout() {
    let backend = Backend::start().await;
    let holdline = Holdline::start(&fleet_at(backend.address, "timeouts: { write: 1s }"));
    holdline.until_ready().await;
    let socket = client::websocket(holdline.address, "/").await.unwrap();
    let (mut send, receive) = socket.split();
    let sending = tokio::spawn(async move { while send.send(Message::binary(vec![1; 60_000])).await.is_ok() {} });
    let ended = async {
        while holdline.metric("holdline_sessions_ended_total", "cause=\"write_timeout\"").await < 1.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the session is ended");
    holdline.until("the seat is free", |fleet| fleet["sessions"] == 0).await;
    sending.await.unwrap();
    drop(receive);
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_frees_its_place() {
    let backend = Backend::start().await;
    let holdline =
        Holdline::start(&fleet_at(backend.address, "queue: { length: 1, timeout: 60s }").replace("capacity: 10", "capacity: 1"));
    holdline.until_ready().await;
    let held = client::websocket(holdline.address, "/").await.unwrap();
    let address = holdline.address;
    let waiting = tokio::spawn(async move { client::websocket(address, "/").await });
    holdline.until("one waits", |fleet| fleet["queued"] == 1).await;
    assert_eq!(refusal(&client::websocket(address, "/").await.unwrap_err()), (503, "queue_full".to_owned()));
    waiting.abort();
    holdline.until("nobody waits", |fleet| fleet["queued"] == 0).await;
    client::leave(held).await;
    let mut next = client::websocket(address, "/").await.unwrap();
    client::echo(&mut next, "my turn").await;
}

#[tokio::test]
async fn a_refusal_can_be_a_close_that_browsers_can_read() {
    let backend = Backend::start().await;
    let rest = "queue: { length: 0, timeout: 1s }\n    refuse: { with: close, retry_after: 3s }";
    let holdline = Holdline::start(&fleet_at(backend.address, rest).replace("capacity: 10", "capacity: 1"));
    holdline.until_ready().await;
    let _held = client::websocket(holdline.address, "/").await.unwrap();
    let mut refused =
        client::websocket_with(holdline.address, "/", &[("sec-websocket-protocol", "chat.v2, chat.v1")]).await.unwrap();
    assert_eq!(client::close_code(&mut refused).await, Some(1013));
    let stream = tokio::process::Command::new("curl")
        .args(["-sSi", "--max-time", "20", "-H", "Accept: text/event-stream", &format!("http://{}/", holdline.address)])
        .output()
        .await
        .unwrap();
    let answer = String::from_utf8(stream.stdout).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("retry: "), "{answer}");
}

#[tokio::test]
async fn commands_that_cannot_be_done_say_why_and_change_nothing() {
    let backend = Backend::start().await;
    let holdline = Holdline::start(&fleet_at(backend.address, "drain: { deadline: 30s }"));
    holdline.until_ready().await;
    let _held = client::websocket(holdline.address, "/").await.unwrap();
    for (args, says, code) in [
        (vec!["drain", "nobody"], vec!["nobody", "a"], 1),
        // A value out of range is a matter of usage.
        (vec!["drain", "a", "--over", "40s"], vec!["40s", "30s"], 2),
        (vec!["undrain", "a"], vec!["ready"], 1),
        (vec!["rebalance", "nothing"], vec!["nothing", "chat"], 1),
    ] {
        let output = holdline.cli(&args).await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(says.iter().all(|word| stderr.contains(word)), "{args:?}: {stderr}");
    }
    assert_eq!(holdline.fleet().await["backends"][0]["phase"], "ready");

    // The only backend: there is no room for its session anywhere else, and the plan says so.
    let output = holdline.cli(&["drain", "a", "--dry-run"]).await;
    assert!(output.status.success());
    let text = [output.stdout, output.stderr].concat();
    assert!(String::from_utf8_lossy(&text).contains("free seats for 0 of 1"), "{}", String::from_utf8_lossy(&text));
}
