//! The process provider with real children: none is lost, none stays.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use holdline::clock::Clock;
use holdline::providers::Providers;
use holdline_core::event::{Effect, Event, Observation};
use holdline_core::policy::{FleetPolicy, ProcessPolicy, ProviderPolicy};
use tokio::sync::mpsc;

use crate::support::network;
use crate::support::policy::{fleet, process};
use crate::support::witness::Witness;
use crate::support::{TestDir, parent_of, soon};

const HOLDLINE: &str = env!("CARGO_BIN_EXE_holdline");
/// Holdline's limit, as it was before the gateway raised it.
const OPEN_FILES: u64 = 256;

/// A fleet of children, told by effects and heard by events.
struct Fleet {
    providers: Providers,
    policy: Arc<FleetPolicy>,
    effects: mpsc::Sender<Effect>,
    events: mpsc::Receiver<Event>,
}

impl Fleet {
    fn new(policy: ProcessPolicy) -> Self {
        Self::with(policy, HOLDLINE)
    }

    fn with(policy: ProcessPolicy, executable: &str) -> Self {
        let (sender, events) = mpsc::channel(64);
        let policy = Arc::new(fleet("chat", ProviderPolicy::Process(policy)));
        let providers = Providers::new(Path::new(executable), Some(OPEN_FILES), &sender);
        let (effects, orders) = mpsc::channel(64);
        tokio::spawn(providers.clone().run(orders));
        Fleet { providers, policy, effects, events }
    }

    async fn start(&self, id: &str) {
        let policy = Arc::clone(&self.policy);
        self.effects.send(Effect::Start { fleet: "chat".into(), backend: id.into(), policy }).await.unwrap();
    }

    async fn retire(&self, id: &str) {
        self.effects.send(Effect::Retire { fleet: "chat".into(), backend: id.into() }).await.unwrap();
    }

    async fn observed(&mut self) -> (String, Observation) {
        match soon("an observation", self.events.recv()).await {
            Some(Event::Observed { backend, observation, .. }) => (backend.to_string(), observation),
            other => panic!("{other:?}"),
        }
    }

    async fn started(&mut self) -> (String, std::net::SocketAddr) {
        match self.observed().await {
            (id, Observation::Started { address }) => (id, address),
            other => panic!("{other:?}"),
        }
    }

    async fn exited(&mut self) -> String {
        match self.observed().await {
            (_, Observation::Exited { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }

    async fn failed(&mut self) -> String {
        match self.observed().await {
            (_, Observation::StartFailed { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_child_gets_its_port_its_id_and_a_log_and_ends_on_sigterm() {
    let (network, logs) = (network::own(), TestDir::new());
    let witness = Witness::new(&network).await;
    let mut command = witness.command("plain");
    command.extend(["--listen={port}", "{id}"]);
    let mut fleet = Fleet::new(process(&command, network.ports(), logs.path()));

    fleet.start("chat-1").await;
    let (id, address) = fleet.started().await;
    let child = witness.seen().await;
    assert_eq!(id, "chat-1");
    assert!(child.line.ends_with(&format!("--listen={} chat-1 chat-1\n", address.port())), "{}", child.line);

    fleet.retire("chat-1").await;
    assert!(fleet.exited().await.contains("SIGTERM"));
    child.gone().await;
    assert_eq!(std::fs::read_to_string(logs.path().join("chat-1.log")).unwrap(), "a line for the log\n");
}

#[tokio::test]
async fn a_child_has_the_limit_of_open_files_that_holdline_was_given() {
    let (network, logs) = (network::own(), TestDir::new());
    let mut fleet = Fleet::new(process(&["sh", "-c", "ulimit -Sn; ulimit -Hn"], network.ports(), logs.path()));
    fleet.start("chat-1").await;
    fleet.started().await;
    assert_eq!(fleet.exited().await, "exit status: 0");
    let log = std::fs::read_to_string(logs.path().join("chat-1.log")).unwrap();
    let (soft, hard) = log.trim_end().split_once('\n').unwrap();
    assert_eq!(soft, OPEN_FILES.to_string());
    assert!(hard == "unlimited" || hard.parse::<u64>().unwrap() >= OPEN_FILES, "it may raise it for itself: {hard}");
}

#[tokio::test]
async fn a_supervisor_that_ends_without_a_word_is_a_failed_start() {
    let (network, logs) = (network::own(), TestDir::new());
    let mut fleet = Fleet::with(process(&["true"], network.ports(), logs.path()), "/bin/false");
    fleet.start("chat-1").await;
    let reason = fleet.failed().await;
    assert!(reason.contains("its supervisor exited (exit status: 1) before"), "{reason}");
}

#[tokio::test]
async fn a_crash_is_told_with_its_status() {
    let (network, logs) = (network::own(), TestDir::new());
    let mut fleet = Fleet::new(process(&["sh", "-c", "echo out; echo err >&2; exit 3"], network.ports(), logs.path()));
    fleet.start("chat-1").await;
    fleet.started().await;
    assert_eq!(fleet.exited().await, "exit status: 3");
    let log = std::fs::read_to_string(logs.path().join("chat-1.log")).unwrap();
    assert_eq!(log, "out\nerr\n");
}

#[tokio::test]
async fn who_ignores_sigterm_is_killed_after_the_stop_timeout() {
    let (network, logs) = (network::own(), TestDir::new());
    let (witness, clock) = (Witness::new(&network).await, Clock::start());
    let stop_timeout = Duration::from_millis(400);
    let policy = ProcessPolicy { stop_timeout, ..process(&witness.command("stubborn family"), network.ports(), logs.path()) };
    let mut fleet = Fleet::new(policy);
    fleet.start("chat-1").await;
    fleet.started().await;
    let child = witness.seen().await;

    let asked = clock.now();
    fleet.retire("chat-1").await;
    assert!(fleet.exited().await.contains("SIGKILL"));
    child.gone().await;
    assert!(clock.now().since(asked) >= stop_timeout);
}

#[tokio::test]
async fn what_a_crashed_leader_leaves_behind_goes_and_then_its_port_is_free() {
    let (network, logs) = (network::own(), TestDir::new());
    let witness = Witness::new(&network).await;
    let policy = ProcessPolicy {
        stop_timeout: Duration::from_millis(200),
        ..process(&witness.command("stubborn family leaves"), network.ports(), logs.path())
    };
    let mut fleet = Fleet::new(policy);
    fleet.start("chat-1").await;
    fleet.started().await;
    let child = witness.seen().await;
    assert_eq!(fleet.exited().await, "exit status: 7");
    child.gone().await;
    soon("shutdown", fleet.providers.shutdown()).await;
}

#[tokio::test]
async fn who_left_the_group_goes_with_it() {
    let (network, logs) = (network::own(), TestDir::new());
    let witness = Witness::new(&network).await;
    let mut fleet = Fleet::new(process(&witness.command("stubborn family escaped leaves"), network.ports(), logs.path()));
    fleet.start("chat-1").await;
    fleet.started().await;
    let child = witness.seen().await;
    fleet.exited().await;
    child.gone().await;
}

#[tokio::test]
async fn a_command_that_is_not_there_or_not_executable_is_told_with_a_remedy() {
    let (network, logs) = (network::own(), TestDir::new());
    let mut fleet = Fleet::new(process(&["holdline-no-such-program"], network.ports(), logs.path()));
    fleet.start("chat-1").await;
    let reason = fleet.failed().await;
    assert!(reason.starts_with("command not found: `holdline-no-such-program`"), "{reason}");
    assert!(reason.contains("fleets.chat.backends.process.command"), "{reason}");

    let script = logs.path().join("script");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut fleet = Fleet::new(process(&[script.to_str().unwrap()], network.ports(), logs.path()));
    fleet.start("chat-2").await;
    assert!(fleet.failed().await.contains("chmod +x"));
}

#[tokio::test]
async fn a_log_file_that_cannot_be_written_is_told_with_a_remedy() {
    let (network, dir) = (network::own(), TestDir::new());
    // A file where the directory should be: even root cannot.
    let logs = dir.path().join("logs");
    std::fs::write(&logs, "").unwrap();
    let mut fleet = Fleet::new(process(&["true"], network.ports(), &logs));
    fleet.start("chat-1").await;
    let reason = fleet.failed().await;
    assert!(reason.contains("chat-1.log") && reason.contains("process.log_dir"), "{reason}");
}

#[tokio::test]
async fn without_a_free_port_nothing_is_started() {
    let (network, logs) = (network::own(), TestDir::new());
    let witness = Witness::new(&network).await;
    let (port, _) = network.ports();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut fleet = Fleet::new(process(&witness.command("plain"), (port, port), logs.path()));
    fleet.start("chat-1").await;
    assert!(fleet.failed().await.contains("process.ports"));

    drop(taken);
    fleet.start("chat-2").await;
    assert_eq!(fleet.started().await.1.port(), port);
    let child = witness.seen().await;
    // It does not listen: held all the same.
    fleet.start("chat-3").await;
    fleet.failed().await;
    soon("shutdown", fleet.providers.shutdown()).await;
    child.gone().await;
}

#[tokio::test]
async fn shutdown_stops_all_and_starts_no_more() {
    let (network, logs) = (network::own(), TestDir::new());
    let witness = Witness::new(&network).await;
    let mut fleet = Fleet::new(process(&witness.command("family"), network.ports(), logs.path()));
    let mut children = Vec::new();
    for id in ["chat-1", "chat-2", "chat-3"] {
        fleet.start(id).await;
        fleet.started().await;
        children.push(witness.seen().await);
    }
    soon("shutdown", fleet.providers.shutdown()).await;
    for child in children {
        child.gone().await;
        assert!(fleet.exited().await.contains("SIGTERM"));
    }
    fleet.start("chat-4").await;
    drop(fleet.effects);
    drop(fleet.providers);
    assert_eq!(soon("the end", fleet.events.recv()).await, None, "nothing was started");
}

#[tokio::test]
async fn kill_does_not_wait_for_the_stop_timeout() {
    let (network, logs) = (network::own(), TestDir::new());
    let witness = Witness::new(&network).await;
    let policy = ProcessPolicy {
        stop_timeout: Duration::from_secs(3600),
        ..process(&witness.command("stubborn"), network.ports(), logs.path())
    };
    let mut fleet = Fleet::new(policy);
    fleet.start("chat-1").await;
    fleet.started().await;
    let mut child = witness.seen().await;
    fleet.retire("chat-1").await;
    assert!(child.alive());
    fleet.providers.kill();
    assert!(fleet.exited().await.contains("SIGKILL"));
    child.gone().await;
}

#[tokio::test]
async fn a_child_does_not_survive_its_supervisor() {
    let (network, logs) = (network::own(), TestDir::new());
    let witness = Witness::new(&network).await;
    let mut fleet = Fleet::new(process(&witness.command("stubborn"), network.ports(), logs.path()));
    fleet.start("chat-1").await;
    fleet.started().await;
    let child = witness.seen().await;
    let pid: u32 = child.line.split(' ').next().unwrap().parse().unwrap();
    let supervisor = parent_of(pid).and_then(|parent| rustix::process::Pid::from_raw(parent as i32)).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    assert!(fleet.exited().await.contains("its supervisor exited"));
    child.gone().await;
}

#[tokio::test]
async fn no_child_stays_when_holdline_is_killed() {
    // What Holdline is to a supervisor: the process that holds the pipe. SIGKILL gives it no chance to tell anybody.
    const PARENT: &str = "import subprocess, sys, signal\n\
        p = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n\
        signal.pause()";
    let network = network::own();
    let witness = Witness::new(&network).await;
    let mut parent = Command::new("python3")
        .args(["-c", PARENT, HOLDLINE, "supervise", "--stop-timeout", "300ms", "--"])
        .args(witness.command("stubborn family"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let child = witness.seen().await;
    parent.kill().unwrap();
    parent.wait().unwrap();
    child.gone().await;
}
