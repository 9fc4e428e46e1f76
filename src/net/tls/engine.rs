//! rustls's state machine, run over a piece of input: the only place that knows its unbuffered interface.
//!
//! Its rules, and what happens to those who break them:
//!
//! - While a handshake message is half received, it keeps places in the input that it has seen. It must be shown the same bytes again,
//!   with whatever came behind them; shown less, even nothing, it panics.
//! - `discard` counts in errors too. What it queued before an error (the alert) is asked for once more, but only as long as it says that
//!   there is some: asked again after that, it would fail the same record twice, and panics in debug builds.
//! - `EncodeTlsData`, then `TransmitTlsData::done`, and only then `WriteTraffic`.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedConnectionCommon, UnbufferedStatus,
};

use super::TlsError;

/// The most plaintext of one record (RFC 8446 section 5.1).
pub(super) const PLAIN_MAX: usize = 16 << 10;

/// One side's state machine.
pub enum Engine {
    /// To a client.
    Server(UnbufferedServerConnection),
    /// To a backend.
    Client(UnbufferedClientConnection),
}

/// What a run is for, besides taking in what the input holds.
#[derive(Clone, Copy)]
pub(super) enum Aim<'a> {
    /// Nothing else.
    Read,
    /// At most [`PLAIN_MAX`] bytes are to be sent.
    Write(&'a [u8]),
    /// The peer is to be told that no more comes from us.
    Close,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// Every whole record was seen, and what was aimed for is done.
    Dry,
    /// Every whole record was seen, but the handshake needs more of them first.
    Blocked,
    /// The reader has no room for the next record.
    Full,
}

/// Where plaintext goes.
pub(super) trait Sink {
    /// Takes the payload of one record, whatever its length.
    fn take(&mut self, payload: &[u8]);

    /// Whether it has room for a record that is not longer than `sealed` with everything around it.
    fn has_room(&self, sealed: usize) -> bool;

    /// The peer sends no more.
    fn closed(&mut self);
}

/// Bytes for the socket: the thread's buffer, and what it has no room for.
pub struct Output<'a> {
    buffer: &'a mut [u8],
    len: usize,
    /// Comes before the buffer's. Only a handshake of several records needs it.
    before: Vec<u8>,
}

impl Engine {
    /// Keys are agreed on in both directions.
    pub(super) fn is_handshaking(&self) -> bool {
        match self {
            Engine::Server(conn) => conn.is_handshaking(),
            Engine::Client(conn) => conn.is_handshaking(),
        }
    }

    /// Runs over `input`. How much of its front is used up, in every case, and where it got to.
    pub(super) fn run(
        &mut self,
        input: &mut [u8],
        aim: Aim<'_>,
        sink: &mut impl Sink,
        out: &mut Output<'_>,
    ) -> (usize, Result<Reached, TlsError>) {
        match self {
            Engine::Server(conn) => run::<ServerConnectionData>(conn, input, aim, sink, out),
            Engine::Client(conn) => run::<ClientConnectionData>(conn, input, aim, sink, out),
        }
    }
}

/// The same call, which rustls has for each side by itself.
trait Process: Sized {
    fn process<'c, 'i>(conn: &'c mut UnbufferedConnectionCommon<Self>, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self>;
}

impl Process for ServerConnectionData {
    fn process<'c, 'i>(conn: &'c mut UnbufferedConnectionCommon<Self>, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self> {
        conn.process_tls_records(input)
    }
}

impl Process for ClientConnectionData {
    fn process<'c, 'i>(conn: &'c mut UnbufferedConnectionCommon<Self>, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self> {
        conn.process_tls_records(input)
    }
}

fn run<D: Process>(
    conn: &mut UnbufferedConnectionCommon<D>,
    input: &mut [u8],
    aim: Aim<'_>,
    sink: &mut impl Sink,
    out: &mut Output<'_>,
) -> (usize, Result<Reached, TlsError>) {
    let mut used = 0;
    loop {
        // What is written or closed must not wait for a reader.
        if matches!(aim, Aim::Read) && !sink.has_room(sealed_len(&input[used..])) {
            return (used, Ok(Reached::Full));
        }
        let UnbufferedStatus { discard, state } = D::process(conn, &mut input[used..]);
        used += discard;
        let reached = match state {
            Ok(ConnectionState::ReadTraffic(mut records)) => {
                while let Some(Ok(record)) = records.next_record() {
                    used += record.discard;
                    sink.take(record.payload);
                }
                Ok(None)
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => out.encode(&mut data).map(|()| None),
            // They are in `out`, whose order is that of the socket.
            Ok(ConnectionState::TransmitTlsData(transmit)) => {
                transmit.done();
                Ok(None)
            }
            Ok(ConnectionState::PeerClosed) => {
                sink.closed();
                Ok(None)
            }
            Ok(ConnectionState::BlockedHandshake) => Ok(Some(Reached::Blocked)),
            Ok(ConnectionState::WriteTraffic(mut traffic)) => match aim {
                Aim::Read => Ok(Reached::Dry),
                Aim::Write(plain) => out.seal(|buffer| traffic.encrypt(plain, buffer)),
                Aim::Close => out.seal(|buffer| traffic.queue_close_notify(buffer)),
            }
            .map(Some),
            // Both sides have closed: there is nothing to say.
            Ok(ConnectionState::Closed) if !matches!(aim, Aim::Write(_)) => Ok(Some(Reached::Dry)),
            Ok(state) => Err(TlsError::State(format!("{state:?}"))),
            Err(error) => {
                last_words(conn, &mut input[used..], out);
                Err(error.into())
            }
        };
        match reached {
            Ok(None) => {}
            Ok(Some(reached)) => return (used, Ok(reached)),
            Err(error) => return (used, Err(error)),
        }
    }
}

/// The alert that goes with an error.
fn last_words<D: Process>(conn: &mut UnbufferedConnectionCommon<D>, input: &mut [u8], out: &mut Output<'_>) {
    while conn.wants_write() {
        match D::process(conn, input).state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                if out.encode(&mut data).is_err() {
                    return;
                }
            }
            Ok(ConnectionState::ReadTraffic(mut records)) => while records.next_record().is_some() {},
            _ => return,
        }
    }
}

/// The length of the record that begins `input`, header included, as the header tells it; 0 while that is not there.
pub(super) fn sealed_len(input: &[u8]) -> usize {
    match input {
        [_, _, _, high, low, ..] => HEADER + usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    }
}

/// Type, version, length (RFC 8446 section 5.1).
pub(super) const HEADER: usize = 5;

impl<'a> Output<'a> {
    /// With a buffer of [`OUTPUT_MAX`](super::OUTPUT_MAX).
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Output { buffer, len: 0, before: Vec::new() }
    }

    /// What is to be sent, in two pieces.
    pub fn pieces(&self) -> [&[u8]; 2] {
        [&self.before, &self.buffer[..self.len]]
    }

    fn encode<D>(&mut self, data: &mut EncodeTlsData<'_, D>) -> Result<(), TlsError> {
        self.put(|buffer| match data.encode(buffer) {
            Ok(n) => Ok(n),
            Err(EncodeError::InsufficientSize(_)) => Err(None),
            Err(error) => Err(Some(TlsError::State(error.to_string()))),
        })
    }

    fn seal(&mut self, mut seal: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>) -> Result<Reached, TlsError> {
        self.put(|buffer| match seal(buffer) {
            Ok(n) => Ok(n),
            Err(EncryptError::InsufficientSize(_)) => Err(None),
            Err(error) => Err(Some(TlsError::State(error.to_string()))),
        })?;
        Ok(Reached::Dry)
    }

    /// Has the free part of the buffer written to; `Err(None)`: it is too small, which a whole buffer is for nothing of ours.
    fn put(&mut self, mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<TlsError>>) -> Result<(), TlsError> {
        let mut written = write(&mut self.buffer[self.len..]);
        if matches!(written, Err(None)) {
            self.before.extend_from_slice(&self.buffer[..self.len]);
            self.len = 0;
            written = write(self.buffer);
        }
        self.len +=
            written.map_err(|error| error.unwrap_or_else(|| TlsError::State("a record larger than the buffer".into())))?;
        Ok(())
    }
}
