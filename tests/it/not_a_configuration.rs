//! What stands in the configuration's place is not a configuration: sessions and the control plane do not notice.

use std::fs;
use std::process::{Command, Stdio};

use crate::reload::{fleet, reloads, sessions};
use crate::support::backend::Backend;
use crate::support::holdline::{BINARY, Holdline};
use crate::support::{TestDir, client};

/// More than an event or a log line may have of a file.
const MESSAGE_MAX: usize = 1_500;

fn fifo(path: &std::path::Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

#[tokio::test]
async fn on_a_reload_it_is_rejected_and_everything_goes_on() {
    let one = Backend::start().await;
    let holdline = Holdline::start(&format!("fleets:\n{}", fleet("chat", one.address, "capacity: 10")));
    holdline.until_ready().await;
    let mut held = sessions(&holdline, "/", 2).await;
    let path = holdline.config_file();
    let fill = |text: &[u8]| {
        let beside = path.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, &path).unwrap();
    };

    let sparse = path.with_extension("sparse");
    fs::File::create(&sparse).unwrap().set_len(300 << 20).unwrap();
    fs::rename(&sparse, &path).unwrap();
    reloads(&holdline, "failed", 1.0).await;
    // Within the bound, and all of one line.
    fill(&[b'\0'; 1 << 20]);
    reloads(&holdline, "failed", 2.0).await;
    fill("x".repeat(1 << 20).as_bytes());
    reloads(&holdline, "failed", 3.0).await;
    fs::remove_file(&path).unwrap();
    fifo(&path);
    reloads(&holdline, "failed", 4.0).await;
    holdline.signal("HUP");
    reloads(&holdline, "failed", 5.0).await;

    let rejected = holdline.events("config_rejected").await;
    let messages: Vec<_> = rejected.iter().map(|e| e["message"].as_str().unwrap()).collect();
    assert!(messages[0].contains("larger than 1024 KiB"), "{messages:?}");
    assert!(messages[3].contains("not a regular file"), "{messages:?}");
    assert!(messages.iter().all(|m| m.len() < MESSAGE_MAX), "{messages:?}");
    assert_eq!(client::http_text("GET", holdline.admin, "/healthz", None).await.0, 200);
    for socket in &mut held {
        client::echo(socket, "still here").await;
    }
    drop(held);
    holdline.signal("TERM");
    assert_eq!(holdline.wait().await.code(), Some(0));
}

#[test]
fn at_the_start_it_is_an_error_of_the_configuration() {
    let dir = TestDir::new();
    let (pipe, large) = (dir.path().join("pipe"), dir.path().join("large"));
    fifo(&pipe);
    fs::File::create(&large).unwrap().set_len(300 << 20).unwrap();
    for (path, why) in [(&pipe, "not a regular file"), (&large, "larger than 1024 KiB")] {
        for args in [["run", "--config"], ["config", "check"]] {
            let output = Command::new(BINARY).args(args).arg(path).stdin(Stdio::null()).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{error}");
            assert!(error.contains(why) && error.len() < MESSAGE_MAX, "{error}");
        }
    }
}
