//! A strict HTTP/1 message check in front of a parser that is too lenient for a proxy.
//!
//! hyper drops a Content-Length beside `chunked`, accepts a bare LF as a line end, and so on. Each of these is harmless alone,
//! but allows request smuggling where another hop parses the same bytes differently (RFC 9112 11.2). [`Requests`] checks what a
//! client sends, [`Answers`] what a backend sends: message by message, with input split anywhere, without copying. Ambiguous
//! input is refused at its first invalid byte, so that all parsers agree on whatever is passed on.

mod answers;
mod requests;
mod section;
#[cfg(test)]
mod tests;

pub use answers::Answers;
pub use requests::Requests;

use super::chunk::{ChunkError, Decoder, EXTENSION_MAX, Piece};

/// Maximum number of fields in a head, the same as in hyper.
pub const FIELDS_MAX: u16 = 100;

/// Progress of a message after a piece of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// The head is incomplete.
    Head,
    /// The head is complete; the body is not.
    Body,
    /// The message ends after this number of input bytes, at least one.
    End(usize),
}

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No request line or status line of HTTP/1.0 or HTTP/1.1, with one space between its parts.
    #[error("the first line is not that of an HTTP/1 message")]
    Line,
    /// A CR without LF, or an LF without CR.
    #[error("lines end with CR LF, and neither stands alone")]
    LineEnd,
    /// A field name is not a token, or is followed by white space before the colon.
    #[error("a field's name is malformed")]
    Name,
    /// A line begins with white space (RFC 9112 5.2).
    #[error("a field's value is folded over two lines")]
    Folded,
    /// A NUL or another control character.
    #[error("a control character stands in the head")]
    Control,
    /// `Content-Length` is no decimal number, or there is more than one.
    #[error("Content-Length must be one decimal number, once")]
    Length,
    /// `Transfer-Encoding` is anything but `chunked`, there is more than one, or the version is HTTP/1.0.
    #[error("Transfer-Encoding must be `chunked`, once, in HTTP/1.1")]
    Coding,
    /// Both `Content-Length` and `Transfer-Encoding` are present.
    #[error("Content-Length and Transfer-Encoding exclude each other")]
    Ambiguous,
    /// The head is longer than allowed, or has more than [`FIELDS_MAX`] fields.
    #[error("the head is too long or has more than {FIELDS_MAX} fields")]
    TooLarge,
    /// The chunked coding is broken, or its extensions are longer than 4 KiB in sum.
    #[error("the chunked body is broken: {0}")]
    Chunk(ChunkError),
    /// Too many interim responses.
    #[error("there are more interim responses than a request has reasons for")]
    Interims,
    /// A 101 response to a request without an upgrade.
    #[error("a 101 answer to a request without an upgrade")]
    Switch,
    /// Bytes received while no answer is expected.
    #[error("bytes that no request asked for")]
    Unasked,
}

impl Refused {
    /// The status to answer a client with: 400, or 431 (RFC 6585 5).
    pub fn status(self) -> u16 {
        if self == Refused::TooLarge { 431 } else { 400 }
    }

    /// The class of the error: `head`, `head_too_large`, `framing` or `chunk`.
    pub fn reason(self) -> &'static str {
        match self {
            Refused::TooLarge => "head_too_large",
            Refused::Length | Refused::Coding | Refused::Ambiguous => "framing",
            Refused::Chunk(_) => "chunk",
            _ => "head",
        }
    }
}

/// The remainder of a body.
#[derive(Clone, Debug)]
enum Body {
    /// Number of remaining bytes, greater than zero.
    Length(u64),
    Chunked(Decoder),
    /// Everything up to the end of the connection.
    UntilClose,
}

impl Body {
    /// The number of bytes of `input` that belong to the body, and whether the body ends there.
    fn feed(&mut self, input: &[u8]) -> Result<(usize, bool), Refused> {
        match self {
            Body::UntilClose => Ok((input.len(), false)),
            Body::Length(left) => {
                let used = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= used as u64;
                Ok((used, *left == 0))
            }
            Body::Chunked(decoder) => {
                let mut rest = input;
                let ended = loop {
                    match decoder.next(&mut rest).map_err(Refused::Chunk)? {
                        Piece::Data(_) => {}
                        Piece::Hungry => break false,
                        Piece::End => break true,
                    }
                };
                if decoder.extensions() > EXTENSION_MAX as u64 {
                    return Err(Refused::Chunk(ChunkError::TooLarge));
                }
                Ok((input.len() - rest.len(), ended))
            }
        }
    }
}
