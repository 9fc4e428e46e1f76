//! What sessions that nobody uses hold on the heap, and what they leave behind: counted to the byte, by an allocator that counts. A binary
//! of its own, for the counts are the process's; clients and backends are therefore plain sockets, which own no heap.
//!
//! `cargo test -p holdline --test session_bytes -- --nocapture` prints the allocations by size (docs/decisions/0013-bytes-per-session.md).

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use holdline::config;
use holdline::runtime::{self, Hooks, Stop};
use holdline_core::wire::handshake;
use parking_lot::Mutex;

/// Longer than anything should take; a test that meets it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sessions of each kind over which the bytes are averaged, so that a table which grows by doubling is no news.
const SESSIONS: usize = 256;

/// How often as many come and go.
const ROUNDS: i64 = 10;

/// Bytes that the rounds behind the second may leave: what is remembered of the last minutes grows by a few KiB. A leak of 16 bytes a
/// session, the smallest that jemalloc knows, leaves more.
const LEFT_MAX: i64 = (ROUNDS - 2) * SESSIONS as i64 * 12;

/// The counts are those of one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const WEBSOCKET: &str = "GET /app HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const EVENTS: &str = "GET /app HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n";
/// The backend answers it with an event stream all the same.
const PLAIN: &str = "GET /app HTTP/1.1\r\nHost: x\r\n\r\n";
/// Answered without a backend.
const OPTIONS: &str = "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n";

/// Longer than anything takes that goes on when nothing comes: handshakes that end, an idle connection whose state is dropped after a
/// second.
const LULL: Duration = Duration::from_millis(1500);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Live allocations by class of size, as jemalloc rounds them.
static LIVE: [AtomicI64; CLASSES] = [const { AtomicI64::new(0) }; CLASSES];
const CLASSES: usize = 96;

struct Counting;

// SAFETY: every call goes to the system's allocator as it is; counting touches nothing but atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE[class(layout.size())].fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are the same as ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE[class(layout.size())].fetch_sub(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// jemalloc's classes: multiples of 16 up to 128, then four for each doubling.
fn class(size: usize) -> usize {
    if size <= 128 {
        return size.div_ceil(16);
    }
    let doubling = (size - 1).ilog2() as usize;
    (8 + (doubling - 7) * 4 + (((size - 1) >> (doubling - 2)) & 3) + 1).min(CLASSES - 1)
}

/// The largest size of a class.
fn bytes_of(class: usize) -> i64 {
    match class {
        0..=8 => class as i64 * 16,
        _ => {
            let (doubling, quarter) = (7 + (class - 9) / 4, ((class - 9) % 4) as i64 + 1);
            (1 << doubling) + (quarter << (doubling - 2))
        }
    }
}

type Counts = [i64; CLASSES];

fn live() -> Counts {
    std::array::from_fn(|class| LIVE[class].load(Ordering::SeqCst))
}

/// Allocations per session, more than half of one, by size; and their bytes.
fn per_session(before: &Counts, after: &Counts) -> (Vec<(i64, f64)>, f64) {
    let each = |class: usize| (after[class] - before[class]) as f64 / SESSIONS as f64;
    let found: Vec<_> = (0..CLASSES).map(|c| (bytes_of(c), each(c))).filter(|(_, n)| n.abs() > 0.5).collect();
    let bytes = found.iter().map(|(size, n)| *size as f64 * n.round()).sum();
    (found, bytes)
}

/// What a backend holds.
type Held = Arc<Mutex<Vec<TcpStream>>>;

/// Answers at once, in a way that a client can hold on to.
fn backend() -> (SocketAddr, Held) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let held = Held::new(Mutex::new(Vec::with_capacity(8 * SESSIONS)));
    let holds = Arc::clone(&held);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if let Ok(answered) = stream.and_then(answer) {
                holds.lock().push(answered);
            }
        }
    });
    (address, held)
}

fn answer(mut stream: TcpStream) -> io::Result<TcpStream> {
    let head = read_head(&mut stream)?;
    let answer = if head.contains("websocket") {
        let accept = handshake::accept(b"dGhlIHNhbXBsZSBub25jZQ==");
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket";
        format!("{head}\r\nSec-WebSocket-Accept: {accept}\r\n\r\n")
    } else if head.starts_with("GET /poll ") {
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
    } else {
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()
    };
    stream.write_all(answer.as_bytes())?;
    Ok(stream)
}

fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// The same over TLS. What the client's TLS has on the heap is gone with the answer; its socket stays.
fn ask_over_tls(address: SocketAddr, client: &Arc<rustls::ClientConfig>) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = rustls::ClientConnection::new(Arc::clone(client), "localhost".try_into().unwrap()).unwrap();
    let mut tls = rustls::Stream::new(&mut tls, &mut stream);
    tls.write_all(WEBSOCKET.as_bytes()).unwrap();
    let mut head = [0; 12];
    tls.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    stream
}

/// Connects, sends `request` and awaits this status.
fn ask(address: SocketAddr, request: &str, status: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    ask_over(&mut stream, request, status);
    stream
}

fn ask_over(stream: &mut TcpStream, request: &str, status: &str) {
    stream.write_all(request.as_bytes()).unwrap();
    let head = read_head(stream).unwrap();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
}

/// One data thread before one backend: where it listens, and what the backend holds.
fn start() -> (SocketAddr, Held) {
    start_with("")
}

fn start_with(tls: &str) -> (SocketAddr, Held) {
    let (backend, held) = backend();
    let text = format!(
        "listeners: [ {{ address: \"127.0.0.1:0\"{tls} }} ]\nadmin: {{ address: \"127.0.0.1:0\" }}\nthreads: 1\nlimits: {{ head_timeout: 2m }}\n\
         routes: [ {{ path: /poll, fleet: chat, sessions: true }}, {{ path: /, fleet: chat }} ]\n\
         fleets:\n  chat:\n    backends: {{ static: [ {{ address: \"{}\" }} ] }}\n    capacity: none\n    affinity: {{ by: header, name: X-User }}\n",
        backend
    );
    let config = config::parse(&text, "test", Path::new("/")).unwrap();
    let (tell, ready) = mpsc::channel();
    let hooks = Hooks {
        ready: Box::new(move |running| tell.send(running.listeners[0]).unwrap()),
        stop: Stop::default(),
        signals: false,
        seed: Some(1),
        ..Hooks::default()
    };
    std::thread::spawn(move || runtime::run(config, hooks));
    (ready.recv_timeout(PATIENCE).unwrap(), held)
}

/// Each of `SESSIONS` such connections holds at most `bytes_max`, once what made them is gone. Returns them.
fn held(what: &str, bytes_max: f64, connect: impl Fn() -> TcpStream) -> Vec<TcpStream> {
    // Whatever the first of a kind leaves behind is not the second's.
    let mut all: Vec<_> = Vec::with_capacity(2 * SESSIONS);
    all.extend((0..SESSIONS).map(|_| connect()));
    let before = settled_for(LULL);
    all.extend((0..SESSIONS).map(|_| connect()));
    let (found, bytes) = per_session(&before, &settled_for(LULL));
    println!("{what}: {bytes} bytes");
    for (size, count) in found {
        println!("{size:>8} bytes × {count:.2}");
    }
    assert!(bytes <= bytes_max, "{what}: {bytes} bytes, more than {bytes_max}");
    all
}

/// The counts, once nothing is at work any more: equal over a while.
fn settled() -> Counts {
    settled_for(Duration::from_millis(300))
}

fn settled_for(quiet: Duration) -> Counts {
    let (_keep, never) = mpsc::channel::<()>();
    let mut last = live();
    loop {
        let _ = never.recv_timeout(quiet);
        let now = live();
        if per_session(&last, &now).0.is_empty() {
            return now;
        }
        last = now;
    }
}

/// A socket has a word more where tokio is built with its multi-thread runtime, as for other packages of the workspace; a task's
/// allocation grows in steps of 128.
fn step() -> f64 {
    if size_of::<tokio::net::TcpStream>() > 32 { 128.0 } else { 0.0 }
}

#[test]
fn sessions_leave_nothing_behind() {
    let _alone = ALONE.lock();
    let (address, at_backend) = start();
    for (what, request, status) in [("WebSocket sessions", WEBSOCKET, "101"), ("event streams", EVENTS, "200")] {
        let mut second = 0;
        for round in 1..=ROUNDS {
            let held: Vec<_> = (0..SESSIONS).map(|_| ask(address, request, status)).collect();
            drop(held);
            at_backend.lock().clear();
            let after = settled();
            let bytes = (0..CLASSES).map(|class| bytes_of(class) * after[class]).sum();
            if round == 2 {
                second = bytes;
            }
            println!("{what}: {bytes} bytes after round {round}");
            assert!(bytes - second <= LEFT_MAX || round < 2, "{what}: {second} bytes after round 2, {bytes} after round {round}");
        }
    }
}

#[test]
fn an_idle_session_holds_little() {
    let _alone = ALONE.lock();
    let (address, _) = start();
    let _websockets = held("an idle WebSocket session", 960.0 + step(), || ask(address, WEBSOCKET, "101"));
    let _asked = held("an idle event stream", 1_088.0 + step(), || ask(address, EVENTS, "200"));
    let _unasked = held("an idle event stream that nobody asked for", 1_088.0 + step(), || ask(address, PLAIN, "200"));
    // Their connections are closed; what is left is the seat and who it is kept for, the slots in tables apart.
    let next = AtomicI64::new(0);
    let poll = || {
        let user = next.fetch_add(1, Ordering::Relaxed);
        let request = format!("GET /poll HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-User: {user}\r\n\r\n");
        ask(address, &request, "200")
    };
    held("a long-poll session between two polls", 416.0, poll);
}

#[test]
fn an_idle_connection_holds_little_and_can_be_used_again() {
    let _alone = ALONE.lock();
    let (address, _) = start();
    let _silent = held("a connection that has not said anything", 1_500.0, || TcpStream::connect(address).unwrap());
    let mut kept = held("an idle keep-alive connection", 1_500.0, || ask(address, OPTIONS, "204"));
    for stream in &mut kept {
        ask_over(stream, OPTIONS, "204");
    }
    ask_over(&mut kept[0], WEBSOCKET, "101");
}

#[test]
fn an_idle_session_over_tls_holds_what_rustls_keeps_of_it() {
    let _alone = ALONE.lock();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = std::env::temp_dir().join(format!("holdline-session-bytes-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.display(), key.display());
    let (address, _) = start_with(&format!(", tls: {{ certificates: [ {{ cert: \"{cert}\", key: \"{key}\" }} ] }}"));
    std::fs::remove_dir_all(&folder).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    // The keys, 1,264 bytes, are on the C heap, which nobody counts here (docs/decisions/0009-tls-unbuffered.md).
    let _held = held("an idle WebSocket session over TLS", 3_408.0 + step(), || ask_over_tls(address, &client));
}
