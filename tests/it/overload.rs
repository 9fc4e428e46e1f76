//! What Holdline does when the process or the machine has no more to give: it takes nobody in, holds whom it has, and recovers.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::client::{self, Socket, refusal};
use crate::support::holdline::Holdline;
use crate::support::soon;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

async fn config(more: &str) -> String {
    let backend = Backend::start().await;
    format!(
        "fleets:\n  chat:\n    backends: {{ static: [ {{ address: \"{}\" }} ] }}\n    capacity: 5000\n{more}",
        backend.address
    )
}

async fn sessions(holdline: &Holdline, count: usize) -> Vec<Socket> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(client::websocket(holdline.address, "/").await.unwrap());
    }
    held
}

async fn echo_all(held: &mut [Socket]) {
    for socket in held {
        client::echo(socket, "held").await;
    }
}

#[tokio::test]
async fn a_flood_of_connections_at_the_limit_of_files_leaves_sessions_and_admin_alone() {
    const FILES: u64 = 200;
    let holdline = Holdline::start_within(FILES, &config("threads: 2\n").await);
    holdline.until_ready().await;
    let mut held = sessions(&holdline, 20).await;

    // The kernel completes all of these; Holdline accepts as many as it has files for, less those that it keeps for itself.
    let mut flood = Vec::new();
    for _ in 0..2 * FILES {
        flood.push(TcpStream::connect(holdline.address).await.unwrap());
    }
    let files = || std::fs::read_dir(format!("/proc/{}/fd", holdline.pid())).unwrap().count() as u64;
    soon("three quarters of the files are open", async {
        while files() < FILES * 3 / 4 - 10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let mut last = flood.pop().unwrap();
    last.write_all(GET).await.unwrap();
    echo_all(&mut held).await;
    assert_eq!(holdline.fleet().await["sessions"], 20, "and the admin API answers");
    assert!(files() < FILES, "accept paused before it had to fail");
    assert_eq!(last.try_read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

    // Who waited in the kernel is served when there is room.
    drop(flood);
    soon("an answer", last.read_u8()).await.unwrap();
    let mut next = client::websocket(holdline.address, "/").await.unwrap();
    client::echo(&mut next, "after").await;
    echo_all(&mut held).await;
}

#[tokio::test]
async fn accept_that_finds_no_descriptor_pauses_and_goes_on() {
    let holdline = Holdline::start(&config("threads: 2\n").await);
    holdline.until_ready().await;
    let mut held = sessions(&holdline, 10).await;
    let pid = Pid::from_raw(holdline.pid() as i32);
    let before = prlimit(pid, Resource::Nofile, files(3)).unwrap();

    // Whoever else takes them, a library or the whole system: accept(2) says EMFILE.
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = TcpStream::connect(holdline.address).await.unwrap();
        client.write_all(GET).await.unwrap();
        clients.push(client);
    }
    holdline.log_line("cannot accept");
    echo_all(&mut held).await;
    for client in &clients {
        assert_eq!(client.try_read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
    let burnt = cpu_ticks(&holdline);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let burns = cpu_ticks(&holdline) - burnt;
    assert!(burns < 50, "it waits instead of trying again and again: {burns} of 100 ticks");

    prlimit(pid, Resource::Nofile, before).unwrap();
    for client in &mut clients {
        soon("an answer to one that waited", client.read_u8()).await.unwrap();
    }
    echo_all(&mut held).await;
    let mut next = client::websocket(holdline.address, "/").await.unwrap();
    client::echo(&mut next, "after").await;
}

/// The soft limit alone, which can be raised again.
fn files(count: u64) -> Rlimit {
    Rlimit { current: Some(count), maximum: getrlimit(Resource::Nofile).maximum }
}

/// User and system time so far.
fn cpu_ticks(holdline: &Holdline) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", holdline.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split(' ').collect();
    fields[12].parse::<u64>().unwrap() + fields[13].parse::<u64>().unwrap()
}

#[tokio::test]
async fn above_the_ceiling_of_memory_no_session_begins_until_there_is_room_again() {
    const MARGIN: u64 = 12 << 20;
    let fleet = config("").await;
    let holdline = Holdline::start(&fleet);
    holdline.until_ready().await;
    let used = until_measured(&holdline).await;
    let ceiling = (used + MARGIN) / (1 << 20);
    holdline.configure(&format!("{fleet}limits: {{ memory: {ceiling}MiB }}\n"));
    let limit = (ceiling << 20) as f64;
    soon("the ceiling is in force", async {
        while holdline.metric("holdline_memory_limit_bytes", "").await != limit {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;

    let mut held = Vec::new();
    let error = loop {
        match client::websocket(holdline.address, "/").await {
            Ok(socket) => held.push(socket),
            Err(error) => break error,
        }
        assert!(
            held.len() < 4_500,
            "{} sessions, and {} bytes of {limit}",
            held.len(),
            holdline.metric("holdline_memory_bytes", "").await
        );
    };
    assert_eq!(refusal(&error), (503, "limit".to_owned()));
    assert!(!held.is_empty());
    holdline.log_line("memory is above limits.memory");
    // Nobody who is there notices.
    let some = held.len().min(50);
    echo_all(&mut held[..some]).await;
    assert_eq!(holdline.metric("holdline_refused_total", "cause=\"limit\"").await, 1.0);

    drop(held);
    holdline.until("all have left", |fleet| fleet["sessions"] == 0).await;
    holdline.log_line("sessions begin again");
    let mut next = client::websocket(holdline.address, "/").await.unwrap();
    client::echo(&mut next, "after").await;
}

/// What it uses when it has looked.
async fn until_measured(holdline: &Holdline) -> u64 {
    let mut used = 0.0;
    soon("memory is measured", async {
        while used == 0.0 {
            used = holdline.metric("holdline_memory_bytes", "").await;
        }
    })
    .await;
    used as u64
}
