//! Peers that go without a word: a backend that is killed, clients that have vanished.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::scaling::{LOBBY, NO_API};
use crate::support::backend::{Backend, read_head};
use crate::support::holdline::{BINARY, Holdline};
use crate::support::{client, soon};

/// A node that is nobody's child but the test's.
struct Node {
    process: Child,
    address: SocketAddr,
}

impl Node {
    fn start() -> Self {
        let mut command = Command::new(BINARY);
        command.args(["live", "node", "--api", NO_API, "--port", "0"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listens on ").unwrap().parse().unwrap();
        Node { process, address }
    }

    /// SIGKILL: the kernel ends its connections, nobody says anything.
    fn kill(&mut self) {
        self.process.kill().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn clients_of_a_backend_that_is_killed_are_told_to_come_back() {
    let mut node = Node::start();
    let holdline = Holdline::start(&format!(
        "fleets:\n  chat:\n    backends: {{ static: [ {{ address: \"{}\" }} ] }}\n    capacity: 1000\n",
        node.address
    ));
    holdline.until_ready().await;
    let mut clients = JoinSet::new();
    for _ in 0..100 {
        let mut socket = client::websocket(holdline.address, LOBBY).await.unwrap();
        clients.spawn(async move { client::close_code(&mut socket).await });
    }
    let mut stream = TcpStream::connect(holdline.address).await.unwrap();
    stream.write_all(b"GET /live/events/lobby HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n").await.unwrap();
    // Answered: its seat was counted before that.
    let mut told = String::from_utf8(soon("the stream begins", read_head(&mut stream)).await.unwrap()).unwrap();
    holdline.until("all are there", |fleet| fleet["sessions"] == 101).await;

    node.kill();
    while let Some(code) = clients.join_next().await {
        assert_eq!(code.unwrap(), Some(1012));
    }
    soon("the stream ends", stream.read_to_string(&mut told)).await.unwrap();
    assert!(told.contains("retry: ") && told.ends_with("\r\n0\r\n\r\n"), "{told}");
    drop(stream);
    holdline.until("every seat is free", |fleet| fleet["sessions"] == 0).await;
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "cause=\"backend_lost\"").await, 101.0);
}

#[tokio::test]
async fn silent_clients_are_pinged_and_those_that_do_not_answer_are_given_up() {
    let backend = Backend::start().await;
    let holdline = Holdline::start(&format!(
        "fleets:\n  chat:\n    backends: {{ static: [ {{ address: \"{}\" }} ] }}\n    capacity: 10\n    \
         keepalive: {{ ping: 300ms, timeout: 1s }}\n",
        backend.address
    ));
    holdline.until_ready().await;
    // It answers Pings whenever it is read, and says nothing else.
    let mut alive = client::websocket(holdline.address, "/").await.unwrap();
    let mut pings = 0;
    // This one is never read: its Pings stay in the kernel, and so its connection looks as good as any.
    let mut vanished = client::websocket(holdline.address, "/").await.unwrap();
    let given_up = async {
        while holdline.metric("holdline_sessions_ended_total", "cause=\"keepalive_timeout\"").await < 1.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answering = async {
        while let Some(Ok(message)) = alive.next().await {
            assert!(matches!(message, Message::Ping(_)), "{message:?}");
            pings += 1;
        }
        unreachable!("the client that answers stays");
    };
    soon("the silent client is given up", async {
        tokio::select! {
            () = given_up => {}
            () = answering => {}
        }
    })
    .await;
    assert!(pings >= 2, "{pings} Pings");
    let fleet = holdline.until("the seat is free", |fleet| fleet["sessions"] == 1).await;
    assert_eq!(fleet["backends"][0]["sessions"], 1);
    alive.send(Message::text("still here")).await.unwrap();
    let heard = soon("an echo", async {
        loop {
            match alive.next().await.unwrap().unwrap() {
                Message::Ping(_) => {}
                message => return message,
            }
        }
    })
    .await;
    assert_eq!(heard, Message::text("still here"));
    // What it did not read is still there: a Ping of ours, and then the end without another word.
    let last = soon("a Ping", vanished.next()).await.unwrap().unwrap();
    assert!(matches!(last, Message::Ping(_)), "{last:?}");
    assert_eq!(client::close_code(&mut vanished).await, None);
}
