//! Memory that sessions took is given back: rounds of sessions, opened and closed, leave the process as large as the second round did.
//! `benches/flat/run` shows it with more of them, on the release build, over TLS and event streams as well.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::backend::Backend;
use crate::support::client;
use crate::support::holdline::Holdline;
use crate::support::soon;

const ROUNDS: usize = 10;
const SESSIONS: usize = 500;

/// What may be on its way back: the allocator keeps freed pages for ten seconds, threads keep their caches. A leak of 512 bytes a session
/// would be twice as much over the rounds.
const TOLERANCE: u64 = ((ROUNDS - 2) * SESSIONS * 256) as u64;

#[tokio::test]
async fn memory_is_as_large_after_ten_rounds_as_after_two() {
    let backend = Backend::start().await;
    let holdline = Holdline::start(&format!(
        "fleets:\n  chat:\n    backends: {{ static: [ {{ address: \"{}\" }} ] }}\n    capacity: {SESSIONS}\n",
        backend.address
    ));
    holdline.until_ready().await;
    let mut second = 0;
    for round in 1..=ROUNDS {
        round_of_sessions(&holdline).await;
        if round == 2 {
            second = anonymous(&holdline);
        }
    }
    soon(&format!("the process is at the {second} bytes of the second round again"), async {
        while anonymous(&holdline) > second + TOLERANCE {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
}

async fn round_of_sessions(holdline: &Holdline) {
    let mut sessions = JoinSet::new();
    for _ in 0..SESSIONS {
        let address = holdline.address;
        sessions.spawn(async move {
            let mut socket = client::websocket(address, "/").await.unwrap();
            client::echo(&mut socket, "here").await;
            socket
        });
    }
    let held = sessions.join_all().await;
    assert_eq!(holdline.fleet().await["sessions"], SESSIONS);
    let mut leaving = JoinSet::new();
    for socket in held {
        leaving.spawn(client::leave(socket));
    }
    leaving.join_all().await;
    holdline.until_ready().await;
}

/// Bytes of memory that are the process's own and no file's (proc(5), smaps_rollup).
fn anonymous(holdline: &Holdline) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", holdline.pid())).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}
