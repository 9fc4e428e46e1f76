//! The application behind a `holdline run`, and what an operator does to it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::support::TestDir;
use crate::support::holdline::{BINARY, Holdline};
use crate::support::network::{self, Network};

/// Holdline, with the application behind it.
pub(super) struct Fleet {
    pub(super) holdline: Holdline,
    /// The api's database.
    _dir: TestDir,
    _network: Network,
}

impl Fleet {
    /// `queue`: of the api and of the nodes. `nodes`: settings of the fleet of nodes.
    pub(super) async fn start(queue: &str, nodes: &str) -> Self {
        let (network, dir) = (network::own(), TestDir::new());
        let (first, last) = network.ports();
        let (api, internal, first) = (first, first + 1, first + 2);
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
        let fleet = Fleet { holdline, _dir: dir, _network: network };
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

    pub(super) fn kill(&self, backend: &Value) {
        self.holdline.kill_backend(backend["address"].as_str().unwrap());
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

/// Seconds from the environment.
pub(super) fn seconds(name: &str, default: u64) -> Duration {
    let seconds = std::env::var(name).map(|text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")));
    Duration::from_secs(seconds.unwrap_or(default))
}
