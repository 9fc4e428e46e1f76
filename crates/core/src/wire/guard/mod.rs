//! What stands in front of an HTTP/1 parser that is more lenient than two parties in a row may be.
//!
//! hyper drops a Content-Length beside `chunked`, takes a bare LF for a line's end, and so on. Each of these is harmless alone; where
//! somebody else on the way reads the same bytes in another way, they are request smuggling (RFC 9112 11.2). [`Requests`] follows what a
//! client sends, [`Answers`] what a backend does: message by message, fed any split, without a copy of anything. What can be read in
//! two ways is refused at its first wrong byte, so what passes is read in one way by everybody.

mod answers;
mod requests;
mod section;
#[cfg(test)]
mod tests;

pub use answers::Answers;
pub use requests::Requests;

use super::chunk::{ChunkError, Decoder, EXTENSION_MAX, Piece};

/// The most fields in a head: as many as hyper reads.
pub const FIELDS_MAX: u16 = 100;

/// How far a message came with a piece of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// The head goes on behind the input.
    Head,
    /// The head is whole; the body goes on behind the input.
    Body,
    /// So many bytes of the input, at least one, end the message.
    End(usize),
}

/// Why bytes are not read as HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No request line or status line of HTTP/1.0 or HTTP/1.1, with one space between its parts.
    #[error("the first line is not that of an HTTP/1 message")]
    Line,
    /// A CR without LF, or an LF without CR.
    #[error("lines end with CR LF, and neither stands alone")]
    LineEnd,
    /// A field's name is no token, or white space stands before its colon.
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
    /// Both of them.
    #[error("Content-Length and Transfer-Encoding exclude each other")]
    Ambiguous,
    /// The head is longer than allowed, or has more than [`FIELDS_MAX`] fields.
    #[error("the head is too long or has more than {FIELDS_MAX} fields")]
    TooLarge,
    /// The chunked coding is broken, or its extensions are longer than 4 KiB in sum.
    #[error("the chunked body is broken: {0}")]
    Chunk(ChunkError),
    /// Interim responses without end.
    #[error("there are more interim responses than a request has reasons for")]
    Interims,
    /// A 101 in answer to a request that asked for no other protocol.
    #[error("a 101 answer to a request without an upgrade")]
    Switch,
    /// Bytes where no answer is due.
    #[error("bytes that no request asked for")]
    Unasked,
}

impl Refused {
    /// The status for a client that sent it: 400, or 431 (RFC 6585 5).
    pub fn status(self) -> u16 {
        if self == Refused::TooLarge { 431 } else { 400 }
    }

    /// A word for it, of a few: `head`, `head_too_large`, `framing`, `chunk`.
    pub fn reason(self) -> &'static str {
        match self {
            Refused::TooLarge => "head_too_large",
            Refused::Length | Refused::Coding | Refused::Ambiguous => "framing",
            Refused::Chunk(_) => "chunk",
            _ => "head",
        }
    }
}

/// What is left of a body.
#[derive(Clone, Debug)]
enum Body {
    /// Bytes, more than none.
    Length(u64),
    Chunked(Decoder),
    /// All that comes.
    UntilClose,
}

impl Body {
    /// The bytes of `input` that belong to it, and whether it ends there.
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
