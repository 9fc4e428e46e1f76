//! Row 25: addresses that hold or begin more than they may, and what others notice of it: nothing.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::support::backend::Backend;
use crate::support::client::{self, connect_from, refusal, websocket_from};
use crate::support::holdline::Holdline;
use crate::support::soon;

/// Whom the limit meets, and who must not notice.
const GREEDY: &str = "127.0.0.2";
const OTHER: &str = "127.0.0.3";

const EVENTS: &str = "GET /events HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n";

async fn start(limits: &str, fleet: &str) -> Holdline {
    start_with(&format!("limits: {{ {limits} }}"), fleet).await
}

async fn start_with(config: &str, fleet: &str) -> Holdline {
    let backend = Backend::start().await;
    let holdline = Holdline::start(&format!(
        "{config}\nfleets:\n  chat:\n    backends: {{ static: [ {{ address: \"{}\" }} ] }}\n    capacity: 100\n    {fleet}\n",
        backend.address
    ));
    holdline.until_ready().await;
    holdline
}

/// The whole answer to `bytes`; `Err`: the connection broke off before there was any.
async fn exchange(source: &str, holdline: &Holdline, bytes: &str) -> Result<String, ErrorKind> {
    let mut answer = Vec::new();
    let talk = async {
        let mut client = connect_from(source, holdline.address).await?;
        client.write_all(bytes.as_bytes()).await?;
        client.read_to_end(&mut answer).await
    };
    match soon("an answer", talk).await {
        Ok(_) if answer.is_empty() => Err(ErrorKind::UnexpectedEof),
        Ok(_) => Ok(String::from_utf8_lossy(&answer).to_ascii_lowercase()),
        Err(error) => Err(error.kind()),
    }
}

#[tokio::test]
async fn row_25_more_sessions_of_an_address_than_allowed() {
    let holdline = start("sessions_per_address: 20", "").await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(websocket_from(GREEDY, holdline.address).await.unwrap());
    }
    for _ in 0..5 {
        let error = websocket_from(GREEDY, holdline.address).await.expect_err("one too many");
        assert_eq!(refusal(&error), (429, "limit".to_owned()));
    }
    let events = exchange(GREEDY, &holdline, EVENTS).await.unwrap();
    assert!(events.starts_with("http/1.1 429 ") && events.contains("\r\nretry-after: "), "{events}");
    assert_eq!(holdline.metric("holdline_refused_total", "cause=\"limit\"").await, 6.0);

    let mut other = websocket_from(OTHER, holdline.address).await.unwrap();
    client::echo(&mut other, "unharmed").await;
    for socket in &mut held {
        client::echo(socket, "held").await;
    }
    // A place is back when the session is, and only one.
    client::leave(held.pop().unwrap()).await;
    holdline.until("one has left", |fleet| fleet["sessions"] == 20).await;
    held.push(websocket_from(GREEDY, holdline.address).await.unwrap());
    assert!(websocket_from(GREEDY, holdline.address).await.is_err());
}

#[tokio::test]
async fn row_25_a_websocket_over_the_limit_is_told_by_a_close_frame() {
    let holdline = start("sessions_per_address: 1", "refuse: { with: close }").await;
    let _held = websocket_from(GREEDY, holdline.address).await.unwrap();
    let mut refused = websocket_from(GREEDY, holdline.address).await.unwrap();
    assert_eq!(client::close_code(&mut refused).await, Some(1013));
    let events = exchange(GREEDY, &holdline, EVENTS).await.unwrap();
    assert!(events.starts_with("http/1.1 200 ") && events.contains("\r\nholdline-cause: limit\r\n"), "{events}");
    assert_eq!(holdline.metric("holdline_refused_total", "cause=\"limit\"").await, 2.0);
}

#[tokio::test]
async fn row_25_more_handshakes_of_an_address_than_allowed() {
    // One, and the next in a minute and a half.
    let holdline = start("handshakes_per_address: 0.01/s", "").await;
    let mut first = websocket_from(GREEDY, holdline.address).await.unwrap();
    let error = websocket_from(GREEDY, holdline.address).await.expect_err("one too many");
    assert_eq!(refusal(&error), (429, "limit".to_owned()));
    client::echo(&mut first, "held").await;
    let mut other = websocket_from(OTHER, holdline.address).await.unwrap();
    client::echo(&mut other, "unharmed").await;
    // Plain requests are no sessions, and not counted as such: this one finds a backend that closes on it.
    let plain = exchange(GREEDY, &holdline, super::GET).await.unwrap();
    assert!(!plain.starts_with("http/1.1 429 "), "{plain}");
}

#[tokio::test]
async fn row_25_a_flood_of_handshakes_is_not_even_accepted() {
    let holdline = start("handshakes_per_address: 0.01/s", "").await;
    let mut held = websocket_from(GREEDY, holdline.address).await.unwrap();
    let (mut refused, mut turned_away) = (0, 0);
    soon("fifty are turned away", async {
        while turned_away < 50 {
            match exchange(GREEDY, &holdline, EVENTS).await {
                Ok(answer) => {
                    assert!(answer.starts_with("http/1.1 429 "), "{answer}");
                    refused += 1;
                }
                Err(_) => turned_away += 1,
            }
        }
    })
    .await;
    assert!(refused >= 2, "an address is turned away only above twice its rate: {refused}");
    assert_eq!(holdline.metric("holdline_bad_input_total", "reason=\"flood\"").await, f64::from(turned_away));
    assert_eq!(holdline.metric("holdline_refused_total", "cause=\"limit\"").await, f64::from(refused));
    client::echo(&mut held, "held through it").await;
    let mut other = websocket_from(OTHER, holdline.address).await.unwrap();
    client::echo(&mut other, "unharmed").await;
    // It is over a second later.
    soon("an answer again", async {
        while exchange(GREEDY, &holdline, super::GET).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn row_25_clients_behind_a_trusted_proxy_are_limited_one_by_one() {
    let holdline = start_with(&format!("limits: {{ handshakes_per_address: 0.01/s }}\ntrusted: [ {GREEDY} ]"), "").await;
    let as_client = |client: &str| EVENTS.replace("\r\n\r\n", &format!("\r\nX-Forwarded-For: {client}\r\n\r\n"));
    // Twenty tries are a flood, but the proxy's connections may be others' too.
    let mut refused = 0;
    for _ in 0..20 {
        let answer = exchange(GREEDY, &holdline, &as_client("203.0.113.1")).await.expect("an answer");
        refused += u32::from(answer.starts_with("http/1.1 429 "));
    }
    assert_eq!(refused, 19);
    let answer = exchange(GREEDY, &holdline, &as_client("203.0.113.2")).await.expect("an answer");
    assert!(!answer.starts_with("http/1.1 429 "), "{answer}");
    // Who is not trusted is itself, whatever it says.
    exchange(OTHER, &holdline, &as_client("203.0.113.3")).await.expect("an answer");
    let answer = exchange(OTHER, &holdline, &as_client("203.0.113.4")).await.expect("an answer");
    assert!(answer.starts_with("http/1.1 429 "), "{answer}");
}
