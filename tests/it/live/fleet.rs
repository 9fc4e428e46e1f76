//! The application behind a `holdline run`, and what an operator does to it.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::TestDir;
use crate::support::holdline::{BINARY, Holdline};

/// Holdline, with the application behind it.
pub(super) struct Fleet {
    pub(super) holdline: Holdline,
    /// The api's database.
    _dir: TestDir,
}

/// Ports of one test: the api's own two are the first, then the nodes'.
pub(super) struct Ports(pub(super) u16);

impl Fleet {
    /// `queue`: of the api and of the nodes. `nodes`: settings of the fleet of nodes.
    pub(super) async fn start(ports: &Ports, queue: &str, nodes: &str) -> Self {
        let dir = TestDir::new();
        let (api, internal, first, last) = (ports.0, ports.0 + 1, ports.0 + 2, ports.0 + 99);
        let db = dir.path().join("live.db");
        let holdline = Holdline::start(&format!(
            r#"routes:
  - {{ path: /, fleet: api }}
  - {{ path: /live, fleet: nodes }}
  - {{ path: /live/poll, fleet: nodes, sessions: true }}
fleets:
  api:
    backends: {{ process: {{ command: [{BINARY:?}, live, api, --port, "{{port}}", --internal, "{internal}", --db, {db:?}, --queue, "{queue}"], ports: "{api}-{api}" }} }}
    capacity: 10000
    scale: {{ min: 1, max: 1 }}
  nodes:
    backends: {{ process: {{ command: [{BINARY:?}, live, node, --port, "{{port}}", --api, "http://127.0.0.1:{internal}", --queue, "{queue}"], ports: "{first}-{last}", stop_timeout: 20s }} }}
    affinity: {{ by: cookie }}
    heartbeat: {{ probe: http, interval: 250ms }}
    {nodes}
"#
        ));
        let fleet = Fleet { holdline, _dir: dir };
        fleet.holdline.until_status("the api is there", |status| phases(status, "api") == ["ready"]).await;
        fleet
    }

    pub(super) async fn backends(&self) -> Vec<Value> {
        nodes(&self.holdline.get("/v1/status").await).to_vec()
    }

    /// As the command line does it; ends once there are that many nodes, each of them ready.
    pub(super) async fn scale(&self, to: usize) {
        self.order(&["scale", "nodes", "--to", &to.to_string()]).await;
        self.until_ready(to).await;
    }

    pub(super) async fn until_ready(&self, nodes: usize) {
        self.holdline
            .until_status(&format!("{nodes} nodes, all ready"), |status| {
                let phases = phases(status, "nodes");
                phases.len() == nodes && phases.iter().all(|phase| phase == "ready")
            })
            .await;
    }

    /// Moves the sessions of a node away, and takes it back. A poll that hears nothing for so long is cut.
    pub(super) async fn drain_and_undrain(&self, id: &str, over: &str) {
        let drained = self.holdline.cli(&["drain", id, "--fleet", "nodes", "--over", over, "--wait"]).await;
        let said = String::from_utf8_lossy(&drained.stderr).into_owned();
        assert!(drained.status.success() || said.contains("the deadline passed"), "{said}");
        self.order(&["undrain", id, "--fleet", "nodes"]).await;
    }

    async fn order(&self, args: &[&str]) {
        let done = self.holdline.cli(args).await;
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// The ready node with the most sessions.
    pub(super) async fn fullest(&self) -> Value {
        let backends = self.backends().await;
        let ready = backends.into_iter().filter(|b| b["phase"] == "ready");
        ready.max_by_key(|b| b["sessions"].as_u64()).expect("a node that is ready")
    }
}

pub(super) fn nodes(status: &Value) -> &[Value] {
    let fleet = status["fleets"].as_array().unwrap().iter().find(|f| f["name"] == "nodes").unwrap();
    fleet["backends"].as_array().unwrap()
}

fn phases(status: &Value, fleet: &str) -> Vec<String> {
    let fleet = status["fleets"].as_array().unwrap().iter().find(|f| f["name"] == fleet).unwrap();
    fleet["backends"].as_array().unwrap().iter().map(|b| b["phase"].as_str().unwrap().to_owned()).collect()
}

pub(super) fn id(backend: &Value) -> String {
    backend["id"].as_str().unwrap().to_owned()
}

pub(super) fn address(backend: &Value) -> SocketAddr {
    backend["address"].as_str().unwrap().parse().unwrap()
}

/// SIGKILL to the node that listens here: the kernel ends its connections, nobody says anything.
pub(super) fn kill(node: SocketAddr) {
    let words = ["live", "node", "--port", &node.port().to_string()].map(str::to_owned);
    let is_it = |pid: &u32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // Behind the program; its supervisor has these words further behind.
        line.split('\0').skip(1).take(words.len()).eq(words.iter().map(String::as_str))
    };
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let pids: Vec<u32> = all.filter(is_it).collect();
    assert_eq!(pids.len(), 1, "{pids:?} listen at {node}");
    assert!(Command::new("kill").args(["-KILL", &pids[0].to_string()]).status().unwrap().success());
}

/// Seconds from the environment.
pub(super) fn seconds(name: &str, default: u64) -> Duration {
    let seconds = std::env::var(name).map(|text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")));
    Duration::from_secs(seconds.unwrap_or(default))
}
