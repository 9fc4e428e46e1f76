//! A follower against a server that a test drives by hand: one connection after the other, each one answer.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::*;

const ROOM: &str = r#"{"room":"r","recovery":"strong","seq":3,"oldest":1,"presence":1,"comments":[{"comment":1,"user":"ann","text":"hi","at":7,"edited":false,"likes":0}],"more":false}"#;

/// The server's side.
struct Double {
    listener: TcpListener,
    events: mpsc::Receiver<String>,
    follower: JoinHandle<()>,
}

/// A request that waits for its answer.
struct Asked {
    head: String,
    stream: TcpStream,
}

impl Double {
    /// With a follower that has begun.
    async fn new(transport: Transport) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (send, events) = mpsc::channel(100);
        let mut follower = Follower::new(Api::new(listener.local_addr().unwrap().to_string()), "r", transport, 7);
        let follower = tokio::spawn(async move {
            let observe = |event: &Event<'_>| send.try_send(said(event)).unwrap();
            let ended = follower.follow(std::future::pending(), observe).await;
            send.try_send(ended.unwrap_err().to_string()).unwrap();
        });
        Double { listener, events, follower }
    }

    /// And with the room, which was asked for first.
    async fn loaded(transport: Transport) -> Self {
        let mut double = Self::new(transport).await;
        double.asked("GET /api/rooms/r?limit=1000").await.answer("200 OK", ROOM).await;
        double.says("loaded 3").await;
        double
    }

    async fn asked(&self, line: &str) -> Asked {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert_eq!(head.lines().next().unwrap(), format!("{line} HTTP/1.1"));
        Asked { head, stream }
    }

    async fn says(&mut self, event: &str) {
        assert_eq!(self.events.recv().await.unwrap(), event);
    }

    /// Two events: a loss, and the pause after it.
    async fn loses(&mut self, why: &str) -> Duration {
        self.says(&format!("lost {why}")).await;
        let event = self.events.recv().await.unwrap();
        Duration::from_secs_f64(event.strip_prefix("reconnecting ").unwrap().parse().unwrap())
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

fn said(event: &Event<'_>) -> String {
    match event {
        Event::Loaded(replica) => format!("loaded {}", replica.seq()),
        Event::Live(hello) => format!("live {} {}", hello.node, hello.seq),
        Event::Behind(missing) => format!("behind {missing}"),
        Event::Applied(delta, way) => format!("applied {} {way:?}", delta.seq),
        Event::Recovered(deltas) => format!("recovered {deltas}"),
        Event::Resync(seq) => format!("resync {seq}"),
        Event::Presence(n) => format!("presence {n}"),
        Event::Lost(End { how: How::Broken(why), .. }) => format!("lost {why}"),
        Event::Lost(End { how, .. }) => format!("lost {how:?}"),
        Event::Reconnecting(pause) => format!("reconnecting {}", pause.as_secs_f64()),
    }
}

fn like(seq: u64) -> String {
    format!(r#"{{"seq":{seq},"at":7,"action":"like","comment":1,"user":"bob"}}"#)
}

impl Asked {
    async fn answer(self, status: &str, body: &str) {
        self.answer_with(status, "", body).await;
    }

    async fn answer_with(mut self, status: &str, fields: &str, body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\n{fields}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        self.stream.write_all(answer.as_bytes()).await.unwrap();
    }

    /// As a WebSocket, with a cookie.
    async fn accept(mut self, hello: &str) -> WebSocketStream<TcpStream> {
        let key = self.head.lines().find_map(|l| l.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSet-Cookie: holdline=here; Path=/\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.stream.write_all(answer.as_bytes()).await.unwrap();
        let mut socket = WebSocketStream::from_raw_socket(self.stream, Role::Server, None).await;
        socket.send(Frame::text(hello)).await.unwrap();
        socket
    }

    /// As a stream of chunks, which go on as the test writes them.
    async fn stream(mut self, first: &str) -> Chunks {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        self.stream.write_all(head.as_bytes()).await.unwrap();
        let mut chunks = Chunks(self.stream);
        chunks.write(first).await;
        chunks
    }
}

struct Chunks(TcpStream);

impl Chunks {
    async fn write(&mut self, text: &str) {
        self.0.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.unwrap();
    }

    async fn end(mut self) {
        self.0.write_all(b"0\r\n\r\n").await.unwrap();
    }
}

/// Closes as a server does that tells why.
async fn close(mut socket: WebSocketStream<TcpStream>, code: u16) {
    socket.close(Some(CloseFrame { code: code.into(), reason: "".into() })).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
}

#[expect(clippy::disallowed_methods, reason = "the tests' time is paused")]
fn now() -> Instant {
    Instant::now()
}

const S: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_session_is_moved_and_goes_on_where_it_was() {
    let mut double = Double::loaded(Transport::WebSocket).await;
    let asked = double.asked("GET /live/ws/r?after=3").await;
    assert!(!asked.head.to_lowercase().contains("cookie"), "{}", asked.head);
    let mut socket = asked.accept(r#"{"hello":{"node":"n-1","room":"r","seq":3,"presence":1}}"#).await;
    double.says("live n-1 3").await;
    socket.send(Frame::text(like(4))).await.unwrap();
    double.says("applied 4 Live").await;
    socket.send(Frame::text(r#"{"presence":12}"#)).await.unwrap();
    double.says("presence 12").await;
    close(socket, 1012).await;
    assert_eq!(double.loses("Moved").await, Duration::ZERO);

    let asked = double.asked("GET /live/ws/r?after=4").await;
    assert!(asked.head.to_lowercase().contains("\r\ncookie: holdline=here\r\n"), "{}", asked.head);
    let mut socket = asked.accept(r#"{"hello":{"node":"n-2","room":"r","seq":6,"presence":1}}"#).await;
    double.says("live n-2 6").await;
    double.says("behind 2").await;
    for seq in [5, 6, 7] {
        socket.send(Frame::text(like(seq))).await.unwrap();
    }
    double.says("applied 5 Recovered").await;
    double.says("applied 6 Recovered").await;
    double.says("recovered 2").await;
    double.says("applied 7 Live").await;
}

#[tokio::test(start_paused = true)]
async fn what_the_node_cannot_give_is_asked_of_the_api_and_asked_again() {
    let mut double = Double::loaded(Transport::WebSocket).await;
    let mut socket = double.asked("GET /live/ws/r?after=3").await.accept(r#"{"hello":{"node":"n","seq":5,"presence":1}}"#).await;
    double.says("live n 5").await;
    double.says("behind 2").await;
    socket.send(Frame::text(r#"{"resync":{"seq":5}}"#)).await.unwrap();
    double.says("resync 5").await;
    double.says("behind 2").await;
    let deltas = "GET /api/rooms/r/deltas?after=3&limit=1000";
    let before = now();
    double.asked(deltas).await.answer_with("503 Service Unavailable", "Retry-After: 9\r\n", "{}").await;
    let asked = double.asked(deltas).await;
    assert!((9 * S..11 * S).contains(&before.elapsed()), "{:?}", before.elapsed());
    // Deltas go on meanwhile, and wait.
    socket.send(Frame::text(like(6))).await.unwrap();
    double.says("behind 3").await;
    asked.answer("200 OK", &format!(r#"{{"room":"r","seq":6,"oldest":1,"deltas":[{},{}],"more":true}}"#, like(4), like(5))).await;
    for event in ["applied 4 Recovered", "applied 5 Recovered", "applied 6 Recovered", "recovered 3"] {
        double.says(event).await;
    }
    // Nobody answers that: it is asked again, at once the first time.
    socket.send(Frame::text(like(8))).await.unwrap();
    double.says("behind 2").await;
    let before = now();
    let unanswered = double.asked("GET /api/rooms/r/deltas?after=6&limit=1000").await;
    let again = double.asked("GET /api/rooms/r/deltas?after=6&limit=1000").await;
    assert_eq!(before.elapsed().as_secs(), 20);
    drop(unanswered);
    // The window has passed: the room is loaded anew.
    again.answer("410 Gone", r#"{"type":"urn:live:problem:window-passed","title":"x","status":410}"#).await;
    double.asked("GET /api/rooms/r?limit=1000").await.answer("200 OK", &ROOM.replace("\"seq\":3", "\"seq\":8")).await;
    double.says("loaded 8").await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_websocket_is_asked_and_given_up() {
    let mut double = Double::loaded(Transport::WebSocket).await;
    let mut socket = double.asked("GET /live/ws/r?after=3").await.accept(r#"{"hello":{"node":"n","seq":3}}"#).await;
    double.says("live n 3").await;
    let before = now();
    for answered in 1..=2 {
        assert_eq!(socket.next().await.unwrap().unwrap(), Frame::text(r#"{"ping":1}"#));
        assert_eq!(before.elapsed().as_secs(), 20 * answered);
        if answered == 1 {
            socket.send(Frame::text(r#"{"pong":1}"#)).await.unwrap();
        }
    }
    // It held for long, so it comes back at once.
    assert_eq!(double.loses("silence").await, Duration::ZERO);
    assert_eq!(before.elapsed().as_secs(), 50);
    drop(double.asked("GET /live/ws/r?after=3").await);
    assert!(double.loses("WebSocket protocol error: Handshake not finished").await < S);
}

#[tokio::test(start_paused = true)]
async fn a_close_is_remembered_whatever_else_happens_before_the_connection_ends() {
    let mut double = Double::loaded(Transport::WebSocket).await;
    let mut socket = double.asked("GET /live/ws/r?after=3").await.accept(r#"{"hello":{"node":"n","seq":3}}"#).await;
    double.says("live n 3").await;
    let restart = CloseFrame { code: 1012.into(), reason: "".into() };
    tokio::time::sleep(S).await;
    socket.send(Frame::Close(Some(restart))).await.unwrap();
    // Meanwhile the session has lasted long enough to count as one that held.
    tokio::time::sleep(4 * S + S / 2).await;
    drop(socket);
    assert_eq!(double.loses("Moved").await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_has_no_place_comes_back_later() {
    let mut double = Double::loaded(Transport::WebSocket).await;
    double.asked("GET /live/ws/r?after=3").await.answer_with("503 Service Unavailable", "Retry-After: 7\r\n", "").await;
    let pause = double.loses("Busy").await;
    assert!((7 * S..8 * S).contains(&pause) && pause > 7 * S, "{pause:?}");
    let before = now();
    let socket = double.asked("GET /live/ws/r?after=3").await.accept(r#"{"presence":1}"#).await;
    assert!(before.elapsed() >= pause - Duration::from_millis(1), "{:?} of {pause:?}", before.elapsed());
    double.says("presence 1").await;
    close(socket, 1013).await;
    let pause = double.loses("Busy").await;
    assert!(pause > Duration::ZERO && pause < 2 * S, "{pause:?}");
    // Nobody answers the handshake.
    let unanswered = double.asked("GET /live/ws/r?after=3").await;
    let before = now();
    assert!(double.loses("the handshake was not answered").await < 4 * S);
    assert_eq!(before.elapsed().as_secs(), 60);
    drop(unanswered);
    // The node knows nothing so new: the API is asked before anything is given up.
    let future = r#"{"type":"urn:live:problem:from-the-future","title":"x","status":400}"#;
    double.asked("GET /live/ws/r?after=3").await.answer("400 Bad Request", future).await;
    double.loses("FromTheFuture").await;
    let deltas = r#"{"room":"r","seq":3,"oldest":1,"deltas":[],"more":false}"#;
    double.asked("GET /api/rooms/r/deltas?after=3&limit=1000").await.answer("200 OK", deltas).await;
    let gone = r#"{"type":"urn:live:problem:unknown-room","detail":"no r"}"#;
    double.asked("GET /live/ws/r?after=3").await.answer("404 Not Found", gone).await;
    double.says(r#"lost Refused("404 Not Found urn:live:problem:unknown-room no r")"#).await;
    double.says("no answer from the api: 404 Not Found urn:live:problem:unknown-room no r").await;
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_says_when_it_wants_to_be_asked_again() {
    let mut double = Double::loaded(Transport::EventStream).await;
    let hello = "retry: 1000\n\nevent: hello\ndata: {\"node\":\"n\",\"seq\":3,\"presence\":1}\n\n";
    let mut chunks = double.asked("GET /live/events/r?after=3").await.stream(hello).await;
    double.says("live n 3").await;
    let event = format!("id: 4\ndata: {}\n\n", like(4));
    let (one, other) = event.split_at(20);
    chunks.write(one).await;
    chunks.write(other).await;
    double.says("applied 4 Live").await;
    chunks.write("event: presence\ndata: 5\n\nevent: resync\ndata: {\"seq\":4}\n\nevent: later\ndata: x\n\n").await;
    double.says("presence 5").await;
    double.says("resync 4").await;
    chunks.write("retry: 2500\n\n").await;
    chunks.end().await;
    assert_eq!(double.loses("Moved").await, Duration::from_millis(2500));
    // Ended before it began: refused in the only way that an EventSource survives.
    double.asked("GET /live/events/r?after=4").await.stream("retry: 4000\n\n").await.end().await;
    let pause = double.loses("Busy").await;
    assert!((4 * S..5 * S).contains(&pause), "{pause:?}");
    // Comment lines are signs of life; without any, it is given up.
    let mut chunks = double.asked("GET /live/events/r?after=4").await.stream(hello).await;
    double.says("live n 3").await;
    let before = now();
    for _ in 0..3 {
        tokio::time::sleep(39 * S).await;
        chunks.write(":\n\n").await;
    }
    double.loses("body error: silence").await;
    assert_eq!(before.elapsed().as_secs(), 3 * 39 + 40);
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_is_answered_again_and_again() {
    let mut double = Double::loaded(Transport::LongPoll).await;
    let polled = |node: &str, seq: u64, presence: u64, deltas: &[String]| {
        format!(r#"{{"node":"{node}","seq":{seq},"presence":{presence},"deltas":[{}]}}"#, deltas.join(","))
    };
    let asked = double.asked("GET /live/poll/r").await;
    asked.answer_with("200 OK", "Set-Cookie: holdline=here\r\n", &polled("n-1", 3, 1, &[])).await;
    double.says("live n-1 3").await;
    let asked = double.asked("GET /live/poll/r?after=3").await;
    assert!(asked.head.to_lowercase().contains("cookie: holdline=here"), "{}", asked.head);
    asked.answer("200 OK", &polled("n-1", 5, 2, &[like(4), like(5)])).await;
    for event in ["presence 2", "applied 4 Live", "applied 5 Live"] {
        double.says(event).await;
    }
    // Nothing for 25 s; then another node.
    double.asked("GET /live/poll/r?after=5").await.answer("200 OK", &polled("n-1", 5, 2, &[])).await;
    double.asked("GET /live/poll/r?after=5").await.answer("200 OK", &polled("n-2", 6, 2, &[like(6)])).await;
    for event in ["live n-2 6", "behind 1", "applied 6 Recovered", "recovered 1"] {
        double.says(event).await;
    }
    double.asked("GET /live/poll/r?after=6").await.answer("410 Gone", r#"{"type":"x","seq":8}"#).await;
    double.says("resync 8").await;
    double.says("behind 2").await;
    let _neither_is_answered = (double.listener.accept().await.unwrap(), double.listener.accept().await.unwrap());
    let before = now();
    assert_eq!(double.loses("silence").await, Duration::ZERO);
    assert_eq!(before.elapsed().as_secs(), 40);
}

#[tokio::test(start_paused = true)]
async fn an_eventual_room_is_loaded_again_in_time() {
    let mut double = Double::new(Transport::WebSocket).await;
    let room = ROOM.replace("\"strong\"", "\"eventual\",\"refetch_s\":30");
    double.asked("GET /api/rooms/r?limit=1000").await.answer("200 OK", &room).await;
    double.says("loaded 3").await;
    let mut socket = double.asked("GET /live/ws/r?after=3").await.accept(r#"{"hello":{"node":"n","seq":3}}"#).await;
    double.says("live n 3").await;
    tokio::spawn(async move {
        while let Some(Ok(_)) = socket.next().await {
            socket.send(Frame::text(r#"{"pong":1}"#)).await.unwrap();
        }
    });
    for _ in 0..3 {
        let before = now();
        double.asked("GET /api/rooms/r?limit=1000").await.answer("200 OK", &room).await;
        assert!((15 * S..=30 * S).contains(&before.elapsed()), "{:?}", before.elapsed());
        double.says("loaded 3").await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_says_goodbye_and_does_not_wait_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut follower = Follower::new(Api::new(listener.local_addr().unwrap().to_string()), "r", Transport::WebSocket, 7);
    let (send, events) = mpsc::channel(100);
    let double = Double { listener, events, follower: tokio::spawn(async {}) };
    let (live, until_live) = tokio::sync::oneshot::channel::<()>();
    let mut live = Some(live);
    let following = follower.follow(async { drop(until_live.await) }, |event| {
        send.try_send(said(event)).unwrap();
        if matches!(event, Event::Live(_)) {
            live.take();
        }
    });
    let serving = async {
        double.asked("GET /api/rooms/r?limit=1000").await.answer("200 OK", ROOM).await;
        double.asked("GET /live/ws/r?after=3").await.accept(r#"{"hello":{"node":"n","seq":3}}"#).await
    };
    let (followed, mut socket) = tokio::join!(following, serving);
    followed.unwrap();
    let before = now();
    let leaving = tokio::spawn(follower.leave());
    assert!(matches!(socket.next().await, Some(Ok(Frame::Close(_)))));
    leaving.await.unwrap();
    assert_eq!(before.elapsed().as_secs(), 5);
}
