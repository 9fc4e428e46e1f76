//! The command line as a user meets it.

use std::process::{Command, Output};

use crate::support::backend::Backend;
use crate::support::client;
use crate::support::holdline::{BINARY, Holdline};
use crate::support::network;

fn holdline(args: &[&str]) -> Output {
    Command::new(BINARY).args(args).env_remove("HOLDLINE_ADMIN").output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_example_configuration_is_valid() {
    for name in ["holdline", "chat", "sse", "process"] {
        let path = format!("{}/config/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let checked = Command::new(BINARY).args(["config", "check", &path]).output().unwrap();
        let stderr = String::from_utf8_lossy(&checked.stderr);
        // A command that a user would have and this machine has not is the only thing that may be missing.
        assert!(checked.status.success() || (name == "process" && stderr.contains("release/live")), "{name}: {stderr}");
    }
}

#[test]
fn the_schema_is_json() {
    let schema: serde_json::Value = serde_json::from_slice(&holdline(&["config", "schema"]).stdout).unwrap();
    assert!(schema["properties"]["fleets"].is_object());
}

#[test]
fn completions_are_made_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&holdline(&["completions", shell])).contains("holdline"));
    }
}

#[test]
fn nobody_at_the_admin_address_is_status_3_and_usage_is_2() {
    let network = network::own();
    let free = format!("127.0.0.1:{}", network.ports().0);
    let output = holdline(&["status", "--admin", &format!("http://{free}")]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&free));
    assert_eq!(holdline(&["no-such-command"]).status.code(), Some(2));
    assert_eq!(holdline(&["run", "--config", "no/such/file.yaml"]).status.code(), Some(2));
}

#[tokio::test]
async fn everybody_is_told_the_same() {
    let backend = Backend::start().await;
    let holdline = Holdline::start(&format!(
        "fleets:\n  chat:\n    backends:\n      static: [ {{ id: a, address: \"{}\" }} ]\n    capacity: 10\n",
        backend.address
    ));
    holdline.until_ready().await;
    let mut held = Vec::new();
    for _ in 0..7 {
        held.push(client::websocket(holdline.address, "/").await.unwrap());
    }
    // Status, metrics, sessions and the command line agree at once, without a wait.
    let fleet = holdline.fleet().await;
    assert_eq!((fleet["sessions"].as_u64(), fleet["capacity"].as_u64(), fleet["free"].as_u64()), (Some(7), Some(10), Some(3)));
    assert_eq!(holdline.metric("holdline_sessions", "backend=\"a\"").await, 7.0);
    assert_eq!(sessions_len(&holdline).await, 7);
    let status: serde_json::Value = serde_json::from_slice(&holdline.cli(&["status", "-o", "json"]).await.stdout).unwrap();
    assert_eq!(status["fleets"][0]["sessions"], 7);
    let table = stdout(&holdline.cli(&["status"]).await);
    assert!(table.contains("chat") && table.contains('7') && !table.contains('\u{1b}'), "no colours in a pipe: {table}");
    let events = stdout(&holdline.cli(&["events"]).await);
    assert!(events.contains("ready"), "{events}");
}

async fn sessions_len(holdline: &Holdline) -> usize {
    let body = holdline.get("/v1/sessions").await;
    body["sessions"].as_array().map_or(0, Vec::len)
}
