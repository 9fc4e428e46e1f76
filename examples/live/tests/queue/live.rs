//! A real `live api`, and a client for its mutations.

use std::path::Path;
use std::process::Command;

use axum::body::Bytes;
use axum::http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustix::process::Signal;
use serde_json::Value;

use crate::server::Server;

pub(crate) struct Api {
    pub(crate) server: Server,
    client: Client<HttpConnector, Full<Bytes>>,
    /// For clients.
    public: String,
    /// For nodes.
    pub(crate) internal: String,
}

impl Api {
    pub(crate) fn start(dir: &Path, queue: &str, window: u64) -> Api {
        let mut command = Command::new(env!("CARGO_BIN_EXE_live"));
        command.args(["api", "--port", "0", "--internal", "0", "--db"]).arg(dir.join("live.db"));
        command.args(["--queue", queue, "--window", &window.to_string()]);
        command.args(["--room", "lobby:strong", "--room", "stage:strong", "--room", "bar:strong"]);
        let (server, said) = Server::start(command, "listens on", Signal::KILL);
        let addresses = said.lines().find_map(|line| line.strip_prefix("listens on ")).unwrap();
        let (public, internal) = addresses.split_once(", for nodes on ").unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        Api { server, client, public: public.to_owned(), internal: internal.to_owned() }
    }

    /// The answer to a new comment.
    pub(crate) async fn comment(&self, room: &str, text: &str) -> (StatusCode, Value) {
        let body = serde_json::json!({ "user": "ann", "text": text });
        self.call(Method::POST, &format!("/api/rooms/{room}/comments"), body.to_string()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, String::new()).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    async fn call(&self, method: Method, path: &str, body: String) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(format!("http://{}{path}", self.public));
        let request = request.header("Content-Type", "application/json").body(Full::new(body.into())).unwrap();
        let answer = self.client.request(request).await.unwrap();
        let status = answer.status();
        (status, serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap())
    }
}
