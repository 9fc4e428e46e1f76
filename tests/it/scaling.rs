//! Scaling on real processes: a crowd comes at once and is held, the fleet grows as far as it must, and shrinks without throwing anybody out.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::client;
use crate::support::holdline::{BINARY, Holdline};
use crate::support::network;

/// Where nobody listens: a node holds sessions without an api.
pub(crate) const NO_API: &str = "http://127.0.0.1:1";

/// Where clients of these nodes connect.
pub(crate) const LOBBY: &str = "/live/ws/lobby";

/// A fleet of nodes.
pub(crate) fn process_fleet((first, last): (u16, u16), rest: &str) -> String {
    format!(
        "fleets:\n  chat:\n    backends:\n      process: {{ command: [\"{BINARY}\", live, node, --api, \"{NO_API}\", --port, \"{{port}}\"], ports: \"{first}-{last}\", stop_timeout: 20s }}\n    \
         heartbeat: {{ probe: http, interval: 200ms }}\n    {rest}\n"
    )
}

pub(crate) fn running(fleet: &Value) -> usize {
    fleet["backends"].as_array().unwrap().iter().filter(|b| b["phase"] != "dead").count()
}

#[tokio::test]
async fn seventy_come_at_once_and_sixty_five_leave() {
    let network = network::own();
    let holdline = Holdline::start(&process_fleet(
        network.ports(),
        "capacity: 20\n    queue: { length: 100, timeout: 30s }\n    drain: { deadline: 30s }\n    \
         scale: { min: 1, max: 10, behavior: { down: { stabilization: 2s } } }",
    ));
    holdline.until_ready().await;

    // All at once, at a fleet of one.
    let mut handshakes = JoinSet::new();
    for _ in 0..70 {
        let address = holdline.address;
        handshakes.spawn(async move { client::websocket(address, LOBBY).await.expect("held, not refused") });
    }
    let mut most = 0;
    let mut seen = BTreeSet::new();
    let mut look = |fleet: &Value| {
        most = most.max(running(fleet));
        for backend in fleet["backends"].as_array().unwrap() {
            seen.insert(backend["id"].as_str().unwrap().to_owned());
            assert!(backend["sessions"].as_u64() <= Some(20), "{backend}");
        }
    };
    let is_settled = |fleet: &Value| {
        fleet["sessions"] == 70
            && running(fleet) == 5
            && fleet["backends"].as_array().unwrap().iter().all(|b| b["phase"] == "ready")
    };
    holdline
        .until("70 held by 5", |fleet| {
            look(fleet);
            is_settled(fleet)
        })
        .await;
    let mut held = handshakes.join_all().await;
    assert_eq!(held.len(), 70);
    assert_eq!(holdline.metric("holdline_refused_total", "").await, 0.0);

    // 65 leave; the other five are told to move whenever their backend is drained, and come back.
    let mut stay = JoinSet::new();
    for socket in held.split_off(65) {
        stay.spawn(client_that_comes_back(holdline.address, socket));
    }
    let mut leaving = JoinSet::new();
    for socket in held {
        leaving.spawn(client::leave(socket));
    }
    leaving.join_all().await;
    holdline
        .until("one backend with the five", |fleet| {
            look(fleet);
            running(fleet) == 1 && fleet["sessions"] == 5 && fleet["backends"][0]["phase"] == "ready"
        })
        .await;
    assert!(most <= 6, "never above 6 backends, saw {most}");

    // Nobody was cut, nobody was lost: every stopped process was empty.
    for cause in ["cut", "backend_lost", "backend_closed", "client_lost"] {
        assert_eq!(holdline.metric("holdline_sessions_ended_total", &format!("cause=\"{cause}\"")).await, 0.0, "{cause}");
    }
    assert_eq!(holdline.metric("holdline_refused_total", "").await, 0.0);
    let explained = holdline.cli(&["scale", "chat", "--explain"]).await;
    assert!(explained.status.success());

    let (first, last) = network.ports();
    let ports: Vec<_> = (first..=last).filter(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok()).collect();
    assert_eq!(ports.len(), 1, "only the last backend's process is left: {ports:?}");
    stay.abort_all();
}

async fn client_that_comes_back(address: std::net::SocketAddr, mut socket: client::Socket) {
    loop {
        assert_eq!(client::close_code(&mut socket).await, Some(1012));
        socket = client::websocket(address, LOBBY).await.expect("held again");
    }
}

#[tokio::test]
async fn a_fleet_of_zero_wakes_for_the_first_handshake() {
    let network = network::own();
    let holdline = Holdline::start(&process_fleet(
        network.ports(),
        "capacity: 20\n    queue: { length: 10, timeout: 30s }\n    scale: { min: 0, max: 2, idle_to_zero_after: 1s, behavior: { down: { stabilization: 0s } } }",
    ));
    holdline.until("nothing runs", |fleet| running(fleet) == 0).await;
    let mut socket = client::websocket(holdline.address, LOBBY).await.expect("it waited in the queue");
    client::ping(&mut socket).await;
    assert_eq!(running(&holdline.fleet().await), 1);
    client::leave(socket).await;
    holdline.until("to zero again", |fleet| running(fleet) == 0).await;
}

#[tokio::test]
async fn an_operator_fixes_the_number_and_gives_it_back() {
    let network = network::own();
    let holdline = Holdline::start(&process_fleet(
        network.ports(),
        "capacity: 20\n    scale: { min: 1, max: 5, behavior: { down: { stabilization: 0s } } }",
    ));
    holdline.until_ready().await;
    assert!(holdline.cli(&["scale", "chat", "--to", "3"]).await.status.success());
    holdline.until("three", |fleet| running(fleet) == 3 && fleet["desired"] == 3).await;
    assert!(holdline.cli(&["scale", "chat", "--auto"]).await.status.success());
    holdline.until("one again", |fleet| running(fleet) == 1).await;
    let beyond = holdline.cli(&["scale", "chat", "--to", "9"]).await;
    assert_eq!(beyond.status.code(), Some(2), "{}", String::from_utf8_lossy(&beyond.stderr));
}
