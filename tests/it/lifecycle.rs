//! The beginning and the end of Holdline itself.

use crate::support::backend::Backend;
use crate::support::client;
use crate::support::holdline::Holdline;

#[tokio::test]
async fn sigterm_closes_sessions_with_1001_and_exits_0() {
    let backend = Backend::start().await;
    let holdline = Holdline::start(&format!(
        "shutdown: {{ deadline: 3s }}\nfleets:\n  chat:\n    backends:\n      static: [ {{ address: \"{}\" }} ]\n    capacity: 100\n",
        backend.address
    ));
    holdline.until_ready().await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let mut socket = client::websocket(holdline.address, "/").await.unwrap();
        clients.spawn(async move { client::close_code(&mut socket).await });
    }
    holdline.signal("TERM");
    while let Some(code) = clients.join_next().await {
        assert_eq!(code.unwrap(), Some(1001));
    }
    assert_eq!(holdline.wait().await.code(), Some(0));
    assert_eq!(backend.sessions(), 0);
}

#[cfg(feature = "demo")]
#[tokio::test]
async fn children_end_with_holdline_even_when_it_is_killed() {
    use std::net::TcpStream;

    use super::scaling::process_fleet;
    let network = crate::support::network::own();
    for signal in ["TERM", "KILL"] {
        let rest = "capacity: 20\n    scale: { min: 2, max: 2 }";
        let holdline = Holdline::start(&process_fleet(network.ports(), rest));
        let fleet = holdline
            .until("two ready", |f| f["backends"].as_array().unwrap().iter().filter(|b| b["phase"] == "ready").count() == 2)
            .await;
        let backends = fleet["backends"].as_array().unwrap();
        let addresses: Vec<String> = backends.iter().map(|b| b["address"].as_str().unwrap().to_owned()).collect();
        holdline.signal(signal);
        holdline.wait().await;
        let gone = async {
            while addresses.iter().any(|address| TcpStream::connect(address).is_ok()) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(client::PATIENCE, gone).await.unwrap_or_else(|_| panic!("orphans after SIG{signal}"));
    }
}

#[cfg(feature = "demo")]
#[tokio::test]
async fn a_crashed_backend_is_replaced() {
    use super::reload::sessions;
    use super::scaling::{LOBBY, process_fleet};
    use crate::support::soon;
    let network = crate::support::network::own();
    let holdline = Holdline::start(&process_fleet(network.ports(), "capacity: 20\n    scale: { min: 1, max: 2 }"));
    let fleet = holdline.until_ready().await;
    let first = fleet["backends"][0]["id"].as_str().unwrap().to_owned();
    let _held = sessions(&holdline, LOBBY, 20).await;
    holdline.kill_backend(fleet["backends"][0]["address"].as_str().unwrap());
    holdline
        .until("another one", |fleet| {
            fleet["backends"].as_array().unwrap().iter().any(|b| b["phase"] == "ready" && b["id"] != first.as_str())
        })
        .await;
    let failed = soon("it is told", async {
        loop {
            if let Some(failed) = holdline.events("backend_failed").await.pop() {
                break failed;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(failed["message"].as_str().unwrap().contains(" with 20 sessions"), "{failed}");
}
