//! Clients that nobody here wrote, through `holdline run`, plain and over TLS: Python `websockets`, Node `ws` and `eventsource`, curl.
//! `browser.rs` has the browser.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::TestDir;
use crate::support::backend::{After, Backend, raw};
use crate::support::chat::chat;
use crate::support::client::{self, PATIENCE};
use crate::support::holdline::Holdline;
use crate::tls::Certificates;

/// A client's process and what it prints.
pub(crate) struct Script {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Script {
    /// `script` stands below `tests/`.
    pub(crate) fn start(program: &str, script: &str, args: &[&str], authority: Option<PathBuf>) -> Self {
        let path = format!("{}/tests/{script}", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(program);
        command.arg(path).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        command.env("NODE_PATH", env("HOLDLINE_TEST_NODE_MODULES"));
        if let Some(file) = authority {
            // Each client's own way to be given an authority beside the system's.
            command.env("SSL_CERT_FILE", &file).env("NODE_EXTRA_CA_CERTS", &file);
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Script { child, lines }
    }

    /// The next line that contains `wanted`; those before it are passed over, save one that says that something is wrong.
    pub(crate) async fn expect(&mut self, wanted: &str) {
        let found = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                assert!(!line.starts_with("wrong: "), "before {wanted:?}: {line}");
                if line.contains(wanted) {
                    return true;
                }
            }
            false
        };
        assert!(tokio::time::timeout(PATIENCE, found).await.unwrap_or(false), "the client never said {wanted:?}");
    }

    /// A line for its standard input.
    pub(crate) async fn say(&mut self, line: &str) {
        self.child.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    pub(crate) async fn succeed(mut self) {
        // Those that ask for it go on until their standard input ends.
        drop(self.child.stdin.take());
        self.expect("done").await;
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}");
    }
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run tests/run, which installs the clients and sets it"))
}

/// How clients reach Holdline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Plain,
    Tls,
}

/// A check as two tests, one each way.
macro_rules! each_way {
    ($check:ident: $plain:ident, $tls:ident) => {
        #[tokio::test]
        async fn $plain() {
            $check(crate::clients::Way::Plain).await;
        }

        #[tokio::test]
        async fn $tls() {
            $check(crate::clients::Way::Tls).await;
        }
    };
}
pub(crate) use each_way;

/// A Holdline, and how clients reach it.
pub(crate) struct Front {
    pub(crate) holdline: Holdline,
    pub(crate) certificates: Option<Certificates>,
}

impl Front {
    pub(crate) fn start(way: Way, fleets: &str) -> Self {
        let certificates = (way == Way::Tls).then(Certificates::new);
        let listeners = certificates.as_ref().map(Certificates::listeners).unwrap_or_default();
        Front { holdline: Holdline::start(&(listeners + fleets)), certificates }
    }

    /// `scheme` without its s.
    pub(crate) fn url(&self, scheme: &str, path: &str) -> String {
        let port = self.holdline.address.port();
        match self.certificates {
            Some(_) => format!("{scheme}s://localhost:{port}{path}"),
            None => format!("{scheme}://127.0.0.1:{port}{path}"),
        }
    }

    pub(crate) fn python(&self, script: &str, args: &[&str]) -> Script {
        Script::start(&env("HOLDLINE_TEST_PYTHON"), script, args, self.authority())
    }

    pub(crate) fn node(&self, script: &str, args: &[&str]) -> Script {
        Script::start("node", script, args, self.authority())
    }

    fn authority(&self) -> Option<PathBuf> {
        self.certificates.as_ref().map(|c| c.path("ca.crt"))
    }
}

async fn two_backends(way: Way) -> (Vec<Backend>, Front) {
    let backends = vec![Backend::start().await, Backend::start().await];
    let front = Front::start(
        way,
        &format!(
            "fleets:\n  chat:\n    backends:\n      static: [ {{ id: a, address: \"{}\" }}, {{ id: b, address: \"{}\" }} ]\n    capacity: 100\n",
            backends[0].address, backends[1].address
        ),
    );
    front.holdline.until_ready().await;
    (backends, front)
}

/// Twenty sessions of each talk, ping and leave.
async fn they_talk_and_leave(way: Way) {
    let (_backends, front) = two_backends(way).await;
    let url = front.url("ws", "/");
    let python = front.python("clients/websockets_client.py", &[&url, "20", "echo"]);
    let node = front.node("clients/ws_client.js", &[&url, "20", "echo"]);
    python.succeed().await;
    node.succeed().await;
    front.holdline.until("every seat free", |fleet| fleet["sessions"] == 0).await;
    assert_eq!(front.holdline.metric("holdline_sessions_ended_total", "client_closed").await, 40.0);
}

each_way!(they_talk_and_leave: python_websockets_and_node_ws_talk_and_leave, python_websockets_and_node_ws_talk_and_leave_over_tls);

async fn both_are_told_1012(way: Way) {
    let (_backends, front) = two_backends(way).await;
    let (url, holdline) = (front.url("ws", "/"), &front.holdline);
    let mut python = front.python("clients/websockets_client.py", &[&url, "20", "drain"]);
    let mut node = front.node("clients/ws_client.js", &[&url, "20", "drain"]);
    python.expect("ready").await;
    node.expect("ready").await;
    for backend in ["a", "b"] {
        let drained = holdline.cli(&["drain", backend, "--over", "1s", "--wait"]).await;
        assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
        // The next one's sessions need somewhere to go, or they are kept.
        assert!(holdline.cli(&["undrain", backend]).await.status.success());
    }
    python.succeed().await;
    node.succeed().await;
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "cause=\"drained\"").await, 40.0);
}

each_way!(both_are_told_1012: both_are_told_1012_by_a_drain, both_are_told_1012_by_a_drain_over_tls);

async fn eventsource_is_moved(way: Way) {
    let [a, b] = [chat().await, chat().await];
    let front = Front::start(
        way,
        &format!(
            "fleets:\n  feed:\n    backends:\n      static: [ {{ id: a, address: \"{a}\" }}, {{ id: b, address: \"{b}\" }} ]\n    \
             capacity: 100\n    heartbeat: {{ probe: http, interval: 200ms }}\n"
        ),
    );
    let holdline = &front.holdline;
    holdline.until_ready().await;
    let mut source = front.node("clients/eventsource_client.mjs", &[&front.url("http", "/events")]);
    source.expect("open 1").await;
    let fleet = holdline.fleet().await;
    let holder =
        fleet["backends"].as_array().unwrap().iter().find(|b| b["sessions"] == 1).unwrap()["id"].as_str().unwrap().to_owned();

    let (status, plan) =
        client::http("POST", holdline.admin, &format!("/v1/fleets/feed/backends/{holder}/drain"), Some(json!({ "over": "1s" })))
            .await;
    assert!(status < 300, "{plan}");
    source.expect("open 2").await;
    // A room is a backend's own, and a plain request goes to the emptier one: so the word is said at each.
    let said = async {
        loop {
            for backend in holdline.fleet().await["backends"].as_array().unwrap().iter().filter(|b| b["phase"] == "ready") {
                let url = format!("http://{}/say", backend["address"].as_str().unwrap());
                let curl = Command::new("curl").args(["-sS", "-d", "goodbye", &url]).status().await.unwrap();
                assert!(curl.success());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = source.succeed() => {}
        () = said => {}
    }
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "cause=\"drained\"").await, 1.0);
}

each_way!(eventsource_is_moved: node_eventsource_hears_is_moved_and_comes_back, node_eventsource_hears_is_moved_and_comes_back_over_tls);

/// What curl prints: the answer, head and all.
async fn curl(front: &Front, path: &str, more: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["-sS", "-i", "--max-time", "20", "--noproxy", "*"]).args(more).arg(front.url("http", path));
    if let Some(file) = front.authority() {
        command.arg("--cacert").arg(file);
    }
    String::from_utf8(command.output().await.unwrap().stdout).unwrap()
}

/// A server that says hello.
async fn hello() -> SocketAddr {
    raw(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n", After::Close).await
}

async fn curl_makes_requests(way: Way) {
    let backend = hello().await;
    let front = Front::start(
        way,
        &format!(
            "routes: [ {{ path: /app, fleet: web }} ]\nfleets:\n  web:\n    backends:\n      static: [ {{ address: \"{backend}\" }} ]\n    capacity: 1\n"
        ),
    );
    front.holdline.until_ready().await;
    let curl = |path: &'static str, more: &'static [&str]| curl(&front, path, more);
    let answer = curl("/app/x", &[]).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello\n"), "{answer}");
    let answer = curl("/elsewhere", &[]).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let answer = curl("/app", &["-X", "POST", "-d", "body"]).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

each_way!(curl_makes_requests: curl_makes_plain_requests, curl_makes_plain_requests_over_tls);

/// Each poll is another process with another connection: the cookie alone says that they are one client.
async fn curl_polls_with_a_cookie_jar(way: Way) {
    let backend = hello().await;
    let front = Front::start(
        way,
        &format!(
            "routes: [ {{ path: /poll, fleet: web, sessions: true }} ]\nfleets:\n  web:\n    affinity: {{ by: cookie }}\n    \
             backends:\n      static: [ {{ address: \"{backend}\" }} ]\n    capacity: 2\n"
        ),
    );
    front.holdline.until_ready().await;
    let dir = TestDir::new();
    let session = async |jar: &str, more: &[&str]| {
        let file = dir.path().join(jar);
        let file = file.to_str().unwrap();
        let answer = curl(&front, "/poll", &[&["-b", file, "-c", file], more].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer.lines().find_map(|l| l.strip_prefix("holdline-session: ")).unwrap().to_owned()
    };
    let (first, other) = (session("first", &[]).await, session("other", &[]).await);
    assert_ne!(first, other);
    assert_eq!(session("first", &["-d", "news"]).await, first);
    assert_eq!((session("other", &[]).await, session("first", &[]).await), (other, first));
    assert_eq!(front.holdline.fleet().await["sessions"], 2);
}

each_way!(curl_polls_with_a_cookie_jar: curl_with_a_cookie_jar_is_one_session, curl_with_a_cookie_jar_is_one_session_over_tls);
