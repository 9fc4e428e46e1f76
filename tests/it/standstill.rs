//! The process does not run for a while: what backends and clients did meanwhile is read before anybody is judged.

use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::reload::sessions;
use crate::support::backend::Backend;
use crate::support::client;
use crate::support::holdline::Holdline;

#[tokio::test]
async fn a_stopped_process_calls_no_backend_silent_and_cuts_nobody_of_a_drain() {
    let (a, b) = (Backend::start().await, Backend::start().await);
    let holdline = Holdline::start(&format!(
        "fleets:\n  chat:\n    backends:\n      static: [ {{ id: a, address: \"{}\" }}, {{ id: b, address: \"{}\" }} ]\n    capacity: 20\n    \
         heartbeat: {{ interval: 200ms, timeout: 200ms, suspect_after: 1s, dead_after: 2s }}\n    drain: {{ deadline: 4s }}\n",
        a.address, b.address
    ));
    holdline.until_ready().await;
    assert!(holdline.cli(&["drain", "b"]).await.status.success());
    let mut clients = JoinSet::new();
    for mut socket in sessions(&holdline, "/", 12).await {
        clients.spawn(async move { client::close_code(&mut socket).await });
    }
    assert!(holdline.cli(&["undrain", "b"]).await.status.success());
    assert!(holdline.cli(&["drain", "a", "--over", "4s"]).await.status.success());
    holdline.until("it has begun", |f| f["backends"][0]["sessions"].as_u64().is_some_and(|n| n < 12)).await;
    let before = holdline.events("phase").await.len();

    holdline.signal("STOP");
    // Longer than the drain has left, and than a backend may be silent.
    tokio::time::sleep(Duration::from_secs(5)).await;
    holdline.signal("CONT");

    while let Some(code) = clients.join_next().await {
        assert_eq!(code.unwrap(), Some(1012), "each was told to go");
    }
    holdline.until("drained", |f| f["backends"][0]["phase"] == "drained").await;
    let ended = &holdline.events("drain_ended").await;
    let text = |e: &Value| e["message"].as_str().unwrap().to_owned();
    assert!(ended.iter().all(|e| text(e).contains("0 were cut")), "{ended:?}");
    let phases: Vec<_> = holdline.events("phase").await.iter().skip(before).map(text).collect();
    assert_eq!(phases, [""; 0], "no backend changed its phase");
}
