//! Real `live api` and `live node` processes, and what one asks them.

use std::path::Path;
use std::process::Command;

use axum::body::Bytes;
use axum::http::header::RETRY_AFTER;
use axum::http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::server::Server;

/// One of them.
pub(crate) struct Live {
    _server: Server,
    client: Client<HttpConnector, Full<Bytes>>,
    /// Where clients ask, host and port.
    public: String,
    /// Of an api: where nodes ask.
    pub(crate) internal: String,
}

impl Live {
    pub(crate) fn api(dir: &Path, queue: &str, window: u64) -> Live {
        let mut command = Command::new(env!("CARGO_BIN_EXE_live"));
        command.args(["api", "--port", "0", "--internal", "0", "--db"]).arg(dir.join("live.db"));
        command.args(["--queue", queue, "--window", &window.to_string()]);
        command.args(["--room", "lobby:strong", "--room", "stage:strong", "--room", "bar:strong"]);
        Live::start(command)
    }

    #[cfg(any(feature = "redis", feature = "postgres"))]
    pub(crate) fn node(api: &Live, queue: &str) -> Live {
        let mut command = Command::new(env!("CARGO_BIN_EXE_live"));
        command.args(["node", "--port", "0", "--queue", queue, "--api", &format!("http://{}", api.internal)]);
        Live::start(command)
    }

    fn start(command: Command) -> Live {
        let (server, said) = Server::start(command, "listens on", Signal::KILL);
        let addresses = said.lines().find_map(|line| line.strip_prefix("listens on ")).unwrap();
        let (public, internal) = addresses.split_once(", for nodes on ").unwrap_or((addresses, ""));
        let client = Client::builder(TokioExecutor::new()).build_http();
        Live { _server: server, client, public: public.to_owned(), internal: internal.to_owned() }
    }

    /// The answer to a new comment. A refusal says when to come again.
    pub(crate) async fn comment(&self, room: &str, text: &str) -> (StatusCode, Value) {
        let body = json!({ "user": "ann", "text": text }).to_string();
        self.call(Method::POST, &format!("/api/rooms/{room}/comments"), body).await
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: String) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(format!("http://{}{path}", self.public));
        let request = request.header("Content-Type", "application/json").body(Full::new(body.into())).unwrap();
        let answer = self.client.request(request).await.unwrap();
        let status = answer.status();
        assert!(status != StatusCode::SERVICE_UNAVAILABLE || answer.headers().contains_key(RETRY_AFTER));
        (status, serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap())
    }
}
