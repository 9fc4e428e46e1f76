//! The record layer of one connection, without its socket: the peer's bytes in, plaintext out, and the reverse. It owns no buffer while
//! nothing is buffered.

use rustls::ProtocolVersion;
use tokio::io::ReadBuf;

use super::TlsError;
use super::engine::{Aim, Engine, HEADER, Output, PLAIN_MAX, Reached, Sink, sealed_len};

/// The most that is kept of a client's unfinished messages: one record of the largest kind (18,437 bytes with TLS 1.2's expansion) and what
/// came behind it. A ClientHello has about 2 KiB with post-quantum key shares.
const CLIENT_HELD_MAX: usize = 20 << 10;

/// The same of a server's: the largest handshake message that rustls takes is 64 KiB, a long chain of certificates.
const SERVER_HELD_MAX: usize = 80 << 10;

/// A record's largest payload (RFC 5246 section 6.2.3); rustls rejects what says that it has as much.
const SEALED_MAX: usize = HEADER + PLAIN_MAX + 2048;

/// One connection's records.
pub struct Records {
    engine: Engine,
    held: Option<Box<Buffered>>,
    /// The peer's close_notify was read.
    is_closed: bool,
    /// An error was met; nothing more is asked of rustls.
    is_broken: bool,
}

/// Bytes that could not be processed or delivered yet.
#[derive(Default)]
struct Buffered {
    /// The peer's bytes from the first on that rustls is not done with.
    sealed: Vec<u8>,
    /// How many of these rustls has seen: whole records of an unfinished message.
    seen: usize,
    /// Plaintext that the reader had no room for.
    plain: Vec<u8>,
    /// How much of it was read.
    read: usize,
}

impl Buffered {
    fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.plain.is_empty()
    }
}

impl Records {
    /// Before the handshake.
    pub fn new(engine: Engine) -> Self {
        Records { engine, held: None, is_closed: false, is_broken: false }
    }

    /// Whether the handshake is still under way.
    pub fn is_handshaking(&self) -> bool {
        self.engine.is_handshaking()
    }

    /// Whether everything up to the peer's close_notify was read.
    pub fn is_at_end(&self) -> bool {
        self.is_closed && self.held.as_ref().is_none_or(|held| held.plain.is_empty())
    }

    /// Whether anything is buffered.
    pub(super) fn holds_any(&self) -> bool {
        self.held.is_some()
    }

    /// Reads buffered plaintext, and what can be decrypted from buffered bytes.
    ///
    /// # Errors
    /// What the peer sent is no TLS, or what was sent before was none.
    pub fn read_held(&mut self, to: &mut ReadBuf<'_>, out: &mut Output<'_>) -> Result<(), TlsError> {
        let Some(held) = &mut self.held else { return Ok(()) };
        if !held.plain.is_empty() {
            let left = &held.plain[held.read..];
            let n = left.len().min(to.remaining());
            to.put_slice(&left[..n]);
            held.read += n;
            if held.read == held.plain.len() {
                held.plain = Vec::new();
                held.read = 0;
            }
            self.tidy();
            return Ok(());
        }
        if self.is_closed || whole_until(&held.sealed, held.seen).is_none() {
            return Ok(());
        }
        self.run(Aim::Read, Some(to), out).map(drop)
    }

    /// Takes in what was read from the socket, which may be overwritten; plaintext goes as far as there is room to `to`.
    ///
    /// # Errors
    /// It is no TLS, an unfinished message is longer than any should be, or it went wrong before. `out` has the alert.
    pub fn receive(&mut self, input: &mut [u8], to: Option<&mut ReadBuf<'_>>, out: &mut Output<'_>) -> Result<(), TlsError> {
        if self.is_closed {
            // RFC 8446 section 6.1: what follows a close_notify is ignored.
            return Ok(());
        }
        match &mut self.held {
            Some(held) if !held.sealed.is_empty() => {
                let max = if matches!(self.engine, Engine::Server(_)) { CLIENT_HELD_MAX } else { SERVER_HELD_MAX };
                if held.sealed.len() > max {
                    return Err(self.broken(TlsError::TooLong(max)));
                }
                held.sealed.extend_from_slice(input);
                // A peer that sends single bytes costs one header check each.
                match whole_until(&held.sealed, held.seen) {
                    Some(_) => self.run(Aim::Read, to, out).map(drop),
                    None => Ok(()),
                }
            }
            _ => self.receive_fresh(input, to, out),
        }
    }

    /// The same without bytes from before: `input` is worked on where it is, and only what is left of it is kept.
    fn receive_fresh(&mut self, input: &mut [u8], to: Option<&mut ReadBuf<'_>>, out: &mut Output<'_>) -> Result<(), TlsError> {
        if self.is_broken {
            return Err(TlsError::Broken);
        }
        let whole = whole_until(input, 0).unwrap_or(0);
        let mut sink = Plain::new(to);
        let (used, reached) = self.engine.run(input, Aim::Read, &mut sink, out);
        let Plain { over, is_closed, .. } = sink;
        self.is_closed |= is_closed;
        let left = if self.is_closed { &[] } else { &input[used..] };
        if !left.is_empty() || !over.is_empty() {
            let held = self.held.get_or_insert_default();
            held.sealed.extend_from_slice(left);
            held.seen = if matches!(reached, Ok(Reached::Full)) { 0 } else { whole.saturating_sub(used) };
            held.plain.extend_from_slice(&over);
        }
        reached.map(drop).map_err(|error| self.broken(error))
    }

    /// Begins a client's handshake, or continues any.
    ///
    /// # Errors
    /// What the peer sent is no TLS, or what was sent before was none.
    pub fn begin(&mut self, out: &mut Output<'_>) -> Result<(), TlsError> {
        self.run(Aim::Read, None, out).map(drop)
    }

    /// Seals the front of `plain` as one record; how many bytes that is.
    ///
    /// # Errors
    /// The handshake is not over, or it went wrong before.
    pub fn seal(&mut self, plain: &[u8], out: &mut Output<'_>) -> Result<usize, TlsError> {
        let n = plain.len().min(PLAIN_MAX);
        match self.run(Aim::Write(&plain[..n]), None, out)? {
            Reached::Dry => Ok(n),
            Reached::Blocked | Reached::Full => Err(TlsError::TooEarly),
        }
    }

    /// Sends close_notify; does nothing before the handshake is done or after an error.
    ///
    /// # Errors
    /// What the peer sent is no TLS, or what was sent before was none.
    pub fn close(&mut self, out: &mut Output<'_>) -> Result<(), TlsError> {
        if self.is_broken { Ok(()) } else { self.run(Aim::Close, None, out).map(drop) }
    }

    /// Runs over what is held.
    fn run(&mut self, aim: Aim<'_>, to: Option<&mut ReadBuf<'_>>, out: &mut Output<'_>) -> Result<Reached, TlsError> {
        if self.is_broken {
            return Err(TlsError::Broken);
        }
        let mut sealed = self.held.as_mut().map(|held| std::mem::take(&mut held.sealed)).unwrap_or_default();
        let seen = self.held.as_ref().map_or(0, |held| held.seen);
        let whole = whole_until(&sealed, seen).unwrap_or(seen);
        let mut sink = Plain::new(to);
        let (used, reached) = self.engine.run(&mut sealed, aim, &mut sink, out);
        let Plain { over, is_closed, .. } = sink;
        self.is_closed |= is_closed;
        if self.is_closed {
            sealed.clear();
        } else {
            sealed.drain(..used);
        }
        if !sealed.is_empty() || !over.is_empty() {
            let held = self.held.get_or_insert_default();
            held.seen = if matches!(reached, Ok(Reached::Full)) { 0 } else { whole.saturating_sub(used) };
            held.sealed = sealed;
            held.plain.extend_from_slice(&over);
        }
        self.tidy();
        reached.map_err(|error| self.broken(error))
    }

    fn broken(&mut self, error: TlsError) -> TlsError {
        self.is_broken = true;
        error
    }

    fn tidy(&mut self) {
        if self.held.as_ref().is_some_and(|held| held.is_empty()) {
            self.held = None;
        }
    }

    /// Bytes buffered: at most one record and what follows it, or one handshake message.
    pub fn held(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.sealed.len() + held.plain.len() - held.read)
    }
}

/// Where the last whole record of `sealed` behind the first `seen` bytes ends; `None`: there is none. A header that no record has counts as
/// one, for rustls is to reject it and not to wait.
fn whole_until(sealed: &[u8], seen: usize) -> Option<usize> {
    let mut end = seen;
    loop {
        let rest = &sealed[end..];
        let len = sealed_len(rest);
        if len >= SEALED_MAX || rest.first().is_some_and(|kind| !CONTENT_TYPES.contains(kind)) || has_no_version(rest) {
            return Some(sealed.len());
        }
        if len == 0 || rest.len() < len {
            return (end > seen).then_some(end);
        }
        end += len;
    }
}

/// A record says 3.x for whatever version (RFC 8446 section 5.1); rustls knows the names of some others, and fails them later.
fn has_no_version(record: &[u8]) -> bool {
    let [_, high, low, ..] = record else { return false };
    matches!(ProtocolVersion::from(u16::from_be_bytes([*high, *low])), ProtocolVersion::Unknown(_)) && *high != 3
}

/// change_cipher_spec, alert, handshake, application_data, heartbeat (RFC 8446 appendix B.1).
const CONTENT_TYPES: std::ops::RangeInclusive<u8> = 20..=24;

/// Plaintext of a run: to the reader first.
struct Plain<'a, 'b> {
    to: Option<&'a mut ReadBuf<'b>>,
    has_given: bool,
    over: Vec<u8>,
    is_closed: bool,
}

impl<'a, 'b> Plain<'a, 'b> {
    fn new(to: Option<&'a mut ReadBuf<'b>>) -> Self {
        Plain { to, has_given: false, over: Vec::new(), is_closed: false }
    }
}

impl Sink for Plain<'_, '_> {
    fn take(&mut self, payload: &[u8]) {
        let n = self.to.as_ref().map_or(0, |to| to.remaining().min(payload.len()));
        if let Some(to) = &mut self.to {
            to.put_slice(&payload[..n]);
            self.has_given |= n > 0;
        }
        self.over.extend_from_slice(&payload[n..]);
    }

    fn has_room(&self, sealed: usize) -> bool {
        let Some(to) = &self.to else { return self.over.is_empty() };
        // The first must go whatever its length, or it never would.
        self.over.is_empty() && (!self.has_given || to.remaining() > 0 && to.remaining() + HEADER >= sealed)
    }

    fn closed(&mut self) {
        self.is_closed = true;
    }
}
