//! The process is stopped and goes on: what peers sent meanwhile is read before timeouts are obeyed.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::backend::Backend;
use crate::support::client;
use crate::support::holdline::Holdline;
use crate::support::soon;

/// Longer than every timeout of the test.
const PAUSE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn nobody_is_evicted_for_the_silence_of_a_process_that_was_stopped() {
    let backend = Backend::start().await;
    let holdline = Holdline::start(&format!(
        "limits: {{ head_timeout: 2s }}\nfleets:\n  chat:\n    backends: {{ static: [ {{ id: a, address: \"{}\" }} ] }}\n    capacity: 200\n    \
         timeouts: {{ idle: 2s }}\n",
        backend.address
    ));
    holdline.until_ready().await;
    let mut sockets = Vec::new();
    for _ in 0..50 {
        sockets.push(client::websocket(holdline.address, "/").await.unwrap());
    }
    let mut silent = TcpStream::connect(holdline.address).await.unwrap();
    // All are served once this one is, which came last.
    let mut last = client::websocket(holdline.address, "/").await.unwrap();
    client::echo(&mut last, "here").await;

    holdline.signal("STOP");
    for socket in &mut sockets {
        socket.send(Message::text("while it stood still")).await.unwrap();
    }
    silent.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(PAUSE).await;
    holdline.signal("CONT");

    let mut answer = [0; 9];
    soon("an answer", silent.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 ");
    for socket in &mut sockets {
        let echo = soon("an echo", socket.next()).await.expect("an open session").unwrap();
        assert_eq!(echo, Message::text("while it stood still"));
        client::echo(socket, "and then").await;
    }
    let ended = holdline.fleet().await["ended_total"].clone();
    assert!(ended.as_object().unwrap().values().all(|n| n == 0), "{ended}");
}
