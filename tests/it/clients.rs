//! Clients that nobody here wrote, through `holdline run`: Python `websockets`, Node `ws` and `eventsource`, curl.

use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::backend::Backend;
use crate::support::client::{self, PATIENCE};
use crate::support::holdline::{BINARY, Holdline};

struct Script {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Script {
    fn start(program: &str, script: &str, args: &[&str]) -> Self {
        let path = format!("{}/tests/clients/{script}", env!("CARGO_MANIFEST_DIR"));
        let modules = env("HOLDLINE_TEST_NODE_MODULES");
        let mut command = Command::new(program);
        command.arg(path).args(args).env("NODE_PATH", modules).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Script { child, lines }
    }

    async fn expect(&mut self, wanted: &str) {
        let found = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line.contains(wanted) {
                    return true;
                }
            }
            false
        };
        assert!(tokio::time::timeout(PATIENCE, found).await.unwrap_or(false), "the client never said {wanted:?}");
    }

    async fn succeed(mut self) {
        self.expect("done").await;
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}");
    }
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run tests/run, which installs the clients and sets it"))
}

fn python() -> String {
    env("HOLDLINE_TEST_PYTHON")
}

async fn two_backends() -> (Vec<Backend>, Holdline) {
    let backends = vec![Backend::start().await, Backend::start().await];
    let holdline = Holdline::start(&format!(
        "fleets:\n  chat:\n    backends:\n      static: [ {{ id: a, address: \"{}\" }}, {{ id: b, address: \"{}\" }} ]\n    capacity: 100\n",
        backends[0].address, backends[1].address
    ));
    holdline.until_ready().await;
    (backends, holdline)
}

#[tokio::test]
async fn python_websockets_talks_and_leaves() {
    let (_backends, holdline) = two_backends().await;
    Script::start(&python(), "websockets_client.py", &[&format!("ws://{}/", holdline.address), "20", "echo"]).succeed().await;
    holdline.until("every seat free", |fleet| fleet["sessions"] == 0).await;
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "client_closed").await, 20.0);
}

#[tokio::test]
async fn node_ws_talks_and_leaves() {
    let (_backends, holdline) = two_backends().await;
    Script::start("node", "ws_client.js", &[&format!("ws://{}/", holdline.address), "20", "echo"]).succeed().await;
    holdline.until("every seat free", |fleet| fleet["sessions"] == 0).await;
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "client_closed").await, 20.0);
}

#[tokio::test]
async fn both_are_told_1012_by_a_drain() {
    let (_backends, holdline) = two_backends().await;
    let url = format!("ws://{}/", holdline.address);
    let mut python = Script::start(&python(), "websockets_client.py", &[&url, "20", "drain"]);
    let mut node = Script::start("node", "ws_client.js", &[&url, "20", "drain"]);
    python.expect("ready").await;
    node.expect("ready").await;
    for backend in ["a", "b"] {
        let drained = holdline.cli(&["drain", backend, "--over", "1s", "--wait"]).await;
        assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
        // The next one's sessions need somewhere to go, or they are kept.
        assert!(holdline.cli(&["undrain", backend]).await.status.success());
    }
    python.succeed().await;
    node.succeed().await;
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "cause=\"drained\"").await, 40.0);
}

/// Runs the chat server that `holdline demo` uses, since an EventSource needs events.
#[tokio::test]
async fn node_eventsource_hears_is_moved_and_comes_back() {
    let holdline = Holdline::start(&format!(
        "fleets:\n  feed:\n    backends:\n      process: {{ command: [\"{BINARY}\", live, --port, \"{{port}}\"], ports: \"21000-21099\" }}\n    \
         capacity: 100\n    heartbeat: {{ probe: http, interval: 200ms }}\n    scale: {{ min: 2, max: 2 }}\n"
    ));
    holdline
        .until("two ready", |fleet| fleet["backends"].as_array().unwrap().iter().filter(|b| b["phase"] == "ready").count() == 2)
        .await;
    let mut source = Script::start("node", "eventsource_client.mjs", &[&format!("http://{}/events", holdline.address)]);
    source.expect("open 1").await;
    let fleet = holdline.fleet().await;
    let holder =
        fleet["backends"].as_array().unwrap().iter().find(|b| b["sessions"] == 1).unwrap()["id"].as_str().unwrap().to_owned();

    let (status, plan) =
        client::http("POST", holdline.admin, &format!("/v1/fleets/feed/backends/{holder}/drain"), Some(json!({ "over": "1s" })))
            .await;
    assert!(status < 300, "{plan}");
    source.expect("open 2").await;
    // A room is a backend's own, and a plain request goes to the emptier one: so the word is said at each.
    let said = async {
        loop {
            for backend in holdline.fleet().await["backends"].as_array().unwrap().iter().filter(|b| b["phase"] == "ready") {
                let url = format!("http://{}/say", backend["address"].as_str().unwrap());
                let curl = Command::new("curl").args(["-sS", "-d", "goodbye", &url]).status().await.unwrap();
                assert!(curl.success());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = source.succeed() => {}
        () = said => {}
    }
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "cause=\"drained\"").await, 1.0);
}

#[tokio::test]
async fn curl_makes_plain_requests() {
    let backend = crate::support::backend::raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n",
        crate::support::backend::After::Close,
    )
    .await;
    let holdline = Holdline::start(&format!(
        "routes: [ {{ path: /app, fleet: web }} ]\nfleets:\n  web:\n    backends:\n      static: [ {{ address: \"{backend}\" }} ]\n    capacity: 1\n"
    ));
    holdline.until_ready().await;
    let curl = |path: &str, more: &[&str]| {
        let url = format!("http://{}{path}", holdline.address);
        let mut command = Command::new("curl");
        command.args(["-sS", "-i", "--max-time", "20"]).args(more).arg(url);
        async move { String::from_utf8(command.output().await.unwrap().stdout).unwrap() }
    };
    let answer = curl("/app/x", &[]).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello\n"), "{answer}");
    let answer = curl("/elsewhere", &[]).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let answer = curl("/app", &["-X", "POST", "-d", "body"]).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
