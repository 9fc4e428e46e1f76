//! Long-poll clients of a real gateway: one seat each, kept for ten seconds between two polls.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::backend::read_head;
use crate::support::holdline::Holdline;
use crate::support::soon;

const CLIENTS: usize = 100;
const CAPACITY: usize = CLIENTS / 2;

/// A backend that answers every request at once, and notes which session each client came with.
struct Polled {
    address: SocketAddr,
    seen: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
}

impl Polled {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let polled = Polled { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = Arc::clone(&polled.seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    while let Some(head) = read_head(&mut stream).await {
                        let head = String::from_utf8(head).unwrap();
                        let (client, session) = (field(&head, "x-user"), field(&head, "holdline-session"));
                        seen.lock().entry(client.unwrap_or_default()).or_default().extend(session);
                        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        polled
    }

    fn sessions(&self) -> BTreeSet<String> {
        self.seen.lock().values().flatten().cloned().collect()
    }
}

fn field(head: &str, name: &str) -> Option<String> {
    let line = head.lines().find(|l| l.split(':').next().is_some_and(|n| n.eq_ignore_ascii_case(name)))?;
    Some(line.split_once(": ")?.1.to_owned())
}

/// A client's kept-alive connection.
struct Client(TcpStream);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Client(TcpStream::connect(address).await.unwrap())
    }

    async fn ask(&mut self, fields: &str) {
        let request = format!("GET /poll/x HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
    }

    /// The head of an answer; its body is read and dropped.
    async fn answer(&mut self) -> String {
        let head = String::from_utf8(soon("an answer", read_head(&mut self.0)).await.unwrap()).unwrap();
        let length = field(&head, "content-length").unwrap().parse().unwrap();
        self.0.read_exact(&mut vec![0; length]).await.unwrap();
        head
    }

    async fn poll(&mut self, fields: &str) -> String {
        self.ask(fields).await;
        self.answer().await
    }
}

fn config(sessions: bool, affinity: &str, backends: &[Polled]) -> String {
    let list: Vec<_> = backends.iter().enumerate().map(|(n, b)| format!("{{ id: b{n}, address: \"{}\" }}", b.address)).collect();
    format!(
        "routes: [ {{ path: /poll, fleet: chat, sessions: {sessions} }} ]\nfleets:\n  chat:\n    backends: {{ static: [ {} ] }}\n    \
         capacity: {CAPACITY}\n    affinity: {affinity}\n    queue: {{ length: 0 }}\n",
        list.join(", ")
    )
}

#[tokio::test]
async fn a_hundred_clients_fill_a_hundred_seats_and_leave_them_free() {
    let backends = [Polled::start().await, Polled::start().await];
    let holdline = Holdline::start(&config(true, "{ by: header, name: X-User }", &backends));
    holdline.until_ready().await;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let (address, user) = (holdline.address, format!("X-User: user{n}"));
            tokio::spawn(async move {
                let mut own = BTreeSet::new();
                let (mut one, mut other) = (Client::connect(address).await, Client::connect(address).await);
                for _ in 0..10 {
                    // Both on their way at a time.
                    one.ask(&user).await;
                    other.ask(&user).await;
                    for client in [&mut one, &mut other] {
                        own.insert(field(&client.answer().await, "holdline-session").unwrap());
                    }
                }
                own
            })
        })
        .collect();
    for client in clients {
        assert_eq!(client.await.unwrap().len(), 1, "twenty polls are one session");
    }
    let [a, b] = backends.each_ref().map(Polled::sessions);
    assert!(a.len() == CAPACITY && b.len() == CAPACITY && a.is_disjoint(&b), "{} {}", a.len(), b.len());

    let listed = holdline.get("/v1/sessions?limit=1000").await;
    let kinds: Vec<_> = listed["sessions"].as_array().unwrap().iter().map(|s| &s["kind"]).collect();
    assert!(kinds.len() == CLIENTS && kinds.iter().all(|kind| *kind == "long_poll"), "{kinds:?}");
    let refused = Client::connect(holdline.address).await.poll("X-User: one more").await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert_eq!(field(&refused, "holdline-cause").unwrap(), "capacity");

    // They stay away.
    holdline.until("every seat free", |fleet| fleet["sessions"] == 0 && fleet["free"] == CLIENTS).await;
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "cause=\"client_lost\"").await, CLIENTS as f64);
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "").await, CLIENTS as f64);
    assert_eq!(holdline.metric("holdline_handshakes_total", "result=\"opened\"").await, CLIENTS as f64);
    assert_eq!(holdline.metric("holdline_requests_total", "code=\"200\"").await, 20.0 * CLIENTS as f64);
}

#[tokio::test]
async fn a_drain_moves_them_between_two_polls_and_a_reload_makes_them_plain() {
    let backends = [Polled::start().await, Polled::start().await];
    let holdline = Holdline::start(&config(true, "{ by: cookie }", &backends));
    holdline.until_ready().await;
    let mut client = Client::connect(holdline.address).await;
    let first = client.poll("X-User: ann").await;
    let cookie = |head: &str| field(head, "set-cookie").map(|set| format!("Cookie: {}", set.split(';').next().unwrap()));
    let mut brings = cookie(&first).unwrap();
    let again = client.poll(&brings).await;
    assert_eq!((field(&again, "holdline-session"), cookie(&again)), (field(&first, "holdline-session"), None));

    let full = usize::from(backends[0].sessions().is_empty());
    let drain = holdline.cli(&["drain", &format!("b{full}"), "--wait"]).await;
    assert!(drain.status.success(), "{}", String::from_utf8_lossy(&drain.stderr));
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "cause=\"drained\"").await, 1.0);
    let moved = client.poll(&brings).await;
    let session = field(&moved, "holdline-session");
    assert!(session.is_some() && session != field(&first, "holdline-session"));
    brings = cookie(&moved).unwrap();
    assert_eq!(backends[1 - full].sessions(), session.clone().into_iter().collect());
    assert_eq!(field(&client.poll(&brings).await, "holdline-session"), session);

    holdline.configure(&config(false, "{ by: cookie }", &backends));
    soon("the new configuration", async { while field(&client.poll(&brings).await, "holdline-session").is_some() {} }).await;
    assert_eq!(holdline.fleet().await["sessions"], 1, "it ends as it would");
    holdline.until("every seat free", |fleet| fleet["sessions"] == 0).await;
}

#[tokio::test]
async fn an_address_has_as_many_long_poll_sessions_as_it_may() {
    let backends = [Polled::start().await, Polled::start().await];
    let limits = "limits: { sessions_per_address: 1 }\n";
    let holdline = Holdline::start(&format!("{limits}{}", config(true, "{ by: header, name: X-User }", &backends)));
    holdline.until_ready().await;
    let mut client = Client::connect(holdline.address).await;
    let ann = field(&client.poll("X-User: ann").await, "holdline-session");
    assert!(client.poll("X-User: bob").await.starts_with("HTTP/1.1 429 "));
    assert_eq!(field(&client.poll("X-User: ann").await, "holdline-session"), ann, "polls of a session are none themselves");
    let home = usize::from(backends[0].sessions().is_empty());
    let drained = holdline.cli(&["drain", &format!("b{home}"), "--wait"]).await;
    assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
    assert!(client.poll("X-User: bob").await.starts_with("HTTP/1.1 200 "), "the place is free with the seat");
}
