//! One child process, from its start to its end, seen through its supervisor.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;

use holdline_core::event::Observation;
use holdline_core::ids::BackendId;
use holdline_core::policy::ProcessPolicy;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

use super::ports::Port;
use super::process::Shared;
use super::supervisor;

/// What shall become of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// It runs.
    Run,
    /// SIGTERM, then SIGKILL after the stop timeout.
    Stop,
    /// SIGKILL.
    Kill,
}

/// Runs one child and reports on it; returns when no process of its group is left.
pub(super) async fn live(shared: &Shared, policy: &ProcessPolicy, id: &BackendId, orders: watch::Receiver<Order>) {
    let launched = launch(shared, policy, id);
    match launched {
        Ok((port, supervisor, pipes)) => {
            Running { shared, policy, id, port, pid: None, told: false }.watch(supervisor, pipes, orders).await
        }
        Err(reason) => shared.observed(id, Observation::StartFailed { reason }).await,
    }
}

type Pipes = (ChildStdin, ChildStdout);

/// Starts the supervisor; the error says what to do.
fn launch(shared: &Shared, policy: &ProcessPolicy, id: &BackendId) -> Result<(Port, Child, Pipes), String> {
    let fleet = &shared.fleet;
    let (first, last) = policy.ports;
    let port = shared.ports.take(policy.ports).ok_or_else(|| {
        format!("no port of {first}-{last} is free: widen fleets.{fleet}.backends.process.ports, or end what listens there")
    })?;
    let log = open_log(shared, policy, id)?;
    let fill = |text: &str| text.replace("{port}", &port.number().to_string()).replace("{id}", id.as_str());
    let mut command = Command::new(&shared.executable);
    command
        .arg0("holdline")
        .arg(supervisor::SUBCOMMAND)
        .arg("--stop-timeout")
        .arg(format!("{}ms", policy.stop_timeout.as_millis()))
        .args(shared.open_files.iter().flat_map(|files| ["--open-files".to_owned(), files.to_string()]))
        .arg("--")
        .args(policy.command.iter().map(|part| fill(part)))
        .envs(policy.env.iter().map(|(name, value)| (name, fill(value))))
        .env("HOLDLINE_BACKEND_ID", id.as_str())
        .env("HOLDLINE_PORT", port.number().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        // Ctrl-C is for Holdline: sessions end first, then the backends.
        .process_group(0);
    let mut child = command.spawn().map_err(|error| format!("cannot start the supervisor of {id}: {error}"))?;
    match (child.stdin.take(), child.stdout.take()) {
        (Some(stdin), Some(stdout)) => Ok((port, child, (stdin, stdout))),
        _ => Err(format!("the supervisor of {id} has no pipes")),
    }
}

fn open_log(shared: &Shared, policy: &ProcessPolicy, id: &BackendId) -> Result<File, String> {
    let directory = &policy.log_dir;
    let path = policy.log_file(id);
    fs::create_dir_all(directory).and_then(|()| OpenOptions::new().append(true).create(true).open(&path)).map_err(|error| {
        format!(
            "cannot write the log file {}: {error}; make the directory writable, or set fleets.{}.backends.process.log_dir",
            path.display(),
            shared.fleet
        )
    })
}

struct Running<'a> {
    shared: &'a Shared,
    policy: &'a ProcessPolicy,
    id: &'a BackendId,
    /// Held until the whole group is gone.
    port: Port,
    /// The child's, which is its group's; `None` before it runs and after it ended.
    pid: Option<Pid>,
    /// The supervisor has said what became of the start.
    told: bool,
}

impl Running<'_> {
    async fn watch(mut self, mut supervisor: Child, (mut stdin, stdout): Pipes, mut orders: watch::Receiver<Order>) {
        let mut lines = BufReader::new(stdout).lines();
        loop {
            tokio::select! {
                line = lines.next_line() => match line {
                    Ok(Some(line)) => self.told(&line).await,
                    Ok(None) | Err(_) => break,
                },
                Ok(()) = orders.changed() => {
                    let order = *orders.borrow_and_update();
                    let byte = if order == Order::Kill { supervisor::KILL } else { supervisor::STOP };
                    // A supervisor that is gone ends its lines, too.
                    let _ = stdin.write_all(&[byte]).await;
                }
            }
        }
        let status = supervisor.wait().await;
        if let Some(pid) = self.pid.take() {
            // Somebody killed the supervisor: the child it had must not stay.
            let _ = kill_process_group(pid, Signal::KILL);
            let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
            self.exited(format!("its supervisor ended ({status}), so it was killed")).await;
        } else if !self.told {
            // State must not wait for ever for a child that never was.
            let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
            let reason = format!("its supervisor ended ({status}) before it could start it");
            self.shared.observed(self.id, Observation::StartFailed { reason }).await;
        }
    }

    /// A line of the supervisor.
    async fn told(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        self.told = true;
        match word {
            "started" => {
                self.pid = rest.parse().ok().and_then(Pid::from_raw);
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.number()));
                self.shared.observed(self.id, Observation::Started { address }).await;
            }
            "failed" => {
                let (errno, text) = rest.split_once(' ').unwrap_or(("", rest));
                let reason = self.start_failed(errno.parse().unwrap_or(0), text);
                self.shared.observed(self.id, Observation::StartFailed { reason }).await;
            }
            "exited" => {
                self.pid = None;
                self.exited(rest.to_owned()).await;
            }
            _ => tracing::warn!(backend = %self.id, line, "its supervisor said something unknown"),
        }
    }

    fn start_failed(&self, errno: i32, text: &str) -> String {
        let program = self.policy.command.first().map_or("", String::as_str);
        let key = format!("fleets.{}.backends.process.command", self.shared.fleet);
        match io::Error::from_raw_os_error(errno).kind() {
            io::ErrorKind::NotFound => {
                format!("command not found: `{program}`; name a program on PATH, or its whole path, in {key}")
            }
            io::ErrorKind::PermissionDenied => {
                format!("`{program}` may not be executed; `chmod +x` it, or name another program in {key}")
            }
            _ => format!("cannot start `{program}`: {text}; see {key}"),
        }
    }

    async fn exited(&self, reason: String) {
        self.shared.observed(self.id, Observation::Exited { reason }).await;
    }
}
