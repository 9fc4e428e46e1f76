//! A reload gives a server with sessions another id, or another fleet: its capacity stays one.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use crate::reload::{reloads, sessions};
use crate::support::backend::Backend;
use crate::support::client::{self, Socket};
use crate::support::holdline::Holdline;
use crate::support::soon;

/// Five seats, nobody waits, and a drain that tells next to nobody.
fn fleet(name: &str, id: Option<&str>, address: SocketAddr) -> String {
    let id = id.map_or(String::new(), |id| format!("id: {id}, "));
    format!(
        "fleets:\n  {name}:\n    backends: {{ static: [ {{ {id}address: \"{address}\" }} ] }}\n    \
         capacity: 5\n    queue: {{ length: 0 }}\n    drain: {{ deadline: 5m, rate_max: 0.001/s }}\n"
    )
}

/// The backend that takes sessions.
fn ready(status: &Value) -> Option<&Value> {
    let mut backends = status["fleets"].as_array().unwrap().iter().flat_map(|f| f["backends"].as_array().unwrap());
    backends.find(|b| b["phase"] == "ready")
}

async fn try_to_join(holdline: &Holdline) -> Result<Socket, Error> {
    client::websocket(holdline.address, "/").await
}

async fn is_full(holdline: &Holdline) {
    let error = try_to_join(holdline).await.unwrap_err();
    assert_eq!(client::refusal(&error), (503, "capacity".to_owned()));
}

/// Five sessions stay over a reload from `before` to `after`.
async fn stays_within(backend: &Backend, before: &str, after: &str) {
    let holdline = Holdline::start(before);
    holdline.until_ready().await;
    let mut held = sessions(&holdline, "/", 5).await;
    holdline.configure(after);
    holdline.signal("HUP");
    reloads(&holdline, "ok", 1.0).await;
    let figures = |b: &Value| json!([b["sessions"], b["foreign"], b["capacity"]]);
    holdline.until_status("the new one is ready", |s| ready(s).is_some_and(|b| figures(b) == json!([0, 5, 5]))).await;
    for _ in 0..3 {
        is_full(&holdline).await;
    }
    let mut newcomers = Vec::new();
    for _ in 0..2 {
        client::leave(held.remove(0)).await;
        newcomers.push(
            soon("a seat", async {
                loop {
                    if let Ok(socket) = try_to_join(&holdline).await {
                        break socket;
                    }
                }
            })
            .await,
        );
    }
    is_full(&holdline).await;
    holdline.until_status("both are counted", |s| ready(s).is_some_and(|b| figures(b) == json!([2, 3, 5]))).await;
    for socket in held.iter_mut().chain(&mut newcomers) {
        client::echo(socket, "still here").await;
    }
    assert_eq!((backend.sessions(), backend.sessions_max()), (5, 5));
    for socket in held {
        client::leave(socket).await;
    }
    holdline.until_status("the old one is gone", |s| ready(s).is_some_and(|b| figures(b) == json!([2, 0, 5]))).await;
    newcomers.extend(sessions(&holdline, "/", 3).await);
    is_full(&holdline).await;
    assert_eq!((backend.sessions(), backend.sessions_max()), (5, 5));
}

#[tokio::test]
async fn another_id_for_a_server_shares_its_seats() {
    let backend = Backend::start().await;
    stays_within(&backend, &fleet("chat", Some("a"), backend.address), &fleet("chat", Some("b"), backend.address)).await;
}

#[tokio::test]
async fn a_first_id_for_a_server_shares_its_seats() {
    let backend = Backend::start().await;
    stays_within(&backend, &fleet("chat", None, backend.address), &fleet("chat", Some("b"), backend.address)).await;
}

#[tokio::test]
async fn another_fleet_for_a_server_shares_its_seats() {
    let backend = Backend::start().await;
    stays_within(&backend, &fleet("chat", Some("a"), backend.address), &fleet("talk", Some("a"), backend.address)).await;
}
