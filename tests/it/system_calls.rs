//! What a WebSocket handshake and its end ask of the kernel. No timing: a call more is one more on every machine.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::holdline::Holdline;
use crate::support::{TestDir, soon};

const HANDSHAKES: usize = 200;

/// The calls of one, by kind.
const ONE: &[(&str, usize)] = &[
    ("accept4", 1),
    ("epoll_ctl", 4),
    // The head, the answer, both ends.
    ("recvfrom", 4),
    ("socket", 1),
    // TCP_NODELAY to the backend.
    ("setsockopt", 1),
    ("connect", 1),
    ("sendto", 2),
    ("shutdown", 1),
    ("close", 2),
];

/// How often these are called is a matter of load, and of debug builds.
const UNCOUNTED: &[&str] = &["epoll_wait", "epoll_pwait", "futex", "fcntl", "madvise"];

const HEAD: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn a_handshake_with_its_end_takes_seventeen_system_calls() {
    let backend = Backend::start().await;
    let holdline = Holdline::start(&format!(
        "threads: 1\nlog: {{ format: json, level: info, access: false }}\nfleets:\n  chat:\n    capacity: {HANDSHAKES}\n    \
         heartbeat: {{ probe: tcp }}\n    backends: {{ static: [ {{ address: \"{}\" }} ] }}\n",
        backend.address
    ));
    holdline.until_ready().await;
    let dir = TestDir::new();
    let summary = dir.path().join("calls");
    let tracer = match attach(&holdline, &summary) {
        Ok(tracer) => tracer,
        Err(why) => return eprintln!("skipped: system calls cannot be counted: {why}"),
    };
    // All heads are there when the first client is accepted: what a call finds does not depend on who was faster.
    holdline.signal("STOP");
    let mut clients = Vec::new();
    for _ in 0..HANDSHAKES {
        let mut client = soon("a connection", TcpStream::connect(holdline.address)).await.unwrap();
        client.write_all(HEAD.as_bytes()).await.unwrap();
        clients.push(client);
    }
    holdline.signal("CONT");
    for client in &mut clients {
        let mut status = [0; 12];
        soon("an answer", client.read_exact(&mut status)).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 101");
    }
    for client in clients {
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    }
    holdline.until_ready().await;

    let calls = detach(tracer, &summary);
    let each = |kind: &str| calls.get(kind).copied().unwrap_or_default() as f64 / HANDSHAKES as f64;
    let told: Vec<_> = calls.keys().map(|kind| format!("{kind} {:.2}", each(kind))).collect();
    println!("a handshake with its end: {}", told.join(", "));
    for (kind, one) in ONE {
        // What else the process does, a look at its status among it, is less than half a call for each.
        let (seen, one) = (each(kind), *one as f64);
        assert!((one - 0.01..one + 0.5).contains(&seen), "{kind}: {seen} instead of {one}");
    }
    for kind in calls.keys().filter(|kind| ONE.iter().all(|(known, _)| known != kind) && !UNCOUNTED.contains(&kind.as_str())) {
        assert!(each(kind) < 0.5, "{kind}: {} instead of none", each(kind));
    }
    assert!(ONE.iter().map(|(_, one)| one).sum::<usize>() <= 17);
}

/// Begins to count the calls of all its threads.
///
/// # Errors
/// Why that cannot be done here: no `strace`, or nobody may trace.
fn attach(holdline: &Holdline, summary: &std::path::Path) -> Result<Child, String> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-o"]).arg(summary).args(["-p", &holdline.pid().to_string()]);
    let mut tracer = strace.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(|error| format!("strace: {error}"))?;
    let mut said = String::new();
    let mut lines = BufReader::new(tracer.stderr.take().unwrap());
    // One line for each thread, or the reason.
    while lines.read_line(&mut said).is_ok_and(|n| n > 0) {
        if said.contains("attached") {
            // Its last words would meet a closed pipe.
            std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
            return Ok(tracer);
        }
    }
    let _ = tracer.wait();
    Err(said.trim_end().replace('\n', "; "))
}

/// Ends the count: calls by kind.
fn detach(mut tracer: Child, summary: &std::path::Path) -> BTreeMap<String, usize> {
    assert!(Command::new("kill").args(["-INT", &tracer.id().to_string()]).status().unwrap().success());
    tracer.wait().unwrap();
    let text = std::fs::read_to_string(summary).unwrap();
    // % time, seconds, usecs/call, calls, errors if any, syscall.
    let row = |line: &str| {
        let cells: Vec<_> = line.split_whitespace().collect();
        Some(((*cells.last()?).to_owned(), cells.get(3)?.parse().ok()?))
    };
    text.lines().filter_map(row).filter(|(kind, _)| kind != "total").collect()
}
