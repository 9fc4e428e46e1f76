//! TLS on both sides of `holdline run`: sessions, requests, drains, certificates that change, backends that are not what they should be.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::backend::{self, After, Backend};
use crate::support::holdline::{Holdline, run_to_failure};
use crate::support::{TestDir, soon};

/// An authority, and files for Holdline.
pub(crate) struct Certificates {
    dir: TestDir,
    issuer: Issuer<'static, KeyPair>,
    authority: CertificateDer<'static>,
}

impl Certificates {
    /// With `ca.crt`, and `tls.crt` and `tls.key` for localhost.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "Holdline tests");
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        let dir = TestDir::new();
        std::fs::write(dir.path().join("ca.crt"), cert.pem()).unwrap();
        let certificates = Certificates { dir, issuer: Issuer::new(params, key), authority: cert.der().clone() };
        certificates.write("tls", &["localhost", "127.0.0.1"]);
        certificates
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `name.crt` and `name.key`.
    pub(crate) fn write(&self, name: &str, names: &[&str]) {
        let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        for (end, text) in [("key", key.serialize_pem()), ("crt", cert.pem())] {
            let new = self.path(&format!("{name}.{end}.new"));
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, self.path(&format!("{name}.{end}"))).unwrap();
        }
    }

    fn der(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path(&format!("{name}.crt"))).unwrap()
    }

    /// The `listeners` of a configuration.
    pub(crate) fn listeners(&self) -> String {
        let (cert, key) = (self.path("tls.crt"), self.path("tls.key"));
        format!(
            "listeners: [ {{ address: \"127.0.0.1:0\", tls: {{ certificates: [ {{ cert: {}, key: {} }} ] }} }} ]\n",
            cert.display(),
            key.display()
        )
    }

    /// What clients believe.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    }

    async fn connect(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        self.connect_over(TcpStream::connect(address).await.unwrap()).await
    }

    /// The client's side of TLS over a connection on which something else may have been said.
    pub(crate) async fn connect_over(&self, stream: TcpStream) -> TlsStream<TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        soon("a TLS handshake", TlsConnector::from(self.client()).connect(name, stream)).await.unwrap()
    }

    async fn websocket(&self, address: SocketAddr) -> (WebSocketStream<TlsStream<TcpStream>>, http::HeaderMap) {
        let request = format!("wss://localhost:{}/", address.port()).into_client_request().unwrap();
        let handshake = tokio_tungstenite::client_async(request, self.connect(address).await);
        let (socket, answer) = soon("a WebSocket handshake", handshake).await.unwrap();
        (socket, answer.headers().clone())
    }

    pub(crate) fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![self.der(name)], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

fn fleet(backend: SocketAddr, more: &str) -> String {
    format!("fleets:\n  chat:\n    backends: {{ static: [ {{ id: a, address: \"{backend}\" }} ] }}\n    capacity: 10\n{more}")
}

/// Holdline with a certificate, before a server that echoes.
async fn served() -> (Holdline, Certificates) {
    let (backend, certificates) = (Backend::start().await, Certificates::new());
    let holdline = Holdline::start(&(certificates.listeners() + &fleet(backend.address, "")));
    holdline.until_ready().await;
    (holdline, certificates)
}

async fn echo<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
    assert_eq!(soon("an echo", socket.next()).await.unwrap().unwrap(), Message::text(text));
}

#[tokio::test]
async fn a_websocket_talks_and_is_drained_with_a_close_and_a_close_notify() {
    // Two, so that there is somewhere to go.
    let (backend, other, certificates) = (Backend::start().await, Backend::start().await, Certificates::new());
    let fleet = format!(
        "fleets:\n  chat:\n    backends: {{ static: [ {{ id: a, address: \"{}\", capacity: 10 }}, {{ id: b, address: \"{}\", capacity: 10 }} ] }}\n    \
         affinity: {{ by: cookie }}\n",
        backend.address, other.address
    );
    let holdline = Holdline::start(&(certificates.listeners() + &fleet));
    holdline.until_ready().await;
    let (mut socket, headers) = certificates.websocket(holdline.address).await;
    let cookie = headers["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("; Secure"), "{cookie}");
    for size in [0, 1, 126, 70_000, 1_000_000] {
        echo(&mut socket, &"x".repeat(size)).await;
    }
    let own = if backend.sessions() == 1 { "a" } else { "b" };
    let (path, body) = (format!("/v1/fleets/chat/backends/{own}/drain"), Some(json!({ "over": "1s" })));
    let (status, answer) = crate::support::client::http("POST", holdline.admin, &path, body).await;
    assert_eq!(status, 200, "{answer}");
    let Some(Ok(Message::Close(Some(close)))) = soon("a Close", socket.next()).await else { panic!("no Close") };
    assert_eq!(u16::from(close.code), 1012);
    // tungstenite answers; the end that follows is the clean one, or it would be an error.
    assert!(soon("the end", socket.next()).await.is_none());
    let mut rest = Vec::new();
    soon("the end below", socket.get_mut().read_to_end(&mut rest)).await.unwrap();
    holdline.until("it left", |fleet| fleet["backends"].as_array().unwrap().iter().all(|b| b["sessions"] == 0)).await;
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "cause=\"drained\"").await, 1.0);
}

#[tokio::test]
async fn an_end_without_close_notify_is_a_lost_client() {
    let (holdline, certificates) = served().await;
    let (mut socket, _) = certificates.websocket(holdline.address).await;
    echo(&mut socket, "here").await;
    socket.get_mut().get_mut().0.shutdown().await.unwrap();
    holdline.until("it is gone", |fleet| fleet["backends"][0]["sessions"] == 0).await;
    assert_eq!(holdline.metric("holdline_sessions_ended_total", "cause=\"client_lost\"").await, 1.0);
}

#[tokio::test]
async fn a_certificate_that_changes_is_shown_to_new_clients_and_harms_no_session() {
    let (holdline, certificates) = served().await;
    let (mut socket, _) = certificates.websocket(holdline.address).await;
    let shown = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_eq!(shown(socket.get_ref()), certificates.der("tls"));
    certificates.write("tls", &["localhost"]);
    soon("the new certificate", async {
        while shown(&certificates.connect(holdline.address).await) != certificates.der("tls") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    echo(&mut socket, "still here").await;
    std::fs::write(certificates.path("tls.crt"), "no certificate").unwrap();
    let line = holdline.log_line("changed TLS files cannot be used");
    assert!(line.to_string().contains("contains no certificate"), "{line}");
    assert_eq!(holdline.metric("holdline_tls_reloads_total", "result=\"failed\"").await, 1.0);
    echo(&mut certificates.websocket(holdline.address).await.0, "as before").await;
}

#[tokio::test]
async fn an_event_stream_and_a_plain_request_are_told_as_https() {
    let certificates = Certificates::new();
    let (seen, mut heads) = tokio::sync::mpsc::channel::<String>(8);
    let backend = teller(seen).await;
    let holdline = Holdline::start(&(certificates.listeners() + &fleet(backend, "")));
    holdline.until_ready().await;
    for (accept, expected) in [("text/event-stream", "data: one"), ("*/*", "hello")] {
        let mut stream = certificates.connect(holdline.address).await;
        let request = format!("GET /x HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A proper end, with a close_notify: anything else would be an error.
        soon("the answer", stream.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(expected), "{answer}");
        let head = heads.recv().await.unwrap().to_ascii_lowercase();
        assert!(head.contains("x-forwarded-proto: https"), "{head}");
    }
}

/// Answers one of two things to each request, and tells its head.
async fn teller(seen: tokio::sync::mpsc::Sender<String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let Some(head) = backend::read_head(&mut stream).await else { return };
                let head = String::from_utf8(head).unwrap();
                let answer = match head.contains("text/event-stream") {
                    true => "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: one\n\n",
                    false => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
                };
                let _ = seen.send(head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn curl_trusts_it_and_plain_text_is_answered_by_an_alert() {
    let certificates = Certificates::new();
    let backend = backend::raw(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n", After::Close).await;
    let holdline = Holdline::start(&(certificates.listeners() + &fleet(backend, "")));
    holdline.until_ready().await;
    for version in ["--tlsv1.3", "--tls-max=1.2"] {
        let url = format!("https://localhost:{}/", holdline.address.port());
        let mut command = tokio::process::Command::new("curl");
        command.args(["-sS", "--max-time", "20", "--noproxy", "*", "--cacert"]).arg(certificates.path("ca.crt"));
        let args: &[&str] = if version == "--tlsv1.3" { &["--tlsv1.3"] } else { &["--tls-max", "1.2"] };
        let output = command.args(args).arg(url).output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n", "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut plain = TcpStream::connect(holdline.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 7];
    soon("an alert", plain.read_exact(&mut answer)).await.unwrap();
    assert_eq!((answer[0], answer[5]), (21, 2));
    soon("it is counted", async {
        while holdline.metric("holdline_bad_input_total", "reason=\"tls\"").await < 1.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_has_idled_is_served_again() {
    let (holdline, certificates) = served().await;
    let mut client = certificates.connect(holdline.address).await;
    for _ in 0..3 {
        client.write_all(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon("an answer", client.read_u8()).await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 204 "), "{}", head.escape_ascii());
        // Longer than hyper is kept for it. Nothing shows from outside when it goes.
        tokio::time::sleep(Duration::from_millis(1300)).await;
    }
    client.shutdown().await.unwrap();
    assert_eq!(soon("its end", client.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_ended_by_the_head_timeout() {
    let certificates = Certificates::new();
    let backend = Backend::start().await;
    let limits = "limits: { head_timeout: 300ms }\n";
    let holdline = Holdline::start(&(certificates.listeners() + limits + &fleet(backend.address, "")));
    let mut slow = TcpStream::connect(holdline.address).await.unwrap();
    slow.write_all(&[22, 3, 1, 1, 0, 1]).await.unwrap();
    let mut rest = Vec::new();
    // By an end or a reset, but an end it has.
    let _ = soon("it ends", slow.read_to_end(&mut rest)).await;
}

/// A WebSocket echo server that speaks TLS, with a `/heartbeat` that is always ready.
async fn secure_backend(acceptor: TlsAcceptor) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let head = String::from_utf8(head).unwrap();
                if !head.to_ascii_lowercase().contains("upgrade: websocket") {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
                    let _ = stream.shutdown().await;
                    return;
                }
                let key =
                    head.lines().find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case("sec-websocket-key")));
                let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.unwrap().1.as_bytes());
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                let role = tokio_tungstenite::tungstenite::protocol::Role::Server;
                let mut socket = WebSocketStream::from_raw_socket(stream, role, None).await;
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn secure_fleet(backend: SocketAddr, ca: &Path, name: &str, probe: &str) -> String {
    format!(
        "fleets:\n  chat:\n    backends:\n      static: [ {{ id: a, address: \"{backend}\" }} ]\n      tls: {{ ca: {}{name} }}\n    \
         capacity: 10\n    heartbeat: {{ probe: {probe} }}\n",
        ca.display()
    )
}

#[tokio::test]
async fn backends_are_reached_over_tls_by_sessions_requests_and_probes() {
    let certificates = Certificates::new();
    certificates.write("backend", &["backend.internal"]);
    let backend = secure_backend(certificates.acceptor("backend")).await;
    let fleet = secure_fleet(backend, &certificates.path("ca.crt"), ", name: backend.internal", "http");
    let holdline = Holdline::start(&(certificates.listeners() + &fleet));
    holdline.until_ready().await;
    let (mut socket, _) = certificates.websocket(holdline.address).await;
    for size in [1, 1_000, 200_000] {
        echo(&mut socket, &"z".repeat(size)).await;
    }
    let mut stream = certificates.connect(holdline.address).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = soon("the end", socket.next()).await {}
    holdline.until("it left", |fleet| fleet["backends"][0]["sessions"] == 0).await;
}

#[tokio::test]
async fn a_backend_with_another_name_or_authority_gets_no_session() {
    let (certificates, foreign) = (Certificates::new(), Certificates::new());
    certificates.write("backend", &["backend.internal"]);
    let backend = secure_backend(certificates.acceptor("backend")).await;
    for (ca, name) in [(&certificates, ", name: other.internal"), (&certificates, ""), (&foreign, ", name: backend.internal")] {
        let holdline = Holdline::start(&secure_fleet(backend, &ca.path("ca.crt"), name, "tcp"));
        holdline.until_ready().await;
        let error = crate::support::client::websocket(holdline.address, "/").await.unwrap_err();
        assert_eq!(crate::support::client::refusal(&error), (502, "backend_unreachable".to_owned()));
        let line = holdline.log_line("TLS with the backend fails");
        assert!(line.to_string().contains("invalid peer certificate"), "{line}");
        assert!(holdline.metric("holdline_bad_input_total", "reason=\"backend_tls\"").await >= 1.0);
    }
}

#[tokio::test]
async fn a_key_that_does_not_fit_keeps_it_from_starting() {
    let (certificates, backend) = (Certificates::new(), Backend::start().await);
    let other = KeyPair::generate().unwrap();
    std::fs::write(certificates.path("tls.key"), other.serialize_pem()).unwrap();
    let (status, error) = run_to_failure(&(certificates.listeners() + &fleet(backend.address, "")));
    assert_eq!(status, 2);
    assert!(error.contains("holdline.yaml:3: ") && error.contains("does not match the first certificate"), "{error}");
}
