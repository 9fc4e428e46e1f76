//! One child process, from start to exit, observed through its supervisor.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use holdline_core::event::{Event, Observation};
use holdline_core::ids::{BackendId, FleetName};
use holdline_core::policy::ProcessPolicy;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};

use super::ports::{Port, Ports};
use super::supervisor;

/// What a fleet's children have in common.
pub(super) struct Parent {
    pub(super) fleet: FleetName,
    /// A Holdline binary, for its hidden subcommand `supervise`.
    pub(super) executable: PathBuf,
    /// The soft limit of open files that children get; `None`: Holdline's own.
    pub(super) open_files: Option<u64>,
    pub(super) ports: Arc<Ports>,
    pub(super) events: mpsc::Sender<Event>,
}

impl Parent {
    /// Reports what was observed of a child. Without a State task the report is dropped.
    async fn observed(&self, backend: &BackendId, observation: Observation) {
        let event = Event::Observed { fleet: self.fleet.clone(), backend: backend.clone(), observation };
        let _ = self.events.send(event).await;
    }
}

/// The desired state of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Directive {
    /// It runs.
    Run,
    /// SIGTERM, then SIGKILL after the stop timeout.
    Stop,
    /// SIGKILL.
    Kill,
}

/// Runs one child and reports on it; returns when its process group is empty.
pub(super) async fn live(parent: &Parent, policy: &ProcessPolicy, id: &BackendId, directives: watch::Receiver<Directive>) {
    let launched = launch(parent, policy, id);
    match launched {
        Ok((port, supervisor, pipes)) => {
            Running { parent, policy, id, port, pid: None, told: false }.watch(supervisor, pipes, directives).await
        }
        Err(reason) => parent.observed(id, Observation::StartFailed { reason }).await,
    }
}

type Pipes = (ChildStdin, ChildStdout);

/// Starts the supervisor.
fn launch(parent: &Parent, policy: &ProcessPolicy, id: &BackendId) -> Result<(Port, Child, Pipes), String> {
    let fleet = &parent.fleet;
    let (first, last) = policy.ports;
    let port = parent.ports.take(policy.ports).ok_or_else(|| {
        format!(
            "no port of {first}-{last} is free: widen fleets.{fleet}.backends.process.ports, or stop the programs that use them"
        )
    })?;
    let log = open_log(parent, policy, id)?;
    let fill = |text: &str| text.replace("{port}", &port.number().to_string()).replace("{id}", id.as_str());
    let mut command = Command::new(&parent.executable);
    command
        .arg0("holdline")
        .arg(supervisor::SUBCOMMAND)
        .arg("--stop-timeout")
        .arg(format!("{}ms", policy.stop_timeout.as_millis()))
        .args(parent.open_files.iter().flat_map(|files| ["--open-files".to_owned(), files.to_string()]))
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

fn open_log(parent: &Parent, policy: &ProcessPolicy, id: &BackendId) -> Result<File, String> {
    let directory = &policy.log_dir;
    let path = policy.log_file(id);
    fs::create_dir_all(directory).and_then(|()| OpenOptions::new().append(true).create(true).open(&path)).map_err(|error| {
        format!(
            "cannot write the log file {}: {error}; make the directory writable, or set fleets.{}.backends.process.log_dir",
            path.display(),
            parent.fleet
        )
    })
}

struct Running<'a> {
    parent: &'a Parent,
    policy: &'a ProcessPolicy,
    id: &'a BackendId,
    /// Held until the whole group is gone.
    port: Port,
    /// The child's, which is its group's; `None` before it runs and after it ended.
    pid: Option<Pid>,
    /// The supervisor has reported whether the start succeeded.
    told: bool,
}

impl Running<'_> {
    async fn watch(mut self, mut supervisor: Child, (mut stdin, stdout): Pipes, mut directives: watch::Receiver<Directive>) {
        let mut lines = BufReader::new(stdout).lines();
        loop {
            tokio::select! {
                line = lines.next_line() => match line {
                    Ok(Some(line)) => self.told(&line).await,
                    Ok(None) | Err(_) => break,
                },
                Ok(()) = directives.changed() => {
                    let directive = *directives.borrow_and_update();
                    let byte = if directive == Directive::Kill { supervisor::KILL } else { supervisor::STOP };
                    // If the supervisor is gone, its stdout ends too.
                    let _ = stdin.write_all(&[byte]).await;
                }
            }
        }
        let status = supervisor.wait().await;
        if let Some(pid) = self.pid.take() {
            // The supervisor was killed: its child must not outlive it.
            let _ = kill_process_group(pid, Signal::KILL);
            let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
            self.exited(format!("its supervisor exited ({status}), so it was killed")).await;
        } else if !self.told {
            // State must not wait forever for a child that was never started.
            let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
            let reason = format!("its supervisor exited ({status}) before starting it");
            self.parent.observed(self.id, Observation::StartFailed { reason }).await;
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
                self.parent.observed(self.id, Observation::Started { address }).await;
            }
            "failed" => {
                let (errno, text) = rest.split_once(' ').unwrap_or(("", rest));
                let reason = self.start_failed(errno.parse().unwrap_or(0), text);
                self.parent.observed(self.id, Observation::StartFailed { reason }).await;
            }
            "exited" => {
                self.pid = None;
                self.exited(rest.to_owned()).await;
            }
            _ => tracing::warn!(backend = %self.id, line, "unknown message from its supervisor"),
        }
    }

    fn start_failed(&self, errno: i32, text: &str) -> String {
        let program = self.policy.command.first().map_or("", String::as_str);
        let key = format!("fleets.{}.backends.process.command", self.parent.fleet);
        match io::Error::from_raw_os_error(errno).kind() {
            io::ErrorKind::NotFound => {
                format!("command not found: `{program}`; name a program on PATH, or its whole path, in {key}")
            }
            io::ErrorKind::PermissionDenied => {
                format!("`{program}` is not executable; `chmod +x` it, or name another program in {key}")
            }
            _ => format!("cannot start `{program}`: {text}; see {key}"),
        }
    }

    async fn exited(&self, reason: String) {
        self.parent.observed(self.id, Observation::Exited { reason }).await;
    }
}
