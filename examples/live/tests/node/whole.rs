//! With the real api: what is written over HTTP is heard from a node.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::double::bound;
use crate::support::{Node, hear, seqs, until};

/// `live api` with a room of each kind, in a directory of its own.
struct Api {
    child: Child,
    public: SocketAddr,
    internal: SocketAddr,
    /// Keeps the internal port while no api is there.
    _place: TcpSocket,
    dir: tempfile::TempDir,
}

impl Api {
    fn start() -> Api {
        let dir = tempfile::tempdir().unwrap();
        let place = bound(SocketAddr::from(([127, 0, 0, 1], 0)));
        let internal = place.local_addr().unwrap();
        let (child, public) = Api::run(&dir, internal);
        Api { child, public, internal, _place: place, dir }
    }

    fn run(dir: &tempfile::TempDir, internal: SocketAddr) -> (Child, SocketAddr) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_live"));
        let internal = internal.port().to_string();
        command.args([
            "api",
            "--port",
            "0",
            "--internal",
            &internal,
            "--room",
            "strong:strong",
            "--room",
            "eventual:eventual:30",
        ]);
        let mut child = command.arg("--db").arg(dir.path().join("live.db")).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (public, _) = line.trim().strip_prefix("listens on ").unwrap().split_once(", for nodes on ").unwrap();
        (child, public.parse().unwrap())
    }

    /// SIGKILL, and another one in its place.
    fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        (self.child, self.public) = Api::run(&self.dir, self.internal);
    }

    fn for_nodes(&self) -> String {
        format!("http://{}", self.internal)
    }

    async fn comment(&self, room: &str, text: &str) {
        let mut stream = TcpStream::connect(self.public).await.unwrap();
        let body = json!({ "user": "ann", "text": text }).to_string();
        let head =
            format!("POST /api/rooms/{room}/comments HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json");
        stream.write_all(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn what_is_written_is_heard_at_every_node_and_nothing_is_lost_when_the_api_is_killed() {
    let mut api = Api::start();
    for n in 0..300 {
        api.comment("strong", &n.to_string()).await;
    }
    let nodes = [Node::ready(&api.for_nodes(), &["--name", "a"]).await, Node::ready(&api.for_nodes(), &["--name", "b"]).await];
    let (mut one, hello) = nodes[0].joined("strong?after=0").await;
    assert_eq!((&hello["seq"], &hello["node"]), (&json!(300), &json!("a")));
    let (mut other, _) = nodes[1].joined("strong").await;
    let (mut elsewhere, _) = nodes[1].joined("eventual").await;
    assert_eq!(seqs(&mut one, 300).await, (1..=300).collect::<Vec<_>>());
    until("both are present", async || {
        let poll: Value = nodes[0].get("/live/poll/strong").await.1;
        (poll["presence"].as_u64() >= Some(2)).then_some(())
    })
    .await;

    api.comment("strong", "heard by both").await;
    api.comment("eventual", "heard elsewhere").await;
    let heard = hear(&mut one).await;
    assert_eq!((&heard["seq"], &heard["text"]), (&json!(301), &json!("heard by both")));
    assert_eq!((hear(&mut other).await, hear(&mut elsewhere).await["text"].clone()), (heard, json!("heard elsewhere")));

    api.restart();
    api.comment("strong", "after the kill").await;
    assert_eq!((seqs(&mut one, 1).await, seqs(&mut other, 1).await), (vec![302], vec![302]));
    assert_eq!(nodes[0].refused("unknown").await.0, 404);
    assert_eq!(nodes[0].refused("strong?after=303").await.0, 400);
}
