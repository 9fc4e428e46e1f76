//! The status page in a browser that nobody here wrote: Chromium, driven by `tests/page/status.mjs`.

use serde_json::Value;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::client::PATIENCE;
use crate::support::holdline::{BINARY, Holdline};
use crate::support::soon;

/// A chat server, and where it listens.
pub(crate) async fn live() -> (Child, String) {
    let mut command = Command::new(BINARY);
    let mut child = command.args(["live", "--port", "0"]).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = soon("the server listens", lines.next_line()).await.unwrap().unwrap();
    (child, line.rsplit(' ').next().unwrap().to_owned())
}

#[tokio::test]
async fn the_page_is_right_and_live_and_shows_the_plan_before_the_deed() {
    let servers = [live().await, live().await, live().await];
    let backends = ["a", "b", "c"].iter().zip(&servers).map(|(id, (_, at))| format!("{{ id: {id}, address: \"{at}\" }}"));
    let holdline = Holdline::start(&format!(
        "fleets:\n  chat:\n    backends:\n      static: [ {} ]\n    capacity: 40\n    queue: {{ length: 100, timeout: 5m }}\n",
        backends.collect::<Vec<_>>().join(", ")
    ));
    let fleet: Value = holdline.until_ready().await;
    assert_eq!(fleet["ended_total"]["drained"], 0);

    let modules = std::env::var("HOLDLINE_TEST_NODE_MODULES").expect("run tests/run, which installs the clients and sets it");
    let mut browser = Command::new("node");
    browser.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/status.mjs"));
    browser.args([format!("http://{}", holdline.address), format!("http://{}", holdline.admin), holdline.pid().to_string()]);
    browser.env("NODE_PATH", modules).kill_on_drop(true);
    // A browser on a busy machine: each step of its script has PATIENCE.
    let output = tokio::time::timeout(PATIENCE * 5, browser.output()).await.expect("the browser's script ends").unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && said[0].contains("done"), "{}{}", said[0], said[1]);
}
