//! Whole connections over sockets, with tokio-rustls at the other end.

use std::time::Duration;

use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::config::model::BackendTls;
use crate::net::tls::*;

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it happens soon")
}

struct Rig {
    authority: Authority,
    server: Arc<ServerConfig>,
}

impl Rig {
    fn new() -> Self {
        let authority = Authority::new();
        let mut server = authority.server(&authority.sign(&["x.test"]));
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        Rig { server: Arc::new(server), authority }
    }

    /// A client of tokio-rustls and our server's side of it, after the handshake and a first byte.
    async fn connect(&self, config: Arc<ClientConfig>) -> (TlsStream<TcpStream>, Stream) {
        let (client, server) = pair().await;
        let mut server = Stream::server(server, Arc::clone(&self.server)).unwrap();
        let connect = async {
            let mut client = TlsConnector::from(config).connect(name("x.test"), client).await.unwrap();
            client.write_all(b"!").await.unwrap();
            client
        };
        let (client, byte) = soon(async { tokio::join!(connect, server.read_u8()) }).await;
        assert_eq!(byte.unwrap(), b'!');
        (client, server)
    }

    async fn connected(&self, version: &'static SupportedProtocolVersion) -> (TlsStream<TcpStream>, Stream) {
        self.connect(Arc::new(self.authority.client(version))).await
    }
}

#[tokio::test]
async fn much_goes_both_ways_at_once() {
    let rig = Rig::new();
    for version in VERSIONS {
        let (client, server) = rig.connected(version).await;
        let said: Vec<u8> = (0..1_000_000u32).map(|n| (n * 7) as u8).collect();
        let one = exchange(client, &said);
        let other = exchange(server, &said);
        let (one, other) = soon(async { tokio::join!(one, other) }).await;
        assert!(one == said && other == said);
    }
}

/// Writes all of `said` while it reads to the end.
async fn exchange(stream: impl AsyncRead + AsyncWrite, said: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut heard = Vec::new();
    let writing = async {
        write.write_all(said).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let (read, ()) = tokio::join!(read.read_to_end(&mut heard), writing);
    read.unwrap();
    heard
}

#[tokio::test]
async fn it_is_at_rest_when_not_a_byte_waits_in_it() {
    let rig = Rig::new();
    for version in VERSIONS {
        let (client, server) = pair().await;
        assert!(!Stream::server(server, Arc::clone(&rig.server)).unwrap().is_at_rest(), "before its handshake");
        drop(client);
        let (mut client, mut server) = rig.connected(version).await;
        assert!(server.is_at_rest());
        client.write_all(b"two").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b't');
        assert!(!server.is_at_rest(), "plaintext was not read");
        server.read_exact(&mut [0; 2]).await.unwrap();
        assert!(server.is_at_rest());
        // The beginning of a record.
        client.get_mut().0.write_all(&[23, 3, 3]).await.unwrap();
        let begun = poll_fn(|cx| {
            let read = Pin::new(&mut server).poll_read(cx, &mut ReadBuf::new(&mut [0]));
            assert!(read.is_pending());
            if server.is_at_rest() { Poll::Pending } else { Poll::Ready(()) }
        });
        soon(begun).await;
    }
}

#[tokio::test]
async fn an_end_without_close_notify_is_torn_and_one_with_it_is_not() {
    let rig = Rig::new();
    for version in VERSIONS {
        let (mut client, mut server) = rig.connected(version).await;
        client.write_all(b"all of it").await.unwrap();
        client.get_mut().0.shutdown().await.unwrap();
        let mut heard = Vec::new();
        assert_eq!(server.read_to_end(&mut heard).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(heard, b"all of it");

        let (mut client, mut server) = rig.connected(version).await;
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        // Ours is heard by the client as well.
        server.write_all(b"still here").await.unwrap();
        server.shutdown().await.unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"still here");
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_holds_one_record_and_loses_nothing() {
    let rig = Rig::new();
    let (mut client, mut server) = rig.connected(&TLS13).await;
    let said = vec![9; 200_000];
    // Until a write is pending: the kernel is full.
    let mut taken = 0;
    loop {
        let write = poll_fn(|cx| Poll::Ready(Pin::new(&mut server).poll_write(cx, &said)));
        match tokio::task::unconstrained(write).await {
            Poll::Ready(n) => taken += n.unwrap(),
            Poll::Pending => break,
        }
    }
    let unsent = server.unsent.as_ref().unwrap();
    assert!(unsent.owed > 0 && unsent.bytes.len() <= OUTPUT_MAX);
    // Reading goes on meanwhile.
    client.write_all(b"heard").await.unwrap();
    client.flush().await.unwrap();
    let mut heard = [0; 5];
    soon(server.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"heard");
    let writing = async {
        taken += server.write(&said).await.unwrap();
        server.shutdown().await.unwrap();
        taken
    };
    let mut all = Vec::new();
    let (taken, read) = soon(async { tokio::join!(writing, client.read_to_end(&mut all)) }).await;
    read.unwrap();
    assert_eq!(all.len(), taken);
    assert!(server.unsent.is_none());
}

#[tokio::test]
async fn a_client_that_comes_back_resumes() {
    let rig = Rig::new();
    for version in VERSIONS {
        let mut config = rig.authority.client(version);
        config.resumption = rustls::client::Resumption::in_memory_sessions(4);
        let config = Arc::new(config);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let (mut client, mut server) = rig.connect(Arc::clone(&config)).await;
            // A ticket comes before the first bytes.
            server.write_all(b"?").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'?');
            assert_eq!(client.get_ref().1.handshake_kind(), Some(kind), "{version:?}");
        }
    }
}

#[tokio::test]
async fn an_idle_connection_owns_no_buffer() {
    let rig = Rig::new();
    for version in VERSIONS {
        let (mut client, mut server) = rig.connected(version).await;
        client.write_all(&[1; 50_000]).await.unwrap();
        server.read_exact(&mut [0; 50_000]).await.unwrap();
        server.write_all(&[1; 50_000]).await.unwrap();
        assert!(server.unsent.is_none() && !server.records.holds_any());
    }
}

fn connector(dir: &Dir, ca: &str, name: Option<&str>) -> Arc<Connector> {
    let ca = dir.write("ca.crt", ca);
    super::store::connector(BackendTls { ca: Some(ca), name: name.map(str::to_owned) })
}

async fn dial(server: &Arc<ServerConfig>, connector: &Connector) -> io::Result<u8> {
    let (client, accepted) = pair().await;
    let serve = async {
        let mut stream = TlsAcceptor::from(Arc::clone(server)).accept(accepted).await?;
        stream.write_all(b"!").await?;
        let mut end = Vec::new();
        stream.read_to_end(&mut end).await
    };
    let call = async {
        let mut stream = Stream::client(client, connector).await?;
        let byte = stream.read_u8().await;
        stream.shutdown().await?;
        byte
    };
    soon(async { tokio::join!(serve, call).1 }).await
}

#[tokio::test]
async fn a_backend_is_believed_for_its_name_or_its_address_by_its_authority() {
    let (dir, authority) = (Dir::new("backend"), Authority::new());
    let named = Arc::new(authority.server(&authority.sign(&["backend.internal"])));
    let addressed = Arc::new(authority.server(&authority.sign(&["127.0.0.1"])));
    let own = |name| connector(&dir, &authority.pem, name);
    assert_eq!(dial(&named, &own(Some("backend.internal"))).await.unwrap(), b'!');
    assert_eq!(dial(&addressed, &own(None)).await.unwrap(), b'!');
    let foreign = connector(&dir, &Authority::new().pem, Some("backend.internal"));
    for (server, connector) in [(&named, own(None)), (&addressed, own(Some("backend.internal"))), (&named, foreign)] {
        let error = dial(server, &connector).await.unwrap_err();
        assert!(is_about_tls(&error), "{error}");
    }
}
