//! TLS without its socket, as clients and backends feed it: in any pieces, with anything in them.
//!
//! The first byte's bits 4 to 6 choose: whether bytes come raw or from rustls's own client, whether those are changed on their way, and the
//! version (raw: which side reads them). Raw bytes in pieces get the verdict that they get as a whole. A good client gets through and hears its
//! echo, whatever the pieces. Of a changed one nothing is read that it did not say, in its order.

#![no_main]

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use holdline::config::tls::provider;
use holdline::net::tls::{Engine, OUTPUT_MAX, Output, Records, TlsError};
use holdline_fuzz::Input;
use libfuzzer_sys::fuzz_target;
use rustls::client::{ClientConnection, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::ReadBuf;

/// More than is ever kept of a client's unfinished message: 20 KiB, and the last piece; of a server's it is 80 KiB.
const HELD_MAX: [usize; 2] = [20 << 10, 80 << 10];

/// Smaller than a record: the reader is full again and again.
const ROOM: usize = 100;

struct Configs {
    server: Arc<ServerConfig>,
    /// Of TLS 1.3 and 1.2.
    clients: [Arc<ClientConfig>; 2],
}

static CONFIGS: LazyLock<Configs> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["x.test".to_owned()]).unwrap();
    let cert: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![cert.clone()], key).unwrap();
    let clients = [&TLS13, &TLS12].map(|version| {
        let mut roots = RootCertStore::empty();
        roots.add(cert.clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
        let mut client = client.with_root_certificates(roots).with_no_client_auth();
        client.resumption = rustls::client::Resumption::disabled();
        Arc::new(client)
    });
    Configs { server: Arc::new(server), clients }
});

/// Our side, and what it sent and read.
struct Ours {
    records: Records,
    sent: Vec<u8>,
    read: Vec<u8>,
    failed: Option<String>,
    held_max: usize,
}

impl Ours {
    fn server() -> Self {
        Self::new(Engine::Server(UnbufferedServerConnection::new(Arc::clone(&CONFIGS.server)).unwrap()), HELD_MAX[0])
    }

    fn client() -> Self {
        let (config, name) = (Arc::clone(&CONFIGS.clients[0]), ServerName::try_from("x.test").unwrap());
        let mut ours = Self::new(Engine::Client(UnbufferedClientConnection::new(config, name).unwrap()), HELD_MAX[1]);
        ours.with_out(|records, out| records.begin(out)).unwrap();
        ours
    }

    fn new(engine: Engine, held_max: usize) -> Self {
        Ours { records: Records::new(engine), sent: Vec::new(), read: Vec::new(), failed: None, held_max }
    }

    fn with_out<T>(&mut self, f: impl FnOnce(&mut Records, &mut Output<'_>) -> T) -> T {
        let mut buffer = [0; OUTPUT_MAX];
        let mut out = Output::new(&mut buffer);
        let result = f(&mut self.records, &mut out);
        self.sent.extend(out.pieces().concat());
        result
    }

    /// One read of a socket, and all that comes of it.
    fn receive(&mut self, input: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        let mut buffer = [0; ROOM];
        let mut to = ReadBuf::new(&mut buffer);
        let mut result = self.with_out(|records, out| records.receive(&mut input.to_vec(), Some(&mut to), out));
        while result.is_ok() && !to.filled().is_empty() {
            self.read.extend_from_slice(to.filled());
            to.clear();
            result = self.with_out(|records, out| records.read_held(&mut to, out));
        }
        let held = self.records.held();
        assert!(held <= self.held_max + input.len(), "{held} bytes are held");
        if let Err(error) = result {
            self.failed = Some(error.to_string());
            self.has_failed_for_good();
        }
    }

    /// Nothing more is asked of rustls, and closing is no second failure.
    fn has_failed_for_good(&mut self) {
        assert!(self.with_out(|records, out| records.seal(b"more", out)).is_err());
        assert!(matches!(
            self.with_out(|records, out| records.receive(&mut [0], None, out)),
            Err(TlsError::Broken | TlsError::TooLong(_)) | Ok(())
        ));
        self.with_out(|records, out| records.close(out)).unwrap();
    }

    fn say(&mut self, mut plain: &[u8]) {
        while !plain.is_empty() {
            let n = self.with_out(|records, out| records.seal(plain, out)).unwrap();
            plain = &plain[n..];
        }
    }

    fn verdict(&self) -> (&Option<String>, bool, &[u8]) {
        (&self.failed, self.records.is_handshaking(), &self.read)
    }
}

fn flush(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// What the client makes of bytes of ours; `None`: it cannot go on.
fn hear(client: &mut ClientConnection, mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).ok()?;
        client.process_new_packets().ok()?;
        let _ = client.reader().read_to_end(&mut plain);
    }
    Some(plain)
}

/// A byte of the client's stream that is changed, or left out if it would not be.
struct Edit {
    at: usize,
    xor: u8,
}

/// Edits from the front of `bytes`, and what is left of these.
fn edits(bytes: &[u8]) -> (Vec<Edit>, &[u8]) {
    let Some((&count, rest)) = bytes.split_first() else { return (Vec::new(), bytes) };
    let (edits, rest) = rest.split_at(rest.len().min(3 * usize::from(1 + count % 4)));
    let edits = edits.chunks_exact(3).map(|e| Edit { at: usize::from(u16::from_be_bytes([e[0], e[1]])), xor: e[2] });
    (edits.collect(), rest)
}

/// The client's bytes from `at` of its stream on.
fn changed(bytes: Vec<u8>, at: usize, edits: &[Edit]) -> Vec<u8> {
    let edit = |n: usize| edits.iter().find(|e| e.at == n);
    let kept = bytes.into_iter().enumerate().filter_map(|(n, byte)| match edit(at + n) {
        None => Some(byte),
        Some(edit) => (edit.xor != 0).then_some(byte ^ edit.xor),
    });
    kept.collect()
}

fn converse(input: &Input<'_>, version: usize, edits: &[Edit], said: &[u8]) {
    let name = ServerName::try_from("x.test").unwrap();
    let mut client = ClientConnection::new(Arc::clone(&CONFIGS.clients[version]), name).unwrap();
    client.set_buffer_limit(None);
    let mut ours = Ours::server();
    let (mut at, mut has_spoken, mut heard) = (0, false, Vec::new());
    let twice = if input.flag { said.repeat(2) } else { said.to_vec() };
    loop {
        if !client.is_handshaking() && !has_spoken {
            has_spoken = true;
            client.writer().write_all(said).unwrap();
            if input.flag {
                // A KeyUpdate between two messages; TLS 1.2 has none.
                let _ = client.refresh_traffic_keys();
                client.writer().write_all(said).unwrap();
            }
            client.send_close_notify();
        }
        let flight = flush(&mut client);
        if flight.is_empty() {
            break;
        }
        let sent = flight.len();
        input.cut(&changed(flight, at, edits), |piece| ours.receive(piece));
        at += sent;
        match hear(&mut client, &std::mem::take(&mut ours.sent)) {
            Some(plain) => heard.extend(plain),
            None => break,
        }
    }
    assert!(twice.starts_with(&ours.read), "something else was read than was said");
    if edits.iter().all(|e| e.at >= at) {
        assert_eq!(ours.failed, None);
        assert!(ours.read == twice && ours.records.is_at_end() && ours.records.held() == 0);
        // The other direction is open until we close it.
        ours.say(&twice);
        ours.with_out(|records, out| records.close(out)).unwrap();
        heard.extend(hear(&mut client, &ours.sent).unwrap());
        assert_eq!(heard, twice);
        assert!(matches!(client.reader().read(&mut [0]), Ok(0)), "a clean end");
    }
}

fn raw(input: &Input<'_>, from_backend: bool) {
    let new = if from_backend { Ours::client } else { Ours::server };
    let (mut whole, mut pieces) = (new(), new());
    if !input.bytes.is_empty() {
        whole.receive(input.bytes);
    }
    input.in_pieces(|piece| pieces.receive(piece));
    assert_eq!(whole.verdict(), pieces.verdict());
    assert!(whole.read.is_empty(), "nobody agreed on keys");
}

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::new(data) else { return };
    let bit = |n: u8| data[0] & 1 << n != 0;
    match (bit(4), bit(5)) {
        (false, _) => raw(&input, bit(6)),
        (true, false) => converse(&input, usize::from(bit(6)), &[], input.bytes),
        (true, true) => {
            let (edits, said) = edits(input.bytes);
            converse(&input, usize::from(bit(6)), &edits, said);
        }
    }
});
