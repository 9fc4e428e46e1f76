//! The client of the admin API.

use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::failure::Failure;
use crate::admin::api::{ProblemBody, StatusBody};

/// Connect timeout; the admin API is on this machine or near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout of a whole response, or of the head of a stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Limit of a response body: 10,000 sessions are about 3 MiB.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// A response, raw and parsed. JSON output prints `raw`: a newer server may send more fields.
pub(super) struct Reply<T> {
    pub(super) raw: Value,
    pub(super) body: T,
}

/// A client of one admin API.
pub(super) struct Client {
    admin: String,
    authority: Authority,
    http: HttpClient<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// A client of the API at `admin`: `http://HOST:PORT`, the scheme may be left out.
    pub(super) fn new(admin: &str) -> Result<Self, Failure> {
        let authority = authority(admin).ok_or_else(|| {
            Failure::Usage(format!("`{admin}` is not an admin URL; expected one such as http://127.0.0.1:9900"))
        })?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        Ok(Client { admin: admin.into(), authority, http: HttpClient::builder(TokioExecutor::new()).build(connector) })
    }

    pub(super) async fn status(&self) -> Result<Reply<StatusBody>, Failure> {
        self.get("/v1/status").await
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Reply<T>, Failure> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// One call, with its whole response.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Reply<T>, Failure> {
        let whole = async {
            let response = self.send(self.request(method, path, body)?).await?;
            self.read(response).await
        };
        let bytes = tokio::time::timeout(ANSWER_TIMEOUT, whole).await.unwrap_or_else(|_| Err(self.too_late()))?;
        let raw: Value = serde_json::from_slice(&bytes).map_err(|e| self.not_holdline(&e.to_string()))?;
        let body = T::deserialize(&raw).map_err(|e| self.not_holdline(&e.to_string()))?;
        Ok(Reply { raw, body })
    }

    /// A streamed response; the caller reads its body.
    pub(super) async fn stream(&self, path: &str, last_event_id: u64) -> Result<Response<Incoming>, Failure> {
        let mut request = self.request(Method::GET, path, None::<&()>)?;
        request.headers_mut().insert("last-event-id", last_event_id.into());
        let head = tokio::time::timeout(ANSWER_TIMEOUT, self.send(request)).await;
        head.unwrap_or_else(|_| Err(self.too_late()))
    }

    /// The connection failed or was closed.
    pub(super) fn no_answer(&self, why: impl Into<String>) -> Failure {
        Failure::NoAnswer { admin: self.admin.clone(), why: why.into() }
    }

    fn request(&self, method: Method, path: &str, body: Option<&impl Serialize>) -> Result<Request<Full<Bytes>>, Failure> {
        let bad = |e: &dyn std::fmt::Display| Failure::Usage(format!("cannot request {path}: {e}"));
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone()).path_and_query(path);
        let builder = Request::builder().method(method).uri(uri.build().map_err(|e| bad(&e))?);
        let json = body.map(serde_json::to_vec).transpose().map_err(|e| bad(&e))?;
        match json {
            None => builder.body(Full::default()),
            Some(json) => builder.header(header::CONTENT_TYPE, "application/json").body(Full::new(json.into())),
        }
        .map_err(|e| bad(&e))
    }

    /// The response, if it is a success; a problem becomes a failure.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let response = self.http.request(request).await.map_err(|e| self.no_answer(root_cause(&e)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = self.read(response).await?;
        let problem: ProblemBody = serde_json::from_slice(&bytes).map_err(|_| self.not_holdline(&status.to_string()))?;
        let text = if problem.detail.is_empty() { problem.title } else { problem.detail };
        Err(match status {
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Failure::Usage(text),
            _ => Failure::Failed(text),
        })
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, Failure> {
        let collected = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        Ok(collected.map_err(|e| self.no_answer(format!("the response was truncated: {e}")))?.to_bytes())
    }

    fn too_late(&self) -> Failure {
        self.no_answer(format!("timed out after {} s", ANSWER_TIMEOUT.as_secs()))
    }

    fn not_holdline(&self, got: &str) -> Failure {
        let admin = &self.admin;
        Failure::Failed(format!(
            "the server at {admin} is not a Holdline admin API of a compatible version ({got}); check --admin"
        ))
    }
}

fn authority(admin: &str) -> Option<Authority> {
    let rest = admin.strip_prefix("http://").unwrap_or(admin);
    let authority: Authority = rest.strip_suffix('/').unwrap_or(rest).parse().ok()?;
    (!authority.host().is_empty() && !authority.as_str().contains('@')).then_some(authority)
}

/// The last error of the chain: the one that names the system's reason.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// `text` as one path segment or query value (RFC 3986 section 2.3: only unreserved characters stay).
pub(super) fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_urls() {
        for good in ["http://127.0.0.1:9900", "http://127.0.0.1:9900/", "localhost:9900", "http://[::1]:9900"] {
            assert!(authority(good).is_some(), "{good}");
        }
        for bad in ["", "http://", "https://localhost:9900", "http://localhost:9900/v1", "http://a b", "http://me@localhost"] {
            assert!(authority(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn ids_become_one_segment() {
        assert_eq!(encode("10.0.0.7:9001"), "10.0.0.7%3A9001");
        assert_eq!(encode("a/b ?é"), "a%2Fb%20%3F%C3%A9");
    }
}
