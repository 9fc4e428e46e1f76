use std::path::Path;

use super::*;

const CONFIG: &str = r#"
listeners: [{ address: "127.0.0.1:0" }]
admin: { address: "127.0.0.1:0" }
threads: 2
fleets: { chat: { capacity: 10, backends: { static: [{ address: "127.0.0.1:9" }] } } }
"#;

async fn start() -> (Holdline, Stopping) {
    let config = crate::config::parse(CONFIG, "holdline.yaml", Path::new("/")).unwrap();
    let hooks = Hooks { seed: Some(7), signals: false, ..Hooks::default() };
    let stopping = Stopping::new(&hooks.stop, false).unwrap();
    (Holdline::start(config, hooks).await.unwrap(), stopping)
}

/// How it ends by itself.
async fn end(holdline: Holdline, stopping: Stopping) -> RunError {
    let ended = tokio::time::timeout(Duration::from_secs(20), holdline.serve(stopping)).await;
    ended.expect("it stops by itself").expect_err("it failed")
}

#[tokio::test]
async fn a_data_thread_that_lost_a_task_ends_the_run_with_status_1() {
    let (holdline, stopping) = start().await;
    holdline.gateway.break_orders(1).await;
    let error = end(holdline, stopping).await;
    assert!(matches!(error, RunError::Failed) && error.exit_code() == 1, "{error}");
}

#[tokio::test]
async fn a_panic_in_the_control_plane_ends_the_run_with_status_1() {
    let (mut holdline, stopping) = start().await;
    named(&mut holdline.tasks, "test", async { panic!("told to") });
    let error = end(holdline, stopping).await;
    assert!(matches!(error, RunError::Failed) && error.exit_code() == 1, "{error}");
}
