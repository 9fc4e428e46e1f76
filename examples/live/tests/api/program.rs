//! The program itself: `live api` with a database of its own, and what one asks it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// Longer than anything here takes; a test that meets it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running api, killed when it is dropped.
pub(crate) struct Api {
    child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) internal: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Null without a body.
    pub(crate) body: Value,
}

impl Answer {
    /// The problem's kind, with its status; it is one.
    pub(crate) fn problem(&self) -> (u16, &str) {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.body);
        assert_eq!(self.body["status"], self.status);
        assert!(self.body["title"].is_string() && self.body["detail"].is_string(), "{}", self.body);
        (self.status, self.body["type"].as_str().unwrap().strip_prefix("urn:live:problem:").unwrap())
    }
}

pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_live"));
    command.arg("api").args(args);
    command
}

impl Api {
    pub(crate) fn start(db: &Path, more: &[&str]) -> Api {
        let mut command = command(&["--port", "0", "--internal", "0", "--db", db.to_str().unwrap(), "--room", "r:strong"]);
        let mut child = command.args(more).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (public, internal) = line.trim().strip_prefix("listens on ").unwrap().split_once(", for nodes on ").unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        Api { child, public: public.parse().unwrap(), internal: internal.parse().unwrap(), client }
    }

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// How it ends by itself.
    pub(crate) fn exit(mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    /// As a crash does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        self.try_ask(self.public, method, path, headers, body.into()).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], "").await
    }

    pub(crate) async fn internal(&self, method: Method, path: &str, body: &str) -> Answer {
        self.try_ask(self.internal, method, path, &[], Bytes::from(body.to_owned())).await.unwrap()
    }

    /// Writes a comment into the room `r`.
    pub(crate) async fn write(&self, user: &str, text: &str) -> Answer {
        let body = serde_json::json!({ "user": user, "text": text }).to_string();
        self.ask(Method::POST, "/api/rooms/r/comments", &[], body).await
    }

    /// `None`: the connection broke.
    pub(crate) async fn try_ask(
        &self,
        at: SocketAddr,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(format!("http://{at}{path}"));
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.client.request(request.body(Full::from(body)).unwrap());
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("an answer").ok()?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap_or(Value::Null) };
        Some(Answer { status, headers, body })
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
