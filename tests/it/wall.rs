//! The comment wall of `examples/live` in a browser that nobody here wrote: Chromium, driven by `tests/clients/wall.mjs`, through a Holdline in front of
//! `live api` and three `live node`.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::clients::Script;
use crate::support::backend::{After, raw};
use crate::support::holdline::{BINARY, Holdline};
use crate::support::{TestDir, soon};

/// Answers every request so, like a proxy that lets no such thing through.
const FORBIDDEN: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A role of the application, and the addresses that its first line names.
async fn live<const N: usize>(args: &[&str]) -> (Child, [String; N]) {
    let mut command = Command::new(BINARY);
    let mut child = command.arg("live").args(args).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = soon("it listens", lines.next_line()).await.unwrap().unwrap();
    let addresses: Vec<String> = line.split([' ', ',']).filter(|word| word.contains(':')).map(String::from).collect();
    (child, addresses.try_into().unwrap_or_else(|_| panic!("{line}")))
}

#[tokio::test]
async fn two_in_one_room_agree_through_a_drain_a_kill_and_a_network_that_blocks() {
    let dir = TestDir::new();
    let db = dir.path().join("live.db");
    let (_api, [api, internal]) = live(&["api", "--port", "0", "--internal", "0", "--db", db.to_str().unwrap()]).await;
    let queue = format!("http://{internal}");
    let mut nodes = Vec::new();
    for name in ["node-a", "node-b", "node-c"] {
        let (child, [address]) = live(&["node", "--port", "0", "--name", name, "--api", &queue]).await;
        nodes.push((name, child, address));
    }

    let backends: Vec<_> = nodes.iter().map(|(name, _, at)| format!("{{ id: {name}, address: \"{at}\" }}")).collect();
    let wall = raw(FORBIDDEN, After::Close).await;
    let blocking = |paths: &[&str]| {
        let blocked: String = paths.iter().map(|path| format!("{{ path: {path}, fleet: blocked }}, ")).collect();
        format!(
            "routes: [ {blocked}{{ path: /live/poll, fleet: nodes, sessions: true }}, {{ path: /live, fleet: nodes }}, {{ path: /, fleet: api }} ]\n\
             fleets:\n  \
               nodes:\n    backends:\n      static: [ {} ]\n    capacity: 100\n    affinity: {{ by: cookie }}\n    \
                 heartbeat: {{ probe: http, interval: 200ms }}\n  \
               api:\n    backends:\n      static: [ {{ address: \"{api}\" }} ]\n    capacity: 100\n  \
               blocked:\n    backends:\n      static: [ {{ address: \"{wall}\" }} ]\n    capacity: 100\n",
            backends.join(", ")
        )
    };
    let holdline = Holdline::start(&blocking(&[]));
    let ready = |fleet: &serde_json::Value| fleet["backends"].as_array().unwrap().iter().all(|b| b["phase"] == "ready");
    holdline.until_status("all ready", |status| status["fleets"].as_array().unwrap().iter().all(ready)).await;

    let pids: serde_json::Map<_, _> =
        nodes.iter().map(|(name, child, _)| ((*name).to_owned(), child.id().unwrap().into())).collect();
    let urls = [format!("http://{}", holdline.address), format!("http://{}", holdline.admin)];
    let mut browser =
        Script::start("node", "clients/wall.mjs", &[&urls[0], &urls[1], &serde_json::Value::from(pids).to_string()], None);
    browser.expect("block the WebSocket").await;
    holdline.configure(&blocking(&["/live/ws"]));
    holdline.signal("HUP");
    browser.expect("block the event stream").await;
    holdline.configure(&blocking(&["/live/ws", "/live/events"]));
    holdline.signal("HUP");
    browser.succeed().await;
}
