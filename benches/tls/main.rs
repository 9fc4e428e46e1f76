//! What a record of TLS costs beside the system call that carries it: `cargo bench --bench tls`. Both ends are Holdline's own, as between a
//! client's side and a backend's.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use holdline::config::tls::provider;
use holdline::net::tls::{Engine, OUTPUT_MAX, Output, Records};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::ReadBuf;

/// What a thread reads into.
const READ: usize = 16 << 10;

/// Two ends that have shaken hands.
struct Pair {
    server: Records,
    client: Records,
    output: Vec<u8>,
    sealed: Vec<u8>,
    plain: Vec<u8>,
}

impl Pair {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let name = ServerName::try_from("x.test").unwrap();
        let (server, client) = configs(version);
        let mut pair = Pair {
            server: Records::new(Engine::Server(UnbufferedServerConnection::new(Arc::new(server)).unwrap())),
            client: Records::new(Engine::Client(UnbufferedClientConnection::new(Arc::new(client), name).unwrap())),
            output: vec![0; OUTPUT_MAX],
            sealed: Vec::new(),
            plain: vec![0; READ],
        };
        let mut out = Output::new(&mut pair.output);
        pair.client.begin(&mut out).unwrap();
        let mut flight = out.pieces().concat();
        for turn in 0.. {
            let to = if turn % 2 == 0 { &mut pair.server } else { &mut pair.client };
            let mut out = Output::new(&mut pair.output);
            to.receive(&mut flight, Some(&mut ReadBuf::new(&mut pair.plain)), &mut out).unwrap();
            flight = out.pieces().concat();
            if flight.is_empty() {
                break;
            }
        }
        assert!(!pair.server.is_handshaking() && !pair.client.is_handshaking());
        pair
    }

    /// From the server, as what a backend says goes to a client.
    fn seal(&mut self, plain: &[u8]) {
        let mut out = Output::new(&mut self.output);
        let n = self.server.seal(plain, &mut out).unwrap();
        assert_eq!(n, plain.len());
        // What a socket would copy.
        self.sealed.clear();
        self.sealed.extend_from_slice(out.pieces()[1]);
    }

    fn open(&mut self) -> usize {
        let mut to = ReadBuf::new(&mut self.plain);
        self.client.receive(&mut self.sealed, Some(&mut to), &mut Output::new(&mut self.output)).unwrap();
        to.filled().len()
    }
}

/// P-256, as in the figures of docs/decisions/0009-tls-unbuffered.md.
fn configs(version: &'static SupportedProtocolVersion) -> (ServerConfig, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["x.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let cert: CertificateDer<'static> = made.cert.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(cert.clone()).unwrap();
    let server = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    let client = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
    (
        server.with_no_client_auth().with_single_cert(vec![cert], key).unwrap(),
        client.with_root_certificates(roots).with_no_client_auth(),
    )
}

fn tls_record(c: &mut Criterion) {
    let mut group = c.benchmark_group("tls_record");
    for (name, version) in [("TLS 1.3", &TLS13), ("TLS 1.2", &TLS12)] {
        for len in [128, READ] {
            let plain = vec![0x5a; len];
            let mut pair = Pair::new(version);
            group.throughput(Throughput::Bytes(len as u64));
            group.bench_function(format!("{name}, seal and open {len} bytes"), |b| {
                b.iter(|| {
                    pair.seal(black_box(&plain));
                    assert_eq!(pair.open(), len);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(all, tls_record);
criterion_main!(all);
