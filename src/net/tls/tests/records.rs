//! The record layer without sockets: whatever way the bytes are cut, what comes out is what rustls's own buffers make of it.

use std::io::{Read, Write};

use rustls::server::UnbufferedServerConnection;

use super::*;
use crate::net::tls::engine::{HEADER, sealed_len};
use crate::net::tls::*;

/// The server's side, and what it sent and read.
struct Server {
    records: Records,
    sent: Vec<u8>,
    read: Vec<u8>,
    /// The size of its reader's buffer.
    room: usize,
}

impl Server {
    fn new(config: &Arc<ServerConfig>, room: usize) -> Self {
        let engine = Engine::Server(UnbufferedServerConnection::new(Arc::clone(config)).unwrap());
        Server { records: Records::new(engine), sent: Vec::new(), read: Vec::new(), room }
    }

    fn with_out<T>(&mut self, f: impl FnOnce(&mut Records, &mut Output<'_>) -> T) -> T {
        let mut buffer = vec![0; OUTPUT_MAX];
        let mut out = Output::new(&mut buffer);
        let result = f(&mut self.records, &mut out);
        self.sent.extend(out.pieces().concat());
        result
    }

    /// Takes in bytes as one read of a socket brings them, and reads all that comes of it.
    fn receive(&mut self, input: &[u8]) -> Result<(), TlsError> {
        let mut buffer = vec![0; self.room];
        let mut to = ReadBuf::new(&mut buffer);
        self.with_out(|records, out| records.receive(&mut input.to_vec(), Some(&mut to), out))?;
        while !to.filled().is_empty() {
            self.read.extend_from_slice(to.filled());
            to.clear();
            self.with_out(|records, out| records.read_held(&mut to, out))?;
        }
        Ok(())
    }

    fn write(&mut self, mut plain: &[u8]) -> Result<(), TlsError> {
        while !plain.is_empty() {
            let n = self.with_out(|records, out| records.seal(plain, out))?;
            plain = &plain[n..];
        }
        Ok(())
    }

    fn sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sent)
    }
}

fn flush(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn hear(client: &mut ClientConnection, mut bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets().unwrap();
        let _ = client.reader().read_to_end(&mut plain);
    }
    plain
}

/// A whole conversation, with the client's bytes cut by `cut` at every turn; what the server read.
fn converse(client: &mut ClientConnection, server: &mut Server, said: &[u8], cut: &mut dyn FnMut(&mut Server, &[u8])) {
    client.set_buffer_limit(None);
    while client.is_handshaking() {
        cut(server, &flush(client));
        hear(client, &server.sent());
    }
    client.writer().write_all(said).unwrap();
    client.refresh_traffic_keys().ok();
    client.writer().write_all(said).unwrap();
    client.send_close_notify();
    cut(server, &flush(client));
    hear(client, &server.sent());
}

fn rig() -> (Authority, Arc<ServerConfig>) {
    let authority = Authority::new();
    let config = Arc::new(authority.server(&authority.sign(&["x.test"])));
    (authority, config)
}

#[test]
fn every_split_of_a_conversation_reads_the_same() {
    let (authority, config) = rig();
    let said: Vec<u8> = (0..300u16).map(|n| n as u8).collect();
    for version in VERSIONS {
        for at in 0..2_600 {
            // The client's bytes of a turn in two pieces, the second in two again.
            let mut server = Server::new(&config, 256);
            let mut cut = |server: &mut Server, bytes: &[u8]| {
                let (first, rest) = bytes.split_at((at % (bytes.len() + 1)).min(bytes.len()));
                for piece in [first, &rest[..rest.len() / 2], &rest[rest.len() / 2..]].iter().filter(|p| !p.is_empty()) {
                    server.receive(piece).unwrap();
                }
            };
            converse(&mut authority.connection(version), &mut server, &said, &mut cut);
            assert_eq!(server.read, [said.clone(), said.clone()].concat(), "{version:?}, cut at {at}");
            assert!(server.records.is_at_end());
            assert_eq!(server.records.held(), 0);
        }
    }
}

#[test]
fn dripped_bytes_read_the_same_and_small_readers_lose_nothing() {
    let (authority, config) = rig();
    let said = vec![7; 40_000];
    for version in VERSIONS {
        for (piece, room) in [(1, 64), (3, 1), (4_096, 100), (100_000, 5_000)] {
            let mut server = Server::new(&config, room);
            let mut cut = |server: &mut Server, bytes: &[u8]| bytes.chunks(piece).for_each(|p| server.receive(p).unwrap());
            converse(&mut authority.connection(version), &mut server, &said, &mut cut);
            assert!(server.read == [said.clone(), said.clone()].concat(), "{version:?}, pieces of {piece}");
        }
    }
}

/// A connection over which nothing was said yet.
fn connected(authority: &Authority, config: &Arc<ServerConfig>, client: ClientConfig) -> (ClientConnection, Server) {
    let mut client = ClientConnection::new(Arc::new(client), name("x.test")).unwrap();
    let mut server = Server::new(config, 16 << 10);
    while client.is_handshaking() {
        let said = flush(&mut client);
        server.receive(&said).unwrap();
        hear(&mut client, &server.sent());
    }
    let said = flush(&mut client);
    server.receive(&said).unwrap();
    hear(&mut client, &server.sent());
    let _ = authority;
    (client, server)
}

#[test]
fn half_a_message_may_be_followed_by_writes_of_ours() {
    let (authority, config) = rig();
    for version in VERSIONS {
        let mut small = authority.client(version);
        // Handshake messages of several records.
        small.max_fragment_size = Some(64);
        let mut client = ClientConnection::new(Arc::new(small), name("x.test")).unwrap();
        let mut server = Server::new(&config, 1_000);
        let hello = flush(&mut client);
        let first = sealed_len(&hello);
        assert!(first < hello.len(), "the hello has several records");
        server.receive(&hello[..first]).unwrap();
        // Nothing can be sent yet, and asking harms nothing.
        assert!(matches!(server.write(b"early"), Err(TlsError::TooEarly)));
        server.with_out(|records, out| records.close(out)).unwrap();
        assert!(server.sent().is_empty());
        server.receive(&hello[first..]).unwrap();
        assert!(!hear(&mut client, &server.sent()).contains(&1) && server.records.held() == 0);
    }
}

/// The panic that an empty input would be: a KeyUpdate in two records, and a write between them.
#[test]
fn half_a_key_update_may_be_followed_by_writes_of_ours() {
    let (authority, config) = rig();
    let mut client = authority.client(&TLS13);
    client.enable_secret_extraction = true;
    let (client, mut server) = connected(&authority, &config, client);
    let mut seal = Sealer::of(client);
    server.receive(&seal.seal(22, &[24, 0, 0])).unwrap();
    assert!(server.records.held() > 0);
    server.write(b"in between").unwrap();
    assert!(!server.sent().is_empty());
    server.receive(&seal.seal(22, &[1, 1])).unwrap();
    assert_eq!(server.records.held(), 0);
    server.write(b"after").unwrap();
    // The answer to the update, then the data.
    let sent = server.sent();
    assert!(sealed_len(&sent) < sent.len());
}

/// A client's records, made by hand (RFC 8446 section 5.2) with the keys of a real handshake.
struct Sealer {
    key: aws_lc_rs::aead::LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Sealer {
    fn of(client: ClientConnection) -> Self {
        let (sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
        let rustls::ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { panic!("another suite was chosen") };
        let key = aws_lc_rs::aead::UnboundKey::new(&aws_lc_rs::aead::AES_256_GCM, key.as_ref()).unwrap();
        Sealer { key: aws_lc_rs::aead::LessSafeKey::new(key), iv: iv.as_ref().try_into().unwrap(), sequence }
    }

    fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()).for_each(|(n, s)| *n ^= s);
        self.sequence += 1;
        let mut inner = [content, &[kind]].concat();
        let len = (inner.len() as u16 + 16).to_be_bytes();
        let header = [23, 3, 3, len[0], len[1]];
        let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, aws_lc_rs::aead::Aad::from(header), &mut inner).unwrap();
        [&header[..], &inner].concat()
    }
}

#[test]
fn a_message_without_end_is_not_waited_for() {
    let (authority, config) = rig();
    let mut client = authority.client(&TLS13);
    client.enable_secret_extraction = true;
    let (client, mut server) = connected(&authority, &config, client);
    let mut seal = Sealer::of(client);
    // A handshake message that says it has 60,000 bytes, in records of 100.
    server.receive(&seal.seal(22, &[24, 0, 0xea, 0x60])).unwrap();
    let failed = (0..1_000).find_map(|_| server.receive(&seal.seal(22, &[0; 100])).err());
    assert!(matches!(failed, Some(TlsError::TooLong(_))), "{failed:?}");
    assert!(server.records.held() < 40 << 10);
    assert!(matches!(server.write(b"more"), Err(TlsError::Broken)));
}

#[test]
fn what_is_no_tls_is_answered_by_an_alert_at_once() {
    let (_, config) = rig();
    let (no_version, too_long) = ([21, 2, 0xdd, 1, 0x31], [22, 3, 3, 0x48, 0]);
    let (no_tls, far_too_long, too_early) = (b"GET / HTTP/1.1\r\n\r\n", [22, 3, 1, 0xff, 0xff], [23, 3, 3, 0, 5, 1, 2, 3, 4, 5]);
    for garbage in [&no_tls[..], &far_too_long, &too_early, &no_version, &too_long] {
        for piece in [1, garbage.len()] {
            let mut server = Server::new(&config, 1_000);
            let failed = garbage.chunks(piece).find_map(|p| server.receive(p).err());
            assert!(matches!(failed, Some(TlsError::Protocol(_))), "{garbage:?}: {failed:?}");
            let sent = server.sent();
            assert_eq!((sent[0], sent[5]), (21, 2), "a fatal alert");
            assert!(matches!(server.receive(b"x"), Err(TlsError::Broken)));
            server.with_out(|records, out| records.close(out)).unwrap();
        }
    }
}

#[test]
fn a_changed_record_is_an_error_with_an_alert_and_nothing_of_it_is_read() {
    let (authority, config) = rig();
    for version in VERSIONS {
        let (mut client, mut server) = connected(&authority, &config, authority.client(version));
        client.writer().write_all(b"good").unwrap();
        server.receive(&flush(&mut client)).unwrap();
        client.writer().write_all(b"changed").unwrap();
        let mut bytes = flush(&mut client);
        *bytes.last_mut().unwrap() ^= 1;
        assert!(matches!(server.receive(&bytes), Err(TlsError::Protocol(rustls::Error::DecryptError))));
        assert_eq!(server.read, b"good");
        let alert = server.sent();
        client.read_tls(&mut &alert[..]).unwrap();
        let heard = client.process_new_packets().unwrap_err();
        assert_eq!(heard, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
    }
}

#[test]
fn a_close_is_told_both_ways_and_what_follows_it_is_ignored() {
    let (authority, config) = rig();
    for version in VERSIONS {
        let (mut client, mut server) = connected(&authority, &config, authority.client(version));
        client.send_close_notify();
        let mut bytes = flush(&mut client);
        bytes.extend([23, 3, 3, 0, 1, 0]);
        server.receive(&bytes).unwrap();
        assert!(server.records.is_at_end());
        server.receive(b"whatever").unwrap();
        assert_eq!(server.records.held(), 0);
        // The other direction goes on.
        server.write(b"last").unwrap();
        server.with_out(|records, out| records.close(out)).unwrap();
        assert_eq!(hear(&mut client, &server.sent()), b"last");
        assert!(matches!(client.reader().read(&mut [0]), Ok(0)), "a clean end");
    }
}

#[test]
fn large_writes_become_records_of_16_kib() {
    let (authority, config) = rig();
    let (mut client, mut server) = connected(&authority, &config, authority.client(&TLS13));
    let said: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    server.write(&said).unwrap();
    let sent = server.sent();
    let (mut at, mut records) = (0, 0);
    while at < sent.len() {
        let len = sealed_len(&sent[at..]);
        assert!(len <= HEADER + PLAIN_MAX + 1 + 16);
        at += len;
        records += 1;
    }
    assert_eq!(records, 7);
    assert!(hear(&mut client, &sent) == said);
}
