//! What each side says, known to both from a seed, so that the other end can tell every byte: a stream is right if it is the front of its
//! script, and if what Holdline puts in stands between two frames.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Frames of one direction without end: fragmented messages, with control frames between the fragments.
pub(super) struct Script {
    rng: SmallRng,
    masked: bool,
    in_message: bool,
    sizes: Sizes,
    frames: u32,
}

/// How long payloads are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sizes {
    /// All three forms of a length, most of them short.
    Mixed,
    /// Tens of KiB.
    Large,
    /// A few short ones, then more than all buffers on the way hold.
    Huge,
}

/// What is longer than this is a frame of [`Sizes::Huge`].
pub(super) const HUGE: usize = 400 << 10;

impl Script {
    /// `masked`: it is a client's.
    pub(super) fn new(seed: u64, masked: bool, sizes: Sizes) -> Self {
        let rng = SmallRng::seed_from_u64(seed.wrapping_mul(2) + u64::from(masked));
        Script { rng, masked, in_message: false, sizes, frames: 0 }
    }

    /// The next frame in the place of what is in `frame`.
    pub(super) fn next(&mut self, frame: &mut Vec<u8>) {
        frame.clear();
        self.frames += 1;
        let (first, len) = if self.rng.random_ratio(1, 6) {
            // Never empty: an empty Ping is Holdline's.
            (if self.rng.random() { 0x89 } else { 0x8a }, self.rng.random_range(1..=125))
        } else {
            let (opcode, last) = (if self.in_message { 0x00 } else { 0x02 }, self.rng.random_ratio(2, 5));
            self.in_message = !last;
            (opcode | if last { 0x80 } else { 0 }, self.payload_len())
        };
        frame.push(first);
        let mask_bit = if self.masked { 0x80 } else { 0 };
        match len {
            0..126 => frame.push(mask_bit | len as u8),
            126..65_536 => frame.extend([&[mask_bit | 126], &(len as u16).to_be_bytes()[..]].concat()),
            _ => frame.extend([&[mask_bit | 127], &(len as u64).to_be_bytes()[..]].concat()),
        }
        // A mask and what it hides are any bytes at all.
        let at = frame.len();
        frame.resize(at + len + if self.masked { 4 } else { 0 }, 0);
        self.rng.fill(&mut frame[at..]);
    }

    fn payload_len(&mut self) -> usize {
        let mixed = match self.rng.random_range(0..1_000) {
            0..500 => 0..126,
            500..990 => 126..3_000,
            990..995 => 65_530..65_550,
            _ => 3_000..70_000,
        };
        match self.sizes {
            Sizes::Mixed => self.rng.random_range(mixed),
            Sizes::Huge if self.frames > 3 => self.rng.random_range(HUGE..HUGE + 1_000),
            Sizes::Huge => self.rng.random_range(0..200),
            Sizes::Large => self.rng.random_range(20_000..60_000),
        }
    }
}

/// Follows what arrives of a script.
pub(super) struct Reader {
    script: Script,
    frame: Vec<u8>,
    at: usize,
    /// A Ping of Holdline has half arrived.
    half_ping: bool,
    pub(super) seen: Seen,
    close: Option<Vec<u8>>,
}

/// What arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Bytes of the script.
    pub(super) bytes: u64,
    /// Pings that Holdline put in.
    pub(super) pings: u64,
    /// The code of the Close that Holdline put in.
    pub(super) close: Option<u16>,
    /// It ended inside of a frame.
    pub(super) torn: bool,
}

impl Reader {
    pub(super) fn new(script: Script) -> Self {
        let mut reader = Reader { script, frame: Vec::new(), at: 0, half_ping: false, seen: Seen::default(), close: None };
        reader.script.next(&mut reader.frame);
        reader
    }

    /// Takes what was read; an error says what should not have come.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            if let Some(close) = &mut self.close {
                close.extend_from_slice(bytes);
                return if close.len() <= 127 { Ok(()) } else { Err(self.wrong("bytes behind a Close", bytes)) };
            }
            let n = match (self.at, bytes[0], self.frame[0]) {
                (0, 0x88, _) => {
                    self.close = Some(Vec::new());
                    continue;
                }
                (0, 0, _) if self.half_ping => self.ping(),
                (0, _, _) if self.half_ping => return Err(self.wrong("a Ping that was not sent", bytes)),
                (0, 0x89, expected) if expected != 0x89 && !self.script.masked => {
                    self.half_ping = true;
                    1
                }
                (1, 0, 0x89) if !self.script.masked => {
                    self.seen.bytes -= 1;
                    self.ping()
                }
                _ => self.expected(bytes)?,
            };
            bytes = &bytes[n..];
        }
        Ok(())
    }

    fn ping(&mut self) -> usize {
        (self.at, self.half_ping) = (0, false);
        self.seen.pings += 1;
        1
    }

    /// How many of `bytes` are the next ones of the frame.
    fn expected(&mut self, bytes: &[u8]) -> Result<usize, String> {
        // Not beyond the second byte at first: it may be a Ping's.
        let end = if self.at == 0 { 1 } else { self.frame.len() };
        let n = bytes.len().min(end - self.at);
        if bytes[..n] != self.frame[self.at..self.at + n] {
            return Err(self.wrong("other bytes", bytes));
        }
        self.at += n;
        self.seen.bytes += n as u64;
        if self.at == self.frame.len() {
            self.script.next(&mut self.frame);
            self.at = 0;
        }
        Ok(n)
    }

    /// Inside of a frame so large that no buffer holds it.
    pub(super) fn in_huge(&self) -> bool {
        self.at > 0 && self.frame.len() > HUGE
    }

    /// A Close of Holdline has arrived, or part of it.
    pub(super) fn is_told(&self) -> bool {
        self.close.is_some()
    }

    /// The connection has ended.
    pub(super) fn end(mut self) -> Result<Seen, String> {
        if self.half_ping {
            return Err(self.wrong("half a Ping", &[]));
        }
        self.seen.torn = self.at > 0;
        if let Some(close) = self.close.take() {
            let code = match &close[..] {
                [0x88, 0x82, a, b, _, _, c, d] if self.script.masked => Some([a ^ c, b ^ d]),
                [0x88, len, a, b, reason @ ..] if !self.script.masked && usize::from(*len) == 2 + reason.len() => Some([*a, *b]),
                _ => None,
            };
            let Some(code) = code else { return Err(self.wrong("no whole Close, or more than one", &close)) };
            self.seen.close = Some(u16::from_be_bytes(code));
        }
        Ok(self.seen)
    }

    fn wrong(&self, what: &str, bytes: &[u8]) -> String {
        let from = |bytes: &[u8], at: usize| format!("{:02x?}", &bytes[at..bytes.len().min(at + 16)]);
        format!(
            "{what} behind {} right ones, at {} of a frame of {}: {} instead of {}",
            self.seen.bytes,
            self.at,
            self.frame.len(),
            from(bytes, 0),
            from(&self.frame, self.at)
        )
    }
}

/// A client's Close.
pub(super) fn masked_close(code: u16, mask: [u8; 4]) -> [u8; 8] {
    let [high, low] = code.to_be_bytes();
    [0x88, 0x82, mask[0], mask[1], mask[2], mask[3], high ^ mask[0], low ^ mask[1]]
}

/// The front of a script, and where its frames end.
fn front(masked: bool, frames: usize) -> (Vec<u8>, Vec<usize>) {
    let mut script = Script::new(7, masked, Sizes::Mixed);
    let (mut bytes, mut ends, mut frame) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..frames {
        script.next(&mut frame);
        bytes.extend_from_slice(&frame);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

fn read(masked: bool, bytes: &[u8], piece: usize) -> Result<Seen, String> {
    let mut reader = Reader::new(Script::new(7, masked, Sizes::Mixed));
    bytes.chunks(piece).try_for_each(|piece| reader.feed(piece))?;
    reader.end()
}

const TOLD: [u8; 11] = *b"\x88\x09\x03\xf4drained";

#[test]
fn the_reader_takes_a_script_a_ping_and_a_close_between_frames_and_nothing_else() {
    let (bytes, ends) = front(false, 40);
    for piece in [1, 2, 3, 1_000, bytes.len()] {
        let whole = Seen { bytes: bytes.len() as u64, ..Seen::default() };
        assert_eq!(read(false, &bytes, piece), Ok(whole));
        for &end in &ends {
            let with = |put_in: &[u8], rest: &[u8]| read(false, &[&bytes[..end], put_in, rest].concat(), piece);
            assert_eq!(with(b"\x89\x00", &bytes[end..]), Ok(Seen { pings: 1, ..whole }));
            let told = Seen { bytes: end as u64, close: Some(1012), ..Seen::default() };
            assert_eq!(with(&TOLD, b""), Ok(told));
            assert!(with(&TOLD[..10], b"").is_err(), "half a Close");
            assert!(with(&TOLD, &[0]).is_err(), "anything behind a Close");
            // A frame that comes twice, one that is left out, a Close or a Ping a byte too early.
            assert!(with(&bytes[..ends[0]], &bytes[end..]).is_err());
            let torn = |put_in: &[u8]| read(false, &[&bytes[..end - 1], put_in].concat(), piece);
            assert!(torn(&TOLD).is_err() && torn(b"\x89\x00").is_err());
            assert!(torn(b"").unwrap().torn);
        }
        for pair in ends.windows(2) {
            assert!(read(false, &[&bytes[..pair[0]], &bytes[pair[1]..]].concat(), piece).is_err() || pair[1] == bytes.len());
        }
    }
    let (bytes, ends) = front(true, 40);
    let told = read(true, &[&bytes[..ends[20]], &masked_close(1001, [1, 2, 3, 4])[..]].concat(), 5).unwrap();
    assert_eq!(told, Seen { bytes: ends[20] as u64, close: Some(1001), ..Seen::default() });
    assert!(read(true, &[&bytes[..ends[20]], &TOLD[..]].concat(), 5).is_err(), "a Close that is not masked");
}
