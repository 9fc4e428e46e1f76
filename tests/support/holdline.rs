//! One `holdline run` as a child process.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use super::TestDir;
use super::client::{self, PATIENCE};
#[cfg(feature = "demo")]
use super::parent_of;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_holdline");

/// Before it told where it listens.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

pub(crate) struct Holdline {
    child: Child,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// The admin API.
    pub(crate) admin: SocketAddr,
    /// Configuration and log; goes with the test.
    dir: TestDir,
    log: mpsc::Receiver<String>,
}

impl Holdline {
    /// `holdline run` with `fleets` (and anything else at the top level), on ports of its own. Returns once it serves.
    pub(crate) fn start(rest_of_config: &str) -> Self {
        Self::start_as(Command::new(BINARY), rest_of_config)
    }

    /// The same with at most `files` open files.
    pub(crate) fn start_within(files: u64, rest_of_config: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\""), BINARY]);
        Self::start_as(shell, rest_of_config)
    }

    fn start_as(mut command: Command, rest_of_config: &str) -> Self {
        let dir = TestDir::new();
        let config = write_config(&dir, rest_of_config);
        let mut child = command
            .args(["run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = follow(child.stderr.take().unwrap(), dir.path().join("holdline.log"));
        let mut holdline = Holdline { child, address: NOWHERE, admin: NOWHERE, dir, log };
        holdline.await_start();
        holdline
    }

    fn await_start(&mut self) {
        let Some(line) = self.log.iter().find(|line| line.contains("\"listeners\"")) else {
            let status = self.child.wait().unwrap();
            panic!("holdline ended before it served: {status}; see {}", self.dir.path().join("holdline.log").display());
        };
        let line: Value = serde_json::from_str(&line).unwrap();
        let address = |field: &str| line[field].as_str().unwrap().trim_matches(['[', ']']).parse().unwrap();
        (self.address, self.admin) = (address("listeners"), address("admin"));
    }

    /// Its configuration file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.dir.path().join("holdline.yaml")
    }

    /// Puts another configuration in the file's place, as editors do: written beside it and renamed. What is not in `rest` is as at the
    /// start.
    pub(crate) fn configure(&self, rest: &str) {
        let beside = self.dir.path().join("holdline.yaml.new");
        std::fs::write(&beside, config_text(rest)).unwrap();
        std::fs::rename(beside, self.config_file()).unwrap();
    }

    /// The events so far of one kind, oldest first.
    pub(crate) async fn events(&self, kind: &str) -> Vec<Value> {
        let (_, text) = client::http_text("GET", self.admin, "/v1/events?follow=0", None).await;
        let events =
            text.lines().filter_map(|l| l.strip_prefix("data:")).map(|json| serde_json::from_str::<Value>(json).unwrap());
        events.filter(|e| e["kind"] == kind).collect()
    }

    /// The next log line that contains `text`; blocks.
    pub(crate) fn log_line(&self, text: &str) -> Value {
        serde_json::from_str(self.log_lines_until(text).last().unwrap()).unwrap()
    }

    /// The next log lines, with one that contains `text` as the last; blocks.
    pub(crate) fn log_lines_until(&self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line: &String| !line.contains(text)) {
            lines.push(self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no log line with {text:?}")));
        }
        lines
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL to the backend that listens here: the kernel ends its connections, nobody says anything.
    #[cfg(feature = "demo")]
    pub(crate) fn kill_backend(&self, address: &str) {
        let port = address.rsplit(':').next().unwrap();
        let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        let is_it = |pid: &u32| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            // Other tests' backends may have the same port, each in its network. Between the two is a supervisor.
            line.contains(&format!("\0--port\0{port}\0")) && parent_of(*pid).and_then(parent_of) == Some(self.pid())
        };
        let found: Vec<u32> = all.filter(is_it).collect();
        let [pid] = *found else { panic!("{found:?} listen at {address}") };
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end.
    pub(crate) async fn wait(mut self) -> ExitStatus {
        let waited = tokio::task::spawn_blocking(move || self.child.wait().unwrap());
        tokio::time::timeout(PATIENCE, waited).await.expect("holdline ends").unwrap()
    }

    /// `GET` of the admin API, which must succeed.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = client::http("GET", self.admin, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The only fleet's status.
    pub(crate) async fn fleet(&self) -> Value {
        self.get("/v1/status").await["fleets"][0].clone()
    }

    /// Looks at the only fleet until `is_so`.
    pub(crate) async fn until(&self, what: &str, mut is_so: impl FnMut(&Value) -> bool) -> Value {
        let mut fleet = Value::Null;
        let looking = async {
            loop {
                fleet = self.fleet().await;
                if is_so(&fleet) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let met = tokio::time::timeout(PATIENCE, looking).await;
        assert!(met.is_ok(), "never saw: {what}; last: {fleet:#}");
        fleet
    }

    /// Looks at the status until `is_so`.
    pub(crate) async fn until_status(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let mut status = Value::Null;
        let looking = async {
            loop {
                status = self.get("/v1/status").await;
                if is_so(&status) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let met = tokio::time::timeout(PATIENCE, looking).await;
        assert!(met.is_ok(), "never saw: {what}; last: {status:#}");
    }

    /// Every backend ready and every seat free.
    pub(crate) async fn until_ready(&self) -> Value {
        self.until("all ready and empty", |fleet| {
            let backends = fleet["backends"].as_array().unwrap();
            !backends.is_empty() && backends.iter().all(|b| b["phase"] == "ready" && b["sessions"] == 0)
        })
        .await
    }

    /// The sum of a metric's samples whose line contains `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let (_, text) = client::http_text("GET", self.admin, "/metrics", None).await;
        let samples = text.lines().filter(|l| l.split(['{', ' ']).next() == Some(name) && l.contains(labels));
        samples.map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// A client command against this admin address.
    pub(crate) async fn cli(&self, args: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(BINARY);
        command.args(args).env("HOLDLINE_ADMIN", format!("http://{}", self.admin)).stdin(Stdio::null());
        tokio::time::timeout(PATIENCE, command.output()).await.expect("the command ends").unwrap()
    }
}

impl Drop for Holdline {
    fn drop(&mut self) {
        // SIGTERM would wait for sessions; the supervisors end the children either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `holdline run` with a configuration that is expected to fail: exit status and standard error.
pub(crate) fn run_to_failure(config: &str) -> (i32, String) {
    let dir = TestDir::new();
    let path = write_config(&dir, config);
    let output = Command::new(BINARY).args(["run", "--config"]).arg(path).stdin(Stdio::null()).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).unwrap())
}

fn write_config(dir: &TestDir, rest: &str) -> PathBuf {
    let path = dir.path().join("holdline.yaml");
    std::fs::write(&path, config_text(rest)).unwrap();
    path
}

fn config_text(rest: &str) -> String {
    let default = |key: &str, line: &str| if rest.contains(&format!("{key}:")) { String::new() } else { line.to_owned() };
    [
        default("listeners", "listeners: [ { address: \"127.0.0.1:0\" } ]\n"),
        default("admin", "admin: { address: \"127.0.0.1:0\" }\n"),
        default("log", "log: { format: json, level: info }\n"),
        rest.to_owned(),
    ]
    .concat()
}

/// Copies the child's log into a file, where a failed test's reader finds it, and hands on its lines.
fn follow(stderr: impl Read + Send + 'static, file: PathBuf) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        use std::io::Write;
        let mut file = File::create(file).unwrap();
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = writeln!(file, "{line}");
            let _ = send.send(line);
        }
    });
    receive
}
