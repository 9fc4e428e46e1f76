//! `holdline demo`, short: it ends by itself and finds nothing to complain of.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::support::holdline::BINARY;
use crate::support::network;

#[tokio::test]
async fn the_show_grows_shrinks_and_loses_nobody() {
    // The usual ports are free there.
    let _network = network::own();
    let args = ["demo", "--clients", "40", "--capacity", "10", "--wave", "4s", "--seconds", "25", "-o", "json"];
    let demo = tokio::process::Command::new(BINARY).args(args).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(120), demo).await.expect("it ends by itself").unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let last = stdout.trim_end().lines().last().unwrap();
    let summary: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {stdout}"));
    assert!(summary["opened"].as_u64() >= Some(40), "{summary}");
    assert_eq!((summary["lost"].as_u64(), summary["above_capacity"].as_u64()), (Some(0), Some(0)), "{summary}");
    let deltas = |name: &str| summary["deltas"][name].as_u64().unwrap();
    assert_eq!(deltas("missing"), 0, "{summary}");
    assert!(deltas("written") > 20 && deltas("delivered") > deltas("written") && deltas("recovered") > 0, "{summary}");
    let ms = |name: &str| summary["delivery_ms"][name].as_f64().unwrap();
    assert!(0.0 < ms("p50") && ms("p50") <= ms("p99"), "{summary}");
    assert!(summary["fill_peak"].as_f64() <= Some(1.0), "{summary}");
    assert_eq!(summary["backends_start"], 1, "{summary}");
    assert!(summary["backends_peak"].as_u64() >= Some(4), "{summary}");
    assert!(summary["backends_end"].as_u64() <= Some(2), "{summary}");
}
