//! Tracking of WebSocket frames (RFC 6455 section 5) for a proxy: headers are parsed, payload is not inspected.

/// An empty, unmasked Ping frame, as a server sends it to a client.
pub const PING: [u8; 2] = [0x89, 0];

const OPCODE_CONTINUATION: u8 = 0;
const OPCODE_CLOSE: u8 = 8;
const OPCODE_PING: u8 = 9;
const OPCODE_PONG: u8 = 10;

/// Tracks the frames of one direction. The input may be split anywhere. Every session holds two trackers, so the type is kept to
/// 16 bytes.
#[derive(Clone, Debug)]
pub struct Tracker {
    /// Remaining payload bytes or, while a length is being read, its value so far.
    left: u64,
    expected: Expected,
    opcode: u8,
    flags: u8,
}

/// Bits of [`Tracker::flags`].
mod flag {
    /// Set for the direction from client to server.
    pub(super) const MASKED: u8 = 1;
    /// A message has started and its final fragment has not.
    pub(super) const IN_MESSAGE: u8 = 1 << 1;
    pub(super) const CLOSE_BEGUN: u8 = 1 << 2;
    pub(super) const PING_SEEN: u8 = 1 << 3;
    pub(super) const PONG_SEEN: u8 = 1 << 4;
    /// No part of the invalid frame was passed on.
    pub(super) const CLEAN: u8 = 1 << 5;
}

/// The next expected byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// First byte of a frame.
    First,
    /// Second byte: mask bit and short length.
    Second,
    /// Byte of an extended length, with the number of its remaining bytes.
    Length(u8),
    /// Byte of the masking key, with the number of its remaining bytes.
    Mask(u8),
    /// Byte of the payload; `left` bytes remain.
    Payload,
    /// No more input: a Close frame is complete.
    Closed,
    /// No more input: the peer violated the protocol.
    Broken(Violation),
}

/// Result of feeding bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Number of bytes that may be passed on: all, those up to the end of a Close frame, or those before an invalid frame.
    pub taken: usize,
    /// Offset of the Close frame within these bytes, if any; zero if it starts here or started earlier.
    pub close_at: Option<usize>,
}

/// A violation of RFC 6455 by a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Section 5.2: RSV2 or RSV3, or RSV1 on a control frame. RSV1 on others belongs to permessage-deflate (RFC 7692).
    #[error("a reserved bit is set")]
    ReservedBit,
    /// Section 5.2.
    #[error("a reserved opcode")]
    ReservedOpcode,
    /// Section 5.1: clients must mask their frames, servers must not.
    #[error("a frame is masked that may not be, or is not that must be")]
    Mask,
    /// Section 5.5.
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// Section 5.5.
    #[error("a control frame is longer than 125 bytes")]
    LongControl,
    /// Section 5.4: a continuation frame outside a message, or a new message inside one.
    #[error("fragments of messages are out of order")]
    Fragments,
    /// Section 5.2: the most significant bit of a length must be zero.
    #[error("a length has its top bit set")]
    Length,
}

impl Tracker {
    /// Creates a tracker at the start of a direction. `masked` is true for the direction from client to server.
    pub fn new(masked: bool) -> Self {
        Tracker { left: 0, expected: Expected::First, opcode: 0, flags: if masked { flag::MASKED } else { 0 } }
    }

    /// Processes `bytes`. After a complete Close frame or a violation, no more bytes are taken.
    pub fn feed(&mut self, bytes: &[u8]) -> Fed {
        self.follow(bytes, false)
    }

    /// Processes `bytes` up to the end of the current frame or, at a boundary, of the next one.
    pub fn feed_frame(&mut self, bytes: &[u8]) -> Fed {
        self.follow(bytes, true)
    }

    fn follow(&mut self, bytes: &[u8], one_frame: bool) -> Fed {
        let mut at = 0;
        // Offset of the current frame's header, if it starts in these bytes.
        let mut frame_at = None;
        let mut close_at = (self.close_begun() && self.expected != Expected::Closed).then_some(0);
        while at < bytes.len() {
            let before = self.expected;
            match before {
                Expected::Closed | Expected::Broken(_) => break,
                Expected::Payload => at += self.skip(&bytes[at..]),
                Expected::First => {
                    frame_at = Some(at);
                    self.header_byte(bytes[at]);
                    at += 1;
                    if self.close_begun() && close_at.is_none() {
                        close_at = frame_at;
                    }
                }
                _ => {
                    self.header_byte(bytes[at]);
                    at += 1;
                }
            }
            if let Expected::Broken(_) = self.expected {
                self.set(flag::CLEAN, frame_at.is_some());
                return Fed { taken: frame_at.unwrap_or(0), close_at: None };
            }
            if one_frame && self.expected == Expected::First {
                break;
            }
        }
        Fed { taken: at, close_at }
    }

    /// Whether the bytes taken so far end at a frame boundary.
    pub fn at_boundary(&self) -> bool {
        match self.expected {
            Expected::First | Expected::Closed => true,
            Expected::Broken(_) => self.is(flag::CLEAN),
            _ => false,
        }
    }

    /// Whether the bytes taken so far end inside a fragmented message. At a frame boundary, only control frames may be inserted
    /// then.
    pub fn in_message(&self) -> bool {
        self.is(flag::IN_MESSAGE)
    }

    /// Whether the first byte of a Close frame was seen.
    pub fn close_begun(&self) -> bool {
        self.is(flag::CLOSE_BEGUN)
    }

    /// Whether a complete Close frame was seen.
    pub fn closed(&self) -> bool {
        self.expected == Expected::Closed
    }

    /// The violation, if any.
    pub fn violation(&self) -> Option<Violation> {
        match self.expected {
            Expected::Broken(rule) => Some(rule),
            _ => None,
        }
    }

    /// Whether a Ping was seen since the last call.
    pub fn take_ping(&mut self) -> bool {
        self.take(flag::PING_SEEN)
    }

    /// Whether a Pong was seen since the last call.
    pub fn take_pong(&mut self) -> bool {
        self.take(flag::PONG_SEEN)
    }

    fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn set(&mut self, flag: u8, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }

    fn take(&mut self, flag: u8) -> bool {
        let was = self.is(flag);
        self.set(flag, false);
        was
    }

    fn header_byte(&mut self, byte: u8) {
        let next = match self.expected {
            Expected::First => self.first_byte(byte),
            Expected::Second => self.second_byte(byte),
            Expected::Length(n) => self.length_byte(byte, n),
            Expected::Mask(n) => Ok(if n > 1 { Expected::Mask(n - 1) } else { self.payload() }),
            expected @ (Expected::Payload | Expected::Closed | Expected::Broken(_)) => Ok(expected),
        };
        self.expected = next.unwrap_or_else(Expected::Broken);
    }

    fn first_byte(&mut self, byte: u8) -> Result<Expected, Violation> {
        let (fin, rsv1, rsv23, opcode) = (byte & 0x80 != 0, byte & 0x40 != 0, byte & 0x30 != 0, byte & 0x0f);
        let control = opcode >= OPCODE_CLOSE;
        if rsv23 || (control && rsv1) {
            return Err(Violation::ReservedBit);
        }
        if !matches!(opcode, 0..=2 | OPCODE_CLOSE..=OPCODE_PONG) {
            return Err(Violation::ReservedOpcode);
        }
        if control && !fin {
            return Err(Violation::FragmentedControl);
        }
        if !control {
            if (opcode == OPCODE_CONTINUATION) != self.in_message() {
                return Err(Violation::Fragments);
            }
            self.set(flag::IN_MESSAGE, !fin);
        }
        self.opcode = opcode;
        self.set(flag::CLOSE_BEGUN, opcode == OPCODE_CLOSE);
        Ok(Expected::Second)
    }

    fn second_byte(&mut self, byte: u8) -> Result<Expected, Violation> {
        if (byte & 0x80 != 0) != self.is(flag::MASKED) {
            return Err(Violation::Mask);
        }
        let short = byte & 0x7f;
        if self.opcode >= OPCODE_CLOSE && short > 125 {
            return Err(Violation::LongControl);
        }
        self.left = 0;
        Ok(match short {
            126 => Expected::Length(2),
            127 => Expected::Length(8),
            _ => {
                self.left = u64::from(short);
                self.after_length()
            }
        })
    }

    fn length_byte(&mut self, byte: u8, n: u8) -> Result<Expected, Violation> {
        if n == 8 && byte & 0x80 != 0 {
            return Err(Violation::Length);
        }
        self.left = self.left << 8 | u64::from(byte);
        Ok(if n > 1 { Expected::Length(n - 1) } else { self.after_length() })
    }

    fn after_length(&mut self) -> Expected {
        if self.is(flag::MASKED) { Expected::Mask(4) } else { self.payload() }
    }

    /// State after a complete header.
    fn payload(&mut self) -> Expected {
        if self.left > 0 { Expected::Payload } else { self.frame_end() }
    }

    /// Skips payload bytes and returns how many were skipped.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.left -= n as u64;
        if self.left == 0 {
            self.expected = self.frame_end();
        }
        n
    }

    fn frame_end(&mut self) -> Expected {
        match self.opcode {
            OPCODE_CLOSE => return Expected::Closed,
            OPCODE_PING => self.set(flag::PING_SEEN, true),
            OPCODE_PONG => self.set(flag::PONG_SEEN, true),
            _ => {}
        }
        Expected::First
    }
}

#[cfg(test)]
mod tests;
