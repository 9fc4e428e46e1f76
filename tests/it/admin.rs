//! The admin address under clients that behave badly, and commands with a slip in them.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::reload::fleet;
use crate::support::backend::Backend;
use crate::support::client;
use crate::support::holdline::Holdline;
use crate::support::soon;

/// A kubelet's probe waits for one second; here other tests run beside it.
const PROBE_TIME: Duration = Duration::from_secs(10);

async fn serving() -> Holdline {
    let backend = Backend::start().await;
    let holdline = Holdline::start(&format!("fleets:\n{}", fleet("chat", backend.address, "capacity: 10")));
    holdline.until_ready().await;
    holdline
}

#[tokio::test]
async fn probes_and_scrapes_are_answered_whoever_else_is_connected() {
    let holdline = serving().await;
    let mut events = tokio::process::Command::new(crate::support::holdline::BINARY)
        .args(["events", "--follow", "-o", "json", "--admin", &format!("http://{}", holdline.admin)])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut told = events.stdout.take().unwrap();
    let mut some = [0; 1];
    soon("the reader is connected", told.read_exact(&mut some)).await.unwrap();

    let mut silent = Vec::new();
    // As many as are kept open and more, but not so many that the kernel's queue is full, which would have later ones wait.
    for _ in 0..320 {
        silent.push(soon("it is accepted by the kernel", TcpStream::connect(holdline.admin)).await.unwrap());
    }
    for path in ["/healthz", "/readyz", "/metrics", "/v1/status"] {
        let answer = tokio::time::timeout(PROBE_TIME, client::http_text("GET", holdline.admin, path, None)).await;
        assert_eq!(answer.unwrap_or_else(|_| panic!("no answer: {path}")).0, 200, "{path}");
    }
    // Whoever is being answered is not closed for those who say nothing.
    holdline.configure("threads: 7\n");
    let rejected = async {
        let mut text = String::new();
        while !text.contains("config_rejected") {
            let mut more = [0; 4096];
            let count = told.read(&mut more).await.unwrap();
            assert!(count > 0, "the reader's stream ended");
            text.push_str(&String::from_utf8_lossy(&more[..count]));
        }
    };
    soon("the reader hears of what happens", rejected).await;
    let mut closed = 0;
    for connection in &mut silent {
        let end = tokio::time::timeout(Duration::ZERO, connection.read(&mut some)).await;
        closed += usize::from(end.is_ok());
    }
    assert!((64..320).contains(&closed), "{closed} were closed, the longest silent first");
}

#[tokio::test]
async fn an_order_is_an_object() {
    let holdline = serving().await;
    for path in ["/v1/fleets/chat/backends/chat-a/drain", "/v1/fleets/chat/rebalance"] {
        let (status, problem) = client::http("POST", holdline.admin, path, Some(serde_json::json!([]))).await;
        assert_eq!((status, &problem["detail"]), (400, &"the body is not a JSON object; send one, such as {}".into()));
    }
    assert_eq!(holdline.fleet().await["backends"][0]["phase"], "ready");
}

#[tokio::test]
async fn events_of_a_fleet_that_is_none_are_a_mistake() {
    let holdline = serving().await;
    for args in [&["events", "--fleet", "caht"][..], &["events", "--follow", "--fleet", "caht"]] {
        let output = holdline.cli(args).await;
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{errors}");
        assert!(errors.contains("unknown fleet `caht`; known fleets: chat"), "{errors}");
    }
    let output = holdline.cli(&["events", "--fleet", "chat"]).await;
    assert!(output.status.success() && !output.stdout.is_empty());
}
