//! The chunked coding (RFC 9112 7.1): read from backends over any split, written to clients.

/// The end of a chunk's data.
pub const CRLF: &[u8] = b"\r\n";

/// The last chunk, without trailers.
pub const LAST: &[u8] = b"0\r\n\r\n";

/// The longest extension of one chunk, in bytes. Nobody sends any; unbounded, they are work for nothing.
pub(super) const EXTENSION_MAX: usize = 4 << 10;

/// The longest trailer section, in bytes. Trailers are checked and dropped.
const TRAILERS_MAX: usize = 16 << 10;

/// Takes a chunked body apart; feed it any split.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    state: State,
    extensions: u64,
}

/// What the decoder found next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'b> {
    /// Bytes of the body, at least one.
    Data(&'b [u8]),
    /// The input is used up, the body goes on.
    Hungry,
    /// The body ended; what is left of the input is not part of it.
    End,
}

/// Why a chunked body cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// No hexadecimal digit where a size should be, or more than 64 bits.
    #[error("malformed chunk size")]
    Size,
    /// A CR without LF, an LF without CR, a control character, or no CRLF after a chunk's data.
    #[error("malformed line in the chunked coding")]
    Line,
    /// A trailer that is no header field.
    #[error("malformed trailer")]
    Trailer,
    /// A bound was passed.
    #[error("chunk extension longer than {EXTENSION_MAX} bytes or trailers longer than {TRAILERS_MAX}")]
    TooLarge,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    #[default]
    Start,
    /// Among the digits.
    Size {
        size: u64,
    },
    /// After the digits: white space, which some servers pad the size with.
    Padding {
        size: u64,
        len: usize,
    },
    /// After a semicolon: extensions, dropped.
    Extension {
        size: u64,
        len: usize,
    },
    /// The CR of the size line came.
    SizeLf {
        size: u64,
    },
    /// In a chunk's data; `left` > 0.
    Data {
        left: u64,
    },
    /// After it.
    DataCr,
    DataLf,
    /// At the start of a trailer line, or of the blank line that ends the body.
    TrailerStart {
        len: usize,
    },
    TrailerName {
        len: usize,
    },
    TrailerValue {
        len: usize,
    },
    TrailerLf {
        len: usize,
    },
    EndLf,
    End,
}

impl Decoder {
    /// The next piece; `input` moves on to what was not used. After `End`, always `End`.
    ///
    /// # Errors
    /// [`ChunkError`]; the body is lost then.
    pub fn next<'b>(&mut self, input: &mut &'b [u8]) -> Result<Piece<'b>, ChunkError> {
        loop {
            match self.state {
                State::End => return Ok(Piece::End),
                State::Data { left } if !input.is_empty() => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let (data, rest) = input.split_at(n);
                    *input = rest;
                    let left = left - n as u64;
                    self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                    return Ok(Piece::Data(data));
                }
                _ => {}
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(Piece::Hungry) };
            *input = rest;
            self.state = step(self.state, byte)?;
            self.extensions += u64::from(matches!(self.state, State::Padding { .. } | State::Extension { .. }));
        }
    }

    /// Bytes of extensions and padding so far, of all chunks together.
    pub fn extensions(&self) -> u64 {
        self.extensions
    }
}

/// One byte outside of data.
fn step(state: State, byte: u8) -> Result<State, ChunkError> {
    Ok(match (state, byte) {
        (State::Start, _) => State::Size { size: digit(byte).ok_or(ChunkError::Size)? },
        (State::Size { size } | State::Padding { size, .. } | State::Extension { size, .. }, b'\r') => State::SizeLf { size },
        (State::Size { size }, b' ' | b'\t') => State::Padding { size, len: 1 },
        (State::Size { size }, b';') => State::Extension { size, len: 1 },
        (State::Size { size }, _) => {
            let digit = digit(byte).ok_or(ChunkError::Size)?;
            State::Size { size: size.checked_mul(16).ok_or(ChunkError::Size)? + digit }
        }
        (State::Padding { len, .. } | State::Extension { len, .. }, _) if len >= EXTENSION_MAX => {
            return Err(ChunkError::TooLarge);
        }
        (State::Padding { size, len }, b' ' | b'\t') => State::Padding { size, len: len + 1 },
        (State::Padding { size, len }, b';') => State::Extension { size, len: len + 1 },
        (State::Extension { size, len }, _) if is_text(byte) => State::Extension { size, len: len + 1 },
        (State::SizeLf { size: 0 }, b'\n') => State::TrailerStart { len: 0 },
        (State::SizeLf { size }, b'\n') => State::Data { left: size },
        (State::DataCr, b'\r') => State::DataLf,
        (State::DataLf, b'\n') => State::Start,
        (State::TrailerStart { .. }, b'\r') => State::EndLf,
        (State::EndLf, b'\n') => State::End,
        (State::TrailerStart { len } | State::TrailerName { len } | State::TrailerValue { len }, _) if len >= TRAILERS_MAX => {
            return Err(ChunkError::TooLarge);
        }
        (State::TrailerName { len }, b':') => State::TrailerValue { len: len + 1 },
        (State::TrailerStart { len } | State::TrailerName { len }, _) if is_token(byte) => State::TrailerName { len: len + 1 },
        (State::TrailerStart { .. } | State::TrailerName { .. }, _) => return Err(ChunkError::Trailer),
        (State::TrailerValue { len }, b'\r') => State::TrailerLf { len },
        (State::TrailerValue { len }, _) if is_text(byte) => State::TrailerValue { len: len + 1 },
        (State::TrailerLf { len }, b'\n') => State::TrailerStart { len: len + 2 },
        _ => return Err(ChunkError::Line),
    })
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

/// Anything that may stand in a field's value: no control character but the tab (RFC 9110 5.5).
pub(super) const fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// RFC 9110 5.6.2.
pub(super) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// The line before a chunk's data.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    bytes: [u8; 18],
    start: u8,
}

/// The line before `len` bytes of data, which [`CRLF`] must follow. `len` is not zero: that would be the [`LAST`] chunk.
pub fn header(len: usize) -> Header {
    debug_assert_ne!(len, 0, "an empty chunk ends the body");
    let mut bytes = [0; 18];
    bytes[16..].copy_from_slice(CRLF);
    let mut start = 16;
    let mut left = len as u64;
    while left > 0 {
        start -= 1;
        bytes[start] = b"0123456789abcdef"[(left % 16) as usize];
        left /= 16;
    }
    Header { bytes, start: start as u8 }
}

impl AsRef<[u8]> for Header {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }
}

/// Appends `data` as one chunk; nothing if it is empty.
pub fn encode(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    out.extend_from_slice(header(data.len()).as_ref());
    out.extend_from_slice(data);
    out.extend_from_slice(CRLF);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Body, whether it ended, and what was left, from pieces cut at `cuts`.
    fn decode(input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, bool, usize), ChunkError> {
        let mut decoder = Decoder::default();
        let (mut body, mut start, mut left) = (Vec::new(), 0, 0);
        let mut ended = false;
        for &end in cuts.iter().chain([&input.len()]) {
            let mut part = &input[start.min(end)..end];
            start = start.max(end);
            loop {
                match decoder.next(&mut part)? {
                    Piece::Data(data) => body.extend_from_slice(data),
                    Piece::Hungry => break,
                    Piece::End => {
                        ended = true;
                        left += part.len();
                        break;
                    }
                }
            }
        }
        Ok((body, ended, left))
    }

    #[test]
    fn a_body_with_extensions_and_trailers() {
        let input = b"4;a=\"b;c\"\r\nWiki\r\n00A \r\n0123456789\r\n0\r\nExpires: never\r\nX:\r\n\r\nnext";
        assert_eq!(decode(input, &[]), Ok((b"Wiki0123456789".to_vec(), true, 4)));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let long = format!("1;{}", "x".repeat(EXTENSION_MAX));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(TRAILERS_MAX / 6 + 1));
        for (input, error) in [
            ("\r\n", ChunkError::Size),
            ("-1\r\n", ChunkError::Size),
            ("+1\r\n", ChunkError::Size),
            ("0x1\r\n", ChunkError::Size),
            ("10000000000000000\r\n", ChunkError::Size),
            ("1\na", ChunkError::Size),
            ("1\ra", ChunkError::Line),
            ("1;a\nb", ChunkError::Line),
            ("1 1\r\n", ChunkError::Line),
            (" 1\r\n", ChunkError::Size),
            ("1;a\0", ChunkError::Line),
            ("1\r\nab", ChunkError::Line),
            ("1\r\na\n", ChunkError::Line),
            ("1\r\na\r\r", ChunkError::Line),
            ("0\r\n: b\r\n", ChunkError::Trailer),
            ("0\r\na b: c\r\n", ChunkError::Trailer),
            ("0\r\na\r\n", ChunkError::Trailer),
            ("0\r\na: b\nc", ChunkError::Line),
            ("0\r\n\n", ChunkError::Trailer),
            (&long, ChunkError::TooLarge),
            (&trailers, ChunkError::TooLarge),
        ] {
            assert_eq!(decode(input.as_bytes(), &[]), Err(error), "{input:.40?}");
        }
    }

    #[test]
    fn the_largest_chunk_is_no_reason_to_allocate() {
        let mut decoder = Decoder::default();
        let mut input = &b"ffffffffffffffff\r\nabc"[..];
        assert_eq!(decoder.next(&mut input), Ok(Piece::Data(b"abc")));
        assert_eq!(decoder.next(&mut input), Ok(Piece::Hungry));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_over_any_split(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
            mut cuts in proptest::collection::vec(0usize..400, 0..20),
        ) {
            let mut wire = Vec::new();
            chunks.iter().for_each(|c| encode(c, &mut wire));
            wire.extend_from_slice(LAST);
            cuts.retain(|c| *c <= wire.len());
            cuts.sort_unstable();
            prop_assert_eq!(decode(&wire, &cuts), Ok((chunks.concat(), true, 0)));
        }

        #[test]
        fn any_split_of_anything_equals_one_shot(
            input in proptest::collection::vec(prop_oneof![
                Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'2'), Just(b';'), Just(b'a'), Just(b':'), any::<u8>()], 0..60),
            mut cuts in proptest::collection::vec(0usize..60, 0..10),
        ) {
            cuts.retain(|c| *c <= input.len());
            cuts.sort_unstable();
            prop_assert_eq!(decode(&input, &cuts), decode(&input, &[]));
        }
    }
}
